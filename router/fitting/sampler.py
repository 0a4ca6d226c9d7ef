"""Sampling for a fit: what is missing in the store, in the order in which it decides most."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import (
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy as np

from router.difficulty.levels import fit_levels
from router.fitting.allocation import Allocation
from router.fitting.measurements import LEVEL_SAMPLES, Measurements, measure
from router.fitting.pools import Unit, units_of
from router.fitting.shift import Room, Shift, Ticker, gather
from router.fitting.workers import SearchJob, Worker
from router.models.errors import EngineError, NoCandidates, PromptTooLong, VerifierError
from router.models.types import Problem
from router.rollouts.runs import Run
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Select, Strategy
from router.strategies.best_of_n import BestOfN

T = TypeVar("T")

log = logging.getLogger("router")

IN_FLIGHT = 256
"""Generations that run at once: they keep an engine's own batch full, and are lost with a kill."""

_DOWN: Final = 8
"""So many problems whose searches fail, without one success between, say that a model is down."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is left to sample, at most: racing may need less. Unknown rates are None.

    others: how many of the generations are those of further models of a fleet, by name.
    """

    generations: int
    tokens: float | None
    hours: float | None
    others: Mapping[str, int] = field(default_factory=dict)


def missing(
    problems: Iterable[Problem],
    strategies: Sequence[Strategy],
    stored: Mapping[tuple[str, str], Collection[int]] = MappingProxyType({}),
    *,
    level_samples: int = LEVEL_SAMPLES,
) -> list[SearchJob]:
    """The searches that these strategies need and a store lacks.

    stored: as `RolloutStore.held` gives it.
    level_samples: further samples of each problem, as `measurements.measure` needs them.
    """
    units: dict[str, Unit] = {}
    for unit in (unit for strategy in strategies for unit in units_of(strategy)):
        known = units.get(unit.configuration)
        if known is None or known.count < unit.count:
            units[unit.configuration] = unit
    pool = units.get(SAMPLES, Unit(SAMPLES, BestOfN(1), 0))
    units[SAMPLES] = replace(pool, count=pool.count + level_samples)
    # Samples are scored as they are drawn, if any strategy of their model will ask for the scores.
    scored = {stage.model for s in strategies for stage in s.stages if stage.needs_verifier}
    jobs = []
    for problem in problems:
        for name, unit in units.items():
            held = stored.get((problem.id, name), ())
            select: Select = "weighted" if unit.strategy.model in scored else "majority"
            if name != SAMPLES:
                one = unit.strategy
                if isinstance(one, BestOfN):
                    one = replace(one, select=select)
                repeats = (repeat for repeat in range(unit.count) if repeat not in held)
                jobs += [SearchJob(problem, name, one, repeat) for repeat in repeats]
            elif (start := len(held)) < unit.count:  # one request for all of them
                jobs.append(
                    SearchJob(problem, name, BestOfN(unit.count - start, select=select), start)
                )
    return jobs


def price(
    jobs: Iterable[SearchJob],
    rates: tuple[float | None, float | None] = (None, None),
    max_generations: int | None = None,
) -> Due:
    """What these searches cost, at most.

    rates: tokens a generation and tokens a second, as `RolloutStore.rates` gives them.
    """
    by_model: Counter[str | None] = Counter()
    for job in jobs:
        by_model[job.strategy.model] += job.strategy.cost
    generations = by_model.total()
    others = {name: count for name, count in by_model.items() if name is not None}
    if max_generations is not None and generations > max_generations:
        generations, others = max_generations, {}  # whose turn comes first is not known
    per_generation, per_second = rates
    tokens = None if per_generation is None else generations * per_generation
    hours = None if tokens is None or per_second is None else tokens / per_second / 3600
    return Due(generations, tokens, hours, others)


