"""Probabilities of ordered levels from one score: the proportional-odds model (McCullagh 1980)."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from router.difficulty.levels import Floats, Ints

_PRIOR = 0.5
"""Weight of the belief that a score is calibrated already (slope 1), against one observation."""


class ProportionalOdds(BaseModel):
    """P(level <= k | score) = sigmoid(threshold_k - slope * score).

    slope: positive; a higher score is a higher, that is harder, level.
    thresholds: rising, one fewer than levels; none for a single level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    slope: Annotated[float, Field(gt=0)]
    thresholds: tuple[float, ...]

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.thresholds) != sorted(self.thresholds):
            raise ValueError(f"thresholds must rise, not {self.thresholds}")
        return self

    @classmethod
    def fit(cls, scores: Floats, index: Ints, count: int) -> Self:
        """Maximum a posteriori fit.

        scores: shape (rows,). index: position of the level of each row, 0 to `count` - 1.
        """
        from scipy.optimize import minimize

        if count == 1:
            return cls(slope=1.0, thresholds=())
        # Half a problem more in each level keeps empty ones finite.
        shares = np.bincount(index, minlength=count) + 0.5
        below = np.cumsum(shares)[:-1] / shares.sum()
        start = np.log(below / (1 - below)) + np.median(scores)

        def loss(free: Floats) -> float:
            chosen = _levels(*_valid(free), scores)[np.arange(len(index)), index]
            return float(_PRIOR * free[0] ** 2 - np.log(np.maximum(chosen, 1e-12)).sum())

        free = np.concatenate([[0.0, start[0]], np.log(np.diff(start))])
        # Not L-BFGS: scipy's leaves matrices of this size to LAPACK, whose threads wait for each
        # other ten times as long as all of the rest takes.
        slope, thresholds = _valid(minimize(loss, free, method="BFGS").x)
        return cls(slope=slope, thresholds=tuple(thresholds.tolist()))

    def probabilities(self, scores: Floats) -> Floats:
        """P(level), shape (rows, levels), for scores of shape (rows,)."""
        return _levels(self.slope, np.asarray(self.thresholds), np.asarray(scores))


def _valid(free: Floats) -> tuple[float, Floats]:
    """Slope and thresholds by their free form, the logarithms of the slope and of the gaps:
    whatever the optimiser tries is valid."""
    free = np.clip(free, -50, 50)
    return float(np.exp(free[0])), np.cumsum([free[1], *np.exp(free[2:])])


def _levels(slope: float, thresholds: Floats, scores: Floats) -> Floats:
    odds = thresholds[None] - slope * scores[:, None]
    # The logistic function, by its bounded twin: exp would overflow.
    below = (1 + np.tanh(odds / 2)) / 2
    edge = np.zeros((len(below), 1))
    levels: npt.NDArray[np.float64] = np.diff(np.hstack([edge, below, edge + 1]), axis=1)
    return levels
