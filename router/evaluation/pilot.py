"""Replays the pilot policy: samples that tell the level, and then vote in the search they chose.

What a pilot decides depends on the very samples that vote later, so its accuracy is no function of
the accuracies of single strategies: candidates are put together again, draw by draw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from router.evaluation.outcomes import Columns, Outcomes, shares
from router.evaluation.study import Study
from router.fitting.estimates import Pool, expected_accuracy, expected_coverage
from router.fitting.pools import Answered, StoredPools, Unit, Weight, pool_of, units_of
from router.fitting.replay import run_length, unit_votes
from router.fitting.workers import model_of
from router.models.types import Problem
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Select, Strategy
from router.strategies.escalate import Escalate
from router.strategies.fleet import cost_of
from router.strategies.selection import voters
from router.strategies.stopping import Poll
from router.strategies.tasks import get_task

Floats = npt.NDArray[np.float64]

_Ran = list[tuple[Unit, list[Answered]]]
"""Units, with what each finds."""


class _UnitCosts(NamedTuple):
    """Of one unit on each problem, (problems,): tokens, and FLOPs without and with scoring."""

    tokens: Floats
    unscored: Floats
    scored: Floats

    def of(self, verified: bool) -> Floats:
        return self.scored if verified else self.unscored


class PilotReplay:
    """Outcomes of the pilot policy, by budget, from the stored candidates of these problems."""

    def __init__(
        self, study: Study, store: RolloutStore, problems: Sequence[Problem], columns: Columns
    ) -> None:
        self._study = study
        self._problems = problems
        self._fleet = columns.found.fleet
        ids = {problem.id for problem in problems}
        self._stored = StoredPools(store, columns.index, ids, study.level_samples)
        names = [problem.id for problem in problems]
        self._costs = {
            name: _UnitCosts(
                self._stored.tokens(name, names),
                self._stored.flops(name, names, verified=False, model=model_of(name)),
                self._stored.flops(name, names, verified=True, model=model_of(name)),
            )
            for name in self._stored.pools
        }
        self._once = self._stored.once(SAMPLES, names)

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
                ran, decides, strategy = self._followed(problem, strategy, drawn, draw)
                own = sum(one.configuration == SAMPLES for one, _ in ran)
                # A search begins with what was observed, where it samples so; the rest votes too.
                candidates = [c for _, found in decides for c in found] + drawn[own:size]
                candidates = [candidate._replace(unit=0) for candidate in candidates]
                by = self._weight(strategy)
                known = [by is None or c.weight(by) is not None for c in candidates]
                select = voters(strategy.select, known).how
                scored = strategy.needs_verifier and (select != "majority" or all(known))
                if select == "majority" and not scored:
                    by = None
                pool = pool_of(get_task(problem.task), candidates, 1, by)
                pools[select, scored].append((row * draws + draw, pool))
                costs[row, draw] = self._cost(row, strategy, [unit for unit, _ in ran], size)
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

    def _followed(
        self, problem: Problem, strategy: Strategy, drawn: Sequence[Answered], draw: int
    ) -> tuple[_Ran, _Ran, Strategy]:
        """All units that are run, those of the stage whose candidates decide, and that stage."""
        ran: _Ran = []
        while isinstance(strategy, Escalate):
            units = self._run(problem, strategy.first, drawn, draw)
            ran += units
            if self._convinces(problem, strategy, [c for _, found in units for c in found]):
                return ran, units, strategy.first
            drawn = drawn[sum(one.configuration == SAMPLES for one, _ in units) :]
            strategy = strategy.then
        units = self._run(problem, strategy, drawn, draw)
        return [*ran, *units], units, strategy

    def _run(
        self, problem: Problem, strategy: Strategy, drawn: Sequence[Answered], draw: int
    ) -> _Ran:
        """The units that the strategy runs until its vote is over, with what each finds.

        drawn: the problem's samples in the order of this draw, those that were observed first.
        """
        units: _Ran = []
        samples = iter(drawn)
        for unit in units_of(strategy):
            if unit.configuration == SAMPLES:
                units += [(unit, [next(samples)]) for _ in range(unit.count)]
                continue
            stored = self._stored.pools[unit.configuration][problem.id]
            # Other runs in each draw, as far as there are any.
            turn = [(draw + k) % stored.units for k in range(unit.count)]
            units += [(unit, [c for c in stored.candidates if c.unit == k]) for k in turn]
        if strategy.stopping is None:
            return units
        flat = [c._replace(unit=i) for i, (_, found) in enumerate(units) for c in found]
        pool = pool_of(get_task(problem.task), flat, len(units), self._weight(strategy))
        return units[: run_length(pool, strategy)]

    def _cost(
        self, row: int, strategy: Strategy, ran: Sequence[Unit], size: int
    ) -> tuple[float, float, float]:
        """Generations, tokens and FLOPs of these units and a pilot of `size` scored samples."""
        plain = self._costs[SAMPLES]
        own = sum(unit.configuration == SAMPLES for unit in ran)
        rest, observed = max(0, size - own), min(size, own)
        generations = sum(cost_of(unit.strategy, self._fleet) for unit in ran) + rest
        tokens = sum(self._costs[unit.configuration].tokens[row] for unit in ran)
        verified = strategy.needs_verifier
        flops = sum(self._costs[unit.configuration].of(verified)[row] for unit in ran)
        flops += self._once[row] + rest * plain.scored[row]
        if not verified:  # but the pilot was scored
            flops += observed * (plain.scored[row] - plain.unscored[row])
        return generations, float(tokens + rest * plain.tokens[row]), float(flops)

    def _convinces(
        self, problem: Problem, strategy: Escalate, candidates: Sequence[Answered]
    ) -> bool:
        """Whether the first of two searches is left at these candidates."""
        by = self._weight(strategy.first)
        one = [candidate._replace(unit=0) for candidate in candidates]
        pool = pool_of(get_task(problem.task), one, 1, by)
        votes = unit_votes(pool, strategy.select).sum(axis=0)
        poll = Poll.of(votes, strategy.select)
        return bool(strategy.rule.settled(poll, len(candidates)))

    def _weight(self, strategy: Strategy) -> Weight | None:
        if strategy.select == "confident":
            return "confidence"
        how = strategy.aggregate or self._stored.aggregation(strategy.model)
        return how if strategy.needs_verifier else None
