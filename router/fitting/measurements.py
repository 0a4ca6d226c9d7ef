"""Stored rollouts as arrays: how often each configuration is right on each problem, at what cost.

What is run is smaller than what is known: a pool of whole solutions serves best-of-N at every N and
selection (one pool for each temperature), DVTS is a pool of independent subtrees, and any other
search serves every selection.

The first samples of each problem decide the problem's level and nothing else. Were pass@1 and
best-of-N taken from the same few samples, problems would be called hard because these samples
failed, and best-of-N would look worse on hard problems than it is (Snell et al. 2024 had 2,048
samples a question, for which this vanishes).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from router.fitting.estimates import Pool, expected_accuracy, expected_coverage
from router.models.base import Aggregation
from router.models.errors import InputError
from router.models.usage import flops
from router.rollouts.runs import Origin, StoredPrefill
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Select, Strategy
from router.strategies.selection import aggregate, voters
from router.strategies.tasks import Task, get_task

Floats = npt.NDArray[np.float64]

LEVEL_SAMPLES = 8
"""Samples of each problem that decide its level and nothing else."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is run to know a strategy.

    configuration: the text under which its runs are stored; strategy: what is run, once a unit;
    count: units that make up the strategy.
    """

    configuration: str
    strategy: Strategy
    count: int


def unit_of(strategy: Strategy) -> Unit:
    """The unit that a strategy is made of; selection is no part of it."""
    part, count = strategy.parts()
    one = replace(part, select="weighted")
    return Unit(SAMPLES if strategy.takes_samples else str(one), one, count)


BY_STRATEGY = ("accuracy", "error", "coverage", "tokens", "flops")
"""Arrays of `Measurements` with a column for each strategy."""


@dataclass(frozen=True)
class Measurements:
    """Arrays of shape (problems, strategies); NaN where nothing was measured.

    accuracy: expected over subsets of what is stored; error: its Monte-Carlo standard error.
    coverage: chance that some candidate is right, which is what a perfect selection would reach.
    tokens, flops: expected cost of one search; sample_tokens and sample_flops, shape (problems,):
        of one plain sample.
    pass_at_1: of the samples that decide the level; samples: all that were drawn; (problems,).
    scores: of each problem, the verifier's scores of its other samples; NaN where one has none.
    prefills: where each problem's prompt led the generator; None where it was not looked up.
    """

    problems: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    accuracy: Floats
    error: Floats
    coverage: Floats
    tokens: Floats
    flops: Floats
    sample_tokens: Floats
    sample_flops: Floats
    pass_at_1: Floats
    samples: npt.NDArray[np.int64]
    scores: tuple[Floats, ...]
    prefills: tuple[StoredPrefill | None, ...]

    def rows(self, keep: npt.NDArray[np.bool_]) -> Measurements:
        """Those problems only."""
        names = (*BY_STRATEGY, "sample_tokens", "sample_flops", "pass_at_1", "samples")
        arrays = {name: getattr(self, name)[keep] for name in names}
        kept = np.flatnonzero(keep)
        return replace(
            self,
            problems=tuple(self.problems[i] for i in kept),
            scores=tuple(self.scores[i] for i in kept),
            prefills=tuple(self.prefills[i] for i in kept),
            **arrays,
        )


def measure(
    store: RolloutStore,
    strategies: Sequence[Strategy],
    only: Collection[str] | None = None,
    *,
    level_samples: int = LEVEL_SAMPLES,
) -> Measurements:
    """Measure every strategy on every problem that has samples.

    only: ids of the problems that count; all by default.
    level_samples: how many of each problem's samples decide its level and nothing else; 0 uses
        all of them for both, which is right for large pools only.

    Raises:
        InputError: the store holds no samples.
    """
    read = StoredPools(store, strategies, only, level_samples)
    problems = sorted(problem for problem, pool in read.pools[SAMPLES].items() if pool.drawn)
    if not problems:
        raise InputError(f"{store.path} holds no samples; run `router fit` on problems first")
    shape = (len(problems), len(strategies))
    pools = [read.pools[SAMPLES][problem] for problem in problems]
    accuracy, error, coverage, tokens, flops = np.full((5, *shape), np.nan)
    prefills = store.prefills()
    found = Measurements(
        problems=tuple(problems),
        strategies=tuple(strategies),
        accuracy=accuracy,
        error=error,
        coverage=coverage,
        tokens=tokens,
        flops=flops,
        sample_tokens=read.tokens(SAMPLES, problems),
        sample_flops=read.flops(SAMPLES, problems, verified=False),
        pass_at_1=np.array([pool.right / pool.graded for pool in pools]),
        samples=np.array([pool.drawn for pool in pools]),
        scores=tuple(pool.scores(read.aggregation) for pool in pools),
        prefills=tuple(map(prefills.get, problems)),
    )
    alike: defaultdict[tuple[str, Select, Aggregation | None, bool], list[int]] = defaultdict(list)
    for column, strategy in enumerate(strategies):
        unit = unit_of(strategy)
        key = (unit.configuration, strategy.select, strategy.aggregate, strategy.needs_verifier)
        alike[key].append(column)
        found.tokens[:, column] = unit.count * read.tokens(unit.configuration, problems)
        found.flops[:, column] = unit.count * read.flops(
            unit.configuration, problems, verified=strategy.needs_verifier
        )
    for (configuration, select, how, scored), columns in alike.items():
        stored = read.pools[configuration]
        rows = [
            row
            for row, p in enumerate(problems)
            if p in stored and (stored[p].scored or not scored)
        ]
        sizes = [unit_of(strategies[column]).count for column in columns]
        by = how or read.aggregation if scored else None
        kept = [stored[problems[row]] for row in rows]
        usable = [pool_of(pool.task, pool.candidates, pool.units, by) for pool in kept]
        expected = expected_accuracy(usable, sizes, select, scored=scored)
        found.accuracy[np.ix_(rows, columns)] = expected.accuracy
        found.error[np.ix_(rows, columns)] = expected.error
        found.coverage[np.ix_(rows, columns)] = expected_coverage(usable, sizes)
    return found


class Answered(NamedTuple):
    """A stored candidate, as far as it takes part in a selection.

    unit: which of its configuration's units found it. scores: of the solution, by how step scores
    are aggregated; empty where it cannot be scored, None where the verifier was never asked.
    """

    unit: int
    answer: str | None
    correct: bool
    scores: dict[Aggregation, float] | None


def pool_of(
    task: Task, candidates: Sequence[Answered], units: int, how: Aggregation | None
) -> Pool:
    """The answers of so many units. how: those without scores do not vote; None: scores are none.

    Raises:
        KeyError: scores were not aggregated in that way.
    """
    voting = [c for c in candidates if c.answer is not None and (how is None or c.scores)]
    groups = task.group_sync([c.answer for c in voting]).representatives
    names = sorted({name for name in groups if name is not None})
    index = {name: i for i, name in enumerate(names)}
    right = {c.answer: c.correct for c in voting}
    scores = None if how is None else [c.scores[how] for c in voting if c.scores]
    return Pool(
        units=units,
        unit=np.array([c.unit for c in voting], dtype=np.int64),
        group=np.array([index[name] for name in groups if name is not None], dtype=np.int64),
        correct=np.array([right[name] for name in names], dtype=np.bool_),
        score=None if scores is None else np.array(scores, np.float64),
    )


@dataclass
class StoredPool:
    """What is stored of one configuration on one problem.

    task: what the problem asks for.
    drawn: all candidates; graded, right: those that decide the level, and the correct ones of them.
    candidates: the others, in the order they came.
    """

    task: Task
    units: int = 0
    drawn: int = 0
    graded: int = 0
    right: int = 0
    candidates: list[Answered] = field(default_factory=list)

    @property
    def scored(self) -> bool:
        """Whether its candidates are selected by their scores."""
        how = voters("weighted", [bool(c.scores) for c in self.candidates]).how
        return how == "weighted" and all(c.scores is not None for c in self.candidates)

    def scores(self, how: Aggregation) -> Floats:
        """Of each candidate; NaN where it has none."""
        return np.array([c.scores[how] if c.scores else np.nan for c in self.candidates])


class _Costs(NamedTuple):
    """Tokens of one unit, shape (problems,): sampled, computed of its prompt, and scored."""

    sampled: Floats
    prompt: Floats
    verifier: Floats


class StoredPools:
    """A store's candidates and costs, by configuration and problem.

    only: ids of the problems that are read; None is all. level_samples: as `measure` takes it.
    """

    def __init__(
        self,
        store: RolloutStore,
        strategies: Iterable[Strategy],
        only: Collection[str] | None,
        level_samples: int,
    ) -> None:
        strategies = list(strategies)
        self.origin: Origin = store.origin
        self.aggregation: Aggregation = store.origin.aggregation or "last"
        self._ways = {self.aggregation, *(s.aggregate for s in strategies if s.aggregate)}
        wanted = {SAMPLES, *(unit_of(strategy).configuration for strategy in strategies)}
        self.pools: dict[str, dict[str, StoredPool]] = {name: {} for name in wanted}
        self._spent: defaultdict[str, dict[str, tuple[float | None, ...]]] = defaultdict(dict)
        tasks = {problem.id: problem.task for problem in store.problems()}
        rows = store.outcomes()
        for (problem, name), found in groupby(rows, key=lambda row: (row[0], row[1])):
            if name in wanted and (only is None or problem in only):
                level = level_samples if name == SAMPLES else None
                self.pools[name][problem] = self._stored(get_task(tasks[problem]), found, level)
        for problem, name, *sums in store.spent():
            self._spent[name][problem] = tuple(sums)

    def _stored(
        self, task: Task, rows: Iterator[tuple[Any, ...]], level_samples: int | None
    ) -> StoredPool:
        """level_samples: for a pool of samples; None for runs."""
        stored = StoredPool(task)
        last: object = None
        for _, _, repeat, answer, correct, scores, _ in rows:
            stored.drawn += correct is not None
            if level_samples is not None:
                decides = level_samples == 0 or stored.drawn <= level_samples
                stored.graded += decides
                stored.right += decides and bool(correct)
                if stored.drawn <= level_samples:
                    continue
            stored.units += level_samples is not None or repeat != last
            last = repeat
            if correct is None:
                continue
            steps = None if scores is None else json.loads(scores)
            by = None if steps is None else {h: aggregate(steps, h) for h in self._ways if steps}
            stored.candidates.append(Answered(stored.units - 1, answer, bool(correct), by))
        return stored

    def tokens(self, configuration: str, problems: Sequence[str]) -> Floats:
        """Sampled tokens of one unit on each problem."""
        return self._costs(configuration, problems).sampled

    def flops(self, configuration: str, problems: Sequence[str], *, verified: bool) -> Floats:
        """FLOPs of one unit on each problem, of tokens that a model really computed."""
        cost = self._costs(configuration, problems)
        own = _per_token(self.origin.parameters) * (cost.sampled + cost.prompt)
        if not verified:
            return own
        # A verifier that computed no token (it read the generator's states) is free at any size.
        judge = np.where(cost.verifier == 0, 0.0, _per_token(self.origin.verifier_parameters))
        return np.asarray(own + judge * cost.verifier, np.float64)

    def _costs(self, configuration: str, problems: Sequence[str]) -> _Costs:
        """Of one unit, where samples of one request have equal shares of its prompt work.

        A request of many samples reads its prompt once, and what it computes besides (the last
        tokens of each sample's prompt, which no cache block holds) grows with them. So a search of
        few samples does not pay for a pool that was drawn at once.
        """
        spent = self._spent.get(configuration, {})
        unknown = (np.nan,) * 5
        rows = np.array([spent.get(problem, unknown) for problem in problems], dtype=np.float64)
        runs, generations, sampled, prompt, verifier = rows.T
        units = generations if configuration == SAMPLES else runs
        return _Costs(sampled / units, prompt / units, verifier / units)


def _per_token(parameters: int | None) -> float:
    known = flops(parameters, 1)
    return np.nan if known is None else known
