"""Sampling for a fit: what is missing in the store, in the order in which it decides most."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from difficulty.levels import fit_levels
from models.base import Generator, Verifier
from models.errors import InputError, PromptTooLong
from models.types import Problem, Sampling
from router.fitting.allocation import Allocation
from router.fitting.measurements import LEVEL_SAMPLES, Measurements, Unit, measure, unit_of
from router.rollouts.runs import Run, StoredCandidate
from router.rollouts.store import SAMPLES, RolloutStore
from strategies.answers import correct
from strategies.base import Select, Strategy, parse_strategy
from strategies.best_of_n import BestOfN
from strategies.budget import Budget, Usage
from strategies.driver import run_search
from strategies.registry import STRATEGIES

log = logging.getLogger("router")

MAJORITY = "best_of_n(select=majority)"
DEFAULTS = (
    MAJORITY,
    "best_of_n",
    "best_of_n(select=best)",
    "beam_search(width=2)",
    "beam_search(width=4)",
    "dvts(width=4)",
    "lookahead(width=4, k=1)",
)
IN_FLIGHT = 32
"""Searches that run at once; enough to keep an engine's own batch full."""

Ticker = Callable[[int], None]
"""Told of generations as they are done."""


@dataclass(frozen=True, slots=True)
class Job:
    """One search that the store lacks; `repeat` numbers the searches of its kind."""

    problem: Problem
    configuration: str
    strategy: Strategy
    repeat: int


@dataclass(frozen=True, slots=True)
class _Models:
    generator: Generator
    verifier: Verifier | None
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Price:
    """What is left to sample, at most: racing may need less. Unknown rates are None."""

    generations: int
    tokens: float | None
    hours: float | None


def configurations(
    budgets: Sequence[int], texts: Sequence[str], *, verifier: bool
) -> tuple[Strategy, ...]:
    """Each strategy text at every budget that it fits; a text with `n` only as it is.

    Raises:
        InputError: budgets that do not rise from 1 or more, a bad strategy, one that fits no
            budget, or one that needs a verifier where there is none.
    """
    if not budgets or list(budgets) != sorted(set(budgets)):
        raise InputError(f"budgets must rise, without repeats, not {_listed(budgets)}")
    for budget in budgets:
        Budget(budget)
    found: dict[str, Strategy] = {}
    for text in texts:
        fitting = []
        for budget in budgets:
            try:
                strategy = parse_strategy(text, STRATEGIES, budget)
            except InputError as error:
                refused = error
                continue
            if strategy.cost <= budget:
                fitting.append(strategy)
            else:
                refused = InputError(f"{strategy} costs more than {budget} generations")
        if not fitting:
            raise InputError(f"{text} fits none of the budgets {_listed(budgets)}: {refused}")
        if fitting[0].needs_verifier and not verifier:
            raise InputError(
                f"{text} needs a verifier and there is none: give one with --verifier,"
                f" or fit --strategy '{MAJORITY}' alone"
            )
        found.update((str(strategy), strategy) for strategy in fitting)
    return tuple(found.values())


def _listed(budgets: Sequence[int]) -> str:
    return ",".join(map(str, budgets)) or "none"


def missing(
    problems: Iterable[Problem],
    strategies: Sequence[Strategy],
    stored: Mapping[tuple[str, str], int] = MappingProxyType({}),
    *,
    level_samples: int = LEVEL_SAMPLES,
) -> list[Job]:
    """The searches that these strategies need and a store lacks.

    stored: as `RolloutStore.counts` gives it.
    level_samples: further samples of each problem, as `measurements.measure` needs them.
    """
    units: dict[str, Unit] = {}
    for strategy in strategies:
        unit = unit_of(strategy)
        known = units.get(unit.configuration)
        if known is None or known.count < unit.count:
            units[unit.configuration] = unit
    pool = units.get(SAMPLES, Unit(SAMPLES, BestOfN(1), 0))
    units[SAMPLES] = replace(pool, count=pool.count + level_samples)
    # Samples are scored as they are drawn, if any strategy will ask for the scores.
    select: Select = "weighted" if any(s.needs_verifier for s in strategies) else "majority"
    jobs = []
    for problem in problems:
        for name, unit in units.items():
            start = stored.get((problem.id, name), 0)
            if name != SAMPLES:
                repeats = range(start, unit.count)
                jobs += [Job(problem, name, unit.strategy, repeat) for repeat in repeats]
            elif start < unit.count:  # one request for all of them
                jobs.append(Job(problem, name, BestOfN(unit.count - start, select=select), start))
    return jobs