class Sampler:
    """Runs what a store lacks, all problems at once, and is the only one to write the store.

    A search that fails is left out, so that it ends no other; a later run tries it again.

    seed: of the searches; None sends none, for servers that cannot take one.
    skipped: ids of problems too long for the model. failed: keys of what was left out.
    """

    def __init__(
        self,
        store: RolloutStore,
        problems: Sequence[Problem],
        strategies: Sequence[Strategy],
        *,
        levels: str,
        merge: bool = False,
        allocation: Allocation = Allocation.of("racing"),
        max_generations: int | None = None,
        level_samples: int = LEVEL_SAMPLES,
        seed: int | None = 0,
    ) -> None:
        self.store = store
        self.problems = list(problems)
        self.strategies = list(strategies)
        self.levels = levels
        self.merge = merge
        self.allocation = allocation
        self.left = float("inf") if max_generations is None else max_generations
        self.level_samples = level_samples
        self.seed = seed
        self.skipped: set[str] = set()
        self.failed: set[tuple[str, str, int]] = set()
        self.capped = False  # a search was left out because of `max_generations`

    async def run(
        self, worker: Worker, *, tick: Ticker = lambda _: None, in_flight: int = IN_FLIGHT
    ) -> None:
        """Sample until every configuration has what it needs, or `max_generations` is spent.

        First the pools of whole solutions, which give the levels; then each level's race, round
        by round. Levels do not wait for each other.

        Raises:
            InputError: the problems cannot be divided into the levels.
            EngineError, VerifierError, NoCandidates: everything fails; what finished is stored.
        """
        shift = Shift(worker, tick, Room(in_flight))
        whole = [strategy for strategy in self.strategies if strategy.takes_samples]
        await self._score_old(shift)
        await self._read_prompts(shift)
        await self._all(self._missing(self.problems, whole), shift)
        if not self.capped:  # else some problems have no level yet
            await gather(self._race(problems, shift) for problems in self._by_level())
        self.tell_failed()

    async def run_jobs(
        self,
        jobs: Sequence[SearchJob],
        worker: Worker,
        *,
        tick: Ticker = lambda _: None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """Run these searches and no others; limits and errors as in `run`."""
        shift = Shift(worker, tick, Room(in_flight))
        await self._score_old(shift)
        await self._read_prompts(shift)
        await self._all(jobs, shift)

    def untried(self, jobs: Iterable[SearchJob]) -> list[SearchJob]:
        """Those that were neither skipped nor left out."""
        return [
            job for job in jobs if job.problem.id not in self.skipped and job.key not in self.failed
        ]

    def tell_failed(self) -> None:
        """Log how much was left out, if anything was."""
        if self.failed:
            log.warning(
                "%d searches of %d problems failed and are left out; start the same again to try"
                " them once more",
                len(self.failed),
                len({problem for problem, _, _ in self.failed}),
            )

    async def _race(self, problems: Sequence[Problem], shift: Shift) -> None:
        """Give the strategies one level's problems until it is clear which can win there."""
        alive = np.ones(len(self.strategies), np.bool_)
        running = self.strategies
        for total in self.allocation.rounds(len(problems)):
            await self._all(self._missing(problems[:total], running), shift)
            ids = {problem.id for problem in problems[:total]}
            found = await asyncio.to_thread(self.measured, ids)
            alive = self.allocation.survivors(found.accuracy, found.cost, alive)
            due = price(self._missing(problems, running)).generations
            running = [s for s, a in zip(self.strategies, alive, strict=True) if a]
            if self.left == float("inf"):  # a cap stays as it is, whatever is not needed
                shift.tick(due - price(self._missing(problems, running)).generations)

    def _missing(
        self, problems: Iterable[Problem], strategies: Sequence[Strategy]
    ) -> list[SearchJob]:
        held = self.store.held()
        return self.untried(missing(problems, strategies, held, level_samples=self.level_samples))

    def measured(self, only: Collection[str] | None = None) -> Measurements:
        """What is stored of these problems (all by default) and strategies; from any thread."""
        ids = {problem.id for problem in self.problems} if only is None else only
        with RolloutStore.read(self.store.path) as store:
            return measure(store, self.strategies, ids, level_samples=self.level_samples)

    def _by_level(self) -> list[list[Problem]]:
        """The problems of each level, in a fixed random order."""
        found = self.measured()
        levels = fit_levels(found.pass_at_1, self.levels, merge=self.merge)
        level = dict(zip(found.problems, levels.of(found.pass_at_1), strict=True))
        order = np.random.default_rng(self.seed or 0).permutation(len(self.problems))
        shuffled = [self.problems[i] for i in order]
        return [
            [problem for problem in shuffled if level.get(problem.id) == number]
            for number in range(1, levels.count + 1)
        ]

    async def _all(self, jobs: Sequence[SearchJob], shift: Shift) -> None:
        """Run searches. Those of one problem and kind are stored together or, after a kill, not at
        all: were each kept as it ends, the short ones would be, and the others be drawn again."""
        pools: defaultdict[tuple[str, str], list[SearchJob]] = defaultdict(list)
        for job in jobs:
            pools[job.problem.id, job.configuration].append(job)

        async def one(pool: Sequence[SearchJob]) -> None:
            cost = price(pool).generations
            async with shift.room.hold(cost):
                if self.left < cost:
                    self.capped = True
                    return
                self.left -= cost
                await self._pool(pool, shift)
                shift.tick(cost)

        await gather(one(pool) for pool in pools.values())

    async def _pool(self, jobs: Sequence[SearchJob], shift: Shift) -> None:
        """Run searches at once and store them in their order."""
        runs: dict[SearchJob, Run] = {}

        async def one(job: SearchJob) -> None:
            key = f"{self.seed}/{job.problem.id}/{job.configuration}/{job.repeat}"
            seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
            search = shift.worker.search(job, None if self.seed is None else seed)
            run = await self._tried(job.key, search, shift)
            if run is not None:
                runs[job] = run

        await gather(one(job) for job in jobs)
        with self.store.transaction():
            for run in (runs[job] for job in jobs if job in runs):
                if run.configuration == SAMPLES:
                    self.store.add_samples(run.problem, run.candidates, run.usage)
                else:
                    self.store.add(run)
                self.store.add_pace(run.usage.sampled_tokens or 0, shift.lap())

    async def _tried(
        self, key: tuple[str, str, int], work: Coroutine[Any, Any, T], shift: Shift
    ) -> T | None:
        """What a call to the models gives; None where it is left out.

        Raises:
            EngineError, VerifierError, NoCandidates: so much failed before that a model is down.
        """
        problem = key[0]
        try:
            result = await work
        except PromptTooLong as error:
            if problem not in self.skipped:
                log.warning("problem %s is skipped: %s", problem, error)
            self.skipped.add(problem)
        except (EngineError, VerifierError, NoCandidates) as error:
            shift.failing.add(problem)
            if len(shift.failing) >= min(_DOWN, len(self.problems)):
                raise
            if all(problem != known for known, _, _ in self.failed):
                log.warning("problem %s: a search failed and is left out: %s", problem, error)
            self.failed.add(key)
        else:
            shift.failing.clear()
            return result
        return None

    async def _read_prompts(self, shift: Shift) -> None:
        """Store where each prompt leads the generator, if it hands out states."""
        if not shift.worker.reads_prompts:
            return
        known = self.store.prefills()

        async def one(problem: Problem) -> None:
            async with shift.room.hold(1):
                key = problem.id, "prefill", 0
                read = await self._tried(key, shift.worker.prefill(problem), shift)
                if read is not None:
                    self.store.add_prefill(problem.id, read)

        await gather(one(problem) for problem in self.problems if problem.id not in known)

    async def _score_old(self, shift: Shift) -> None:
        """Score samples that were drawn before there was a verifier."""
        ours = {problem.id: problem for problem in self.problems}

        async def one(run: Run) -> None:
            async with shift.room.hold(len(run.candidates)):
                key = run.problem, f"scores of {run.configuration}", run.repeat
                work = shift.worker.score(run, ours[run.problem])
                scored = await self._tried(key, work, shift)
                if scored is not None:
                    self.store.set_scores(scored)

        verified = self.store.origin.verified
        stages = [stage for strategy in self.strategies for stage in strategy.stages]
        votes = [one for one in stages if isinstance(one, BestOfN) and verified[one.model]]
        pools = {unit.configuration for strategy in votes for unit in units_of(strategy)}
        await gather(
            one(run)
            for name in {*([SAMPLES] if verified[None] else []), *pools}
            for run in list(self.store.runs(name))
            if run.problem in ours and any(c.scores is None for c in run.candidates)
        )
