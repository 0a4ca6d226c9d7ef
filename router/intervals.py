"""Intervals for proportions, and for means over problems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def resamples(problems: int, seed: int) -> Floats:
    """How often each bootstrap resample draws each problem, shape (resamples, problems).

    Statistics that share these weights are paired.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(problems, np.full(problems, 1 / problems), RESAMPLES).astype(float)


def mean_figure(each: Floats, weights: Floats) -> Figure:
    """Mean over problems, NaN left out, with the quantiles of its resamples.

    each: shape (problems,). weights: as `resamples` gives them.
    """
    known = ~np.isnan(each)
    if not known.any():
        return Figure(float("nan"), float("nan"), float("nan"))
    totals = weights @ known
    sums = weights @ np.where(known, each, 0.0)
    means = sums[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, (0.025, 0.975))
    return Figure(float(each[known].mean()), float(low), float(high))
