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

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from router.fitting.escalation import Verdicts, fill_escalations, with_stages
from router.fitting.estimates import expected_accuracy, expected_coverage
from router.fitting.pools import Floats, StoredPools, Weight, together, units_of
from router.fitting.replay import judge, replay
from router.models.base import Aggregation
from router.models.errors import InputError
from router.rollouts.runs import StoredPrefill
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Select, Strategy
from router.strategies.escalate import Escalate
from router.strategies.fleet import Fleet, cost_of

LEVEL_SAMPLES = 8
"""Samples of each problem that decide its level and nothing else."""


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
