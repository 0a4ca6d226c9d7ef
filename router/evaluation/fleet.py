"""Compute or parameters: each model of a fleet alone, with its best search, at equal cost.

The question of Snell et al. 2024, sec. 7. What a model's best search is was chosen on the fit; how
good it is is measured on the evaluation's problems.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.bundle import Bundle
from router.evaluation.outcomes import Columns
from router.evaluation.records import Alone, Versus
from router.intervals import mean_figure
from router.models.errors import InputError
from router.strategies.base import Strategy
from router.table import CostUnit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def versus(
    bundle: Bundle, budgets: Sequence[int], columns: Columns, level: Ints, weights: Floats
) -> tuple[Versus, ...]:
    """Every further model against the first, at each budget, over all problems and by level.

    Where FLOPs were measured a budget is so many of the first model's plain samples in FLOPs, on
    average; else in generations. level: true level of each problem, shape (problems,). weights: of
    paired resamples.
    """
    names = [member.name for member in bundle.table.members]
    levels = range(1, bundle.table.levels + 1)
    cases = [(None, np.ones(len(level), np.bool_)), *((n, level == n) for n in levels)]
    found = []
    for budget in budgets:
        for number, inside in cases:
            mix = bundle.prior if number is None else [float(n == number) for n in levels]
            best = _best(bundle, mix, budget)
            if names[0] not in best or not inside.any():
                continue
            right = {
                name: np.where(inside, columns.outcomes(strategy).accuracy, np.nan)
                for name, strategy in best.items()
            }
            alone = tuple(
                Alone(
                    model=name,
                    strategy=strategy,
                    accuracy=mean_figure(right[name], weights),
                    gain=mean_figure(right[name] - right[names[0]], weights),
                )
                for name, strategy in best.items()
            )
            found.append(Versus(budget=budget, level=number, models=alone))
    return tuple(found)


def _best(bundle: Bundle, mix: Sequence[float], budget: int) -> dict[str, Strategy]:
    """By the fit, the best search that asks one model only, of each that has one at this cost."""
    names = [member.name for member in bundle.table.members]
    unit: CostUnit = "flops"
    if any(cost.flops is None for cost in bundle.table.generation):
        unit = "generations"
    best: dict[str, Strategy] = {}
    try:
        considered = bundle.table.choose(mix, budget, cost=unit).considered
    except InputError:  # nothing costs so little
        return {}
    for one in considered:
        asked = {stage.model or names[0] for stage in one.strategy.stages}
        if len(asked) == 1:
            best.setdefault(asked.pop(), one.strategy)
    return {name: best[name] for name in names if name in best}
