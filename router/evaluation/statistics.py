"""Paired statistics over problems: means, regret, rank correlation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from router.evaluation.outcomes import Outcomes
from router.evaluation.records import Point
from router.intervals import Figure, mean_figure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def point(budget: int, got: Outcomes, level: Ints, levels: int, weights: Floats) -> Point:
    """Means over the problems, and at each level."""
    inside = [level == number for number in range(1, levels + 1)]
    return Point(
        budget=budget,
        accuracy=mean_figure(got.accuracy, weights),
        coverage=mean_figure(got.coverage, weights),
        generations=float(got.generations.mean()),
        tokens=_known_mean(got.tokens),
        flops=_known_mean(got.flops),
        levels=tuple(
            mean_figure(np.where(at, got.accuracy, np.nan), weights) if at.any() else None
            for at in inside
        ),
        choices=dict(got.choices),
    )


def _known_mean(values: Floats) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())


def hindsight(accuracy: Floats, level: Ints) -> Floats:
    """Accuracy on each problem of the configuration that is best at its level, in hindsight.

    accuracy: shape (problems, configurations), NaN where not measured; what was not measured on
        every problem of a level cannot win there.
    """
    found = np.full(len(accuracy), np.nan)
    for number in np.unique(level):
        at = level == number
        mean = accuracy[at].mean(axis=0)
        found[at] = accuracy[at, np.where(np.isnan(mean), -np.inf, mean).argmax()]
    return found


def spearman(expected: Floats, pass_at_1: Floats, weights: Floats) -> Figure:
    """Rank correlation with a bootstrap interval; 0 where either is constant.

    expected: expected level, higher is harder, shape (problems,).
    """
    from scipy.stats import rankdata

    def correlation(rows: Ints) -> float:
        first, second = rankdata(-expected[rows]), rankdata(pass_at_1[rows])
        if np.ptp(first) == 0 or np.ptp(second) == 0:
            return 0.0
        return float(np.corrcoef(first, second)[0, 1])

    everything = np.arange(len(expected))
    drawn = [correlation(np.repeat(everything, row.astype(int))) for row in weights]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Figure(correlation(everything), float(low), float(high))
