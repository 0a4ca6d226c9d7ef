"""Order within a pool must say nothing: tested, warned of, and kept so by the sampler."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from router.fitting.configurations import configurations
from router.fitting.exchangeability import drifting, halves, orders
from router.fitting.sampler import Sampler
from router.fitting.workers import LocalWorker
from router.models.fakes import FakeGenerator, fake_problems
from router.models.types import Chain, Continuation, Sampled, Sampling, Step
from router.models.usage import Usage
from router.opening import Models
from router.rollouts.export import open_rollouts
from router.rollouts.runs import Origin, StoredCandidate
from router.rollouts.store import RolloutStore
from router.strategies.registry import parse_strategy

ROLLOUTS = Path("benchmarks/rollouts")
COLD = "best_of_n(n=4, select=majority, temperature=0.3)"


def test_the_test_is_that_of_all_permutations() -> None:
    rng = np.random.default_rng(0)
    rows: list[list[float]]
    rows = [list(rng.random(int(m)) < 0.3 * (k % 3)) for k, m in enumerate(rng.integers(2, 12, 60))]
    rows += [[*rng.normal(size=5) + 0.6, *rng.normal(size=5)] for _ in range(20)]

    def excess(some: list[list[float]]) -> float:
        return sum(sum(row[: len(row) // 2]) - len(row) // 2 * float(np.mean(row)) for row in some)

    drawn = [excess([list(rng.permutation(row)) for row in rows]) for _ in range(1000)]
    exact = np.mean(np.abs(drawn) >= abs(excess(rows)))
    assert halves(rows).p == pytest.approx(exact, abs=0.04)


@pytest.mark.parametrize("rows", [[[1.0, 1.0], [0.0, 0.0, 0.0]], [[1.0, 0.0]]])
def test_few_or_equal_samples_tell_nothing(rows: list[list[float]]) -> None:
    assert halves(rows).p > 0.1


def test_a_pool_that_is_exchangeable_is_rarely_called_otherwise() -> None:
    rng = np.random.default_rng(1)
    p = [halves(list(rng.random((40, 8)) < rng.random((40, 1)))).p for _ in range(400)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.035)


def test_no_pool_of_the_shipped_fit_drifts() -> None:
    with open_rollouts(ROLLOUTS / "fit.jsonl.gz") as store:
        ids = {problem.id for problem in store.problems()}
        strategies = [parse_strategy(text) for text in ("best_of_n(n=32)", COLD)]
        found = [asdict(order) for order in orders(store, strategies, ids)]
    assert [order["samples"] for order in found] == [14_728, 2_400]
    assert not drifting(found)


def test_a_pool_that_drifts_is_named(tmp_path: Path) -> None:
    right = StoredCandidate(("x",), "stop", "1", True, 1, None)
    wrong = replace(right, answer="2", correct=False)
    problems = fake_problems(60)
    with RolloutStore.create(
        tmp_path / "r.db", Origin.of(FakeGenerator().info, Sampling())
    ) as store:
        store.add_problems(problems)
        for problem in problems:
            half = [right, wrong, wrong, wrong]
            store.add_samples(problem.id, [*[right] * 3, wrong, *half], Usage(generations=8))
        ids = {problem.id for problem in problems}
        found = [asdict(order) for order in orders(store, [parse_strategy("best_of_n(n=8)")], ids)]
    [told] = drifting(found)
    assert "right 75.0% in the first half" in told
    assert "25.0% in the second" in told


class Timed(FakeGenerator):
    """Half of its solutions end at once and are right, the others take long and are wrong."""

    def __init__(self) -> None:
        super().__init__()
        self._rng = np.random.default_rng(0)

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        assert n == 1
        right = self._rng.random() < 0.5
        await asyncio.sleep(0.0 if right else 0.3)
        answer = chain.problem.answer if right else "-1"
        step = Step(f"So \\boxed{{{answer}}}.", "stop", 5)
        return Sampled((Continuation((step,), 5),), 1, 0)


async def test_a_killed_run_keeps_no_more_of_the_short_samples_than_of_the_long(
    tmp_path: Path,
) -> None:
    problems = fake_problems(60)
    strategies = configurations([4], [COLD], verifier=False)
    generator = Timed()
    worker = LocalWorker(Models(generator, None), Sampling())
    with RolloutStore.create(tmp_path / "r.db", Origin.of(generator.info, Sampling())) as store:
        store.add_problems(problems)
        for limit in (0.15, None):  # killed among the long ones, and started again
            sampler = Sampler(
                store, problems, strategies, levels="quantile:1", level_samples=0, seed=None
            )
            jobs = sampler._missing(problems, strategies)
            with suppress(TimeoutError):
                await asyncio.wait_for(sampler.run_jobs(jobs, worker), limit)
        right = [c.correct for run in store.runs() for c in run.candidates]
    assert len(right) == 60 * 4
    assert np.mean(right) < 0.62  # 0.75 if each had been kept as it ended


async def test_seeds_differ_between_problems(tmp_path: Path) -> None:
    seeds: defaultdict[str, set[int | None]] = defaultdict(set)

    class Recording(FakeGenerator):
        async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
            seeds[chain.problem.id].add(sampling.seed)
            return await super().sample(chain, n, sampling)

    generator = Recording()
    problems = fake_problems(6)
    strategies = configurations([4], [COLD], verifier=False)
    with RolloutStore.create(tmp_path / "r.db", Origin.of(generator.info, Sampling())) as store:
        store.add_problems(problems)
        sampler = Sampler(store, problems, strategies, levels="quantile:1")
        worker = LocalWorker(Models(generator, None), Sampling())
        await sampler.run_jobs(sampler._missing(problems, strategies), worker)
    assert len(seeds) == 6
    assert sum(map(len, seeds.values())) == len(set.union(*seeds.values()))
