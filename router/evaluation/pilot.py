"""Replays the pilot policy: samples that tell the level, and then vote in the search they chose.

What a pilot decides depends on the very samples that vote later, so its accuracy is no function of
the accuracies of single strategies: candidates are put together again, draw by draw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from router.evaluation.outcomes import Columns, Outcomes, shares
from router.evaluation.study import Study
from router.fitting.estimates import Pool, expected_accuracy, expected_coverage
from router.fitting.measurements import Answered, StoredPools, Weight, pool_of, units_of
from router.fitting.replay import run_length
from router.models.types import Problem
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Select, Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.selection import voters
from router.strategies.tasks import get_task


class PilotReplay:
    """Outcomes of the pilot policy, by budget, from the stored candidates of these problems."""

    def __init__(
        self, study: Study, store: RolloutStore, problems: Sequence[Problem], columns: Columns
    ) -> None:
        self._study = study
        self._problems = problems
        self._columns = columns
        ids = {problem.id for problem in problems}
        self._stored = StoredPools(store, columns.index, ids, study.level_samples)

    def outcomes(self, budget: int, picks: Sequence[tuple[Strategy, ...]]) -> Outcomes:
        """Means over the draws. picks: of each problem, one for each draw."""
        assert self._study.bundle.pilot is not None
        size = self._study.bundle.pilot.needs.drawn(budget)
        draws = len(picks[0])
        pools: defaultdict[tuple[Select, bool], list[tuple[int, Pool]]] = defaultdict(list)
        costs = np.empty((len(picks), draws, 3))
        for row, (problem, chosen) in enumerate(zip(self._problems, picks, strict=True)):
            samples = self._stored.pools[SAMPLES][problem.id].candidates
            orders = self._study.orders(problem, len(samples))
            for draw, (strategy, order) in enumerate(zip(chosen, orders, strict=True)):
                drawn = [samples[i] for i in order]
                candidates = self._candidates(problem, strategy, drawn, size, draw)
                by = self._weight(strategy)
                known = [by is None or c.weight(by) is not None for c in candidates]
                select = voters(strategy.select, known).how
                scored = strategy.needs_verifier and (select != "majority" or all(known))
                if select == "majority" and not scored:
                    by = None
                pool = pool_of(get_task(problem.task), candidates, 1, by)
                pools[select, scored].append((row * draws + draw, pool))
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
                found.generations[row, own] + size,
                found.tokens[row, own] + found.tokens[row, pilot],
                found.flops[row, own] + found.flops[row, pilot],
            )
        own = index.get(replace(strategy, n=max(strategy.n, size)), index[strategy])
        flops = found.flops[row, own]
        if not strategy.needs_verifier:  # but the pilot was scored
            flops += found.flops[row, pilot]
            flops -= found.flops[row, index[BestOfN(size, select="majority")]]
        return max(found.generations[row, own], size), found.tokens[row, own], flops

    def _candidates(
        self, problem: Problem, strategy: Strategy, drawn: Sequence[Answered], size: int, draw: int
    ) -> list[Answered]:
        """What the search finds, and its pilot of `size` samples, as one unit."""
        found: list[list[Answered]] = []
        taken = 0 if strategy.takes_samples else size
        for unit in units_of(strategy):
            if unit.configuration == SAMPLES:
                samples = drawn[taken : taken + unit.count]
                taken += unit.count
                found += [[candidate] for candidate in samples]
                continue
            stored = self._stored.pools[unit.configuration][problem.id]
            # Other runs in each draw, as far as there are any.
            turn = [(draw + k) % stored.units for k in range(unit.count)]
            found += [[c for c in stored.candidates if c.unit == k] for k in turn]
        flat = [c._replace(unit=i) for i, unit in enumerate(found) for c in unit]
        if strategy.stopping is not None:
            pool = pool_of(get_task(problem.task), flat, len(found), self._weight(strategy))
            end = run_length(pool, strategy)
            flat = [candidate for candidate in flat if candidate.unit < end]
        # A search that takes samples begins with those that were observed.
        flat = [*drawn[:size], *flat[size if strategy.takes_samples else 0 :]]
        return [candidate._replace(unit=0) for candidate in flat]

    def _weight(self, strategy: Strategy) -> Weight | None:
        if strategy.select == "confident":
            return "confidence"
        how = strategy.aggregate or self._stored.aggregation
        return how if strategy.needs_verifier else None
