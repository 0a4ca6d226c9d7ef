"""One road: what is observed is charged to the search's own budget and used again; one deadline,
one usage; one bad chain costs itself."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from router.difficulty.base import NOTHING, Evidence, Needs
from router.models.errors import EngineError, InputError, NoCandidates, Unscorable, VerifierError
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.types import Chain, FinishReason, Problem, Sampling, Scored
from router.opening import Models
from router.records import Decision, Solution
from router.road import solve
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.registry import parse_strategy

PROBLEM = Problem("p", "What is 123 + 456 + 789?")


@dataclass
class Spy:
    """Chooses what it was told to, and keeps the evidence that it saw."""

    text: str
    needs: Needs = NOTHING
    seen: list[Evidence] = field(default_factory=list)

    def choose(self, problem: Problem, evidence: Evidence, budget: Budget) -> Decision:
        self.seen.append(evidence)
        return Decision(parse_strategy(self.text), None, None, "told to")

    @property
    def scores(self) -> Sequence[float]:
        return self.seen[-1].scores


async def pilot(
    text: str,
    budget: int | Budget,
    generator: FakeGenerator | None = None,
    verifier: FakeVerifier | None = None,
) -> tuple[Solution, Spy]:
    """A quarter of the budget is observed, at most 8."""
    spy = Spy(text, Needs(samples=8))
    solution = await solve(
        PROBLEM,
        Models(generator or FakeGenerator(), verifier or FakeVerifier()),
        spy,
        budget if isinstance(budget, Budget) else Budget(budget),
        Sampling(),
        seed=0,
    )
    return solution, spy


async def solved(
    text: str, generator: FakeGenerator, verifier: FakeVerifier | None, budget: Budget
) -> Solution:
    return await solve(PROBLEM, Models(generator, verifier), Spy(text), budget, Sampling(), seed=0)


# -- observed samples -------------------------------------------------------------------------


@pytest.mark.parametrize("select", ["majority", "best", "weighted"])
async def test_best_of_n_takes_the_pilot_as_its_first_samples(select: str) -> None:
    generator = FakeGenerator()
    solution, spy = await pilot(f"best_of_n(n=16, select={select})", 16, generator)
    assert len(spy.scores) == 4
    assert spy.seen[-1].generations == 4
    assert len(solution.candidates) == 16
    assert solution.usage.generations == 16
    assert solution.usage.sampled_tokens == generator.sampled_tokens
    assert generator.sampled_tokens == sum(c.tokens or 0 for c in solution.candidates)
    assert solution.ended == "completed"
    finals = [c.scores[-1] for c in solution.candidates[:4] if c.scores]
    assert finals == list(spy.scores)


@pytest.mark.parametrize(
    "text",
    [
        "beam_search(n=12)",
        "dvts(n=12)",
        "lookahead(n=4, k=2)",
        "best_of_n(n=12, temperature=0.3)",
    ],
)
async def test_the_pilot_votes_beside_the_candidates_of_other_searches(text: str) -> None:
    solution, _ = await pilot(text, 16)
    alone = await run_search(
        parse_strategy(text), PROBLEM, FakeGenerator(), FakeVerifier(), Budget(12), Sampling(),
        seed=0,
    )  # fmt: skip
    assert 4 < solution.usage.generations <= 16
    assert alone.usage.generations + 4 >= solution.usage.generations
    assert len([c for c in solution.candidates[-4:] if c.scores and len(c.scores) == 3]) == 4
    assert all(c.scores and c.answer for c in solution.candidates)
    assert solution.trace is not None
    assert solution.trace.dropped == 0
    finished = [node for node in solution.trace.nodes if node.status == "finished"]
    assert len(finished) == len(solution.candidates)


async def test_whatever_samples_whole_solutions_gets_the_observed_ones_first() -> None:
    generator = FakeGenerator()
    solution, _ = await pilot("beam_search(n=12, depth=1)", 16, generator)
    assert len(solution.candidates) == solution.usage.generations == 12


async def test_samples_that_a_smaller_strategy_does_not_take_vote_all_the_same() -> None:
    solution, _ = await pilot("best_of_n(n=2)", 16)
    assert solution.usage.generations == 4
    assert len(solution.candidates) == 4


async def test_a_search_that_would_overspend_ends_with_what_is_finished() -> None:
    solution, _ = await pilot("beam_search(n=16)", 16)
    assert solution.ended == "generations"
    assert solution.usage.generations <= 16
    assert len(solution.candidates) >= 4


async def test_a_majority_after_a_pilot_scores_no_further_sample() -> None:
    weighted, _ = await pilot("best_of_n(n=16)", 16)
    majority, _ = await pilot("best_of_n(n=16, select=majority)", 16)
    pilot_only, _ = await pilot("best_of_n(n=4)", 16)
    assert majority.usage.verifier_tokens == pilot_only.usage.verifier_tokens
    assert (majority.usage.verifier_tokens or 0) < (weighted.usage.verifier_tokens or 0)


async def test_a_token_cap_that_ends_the_pilot_leaves_what_is_finished() -> None:
    solution, spy = await pilot("best_of_n(n=32)", Budget(32, tokens=200))
    assert solution.ended == "tokens"
    assert list(spy.scores) == []
    assert (solution.usage.sampled_tokens or 0) <= 200
    assert all(c.scores for c in solution.candidates)


async def test_a_deadline_in_the_pilot_leaves_what_is_finished() -> None:
    def slow(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        return ("x" if rng.random() < 0.5 else "x" * 10_000), "stop"

    generator = FakeGenerator(slow, seconds_per_token=0.001)
    solution, spy = await pilot("best_of_n(n=32)", Budget(32, seconds=0.5), generator)
    assert solution.ended == "deadline"
    assert list(spy.scores) == []
    assert 0 < len(solution.candidates) < 8


async def test_a_pilot_without_a_verifier_is_refused() -> None:
    spy = Spy("best_of_n(n=4)", Needs(samples=8))
    with pytest.raises(InputError, match="needs a verifier and there is none"):
        await solve(PROBLEM, Models(FakeGenerator(), None), spy, Budget(8), Sampling())


# -- one deadline -----------------------------------------------------------------------------


class SlowToRead(FakeGenerator):
    async def prefill(self, problem: Problem):  # type: ignore[no-untyped-def]
        await asyncio.sleep(30)
        return await super().prefill(problem)


@pytest.mark.parametrize(
    ("text", "needs", "generator", "verifier"),
    [
        ("best_of_n(n=4)", Needs(layer=1), SlowToRead(), FakeVerifier()),
        ("best_of_n(n=4)", Needs(samples=8), FakeGenerator(), FakeVerifier(seconds=30)),
        ("best_of_n(n=4)", NOTHING, FakeGenerator(), FakeVerifier(seconds=30)),
        ("beam_search(n=4)", NOTHING, FakeGenerator(), FakeVerifier(seconds=30)),
    ],
)
async def test_the_deadline_covers_observation_search_and_scoring(
    text: str, needs: Needs, generator: FakeGenerator, verifier: FakeVerifier
) -> None:
    started = time.monotonic()
    models, budget = Models(generator, verifier), Budget(4, seconds=0.3)
    try:
        solution = await solve(PROBLEM, models, Spy(text, needs), budget, Sampling(), seed=0)
        ended = solution.ended
    except NoCandidates as error:
        ended = error.ended
    assert ended == "deadline"
    assert time.monotonic() - started < 4  # the verifier takes 30 seconds; the machine may be busy


async def test_answers_that_cannot_be_compared_in_time_are_different_and_a_note_says_so() -> None:
    """Comparing towers of powers takes CPU minutes, and must not outlive the deadline."""
    towers = [rf"\boxed{{{k}^{{9^{{9^{{10}}}}}}+x}}" for k in (7, 8, 9)]

    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        return towers.pop(), "stop"

    started = time.monotonic()
    problem = Problem("p", "Which is largest?", answer="9^{9^{9^{11}}}")
    solution = await solve(
        problem,
        Models(FakeGenerator(script), None),
        Spy("best_of_n(n=3, select=majority)"),
        Budget(3, seconds=1.0),
        Sampling(),
    )
    assert time.monotonic() - started < 4
    assert len(solution.votes) == 3
    assert solution.correct is None
    assert any("could not be compared in time" in note for note in solution.notes)


async def test_scoring_after_a_token_cap_is_inside_the_deadline() -> None:
    budget = Budget(8, tokens=120, seconds=0.3)
    started = time.monotonic()
    solution = await solved("beam_search(n=8)", FakeGenerator(), FakeVerifier(seconds=0.2), budget)
    assert solution.ended in ("deadline", "tokens")
    assert time.monotonic() - started < 1.0


# -- equal samples ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["best_of_n(n=16)", "best_of_n(n=16, select=majority)"])
async def test_equal_samples_are_drawn_and_paid_once(text: str) -> None:
    models = Models(FakeGenerator(), FakeVerifier())
    greedy = Sampling(temperature=0.0)
    solution = await solve(PROBLEM, models, Spy(text), Budget(16), greedy)
    assert solution.usage.generations == len(solution.candidates) == 1
    assert "at temperature 0 all samples are equal, so one was drawn" in solution.notes
    # A temperature of the strategy's own is another matter.
    own = f"{text[:-1]}, temperature=0.5)"
    solution = await solve(PROBLEM, models, Spy(own), Budget(16), greedy)
    assert solution.usage.generations == len(solution.candidates) == 16
    assert not solution.notes


# -- one usage --------------------------------------------------------------------------------


async def test_usage_counts_work_that_was_cancelled() -> None:
    generator = FakeGenerator(seconds_per_token=0.01)
    try:
        solution = await solved("best_of_n(n=16)", generator, FakeVerifier(), Budget(16, None, 0.3))
    except NoCandidates as error:
        usage = error.usage
    else:
        usage = solution.usage
    assert usage is not None
    done = 16 * 0.3 / 0.01
    assert usage.sampled_tokens == generator.sampled_tokens
    assert usage.sampled_tokens == pytest.approx(done, rel=0.5)
    assert not usage.lower_bound


async def test_what_an_engine_does_not_tell_of_a_cancelled_call_is_a_lower_bound() -> None:
    class Silent(FakeGenerator):
        async def sample(self, chain: Chain, n: int, sampling: Sampling):  # type: ignore[no-untyped-def]
            try:
                return await super().sample(chain, n, sampling)
            except asyncio.CancelledError:
                raise asyncio.CancelledError from None

    with pytest.raises(NoCandidates) as caught:
        await solved(
            "best_of_n(n=4)", Silent(seconds_per_token=1), FakeVerifier(), Budget(4, None, 0.1)
        )
    assert caught.value.usage is not None
    assert caught.value.usage.lower_bound


@pytest.mark.parametrize("text", ["best_of_n(n=8)", "beam_search(n=8)", "dvts(n=8)"])
async def test_errors_carry_what_was_spent(text: str) -> None:
    with pytest.raises(EngineError) as failed:
        await solved(text, FakeGenerator(fail_after=3), FakeVerifier(), Budget(8, None, 30))
    assert failed.value.usage is not None
    assert failed.value.usage.generations > 0

    class Down(FakeVerifier):
        async def score(self, chain: Chain, known: int = 0) -> Scored:
            raise VerifierError("the verifier is down")

    with pytest.raises(VerifierError, match="is down") as down:
        await solved(text, FakeGenerator(), Down(), Budget(8))
    assert down.value.usage is not None
    assert (down.value.usage.sampled_tokens or 0) > 0


async def test_a_search_that_is_left_says_what_was_spent() -> None:
    generator = FakeGenerator(seconds_per_token=0.01)
    work = solved("best_of_n(n=8)", generator, FakeVerifier(), Budget(8))
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as left:
        await task
    assert left.value.usage.generations == 8  # type: ignore[attr-defined]
    assert left.value.usage.sampled_tokens > 0  # type: ignore[attr-defined]


# -- one bad chain -----------------------------------------------------------------------------


class Picky(FakeVerifier):
    """Cannot take some of the chains."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        if random.Random(chain.text).random() < self._share:
            raise Unscorable("the chain is too long for the verifier")
        return await super().score(chain, known)


