"""Replays of votes that stop: against every order there is, and against live searches."""

from __future__ import annotations

import random
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from router.fitting.estimates import Pool, expected_accuracy, expected_coverage
from router.fitting.measurements import measure
from router.fitting.pools import StoredPools, together
from router.fitting.replay import ORDERS, replay, run_length
from router.models.base import GeneratorInfo
from router.models.fakes import FakeGenerator
from router.models.types import Chain, Continuation, Problem, Sampled, Sampling, Step
from router.models.usage import Usage
from router.rollouts.runs import Origin, Run, StoredCandidate
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.registry import parse_strategy
from router.strategies.selection import select
from router.strategies.stopping import Poll

SIGMAS = 5.0


def _pool(answers: str, right: str = "a", weights: list[float] | None = None) -> Pool:
    """A unit a letter; a dash gives no answer."""
    names = sorted(set(answers) - {"-"})
    given = [i for i, answer in enumerate(answers) if answer != "-"]
    return Pool(
        units=len(answers),
        unit=np.array(given, np.int64),
        group=np.array([names.index(answers[i]) for i in given], np.int64),
        correct=np.array([name in right for name in names], np.bool_),
        score=None if weights is None else np.array([weights[i] for i in given]),
    )


def _live(pool: Pool, order: tuple[int, ...], strategy: BestOfN) -> tuple[float, int]:
    """Follow one order by the strategy's own rule, sample by sample, as a live search does."""
    rule = strategy.stopping
    assert rule is not None
    votes: dict[int, float] = {}
    drawn = 0
    for wave in rule.waves:
        for unit in order[drawn:wave]:
            for at in np.flatnonzero(pool.unit == unit):
                weight = 1.0 if pool.score is None else float(pool.score[at])
                votes[int(pool.group[at])] = votes.get(int(pool.group[at]), 0.0) + weight
        drawn = wave
        if rule.ends(Poll.of(list(votes.values()), strategy.select), drawn):
            break
    top = max(votes.values(), default=0.0)
    tied = [answer for answer, vote in votes.items() if vote == top and vote > 0]
    return (np.mean([pool.correct[a] for a in tied]) if tied else 0.0), drawn


@pytest.mark.parametrize(
    "rule",
    [
        {"lead": 2.0},
        {"give_up": 0.25},
        {"lead": 3.0, "give_up": 0.3},
        {"lead": 99.0},
        {"worth": 0.05},
        {"worth": 0.1, "lead": 2.0},
    ],
)
@pytest.mark.parametrize("answers", ["aabbc-a", "abcdefg", "aaaaaab", "-------"])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_mean_over_all_orders(
    rule: dict[str, float], answers: str, weighted: bool
) -> None:
    scores = [0.9, 0.25, 0.5, 0.75, 0.125, 0.3, 0.6] if weighted else None
    pool = _pool(answers, weights=scores)
    strategy = BestOfN(5, "weighted" if weighted else "majority", **rule)
    every = [_live(pool, order, strategy) for order in permutations(range(7), 5)]
    accuracy, spent = np.mean(every, axis=0)
    (found,) = replay(pool, [7], [strategy], strategy.select, scored=weighted)
    assert found is not None
    assert abs(found.accuracy - accuracy) <= SIGMAS * max(found.error, 1e-9) + 1e-9
    spread = np.std([drawn for _, drawn in every]) / ORDERS**0.5
    assert abs(found.spent[0] - spent) <= SIGMAS * spread + 1e-9


@pytest.mark.parametrize("select_", ["majority", "weighted"])
def test_without_a_rule_it_is_the_expectation(select_: str) -> None:
    pool = _pool("aabbbc-adaeb", weights=[i / 13 for i in range(1, 13)])
    sizes = (1, 3, 8)
    strategies = [parse_strategy(f"best_of_n(n={n}, select={select_})") for n in sizes]
    scored = select_ == "weighted"
    exact = expected_accuracy([pool], sizes, strategies[0].select, scored=scored)
    covered = expected_coverage([pool], sizes)
    played = replay(pool, [12], strategies, strategies[0].select, scored=scored)
    for column, one in enumerate(played):
        assert one is not None
        assert abs(one.accuracy - exact.accuracy[0, column]) <= SIGMAS * one.error + 1e-9
        assert one.coverage == pytest.approx(covered[0, column], abs=SIGMAS / ORDERS**0.5)
        assert one.spent.tolist() == [sizes[column]]