def price(
    jobs: Iterable[Job],
    rates: tuple[float | None, float | None] = (None, None),
    max_generations: int | None = None,
) -> Price:
    """What these searches cost, at most.

    rates: tokens a generation and tokens a second, as `RolloutStore.rates` gives them.
    """
    generations = sum(job.strategy.cost for job in jobs)
    if max_generations is not None:
        generations = min(generations, max_generations)
    per_generation, per_second = rates
    tokens = None if per_generation is None else generations * per_generation
    hours = None if tokens is None or per_second is None else tokens / per_second / 3600
    return Price(generations, tokens, hours)


class Sampler:
    """Runs what a store lacks. One generator, all problems at once, bounded by `in_flight`."""

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
        seed: int = 0,
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
        self.capped = False  # a search was left out because of `max_generations`

    async def run(
        self,
        generator: Generator,
        verifier: Verifier | None,
        sampling: Sampling,
        *,
        tick: Ticker = lambda _: None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """Sample until every configuration has what it needs, or `max_generations` is spent.

        First the pools of whole solutions, which give the levels; then, level by level and round
        by round, the searches that can still win. A problem too long for the model is skipped.

        Raises:
            InputError: the problems cannot be divided into the levels.
            EngineError, VerifierError: a model failed; what finished is stored.
        """
        models = _Models(generator, verifier, sampling)
        slots = asyncio.Semaphore(in_flight)
        whole = [strategy for strategy in self.strategies if isinstance(strategy, BestOfN)]
        await self._score_old(models, slots)
        await self._all(self._missing(self.problems, whole), models, tick, slots)
        races = [_Race(members, len(self.strategies)) for members in self._by_level()]
        costs = np.array([strategy.cost for strategy in self.strategies])
        rounds = [self.allocation.rounds(len(race.problems)) for race in races]
        for number in range(max(map(len, rounds))):
            totals = [plan[min(number, len(plan) - 1)] for plan in rounds]
            jobs: list[Job] = []
            for race, total in zip(races, totals, strict=True):
                running = [s for s, a in zip(self.strategies, race.alive, strict=True) if a]
                jobs += self._missing(race.problems[:total], running)
            await self._all(jobs, models, tick, slots)
            found = self.measured()
            row = {problem: i for i, problem in enumerate(found.problems)}
            for race, total in zip(races, totals, strict=True):
                rows = [row[problem.id] for problem in race.problems[:total]]
                race.alive = self.allocation.survivors(found.accuracy[rows], costs, race.alive)

    async def run_jobs(
        self,
        jobs: Sequence[Job],
        generator: Generator,
        verifier: Verifier | None,
        sampling: Sampling,
        *,
        tick: Ticker = lambda _: None,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        """Run these searches and no others; limits and errors as in `run`."""
        models = _Models(generator, verifier, sampling)
        slots = asyncio.Semaphore(in_flight)
        await self._score_old(models, slots)
        await self._all(jobs, models, tick, slots)

    def _missing(self, problems: Iterable[Problem], strategies: Sequence[Strategy]) -> list[Job]:
        usable = [problem for problem in problems if problem.id not in self.skipped]
        return missing(usable, strategies, self.store.counts(), level_samples=self.level_samples)

    def measured(self) -> Measurements:
        """What is stored of these problems and strategies."""
        ids = {problem.id for problem in self.problems}
        return measure(self.store, self.strategies, ids, level_samples=self.level_samples)

    def _by_level(self) -> list[list[Problem]]:
        """The problems of each level, in a fixed random order."""
        found = self.measured()
        levels = fit_levels(found.pass_at_1, self.levels, merge=self.merge)
        level = dict(zip(found.problems, levels.of(found.pass_at_1), strict=True))
        order = np.random.default_rng(self.seed).permutation(len(self.problems))
        shuffled = [self.problems[i] for i in order]
        return [
            [problem for problem in shuffled if level.get(problem.id) == number]
            for number in range(1, levels.count + 1)
        ]

    async def _all(
        self, jobs: Sequence[Job], models: _Models, tick: Ticker, slots: asyncio.Semaphore
    ) -> None:
        started, tokens = time.monotonic(), 0

        async def one(job: Job) -> None:
            nonlocal tokens
            async with slots:
                if self.left < job.strategy.cost:
                    self.capped = True
                    return
                self.left -= job.strategy.cost
                tokens += await self._one(job, models)
                tick(job.strategy.cost)

        try:
            await _gather(one(job) for job in jobs)
        finally:
            self.store.add_pace(tokens, time.monotonic() - started)

    async def _one(self, job: Job, models: _Models) -> int:
        """Run one search and store it; returns sampled tokens."""
        key = f"{self.seed}/{job.configuration}/{job.repeat}"
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        try:
            outcome = await run_search(
                job.strategy,
                job.problem,
                models.generator,
                models.verifier,
                Budget(job.strategy.cost),
                models.sampling,
                seed=seed if models.generator.info.seeds else None,
            )
        except PromptTooLong as error:
            log.warning("problem %s is skipped: %s", job.problem.id, error)
            self.skipped.add(job.problem.id)
            return 0
        candidates = [
            StoredCandidate.of(
                c.path, c.answer, await correct(c.answer, job.problem.answer or ""), c.scores
            )
            for c in outcome.candidates
        ]
        if job.configuration == SAMPLES:
            self.store.add_samples(job.problem.id, candidates, outcome.usage)
        else:
            self.store.add(
                Run(
                    job.problem.id,
                    job.configuration,
                    job.repeat,
                    outcome.ended,
                    outcome.usage,
                    tuple(candidates),
                )
            )
        return outcome.usage.sampled_tokens or 0

    async def _score_old(self, models: _Models, slots: asyncio.Semaphore) -> None:
        """Score samples that were drawn before there was a verifier."""
        verifier = models.verifier
        if verifier is None:
            return
        ours = {problem.id: problem for problem in self.problems}

        async def one(run: Run) -> None:
            async with slots:
                self.store.set_scores(await _scored(run, ours[run.problem], verifier))

        await _gather(
            one(run)
            for run in list(self.store.runs(SAMPLES))
            if run.problem in ours and any(c.scores is None for c in run.candidates)
        )


class _Race:
    """The problems of one level, and the strategies that can still win there."""

    def __init__(self, problems: list[Problem], strategies: int) -> None:
        self.problems = problems
        self.alive = np.ones(strategies, np.bool_)


async def _scored(run: Run, problem: Problem, verifier: Verifier) -> Run:
    candidates, usage = [], run.usage
    parameters = verifier.info.parameters
    for candidate in run.candidates:
        if candidate.scores is None:
            scored = await verifier.score(candidate.path(problem))
            candidate = replace(candidate, scores=scored.values)
            known = parameters is not None and scored.tokens is not None
            usage += Usage(
                verifier_tokens=scored.tokens,
                flops=2.0 * (parameters or 0) * (scored.tokens or 0) if known else None,
            )
        candidates.append(candidate)
    return replace(run, candidates=tuple(candidates), usage=usage)


async def _gather(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
