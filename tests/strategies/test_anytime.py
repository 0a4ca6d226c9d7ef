"""Best-of-N that stops: its schedule, its rule, and what it spends."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest

from router.models.base import Scored
from router.models.errors import InputError, Unscorable
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.types import Chain, Continuation, FinishReason, Problem, Sampled, Sampling, Step
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.driver import Outcome, run_search
from router.strategies.registry import parse_strategy
from router.strategies.selection import confidence, select, value, voters
from router.strategies.stopping import Poll, Stopping

PROBLEM = Problem("p", "Which?")


class Dealer(FakeGenerator):
    """Gives these answers one after the other, and remembers at which temperatures."""

    def __init__(self, answers: str) -> None:
        self._answers = iter(answers)
        self.temperatures: Counter[float] = Counter()
        super().__init__(self._next)

    def _next(
        self, chain: Chain, sampling: Sampling, rng: random.Random
    ) -> tuple[str, FinishReason]:
        self.temperatures[sampling.temperature] += 1
        return f"\\boxed{{{next(self._answers)}}}", "stop"


async def searched(text: str, answers: str, temperature: float = 0.8) -> tuple[Outcome, Dealer]:
    dealer, strategy = Dealer(answers), parse_strategy(text)
    sampling = Sampling(temperature=temperature)
    budget = Budget(strategy.cost)
    verifier = FakeVerifier(constant=0.5) if strategy.needs_verifier else None
    return await run_search(strategy, PROBLEM, dealer, verifier, budget, sampling), dealer


@pytest.mark.parametrize(
    ("rule", "answers", "spent"),
    [
        ("lead=2", "44" + "1234567890", 2),
        ("lead=2", "4544" + "1" * 8, 4),
        ("lead=3", "45444454" + "1" * 4, 8),
        ("lead=99", "4" * 12, 8),  # 8 votes that the last 4 cannot turn
        ("lead=99", "44444445" + "5555", 8),
        ("lead=99", "44444455" + "4444", 12),  # 6 to 2, and 4 to come: they could tie
        ("give_up=0", "4" * 12, 8),
        ("give_up=0.25", "1234" + "5" * 8, 4),
        ("give_up=0.25", "1244" + "5" * 8, 12),
        ("give_up=1", "44" + "4" * 10, 2),
        ("worth=0.2", "4" * 12, 1),  # the first alone: of 12 it would be one
        ("worth=0.1", "4" * 12, 2),
        ("worth=0.1", "45" + "4" * 10, 4),  # not while two say different things
        ("worth=0.03", "4" * 12, 4),
        ("worth=0.03", "4567" + "4" * 8, 12),
        ("worth=0", "4" * 12, 8),
    ],
)
async def test_it_stops_when_the_vote_is_over(rule: str, answers: str, spent: int) -> None:
    outcome, _ = await searched(f"best_of_n(n=12, select=majority, {rule})", answers)
    assert outcome.usage.generations == len(outcome.candidates) == spent
    assert outcome.ended == "completed"


async def test_weighted_votes_count_their_weight() -> None:
    at_half, _ = await searched("best_of_n(n=12, lead=2)", "4" * 12)
    assert at_half.usage.generations == 4  # votes of one half each


def test_a_sample_is_worth_most_where_a_vote_is_open_and_can_be_won() -> None:
    """By scores: one that is nearly sure, a doubtful and a hopeless one."""

    def worth(*votes: float, drawn: int = 4, scores: bool = True) -> float:
        return float(Poll.of(votes, "weighted" if scores else "majority").worth(drawn))

    assert worth(0.5, 0.5) > 2 * worth(3.0, 0.1)
    assert worth(1, 1, drawn=8) > 2 * worth(0.04, 0.04, drawn=8)
    assert worth(0.9, drawn=1) < worth(0.3, drawn=1)
    # Agreement alone: more so with each that agrees, and with each that is drawn.
    agreed = [worth(float(n), drawn=n, scores=False) for n in range(1, 17)]
    assert agreed == sorted(agreed, reverse=True)
    assert worth(2, 2, scores=False) > worth(3, 1, scores=False) > worth(4, scores=False)
    assert worth(drawn=1) == pytest.approx(0.8 / 5)  # nobody answered: the prior alone


class Mute(FakeVerifier):
    """Can score nothing."""

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        raise Unscorable("too long")


async def test_votes_without_scores_are_not_taken_for_scores() -> None:
    """One sample that nobody could score is no sure one: two have to agree."""
    strategy = parse_strategy("best_of_n(n=12, worth=0.1)")
    outcome = await run_search(strategy, PROBLEM, Dealer("4" * 12), Mute(), Budget(12), Sampling())
    assert outcome.usage.generations == 2
    sure = FakeVerifier(constant=0.99)
    outcome = await run_search(strategy, PROBLEM, Dealer("4" * 12), sure, Budget(12), Sampling())
    assert outcome.usage.generations == 1


def test_a_decided_vote_has_the_winner_of_all_samples() -> None:
    """Whatever else were drawn: every order of answers, at every place where it stops."""
    rule = Stopping(6, None, None)
    for answers in product(range(3), repeat=6):
        full = Counter(answers)
        for drawn in rule.waves:
            votes = Counter(answers[:drawn])
            if rule.ends(Poll.of([votes[a] for a in range(3)], "majority"), drawn):
                (winner,) = [a for a in votes if votes[a] == max(votes.values())]
                assert full[winner] == max(full.values())
                assert list(full.values()).count(full[winner]) == 1
                break


def test_rules_look_at_many_votes_at_once() -> None:
    votes = np.array([[[3.0, 1.0], [2.0, 2.0]], [[0.1, 0.0], [4.0, 0.0]]])
    assert Stopping(16, 2.0, 0.05).ends(Poll.of(votes, "majority"), 4).tolist() == [
        [True, False],
        [True, True],
    ]
    assert Stopping(16, None, 0.05).ends(Poll.of([], "majority"), 4)  # nobody answered


@pytest.mark.parametrize("n", range(1, 40))
def test_waves_end_at_n_and_double(n: int) -> None:
    for start, rule in ((2, Stopping(n, 2.0, None)), (1, Stopping(n, None, None, 0.2))):
        found = rule.waves
        assert found[0] == min(n, start)
        assert found[-1] == n
        assert all(a < b <= 2 * a for a, b in pairwise(found))


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ('best_of_n(n=6, temperatures="0.3:4", select=majority)', {0.3: 4, 0.8: 2}),
        ('best_of_n(n=6, temperatures="0.3:4, 1.1", select=majority)', {0.3: 4, 1.1: 2}),
        ('best_of_n(n=3, temperatures="0.3:4", select=majority)', {0.3: 3}),
        ('best_of_n(n=6, temperatures="0:1, 0.3:2, 1", select=majority)', {0: 1, 0.3: 2, 1: 3}),
        ('best_of_n(n=7, temperatures="0.3:3", select=majority, lead=9)', {0.3: 3, 0.8: 1}),
    ],
)
async def test_samples_are_drawn_at_their_temperatures(text: str, drawn: dict[float, int]) -> None:
    _, dealer = await searched(text, "4" * 7)
    assert dealer.temperatures == drawn
    assert parse_strategy(str(parse_strategy(text))) == parse_strategy(text)


@pytest.mark.parametrize("rule", ["lead=9", "worth=0.001", "worth=0.2"])
@pytest.mark.parametrize("warm", [0, 1, 2, 3, 4, 5])
async def test_a_callers_temperature_of_0_draws_one_sample_of_its_own(rule: str, warm: int) -> None:
    schedule = f'temperatures="0.3:{warm}", ' if warm else ""
    text = f"best_of_n(n=16, {schedule}select=majority, {rule})"
    outcome, dealer = await searched(text, "4567890", temperature=0)
    if rule != "worth=0.2" or not warm:  # which one sample is enough for
        assert dealer.temperatures == Counter({0.3: warm, 0: 1})
        assert len(outcome.candidates) == warm + 1


async def test_a_temperature_of_0_of_its_own_draws_one_sample() -> None:
    text = "best_of_n(n=16, temperature=0, select=majority, worth=0.001)"
    outcome, dealer = await searched(text, "4567890")
    assert dealer.temperatures == {0: 1}
    assert len(outcome.candidates) == 1


async def test_confident_votes_are_no_scores() -> None:
    """One that is sure of itself is not enough: two have to agree."""
    text = "best_of_n(n=12, select=confident, worth=0.1)"
    outcome, _ = await searched(text, "4" * 12)
    assert outcome.usage.generations == 2


async def test_a_first_vote_that_stops_may_be_followed() -> None:
    text = "escalate(first=best_of_n(n=8, select=majority, worth=0.1), then=best_of_n(n=2), lead=2)"
    for answers, spent in (("44" + "5" * 9, 2), ("45" + "6789012345", 10)):
        outcome, _ = await searched(text, answers)
        assert outcome.usage.generations == spent


@pytest.mark.parametrize(
    "wrong",
    [
        'temperatures="0.3, 0.8"',
        'temperatures="0.3:4, 0.8, 1"',
        'temperatures="0.3:0"',
        'temperatures="hot:4"',
        'temperatures="0:4"',
        'temperatures="0"',
        'temperatures="2.1:4"',
        'temperatures=""',
        "temperatures=0.3",
        'temperatures="0.3:4", temperature=0.8',
        "lead=-1",
        "lead=soon",
        "give_up=1.5",
        "worth=1.5",
        "worth=-0.1",
        "worth=cheap",
        "give_up=True",
        "lead=2, select=best",
    ],
)
def test_nonsense_is_refused(wrong: str) -> None:
    with pytest.raises(
        InputError, match=r"temperature|lead|give_up|worth must lie between 0 and 1, not"
    ):
        parse_strategy(f"best_of_n(n=8, {wrong})")


def test_a_schedule_reads_the_samples_of_its_temperatures() -> None:
    """Under the texts by which other strategies store them: at 0 too."""
    parts = parse_strategy('best_of_n(n=4, temperatures="0:1, 1:3")').parts()
    alone = [parse_strategy(f"best_of_n(n=1, temperature={t})") for t in ("0", "1")]
    assert [str(part) for part, _ in parts] == [str(one) for one in alone]
    assert str(parse_strategy("best_of_n(n=1, temperature=0.0)")) == str(alone[0])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('n=4, temperatures="0.3:4"', "n=4, temperature=0.3"),
        ('n=4, temperatures="0.3:5, 1"', "n=4, temperature=0.3"),
        ('n=4, temperatures="0.3"', "n=4, temperature=0.3"),
        ('n=1, temperatures="0:1, 0.3:3", lead=1, give_up=0.1', "n=1, temperature=0"),
        ("n=1, lead=2, select=majority", "n=1, select=majority"),
        ("n=1, worth=0.02, select=majority", "n=1, select=majority"),
    ],
)
def test_what_one_temperature_says_needs_no_schedule(text: str, same: str) -> None:
    one = parse_strategy(f"best_of_n({text})")
    assert one == parse_strategy(f"best_of_n({same})")
    assert str(one) == f"best_of_n({same})"


def test_schedules_are_equal_however_they_are_written() -> None:
    one, other = BestOfN(8, temperatures="0.30:4,0.8"), BestOfN(8, temperatures=" .3 : 4 , 0.80")
    assert one == other
    assert str(one) == 'best_of_n(n=8, temperatures="0.3:4, 0.8")'


class Sure(FakeGenerator):
    """Three solutions: one that it is sure of, two alike that it is not."""

    def __init__(self, *, tells: bool = True) -> None:
        super().__init__()
        self._tells = tells

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        said = [("7", -0.1), ("8", -1.2), ("8", -1.4)]
        steps = [
            Step(f"\\boxed{{{answer}}}", "stop", 4, logprob=logprob if self._tells else None)
            for answer, logprob in said[:n]
        ]
        return Sampled(tuple(Continuation((step,), 4) for step in steps), 1)


async def test_confidence_outvotes_a_majority() -> None:
    strategy = BestOfN(3, select="confident")
    outcome = await run_search(strategy, PROBLEM, Sure(), None, Budget(3), Sampling())
    groups = [c.answer for c in outcome.candidates]
    assert select(outcome.candidates, groups, "confident").answer == "7"
    assert select(outcome.candidates, groups, "majority").answer == "8"
    values = [value(c, "confident", "last") for c in outcome.candidates]
    assert values == pytest.approx([np.exp(-0.1), np.exp(-1.2), np.exp(-1.4)])


async def test_where_no_engine_tells_its_confidence_a_majority_votes() -> None:
    strategy = BestOfN(3, select="confident")
    outcome = await run_search(strategy, PROBLEM, Sure(tells=False), None, Budget(3), Sampling())
    known = [value(c, "confident", "last") is not None for c in outcome.candidates]
    voting = voters("confident", known)
    assert voting.how == "majority"
    assert "3 of 3 solutions have no log-probabilities" in voting.notes[0]


def test_confidence_is_a_mean_over_tokens_not_over_steps() -> None:
    assert confidence([-1.0, -5.0, None], [3, 1, 0]) == pytest.approx(np.exp(-2.0))
    assert confidence([None], [0]) is None
    assert confidence([-1.0, None], [3, 1]) is None