def test_parts_are_drawn_one_after_the_other_and_never_mixed() -> None:
    pool = _pool("aaaa" + "bbbbbbbb")  # right at the first temperature, wrong at the other
    strategies = [
        parse_strategy(f'best_of_n(n={n}, select=majority, temperatures="0.3:3", lead={lead})')
        for n, lead in ((4, 9), (8, 9), (8, 2), (12, 9))
    ]
    played = replay(pool, [4, 8], strategies, "majority", scored=False)
    assert [None if one is None else one.accuracy for one in played] == [1.0, 0.0, 1.0, None]
    assert [None if one is None else one.spent.tolist() for one in played] == [
        [3.0, 1.0],
        [3.0, 5.0],
        [2.0, 0.0],
        None,
    ]


class Stored(FakeGenerator):
    """Gives stored answers in a random order, of either temperature."""

    def __init__(self, warm: str, hot: str, rng: random.Random) -> None:
        super().__init__()
        self._left = {0.3: rng.sample(warm, len(warm)), 0.8: rng.sample(hot, len(hot))}

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        said = [self._left[sampling.temperature].pop() for _ in range(n)]
        steps = [Step(f"\\boxed{{{answer}}}", "stop", 10) for answer in said]
        return Sampled(tuple(Continuation((step,), 10) for step in steps), 1, 0)


@pytest.mark.parametrize("rule", ["lead=3, give_up=0.25", "worth=0.06"])
async def test_live_searches_do_what_the_replay_says(tmp_path: Path, rule: str) -> None:
    warm, hot = "11123", "1112222334567"
    strategy = parse_strategy(f'best_of_n(n=12, select=majority, temperatures="0.3:4", {rule})')
    right, spent = [], []
    for seed in range(400):
        engine = Stored(warm, hot, random.Random(seed))
        problem = Problem("p", "?", "1")
        outcome = await run_search(strategy, problem, engine, None, Budget(12), Sampling())
        answers = [c.answer for c in outcome.candidates]
        right.append(select(outcome.candidates, answers, "majority").answer == "1")
        spent.append(outcome.usage.generations)
    found = _measured(tmp_path, warm, hot, strategy)
    for live, replayed in ((right, found.accuracy), (spent, found.generations)):
        assert abs(np.mean(live) - replayed[0, 0]) < SIGMAS * np.std(live) / len(live) ** 0.5
    assert found.tokens[0, 0] == pytest.approx(10 * found.generations[0, 0])


def _measured(path: Path, warm: str, hot: str, strategy: Strategy):
    def stored(answer: str) -> StoredCandidate:
        return StoredCandidate(("x",), "stop", answer, answer == "1", 10)

    def usage(count: int) -> Usage:
        return Usage(generations=count, sampled_tokens=10 * count)

    with RolloutStore.create(
        path / "r.db", Origin.of(GeneratorInfo("g", "f", "plain"), Sampling())
    ) as store:
        store.add_problems([Problem("p", "?", "1")])
        store.add_samples("p", [stored(a) for a in hot], usage(len(hot)))
        for repeat, answer in enumerate(warm):
            name = "best_of_n(n=1, temperature=0.3)"
            store.add(Run("p", name, repeat, "completed", usage(1), (stored(answer),)))
        return measure(store, [strategy], level_samples=0)


def test_one_order_ends_where_its_vote_is_over() -> None:
    strategy = BestOfN(8, "majority", lead=2)
    assert run_length(_pool("aabbbbbb"), strategy) == 2
    assert run_length(_pool("abaabbbb"), strategy) == 4
    assert run_length(_pool("abab"), strategy) == 4
    assert run_length(_pool("abab"), BestOfN(3, "majority")) == 3


def test_votes_by_confidence_are_measured(tmp_path: Path) -> None:
    """Two hesitant votes against a sure one: the mean over all pairs and the one triple."""
    said = [("1", -0.1), ("2", -1.4), ("2", -1.6)]
    candidates = [
        StoredCandidate(("x",), "stop", a, a == "1", 10, step_tokens=(10,), logprobs=(p,))
        for a, p in said
    ]
    origin = Origin.of(GeneratorInfo("g", "f", "plain"), Sampling())
    with RolloutStore.create(tmp_path / "r.db", origin) as store:
        store.add_problems([Problem("p", "?", "1")])
        store.add_samples("p", candidates, Usage(generations=3, sampled_tokens=30))
        texts = [f"best_of_n(n={n}, select={s})" for s in ("confident", "majority") for n in (2, 3)]
        found = measure(store, [parse_strategy(t) for t in texts], level_samples=0)
        pools = StoredPools(store, [], None, 0).pools[SAMPLES]["p"]
    np.testing.assert_allclose(found.accuracy[0], [2 / 3, 1.0, 1 / 3, 0.0])
    assert together([pools], "confidence").score == pytest.approx(np.exp([-0.1, -1.4, -1.6]))
