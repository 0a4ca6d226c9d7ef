"""Paired statistics over problems: means, gains, compute for equal accuracy, regret."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.evaluation.outcomes import Outcomes
from router.evaluation.records import Bounded, Equal, Point
from router.intervals import Figure, mean_figure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SLACK = 1e-9


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


def equal_accuracy(
    policy: str, budget: int, got: Outcomes, baseline: Sequence[Outcomes], weights: Floats
) -> Equal:
    """What the baseline needs to be as accurate as a policy.

    baseline: its outcomes at N = 1, 2, 3, …
    """
    samples = _Crossing(got.accuracy, baseline, weights)
    ratios = {
        unit: samples.ratio(getattr(got, unit), [getattr(b, unit) for b in baseline])
        for unit in ("generations", "tokens", "flops")
    }
    assert ratios["generations"] is not None
    return Equal(
        policy=policy,
        budget=budget,
        samples=_bounded(samples.value, samples.drawn),
        generations=ratios["generations"],
        tokens=ratios["tokens"],
        flops=ratios["flops"],
        over_largest=mean_figure(got.accuracy - baseline[-1].accuracy, weights),
    )


class _Crossing:
    """Where the baseline's curve first reaches a policy's accuracy: at which N, from 1 on.

    value: on the problems as they are; drawn: on each resample. Infinite where it never does.
    """

    def __init__(self, accuracy: Floats, baseline: Sequence[Outcomes], weights: Floats) -> None:
        once = np.full((1, len(accuracy)), 1 / len(accuracy))
        # The first row is the sample itself, the others are its resamples.
        self.weights = np.concatenate([once, weights / len(accuracy)])
        curve = self.weights @ np.stack([b.accuracy for b in baseline], axis=1)
        self._found = first_crossing(curve, self.weights @ accuracy)

    @property
    def value(self) -> float:
        return float(self._found[0])

    @property
    def drawn(self) -> Floats:
        return self._found[1:]

    def ratio(self, spent: Floats, baseline: Sequence[Floats]) -> Bounded | None:
        """How many times as much the baseline spends there; None if a cost is not known."""
        costs = np.stack(baseline, axis=1)
        if np.isnan(spent).any() or np.isnan(costs).any():
            return None
        curve, own = self.weights @ costs, self.weights @ spent
        below = np.floor(np.where(np.isinf(self._found), 1, self._found)).astype(int) - 1
        above = np.minimum(below + 1, curve.shape[1] - 1)
        rows = np.arange(len(curve))
        part = np.where(np.isinf(self._found), 0, self._found - 1 - below)
        cost = curve[rows, below] + part * (curve[rows, above] - curve[rows, below])
        ratios = np.where(np.isinf(self._found), np.inf, cost / own)
        return _bounded(float(ratios[0]), ratios[1:])


def first_crossing(curves: Floats, targets: Floats) -> Floats:
    """The smallest N at which each curve reaches its target, interpolated between whole N.

    curves: at N = 1, 2, 3, …, shape (rows, sizes). targets: shape (rows,).

    Returns:
        shape (rows,); at least 1, and infinite where a curve stays below its target.
    """
    reached = curves >= targets[:, None] - _SLACK
    first = reached.argmax(axis=1)
    rows = np.arange(len(curves))
    before = np.maximum(first - 1, 0)
    low, high = curves[rows, before], curves[rows, first]
    rise = np.where(first > 0, high - low, 1.0)
    part = np.clip((targets - low) / np.where(rise > 0, rise, 1.0), 0.0, 1.0)
    found = np.where(first > 0, before + part, 0.0) + 1
    return np.where(reached.any(axis=1), found, np.inf)


def _bounded(value: float, drawn: Floats) -> Bounded:
    # Without interpolation: infinities must not mix with numbers.
    low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
    return Bounded(value=_finite(value), low=_finite(low), high=_finite(high))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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
