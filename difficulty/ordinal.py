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
            chosen = cls._from_free(free).probabilities(scores)[np.arange(len(index)), index]
            return float(_PRIOR * free[0] ** 2 - np.log(np.maximum(chosen, 1e-12)).sum())

        # Logarithms of the slope and of the gaps: whatever the optimiser tries is valid.
        free = np.concatenate([[0.0, start[0]], np.log(np.diff(start))])
        return cls._from_free(minimize(loss, free, method="L-BFGS-B").x)

    @classmethod
    def _from_free(cls, free: Floats) -> Self:
        free = np.clip(free, -50, 50)
        thresholds = np.cumsum([free[1], *np.exp(free[2:])])
        return cls(slope=float(np.exp(free[0])), thresholds=tuple(thresholds.tolist()))

    def probabilities(self, scores: Floats) -> Floats:
        """P(level), shape (rows, levels), for scores of shape (rows,)."""
        odds = np.asarray(self.thresholds)[None] - self.slope * np.asarray(scores)[:, None]
        # The logistic function, by its bounded twin: exp would overflow.
        below = (1 + np.tanh(odds / 2)) / 2
        edge = np.zeros((len(below), 1))
        levels: npt.NDArray[np.float64] = np.diff(np.hstack([edge, below, edge + 1]), axis=1)
        return levels
