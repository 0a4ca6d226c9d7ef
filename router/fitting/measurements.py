"""Stored rollouts as arrays: how often each configuration is right on each problem, at what cost.

What is run is smaller than what is known: a pool of whole solutions serves best-of-N at every N and
selection (one pool for each temperature), DVTS is a pool of independent subtrees, and any other
search serves every selection. Votes that stop, and votes over several pools, are replayed on the
same pools (`fitting.replay`).

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
from functools import lru_cache
from itertools import accumulate, groupby
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from router.fitting.costs import per_token, relative_costs
from router.fitting.escalation import Verdicts, fill_escalations, with_stages
from router.fitting.estimates import Pool, expected_accuracy, expected_coverage
from router.fitting.replay import judge, replay
from router.models.base import Aggregation
from router.models.errors import InputError
from router.rollouts.runs import Origin, StoredPrefill
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Select, Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.escalate import Escalate
from router.strategies.fleet import Fleet, cost_of
from router.strategies.selection import aggregate, confidence, voters
from router.strategies.tasks import Task, get_task

Floats = npt.NDArray[np.float64]

Weight = Aggregation | Literal["confidence"]
"""What a vote weighs: the verifier's score, aggregated so, or the generator's own confidence."""

LEVEL_SAMPLES = 8
"""Samples of each problem that decide its level and nothing else."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is run to know a strategy, or a part of it.

    configuration: the text under which its runs are stored; strategy: what is run, once a unit;
    count: units that make up the part.
    """

    configuration: str
    strategy: Strategy
    count: int


def units_of(strategy: Strategy) -> tuple[Unit, ...]:
    """The units that a strategy is made of, part by part; selection is nothing to them."""
    ones = [(replace(part, select="weighted"), count) for part, count in strategy.parts()]
    return tuple(
        Unit(SAMPLES if one.takes_samples else str(one), one, count) for one, count in ones
    )


BY_STRATEGY = ("accuracy", "error", "coverage", "generations", "tokens", "flops")
"""Arrays of `Measurements` with a column for each strategy."""


@dataclass(frozen=True)
class Measurements:
    """Arrays of shape (problems, strategies); NaN where nothing was measured.

    accuracy: expected over subsets of what is stored; error: its Monte-Carlo standard error.
    coverage: chance that some candidate is right, which is what a perfect selection would reach.
    generations, tokens, flops: expected cost of one search; sample_tokens and sample_flops, shape
        (problems,): of one plain sample.
    pass_at_1: of the samples that decide the level; samples: all that were drawn; (problems,).
    scores: of each problem, the verifier's scores of its other samples; NaN where one has none.
    prefills: where each problem's prompt led the generator; None where it was not looked up.
    fleet: the terms of each model by its name, a sample's cost as it is measured here; generations
        are those of the first.
    """

    problems: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    accuracy: Floats
    error: Floats
    coverage: Floats
    generations: Floats
    tokens: Floats
    flops: Floats
    sample_tokens: Floats
    sample_flops: Floats
    pass_at_1: Floats
    samples: npt.NDArray[np.int64]
    scores: tuple[Floats, ...]
    prefills: tuple[StoredPrefill | None, ...]
    fleet: Fleet = field(default_factory=dict)

    @property
    def cost(self) -> Floats:
        """Mean generations of each strategy, shape (strategies,); the most where none was run."""
        some = ~np.isnan(self.generations).all(axis=0)
        most = np.array([cost_of(s, self.fleet) for s in self.strategies], np.float64)
        most[some] = np.nanmean(self.generations[:, some], axis=0)
        return most

    def columns(self, kept: Sequence[int]) -> Measurements:
        """Those strategies only."""
        arrays = {name: getattr(self, name)[:, list(kept)] for name in BY_STRATEGY}
        return replace(self, strategies=tuple(self.strategies[i] for i in kept), **arrays)

    def rows(self, keep: npt.NDArray[np.bool_]) -> Measurements:
        """Those problems only."""
        return self.taken(np.flatnonzero(keep))

    def taken(self, kept: npt.NDArray[np.int64]) -> Measurements:
        """The problems of these rows, in their order, with repeats."""
        names = (*BY_STRATEGY, "sample_tokens", "sample_flops", "pass_at_1", "samples")
        arrays = {name: getattr(self, name)[kept] for name in names}
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
    fleet: Fleet | None = None,
) -> Measurements:
    """Measure every strategy on every problem that has samples.

    only: ids of the problems that count; all by default.
    level_samples: how many of each problem's samples decide its level and nothing else; 0 uses
        all of them for both, which is right for large pools only.
    fleet: what samples of each model cost; as measured on these problems by default.

    Raises:
        InputError: the store holds no samples.
    """
    asked, strategies = strategies, with_stages(strategies)
    read = StoredPools(store, strategies, only, level_samples)
    problems = sorted(problem for problem, pool in read.pools[SAMPLES].items() if pool.drawn)
    if not problems:
        raise InputError(f"{store.path} holds no samples; run `router fit` on problems first")
    shape = (len(problems), len(strategies))
    pools = [read.pools[SAMPLES][problem] for problem in problems]
    accuracy, error, coverage, generations, tokens, flops = np.full((6, *shape), np.nan)
    prefills = store.prefills()
    found = Measurements(
        problems=tuple(problems),
        strategies=tuple(strategies),
        accuracy=accuracy,
        error=error,
        coverage=coverage,
        generations=generations,
        tokens=tokens,
        flops=flops,
        sample_tokens=read.tokens(SAMPLES, problems),
        sample_flops=read.flops(SAMPLES, problems, verified=False) + read.once(SAMPLES, problems),
        pass_at_1=np.array([pool.right / pool.graded for pool in pools]),
        samples=np.array([pool.drawn for pool in pools]),
        scores=tuple(pool.scores(read.aggregation(None)) for pool in pools),
        prefills=tuple(map(prefills.get, problems)),
        fleet=read.fleet if fleet is None else fleet,
    )
    alike: defaultdict[_VoteKind, list[int]] = defaultdict(list)
    for column, strategy in enumerate(strategies):
        if not isinstance(strategy, Escalate):
            alike[_VoteKind.of(strategy, read.aggregation(strategy.model))].append(column)
    for kind, columns in alike.items():
        _measure(found, read, kind, columns)
    _measure_escalations(found, read)
    index = {strategy: column for column, strategy in enumerate(strategies)}
    return found.columns([index[strategy] for strategy in asked])


class _VoteKind(NamedTuple):
    """What strategies that are measured on the same votes have in common.

    configurations: of its parts. sizes: of every part but the last, which may differ.
    by: what the votes weigh; None where they are only counted.
    """

    configurations: tuple[str, ...]
    sizes: tuple[int, ...]
    select: Select
    by: Weight | None
    scored: bool
    replayed: bool

    @classmethod
    def of(cls, strategy: Strategy, usual: Aggregation) -> _VoteKind:
        units = units_of(strategy)
        by: Weight | None = (strategy.aggregate or usual) if strategy.needs_verifier else None
        return cls(
            tuple(unit.configuration for unit in units),
            tuple(unit.count for unit in units[:-1]),
            strategy.select,
            "confidence" if strategy.select == "confident" else by,
            strategy.needs_verifier,
            len(units) > 1 or strategy.stopping is not None,
        )


def _measure(
    found: Measurements, read: StoredPools, kind: _VoteKind, columns: Sequence[int]
) -> None:
    """Fill the columns of strategies of one kind."""
    strategies = [found.strategies[column] for column in columns]
    every = [read.pools[name] for name in kind.configurations]
    rows = [
        row
        for row, problem in enumerate(found.problems)
        if all(problem in stored and stored[problem].votes(kind.by) for stored in every)
    ]
    if not rows:
        return
    units = [[stored[found.problems[row]].units for stored in every] for row in rows]
    pools = [together([stored[found.problems[row]] for stored in every], kind.by) for row in rows]
    spent = np.full((len(rows), len(columns), len(every)), np.nan)
    at = np.ix_(rows, columns)
    if not kind.replayed:
        sizes = [units_of(strategy)[0].count for strategy in strategies]
        expected = expected_accuracy(pools, sizes, kind.select, scored=kind.scored)
        found.accuracy[at], found.error[at] = expected.accuracy, expected.error
        found.coverage[at] = expected_coverage(pools, sizes)
        spent[:] = np.array(sizes)[:, None]
    else:
        for index, row in enumerate(rows):
            played = replay(pools[index], units[index], strategies, kind.select, scored=kind.scored)
            for column, (one, own) in enumerate(zip(played, columns, strict=True)):
                if one is not None:
                    found.accuracy[row, own], found.error[row, own] = one.accuracy, one.error
                    found.coverage[row, own], spent[index, column] = one.coverage, one.spent
    problems = [found.problems[row] for row in rows]
    parts = [unit.strategy for unit in units_of(strategies[0])]
    each = np.array([cost_of(part, found.fleet) for part in parts], np.float64)
    tokens = np.stack([read.tokens(name, problems) for name in kind.configurations], axis=1)
    flops = np.stack(
        [
            read.flops(name, problems, verified=kind.scored, model=part.model)
            for name, part in zip(kind.configurations, parts, strict=True)
        ],
        axis=1,
    )
    found.generations[at] = spent @ each
    found.tokens[at] = np.einsum("pcu,pu->pc", spent, tokens)
    once = read.once(kind.configurations[0], problems, parts[0].model)[:, None]
    found.flops[at] = np.einsum("pcu,pu->pc", spent, flops) + once


def _measure_escalations(found: Measurements, read: StoredPools) -> None:
    """Fill the columns of strategies that escalate, from those of their stages."""
    index = {strategy: column for column, strategy in enumerate(found.strategies)}
    alike: defaultdict[Strategy, list[Escalate]] = defaultdict(list)
    for strategy in found.strategies:
        if isinstance(strategy, Escalate):
            alike[strategy.first].append(strategy)
    verdicts: Verdicts = {}
    for first, group in alike.items():
        kind = _VoteKind.of(first, read.aggregation(first.model))
        every = [read.pools[name] for name in kind.configurations]
        for row in np.flatnonzero(~np.isnan(found.accuracy[:, index[first]])).tolist():
            stored = [pools[found.problems[row]] for pools in every]
            units, pool = [one.units for one in stored], together(stored, kind.by)
            rules = [strategy.rule for strategy in group]
            judged = judge(pool, units, first, rules, scored=kind.scored) or ()
            verdicts |= {(row, s): one for s, one in zip(group, judged, strict=False)}
    arrays = {name: getattr(found, name) for name in BY_STRATEGY}
    fill_escalations(arrays, found.strategies, verdicts)


class Answered(NamedTuple):
    """A stored candidate, as far as it takes part in a selection.

    unit: which of its configuration's units found it. scores: of the solution, by how step scores
    are aggregated; empty where it cannot be scored, None where the verifier was never asked.
    confidence: the generator's own, as `strategies.selection.confidence`; None if not known.
    """

    unit: int
    answer: str | None
    correct: bool
    scores: dict[Aggregation, float] | None
    confidence: float | None = None

    def weight(self, by: Weight) -> float | None:
        """What its vote weighs; None if that is not known.

        Raises:
            KeyError: scores were not aggregated in that way.
        """
        if by == "confidence":
            return self.confidence
        return self.scores[by] if self.scores else None


def pool_of(task: Task, candidates: Sequence[Answered], units: int, by: Weight | None) -> Pool:
    """The answers of so many units. by: those of unknown weight do not vote; None: none has any.

    Raises:
        KeyError: as `Answered.weight`.
    """
    weights = [None if by is None else c.weight(by) for c in candidates]
    known = [by is None or weight is not None for weight in weights]
    voting = [c for c, k in zip(candidates, known, strict=True) if k and c.answer is not None]
    groups = _grouped(task, tuple(c.answer for c in voting))
    names = sorted({name for name in groups if name is not None})
    index = {name: i for i, name in enumerate(names)}
    right = {c.answer: c.correct for c in voting}
    scores = None if by is None else [c.weight(by) for c in voting]
    return Pool(
        units=units,
        unit=np.array([c.unit for c in voting], dtype=np.int64),
        group=np.array([index[name] for name in groups if name is not None], dtype=np.int64),
        correct=np.array([right[name] for name in names], dtype=np.bool_),
        score=None if scores is None else np.array(scores, np.float64),
    )


@lru_cache(maxsize=4096)
def _grouped(task: Task, answers: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Comparing answers is slow, and the same pool serves many kinds of votes."""
    return task.group_sync(answers).representatives


