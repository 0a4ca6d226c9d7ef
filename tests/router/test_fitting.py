from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulated import SEARCHES
from router.difficulty.levels import fit_levels
from router.fitting.allocation import Allocation, Kind
from router.fitting.cells import build_table, unproven
from router.fitting.configurations import MAJORITY, configurations
from router.fitting.measurements import LEVEL_SAMPLES, measure
from router.fitting.sampler import Sampler, missing, price
from router.fitting.workers import LocalWorker, SearchJob, Worker
from router.models.errors import EngineError, InputError, NoCandidates, Unscorable
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Chain, Problem, Sampled, Sampling, Scored
from router.models.usage import Usage
from router.opening import Models
from router.rollouts.runs import Origin, Run, StoredCandidate, StoredPrefill
from router.rollouts.store import SAMPLES, RolloutStore

PROBLEMS = fake_problems(24)
GRID = Allocation.of("grid")
STRATEGIES = configurations([1, 2, 4], SEARCHES[:5], verifier=True)


def _store(path: Path, *, verifier: bool = True) -> RolloutStore:
    judge = FakeVerifier().info if verifier else None
    store = RolloutStore.create(path, Origin.of(FakeGenerator().info, Sampling(), judge))
    store.add_problems(PROBLEMS)
    return store


def _sampler(store: RolloutStore, **settings: object) -> Sampler:
    settings = {"levels": "quantile:2", "allocation": GRID, **settings}
    return Sampler(store, PROBLEMS, STRATEGIES, **settings)  # type: ignore[arg-type]


async def _run(sampler: Sampler, generator: FakeGenerator | None = None) -> FakeGenerator:
    generator = generator or FakeGenerator()
    await sampler.run(_worker(generator))
    return generator


def _worker(generator: FakeGenerator, verifier: FakeVerifier | None = FakeVerifier()) -> Worker:
    return LocalWorker(Models(generator, verifier), Sampling())


def test_a_text_becomes_one_configuration_a_budget() -> None:
    found = configurations(
        [1, 4, 8], [MAJORITY, "beam_search(width=4)", "dvts(n=8)"], verifier=True
    )
    assert list(map(str, found)) == [
        "best_of_n(n=1, select=majority)",
        "best_of_n(n=4, select=majority)",
        "best_of_n(n=8, select=majority)",
        "beam_search(n=4)",
        "beam_search(n=8)",
        "dvts(n=8)",
    ]