@pytest.mark.parametrize("text", ["best_of_n(n=16)", "best_of_n(n=16, select=best)"])
async def test_a_path_that_cannot_be_scored_does_not_vote_and_the_rest_does(text: str) -> None:
    solution = await solved(text, FakeGenerator(), Picky(0.2), Budget(16))
    unscored = [c for c in solution.candidates if c.scores is None]
    assert 0 < len(unscored) < 8
    assert solution.selection == parse_strategy(text).select
    assert sum(vote.count for vote in solution.votes) == 16 - len(unscored)
    assert f"{len(unscored)} solutions have no scores, so they do not vote" in solution.notes


@pytest.mark.parametrize("text", ["beam_search(n=8)", "dvts(n=8)", "lookahead(n=8, k=1)"])
async def test_searches_go_on_beside_a_path_that_cannot_be_scored(text: str) -> None:
    solution = await solved(text, FakeGenerator(), Picky(0.3), Budget(16))
    assert solution.answer is not None


async def test_where_nothing_can_be_scored_the_majority_answers() -> None:
    solution = await solved("best_of_n(n=8)", FakeGenerator(), Picky(1.0), Budget(8))
    assert solution.selection == "majority"
    assert "8 of 8 solutions have no scores, so a majority, not weighted" in solution.notes