def together(pools: Sequence[StoredPool], by: Weight | None) -> Pool:
    """One pool of the units of several, pool after pool; all of the same problem."""
    starts = accumulate((pool.units for pool in pools), initial=0)
    candidates = [
        candidate._replace(unit=candidate.unit + start)
        for pool, start in zip(pools, starts, strict=False)
        for candidate in pool.candidates
    ]
    return pool_of(pools[0].task, candidates, sum(pool.units for pool in pools), by)


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

    def votes(self, by: Weight | None) -> bool:
        """Whether its candidates are selected by these weights."""
        if by is None:
            return True
        known = [c.weight(by) is not None for c in self.candidates]
        asked = by == "confidence" or all(c.scores is not None for c in self.candidates)
        return asked and voters("weighted", known).how == "weighted"

    def scores(self, how: Aggregation) -> Floats:
        """Of each candidate; NaN where it has none."""
        return np.array([c.scores[how] if c.scores else np.nan for c in self.candidates])


class _Costs(NamedTuple):
    """Tokens of one unit, shape (problems,): sampled, computed of its prompt, and scored.

    once: what the first unit of a search computes of its prompt besides, and no other does.
    """

    sampled: Floats
    prompt: Floats
    verifier: Floats
    once: Floats


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
        usual = {self.aggregation(name) for name in (None, *self.origin.others)}
        self._ways = {*usual, *(s.aggregate for s in strategies if s.aggregate)}
        units = [unit for strategy in strategies for unit in units_of(strategy)]
        wanted = {SAMPLES, *(unit.configuration for unit in units)}
        sampled = (u.configuration for u in units if isinstance(u.strategy, BestOfN))
        self._whole = {SAMPLES, *sampled}
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
        self.fleet: Fleet = relative_costs(self.origin, self._spent)

    def aggregation(self, model: str | None) -> Aggregation:
        """How step scores of a model's solutions become one."""
        return self.origin.by(model).aggregation or "last"

    def _stored(
        self, task: Task, rows: Iterator[tuple[Any, ...]], level_samples: int | None
    ) -> StoredPool:
        """level_samples: for a pool of samples; None for runs."""
        stored = StoredPool(task)
        last: object = None
        for _, _, repeat, answer, correct, scores, _, logprobs, tokens in rows:
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
            sure = None
            if logprobs is not None and tokens is not None:
                sure = confidence(json.loads(logprobs), json.loads(tokens))
            one = Answered(stored.units - 1, answer, bool(correct), by, sure)
            stored.candidates.append(one)
        return stored

    def tokens(self, configuration: str, problems: Sequence[str]) -> Floats:
        """Sampled tokens of one unit on each problem."""
        return self._costs(configuration, problems).sampled

    def flops(
        self,
        configuration: str,
        problems: Sequence[str],
        *,
        verified: bool,
        model: str | None = None,
    ) -> Floats:
        """FLOPs of one unit more on each problem, of tokens that a model really computed."""
        cost, origin = self._costs(configuration, problems), self.origin.by(model)
        own = per_token(origin.parameters) * (cost.sampled + cost.prompt)
        if not verified:
            return own
        # A verifier that computed no token (it read the generator's states) is free at any size.
        scorer = np.where(cost.verifier == 0, 0.0, per_token(origin.verifier_parameters))
        return np.asarray(own + scorer * cost.verifier, np.float64)

    def once(self, configuration: str, problems: Sequence[str], model: str | None = None) -> Floats:
        """FLOPs on each problem that a search of such units has, however many they are."""
        each = per_token(self.origin.by(model).parameters)
        return each * self._costs(configuration, problems).once

    def _costs(self, configuration: str, problems: Sequence[str]) -> _Costs:
        """Of one unit. Whole solutions share their prompt, whatever requests they came in.

        A search of them reads its prompt once, and every other sample computes what no block of
        the prefix cache holds, the prompt's end. So a search of few samples does not pay for a
        pool that was drawn at once, nor does it get a share of that pool's one prompt. (Engines
        that count a prompt once for all samples of a request do not say how long it is: there each
        has its share.)
        """
        spent = self._spent.get(configuration, {})
        unknown = (np.nan,) * 6
        rows = np.array([spent.get(problem, unknown) for problem in problems], dtype=np.float64)
        runs, generations, sampled, prompt, computed, verifier = rows.T
        if configuration not in self._whole:
            return _Costs(sampled / runs, computed / runs, verifier / runs, np.zeros(len(runs)))
        whole = prompt / generations
        later, others = computed - runs * whole, generations - runs
        further = np.where(others > 0, later / np.maximum(others, 1), computed / generations)
        further = np.clip(further, 0.0, whole)
        return _Costs(sampled / generations, further, verifier / generations, whole - further)
