"""Replays the pilot policy: samples that tell the level, and then vote in the search they chose.

What a pilot decides depends on the very samples that vote later, so its accuracy is no function of
the accuracies of single strategies: candidates are put together again, draw by draw.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.evaluation.outcomes import Columns, Outcomes, shares
from router.evaluation.study import Study
from router.fitting.estimates import Pool, expected_accuracy, expected_coverage
from router.fitting.measurements import unit_of
from router.models.base import Aggregation
from router.models.types import Problem
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.answers import group_sync
from router.strategies.base import Select, Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.selection import aggregate, voters

_Found = tuple[str | None, bool, tuple[float, ...] | None]
"""Answer, whether it is right, and step scores of one candidate."""


@dataclass
class _Stored:
    """One problem's candidates: samples in order, and those of each run of each search."""

    samples: list[_Found]
    runs: dict[str, dict[int, list[_Found]]]


class PilotReplay:
    """Outcomes of the pilot policy, by budget, from the stored candidates of these problems."""

    def __init__(
        self, study: Study, store: RolloutStore, problems: Sequence[Problem], columns: Columns
    ) -> None:
        self._study = study
        self._problems = problems
        self._columns = columns
        self._aggregation: Aggregation = store.origin.aggregation or "last"
        self._stored = _read(store, {p.id for p in problems}, study.level_samples)

    def outcomes(self, budget: int, picks: Sequence[tuple[Strategy, ...]]) -> Outcomes:
        """Means over the draws. picks: of each problem, one for each draw."""
        assert self._study.bundle.pilot is not None
        size = self._study.bundle.pilot.needs.drawn(budget)
        draws = len(picks[0])
        pools: defaultdict[tuple[Select, bool], list[tuple[int, Pool]]] = defaultdict(list)
        costs = np.empty((len(picks), draws, 3))
        for row, (problem, chosen) in enumerate(zip(self._problems, picks, strict=True)):
            stored = self._stored[problem.id]
            orders = self._study.orders(problem, len(stored.samples))
            for draw, (strategy, order) in enumerate(zip(chosen, orders, strict=True)):
                pilot = [stored.samples[i] for i in order[:size]]
                rest = [stored.samples[i] for i in order[size:]]
                candidates = _candidates(stored, strategy, pilot, rest, draw)
                how, voting = voters(strategy.select, [bool(scores) for *_, scores in candidates])
                voted = [candidates[i] for i in voting]
                scored = strategy.needs_verifier and all(scores for *_, scores in voted)
                by = strategy.aggregate or self._aggregation
                pool = _pool(voted, by if scored else None)
                pools[how, scored].append((row * draws + draw, pool))
                costs[row, draw] = self._cost(row, strategy, size)
        accuracy, coverage = np.zeros((2, len(picks) * draws))
        for (select, scored), members in pools.items():
            at, kind = [i for i, _ in members], [pool for _, pool in members]
            accuracy[at] = expected_accuracy(kind, [1], select, scored=scored).accuracy[:, 0]
            coverage[at] = expected_coverage(kind, [1])[:, 0]
        generations, tokens, flops = costs.mean(axis=1).T
        return Outcomes(
            accuracy=accuracy.reshape(-1, draws).mean(axis=1),
            coverage=coverage.reshape(-1, draws).mean(axis=1),
            generations=generations,
            tokens=tokens,
            flops=flops,
            choices=shares([strategy for chosen in picks for strategy in chosen]),
        )

    def _cost(self, row: int, strategy: Strategy, size: int) -> tuple[float, float, float]:
        """Generations, tokens and FLOPs of a search after a pilot of `size` scored samples."""
        found, index = self._columns.found, self._columns.index
        pilot = index[BestOfN(size)]
        if not strategy.takes_samples:
            own = index[strategy]
            return (
                strategy.cost + size,
                found.tokens[row, own] + found.tokens[row, pilot],
                found.flops[row, own] + found.flops[row, pilot],
            )
        own = index[replace(strategy, n=max(strategy.n, size))]
        flops = found.flops[row, own]
        if not strategy.needs_verifier:  # but the pilot was scored
            flops += found.flops[row, pilot]
            flops -= found.flops[row, index[BestOfN(size, select="majority")]]
        return max(strategy.cost, size), found.tokens[row, own], flops


def _candidates(
    stored: _Stored, strategy: Strategy, pilot: list[_Found], rest: list[_Found], draw: int
) -> list[_Found]:
    """What the search finds, and its pilot."""
    if strategy.takes_samples:
        return pilot + rest[: max(0, strategy.n - len(pilot))]
    unit = unit_of(strategy)
    runs = [stored.runs[unit.configuration][k] for k in sorted(stored.runs[unit.configuration])]
    # Other runs in each draw, as far as there are any.
    turn = [runs[(draw + k) % len(runs)] for k in range(unit.count)]
    return pilot + [candidate for run in turn for candidate in run]


def _pool(voting: Sequence[_Found], how: Aggregation | None) -> Pool:
    """One unit that holds all of these candidates. how: None leaves their scores out."""
    groups = group_sync([answer for answer, _, _ in voting])
    names = sorted({name for name in groups if name is not None})
    given = [i for i, name in enumerate(groups) if name is not None]
    right = {str(groups[i]): voting[i][1] for i in given}
    return Pool(
        units=1,
        unit=np.zeros(len(given), dtype=np.int64),
        group=np.array([names.index(str(groups[i])) for i in given], dtype=np.int64),
        correct=np.array([right[name] for name in names], dtype=np.bool_),
        score=how and np.array([aggregate(voting[i][2] or (), how) for i in given], np.float64),
    )


def _read(store: RolloutStore, problems: set[str], level_samples: int) -> dict[str, _Stored]:
    found = {problem: _Stored([], defaultdict(dict)) for problem in problems}
    for problem, configuration, repeat, answer, correct, scores in store.outcomes():
        if problem not in found:
            continue
        stored = found[problem]
        run = stored.runs[configuration].setdefault(repeat, [])
        if correct is None:  # the run found nothing
            continue
        steps = None if scores is None else tuple(json.loads(scores))
        run.append((answer, bool(correct), steps))
    for stored in found.values():
        batches = stored.runs.pop(SAMPLES, {})
        drawn = [candidate for batch in sorted(batches) for candidate in batches[batch]]
        stored.samples = drawn[level_samples:]
    return found
