"""How good predicted levels are, on problems that the estimator did not see."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from router.difficulty.levels import Floats, Ints

BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Stated probabilities of about the same size, and how often they came true."""

    stated: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class Validation:
    """Quality of predicted level probabilities.

    spearman: rank correlation of the expected level with pass@1, sign turned; 0 where either is
        constant.
    log_loss: nats a problem; prior_log_loss: of the levels' frequencies, the thing to beat.
    calibration_error: mean gap between stated and observed, over all levels' probabilities.
    reliability: the bins that it is the mean of.
    """

    problems: int
    spearman: float
    log_loss: float
    prior_log_loss: float
    calibration_error: float
    reliability: tuple[Bin, ...]

    @classmethod
    def of(cls, probabilities: Floats, levels: Ints, pass_at_1: Floats) -> Validation:
        """Compare predictions with the truth.

        probabilities: shape (problems, levels). levels: true ones, from 1, shape (problems,).
        pass_at_1: shape (problems,).
        """
        from scipy.stats import spearmanr

        count = probabilities.shape[1]
        true = np.arange(1, count + 1) == levels[:, None]
        frequency = true.mean(axis=0)
        expected = probabilities @ np.arange(count)
        varies = np.ptp(expected) > 0 and np.ptp(pass_at_1) > 0
        bins = _reliability(probabilities.ravel(), true.ravel())
        return cls(
            len(levels),
            float(-spearmanr(expected, pass_at_1).statistic) if varies else 0.0,
            float(-np.log(np.maximum(probabilities[true], 1e-12)).mean()),
            float(-np.log(frequency[levels - 1]).mean()),
            sum(b.count * abs(b.stated - b.observed) for b in bins) / true.size,
            bins,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _reliability(stated: Floats, true: Floats) -> tuple[Bin, ...]:
    """Bins that hold equally many probabilities, rising."""
    order = np.argsort(stated, kind="stable")
    return tuple(
        Bin(float(stated[rows].mean()), float(true[rows].mean()), len(rows))
        for rows in np.array_split(order, BINS)
        if len(rows)
    )