@pytest.mark.parametrize(
    ("budgets", "texts", "verifier", "named"),
    [
        ([4, 2], [MAJORITY], True, "budgets must rise, without repeats, not 4,2"),
        ([2, 2], [MAJORITY], True, "not 2,2"),
        ([], [MAJORITY], True, "not none"),
        ([0, 2], [MAJORITY], True, "at least 1, not 0"),
        ([1], ["beam_search"], True, "beam_search fits none of the budgets 1"),
        ([4], ["best_of_n(n=8)"], True, "costs more than 4"),
        ([4], ["beam_serch"], True, "did you mean 'beam_search'"),
        ([4], ["beam_search"], False, "needs a verifier and there is none"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(
    budgets: list[int], texts: list[str], verifier: bool, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        configurations(budgets, texts, verifier=verifier)


async def test_a_grid_samples_what_every_configuration_needs_once(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        sampler = _sampler(store)
        due = price(missing(PROBLEMS, STRATEGIES, store.held()), store.rates())
        assert due.tokens is None  # nothing was measured yet
        ticks: list[int] = []
        await sampler.run(_worker(FakeGenerator()), tick=ticks.append)
        counts = store.counts()
        for problem in PROBLEMS:
            assert counts[problem.id, SAMPLES] == 4 + LEVEL_SAMPLES
            assert counts[problem.id, "beam_search(n=4)"] == 1
            assert counts[problem.id, "beam_search(n=2, width=2)"] == 1
        assert sum(ticks) == due.generations
        assert not np.isnan(sampler.measured().accuracy).any()
        assert missing(PROBLEMS, STRATEGIES, store.held()) == []
        again = await _run(_sampler(store))
        assert again.calls == 0


async def test_a_gap_in_the_stored_repeats_is_filled(tmp_path: Path) -> None:
    strategies = configurations([8], ["dvts(width=4)"], verifier=True)
    jobs = [job for job in missing(PROBLEMS, strategies) if job.configuration != SAMPLES]
    assert {job.repeat for job in jobs} == {0, 1}  # two subtrees a problem
    with _store(tmp_path / "r.db") as store:
        last = [job for job in jobs if job.repeat == 1]
        await _sampler(store).run_jobs(last, _worker(FakeGenerator()))  # and was killed
        lacking = missing(PROBLEMS, strategies, store.held())
        assert {job.repeat for job in lacking if job.configuration != SAMPLES} == {0}
        await _sampler(store).run_jobs(lacking, _worker(FakeGenerator()))
        assert missing(PROBLEMS, strategies, store.held()) == []


async def test_the_next_price_knows_the_measured_rates(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        await _run(_sampler(store))
        more = configurations([1, 2, 4, 8], SEARCHES[:5], verifier=True)
        jobs = missing(PROBLEMS, more, store.held())
        due = price(jobs, store.rates())
        per_generation, per_second = store.rates()
        assert per_generation is not None
        assert per_second is not None
        # 4 of 8 samples are stored; beams of 8 are new, of width 2 and of width 4.
        assert due.generations == len(PROBLEMS) * (4 + 8 + 8)
        assert due.tokens == pytest.approx(due.generations * per_generation)
        assert due.hours == pytest.approx(due.generations * per_generation / per_second / 3600)
        assert price(jobs, store.rates(), 50).generations == 50


async def test_pools_grow_by_fresh_samples_only(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        for budget in (8, 16):
            strategies = configurations([budget], ["best_of_n"], verifier=True)
            sampler = Sampler(store, PROBLEMS, strategies, levels="quantile:2", merge=True)
            generator = await _run(sampler)
            assert generator.calls >= len(PROBLEMS)
        pools = {problem.id: pool for problem, pool in store.samples()}
        assert all(len(pool) == 16 + LEVEL_SAMPLES for pool in pools.values())
        # The same seed twice would repeat the first eight samples.
        assert any(
            [c.text for c in pool[:8]] != [c.text for c in pool[-8:]] for pool in pools.values()
        )
        assert all(c.scores is not None for pool in pools.values() for c in pool)


async def test_each_temperature_has_a_pool_that_is_scored_like_the_other(
    tmp_path: Path,
) -> None:
    colder = "best_of_n(select=majority, temperature=0.3)"
    pool = "best_of_n(n=1, temperature=0.3)"
    with _store(tmp_path / "r.db", verifier=False) as store:
        strategies = configurations([2, 4], [MAJORITY, colder], verifier=False)
        jobs = missing(PROBLEMS, strategies)
        assert price(jobs).generations == len(PROBLEMS) * (LEVEL_SAMPLES + 4 + 4)
        assert not any(job.strategy.needs_verifier for job in jobs)
        generator = FakeGenerator()
        sampler = Sampler(store, PROBLEMS, strategies, levels="quantile:2", merge=True)
        await sampler.run(_worker(generator, None))
        assert all(store.counts()[problem.id, pool] == 4 for problem in PROBLEMS)
        assert missing(PROBLEMS, strategies, store.held()) == []
    with _store(tmp_path / "r.db") as store:
        strategies = configurations([4], ["best_of_n(temperature=0.3)"], verifier=True)
        sampler = Sampler(store, PROBLEMS, strategies, levels="quantile:2", merge=True)
        await sampler.run(_worker(generator))
        assert all(c.scores is not None for run in store.runs(pool) for c in run.candidates)
        assert not np.isnan(sampler.measured().accuracy).any()


async def test_samples_without_scores_get_them_before_a_fit(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db", verifier=False) as store:
        strategies = configurations([4], [MAJORITY], verifier=False)
        sampler = Sampler(store, PROBLEMS, strategies, levels="quantile:2", merge=True)
        await sampler.run(_worker(FakeGenerator(), None))
        assert all(c.scores is None for _, pool in store.samples() for c in pool)
    with _store(tmp_path / "r.db") as store:
        await _run(_sampler(store))
        assert all(c.scores is not None for _, pool in store.samples() for c in pool)
        assert all(run.usage.verifier_tokens for run in store.runs())


async def test_a_failure_keeps_what_finished_and_a_second_run_completes_it(
    tmp_path: Path,
) -> None:
    with _store(tmp_path / "r.db") as store:
        broken = FakeGenerator(fail_after=100)
        with pytest.raises(EngineError):
            await _sampler(store).run(_worker(broken), in_flight=2)
        kept = list(store.runs())
        assert kept
        await _run(_sampler(store))
        assert [run for run in store.runs() if run in kept] == kept
        assert not np.isnan(_sampler(store).measured().accuracy).any()


class _FailsAt(FakeGenerator):
    """Fails at one problem, whatever is asked of it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self._problem = problem

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        if path.problem == self._problem:
            raise EngineError("the engine cannot take it")
        return await super().sample(path, n, sampling)


@pytest.mark.parametrize("allocation", ["grid", "racing"])
async def test_a_problem_that_always_fails_ends_no_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, allocation: Kind
) -> None:
    bad = PROBLEMS[3]
    for _ in range(2):  # a resumed fit tries it again
        caplog.clear()
        with _store(tmp_path / "r.db") as store:
            sampler = _sampler(store, allocation=Allocation.of(allocation))
            await _run(sampler, _FailsAt(bad))
            found = sampler.measured()
        assert set(found.problems) == {p.id for p in PROBLEMS} - {bad.id}
        told = [record.getMessage() for record in caplog.records]
        assert sum(bad.id in line for line in told) == 1
        assert told[-1].startswith("1 searches of 1 problems failed and are left out; start")
    with _store(tmp_path / "r.db") as store:
        sampler = _sampler(store)
        await _run(sampler)
        assert not np.isnan(sampler.measured().accuracy).any()
        assert len(sampler.measured().problems) == len(PROBLEMS)


async def test_a_search_that_finds_nothing_ends_no_fit(tmp_path: Path) -> None:
    class Barren(LocalWorker):
        async def search(self, job: SearchJob, seed: int | None) -> Run:
            if job.problem == PROBLEMS[0] and job.configuration != SAMPLES:
                raise NoCandidates("completed", "nothing was found")
            return await super().search(job, seed)

    with _store(tmp_path / "r.db") as store:
        sampler = _sampler(store)
        await sampler.run(Barren(Models(FakeGenerator(), FakeVerifier()), Sampling()))
        assert {problem for problem, _, _ in sampler.failed} == {PROBLEMS[0].id}
        assert len(sampler.measured().problems) == len(PROBLEMS)


async def test_a_model_that_is_down_ends_a_fit_with_its_error(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        broken = FakeGenerator(fail_after=0)
        with pytest.raises(EngineError):
            await _sampler(store).run(_worker(broken), in_flight=LEVEL_SAMPLES)
        assert broken.calls < len(PROBLEMS) * 8  # not one search of each problem
        few = Sampler(store, PROBLEMS[:2], STRATEGIES, levels="quantile:2")
        with pytest.raises(EngineError):
            await few.run(_worker(FakeGenerator(fail_after=0)))


class _Picky(FakeVerifier):
    """Cannot take one path in four."""

    async def score(self, path: Chain, known: int = 0) -> Scored:
        if len(path.text) % 4 == 0:
            self.calls += 1
            raise Unscorable("the path is too long for the verifier")
        return await super().score(path, known)


@pytest.mark.parametrize("verified", [True, False])
async def test_what_cannot_be_scored_is_asked_once(tmp_path: Path, verified: bool) -> None:
    """Whether it is scored as it is sampled, or later."""
    if not verified:
        with _store(tmp_path / "r.db", verifier=False) as store:
            strategies = configurations([4], [MAJORITY], verifier=False)
            sampler = Sampler(store, PROBLEMS, strategies, levels="quantile:2", merge=True)
            await sampler.run(_worker(FakeGenerator(), None))
    for asked in (True, False):
        verifier = _Picky()
        with _store(tmp_path / "r.db") as store:
            sampler = _sampler(store)
            await sampler.run(_worker(FakeGenerator(), verifier))
            pools = [pool for _, pool in store.samples()]
            found = sampler.measured()
        assert bool(verifier.calls) == asked
        assert all(c.scores is not None for pool in pools for c in pool)
        assert any(c.scores == () for pool in pools for c in pool)
    assert not np.isnan(found.accuracy).any(axis=0).all()


async def test_a_problem_that_does_not_fit_the_model_is_skipped(tmp_path: Path) -> None:
    long = Problem("long", "1 + " * 5000 + "1", "5001")
    with _store(tmp_path / "r.db") as store:
        store.add_problems([long])
        sampler = Sampler(store, [*PROBLEMS, long], STRATEGIES, levels="quantile:2")
        await _run(sampler)
        assert sampler.skipped == {"long"}
        assert len(sampler.measured().problems) == len(PROBLEMS)


async def test_max_generations_is_never_exceeded(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        await _run(_sampler(store, max_generations=300))
        spent = sum(run.usage.generations for run in store.runs())
        assert 290 <= spent <= 300


async def test_racing_spends_no_more_than_the_grid_and_can_be_resumed(tmp_path: Path) -> None:
    with _store(tmp_path / "grid.db") as store:
        await _run(_sampler(store))
        grid = len(list(store.runs()))
    race = Allocation(first=4, confidence=0.6)
    ticks: list[int] = []
    with _store(tmp_path / "race.db") as store:
        due = price(missing(PROBLEMS, STRATEGIES, store.held())).generations
        await _sampler(store, allocation=race).run(_worker(FakeGenerator()), tick=ticks.append)
        raced = len(list(store.runs()))
        assert raced < grid
        assert sum(ticks) == due  # what is not needed is off the list too
        again = await _run(_sampler(store, allocation=race))
        assert again.calls == 0


async def test_a_level_does_not_wait_for_another(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        race = Allocation(first=2, growth=2.0, confidence=1.0)  # rounds, but nothing drops out
        pools = _sampler(store)
        await pools.run_jobs(
            missing(PROBLEMS, STRATEGIES[:1], level_samples=LEVEL_SAMPLES + 3),
            _worker(FakeGenerator()),
        )
        found = pools.measured()
        level = fit_levels(found.pass_at_1, "quantile:2").of(found.pass_at_1)
        hard = {name for name, number in zip(found.problems, level, strict=True) if number == 2}
        due = missing(PROBLEMS, STRATEGIES, store.held())
        worker = _EasyAfterHard(hard, sum(job.problem.id in hard for job in due))
        async with asyncio.timeout(30):
            await _sampler(store, allocation=race).run(worker, in_flight=1000)


class _EasyAfterHard:
    """A worker on which no search of an easy problem ends before all those of hard ones."""

    def __init__(self, hard: set[str], count: int) -> None:
        self._worker = _worker(FakeGenerator())
        self._hard = hard
        self._left = count
        self._done = asyncio.Event()
        self.generator, self.verifier = self._worker.generator, self._worker.verifier
        self.reads_prompts = self._worker.reads_prompts

    async def prefill(self, problem: Problem) -> StoredPrefill:
        return await self._worker.prefill(problem)

    async def search(self, job: SearchJob, seed: int | None) -> Run:
        run = await self._worker.search(job, seed)
        if job.problem.id not in self._hard:
            await self._done.wait()
            return run
        self._left -= 1
        if not self._left:
            self._done.set()
        return run

    async def score(self, run: Run, problem: Problem) -> Run:
        return await self._worker.score(run, problem)


async def test_generations_run_at_once_up_to_the_bound(tmp_path: Path) -> None:
    generator = FakeGenerator(seconds_per_token=0.0002)
    most = 0
    original = generator.sample

    async def watched(*arguments: object) -> object:
        nonlocal most
        task = asyncio.ensure_future(original(*arguments))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        most = max(most, generator.running)
        return await task

    generator.sample = watched  # type: ignore[assignment]
    with _store(tmp_path / "r.db") as store:
        strategies = configurations([1], [MAJORITY], verifier=False)
        sampler = Sampler(store, PROBLEMS, strategies, levels="quantile:1", merge=True)
        each = 1 + LEVEL_SAMPLES
        await sampler.run(_worker(generator, None), in_flight=5 * each + 1)
    assert most == 5


def test_a_killed_fit_resumes_and_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    program = """
        import asyncio, sys
        from pathlib import Path
        from router.models.fakes import FakeGenerator
        from tests.router.test_fitting import _sampler, _store, _worker
        with _store(Path(sys.argv[1])) as store:
            sampler = _sampler(store)
            generator = FakeGenerator(seconds_per_token=0.002)
            asyncio.run(sampler.run(_worker(generator), in_flight=2))
    """
    fit = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(path)])
    deadline = time.monotonic() + 60
    while _runs(path) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(fit.pid, signal.SIGKILL)
    fit.wait()
    with _store(path) as store:
        kept = list(store.runs())
        assert 5 <= len(kept) < len(PROBLEMS) * 4
        asyncio.run(_run(_sampler(store)))
        assert not np.isnan(_sampler(store).measured().accuracy).any()
        assert [run for run in store.runs() if run in kept] == kept


def _runs(path: Path) -> int:
    try:
        with RolloutStore.read(path) as store:
            return len(list(store.runs()))
    except InputError:
        return 0


async def test_a_pool_of_samples_from_elsewhere_is_reused(tmp_path: Path) -> None:
    with _store(tmp_path / "r.db") as store:
        for problem in PROBLEMS:
            right = StoredCandidate(("x",), "stop", problem.answer, True, 1, (0.5,))
            wrong = replace(right, answer="-1", correct=False)
            store.add_samples(problem.id, [right, wrong] * 6, Usage(generations=12))
        strategies = configurations([4], [MAJORITY], verifier=True)
        assert missing(PROBLEMS, strategies, store.held()) == []


class _Inverted(FakeVerifier):
    def _value(self, text: str) -> float:
        return 1 - super()._value(text)


@pytest.mark.parametrize(
    ("verifier", "pays"),
    [
        (FakeVerifier(), True),
        (FakeVerifier(noise=0.5), True),
        (FakeVerifier(noise=100), False),
        (FakeVerifier(constant=0.5), False),
        (FakeVerifier(constant=1.0), False),
        (_Inverted(), False),
    ],
    ids=["good", "fair", "random", "constant", "sure", "inverted"],
)
async def test_a_plain_vote_is_preferred_where_the_verifier_does_not_beat_it(
    tmp_path: Path, verifier: FakeVerifier, pays: bool
) -> None:
    budgets = (1, 2, 4)
    votes = [f"best_of_n(select={select})" for select in ("weighted", "best", "majority")]
    # By scores one rule spends less than by counts, which says nothing of the scores.
    votes += [f"best_of_n(select={select}, worth=0.05)" for select in ("weighted", "majority")]
    strategies = configurations(budgets, votes, verifier=True)
    with _store(tmp_path / "r.db") as store:
        sampler = Sampler(store, PROBLEMS, strategies, levels="quantile:2", allocation=GRID)
        await sampler.run(_worker(FakeGenerator(), verifier))
        found = measure(store, strategies)
    levels = fit_levels(found.pass_at_1, "quantile:2")
    cells = build_table(found, levels, budgets, "generations").cells
    chosen = {cell.entries[0].strategy.select for cell in cells if cell.budget > 1}
    by_score = {found.strategies[own].select for own in unproven(found)}
    if pays:
        assert not by_score
        assert chosen & {"weighted", "best"}
    else:
        assert by_score == {"weighted", "best"}
        assert any(found.strategies[own].stopping for own in unproven(found))
        assert chosen == {"majority"}
    # However little they spend, and are right: the verdict is that of fixed votes.
    stops = np.array([strategy.stopping is not None for strategy in found.strategies])
    by_scores = np.array([strategy.select == "weighted" for strategy in found.strategies])
    cheap = np.where(stops & by_scores, 0.0, found.accuracy)
    assert unproven(replace(found, accuracy=cheap)).keys() == unproven(found).keys()
