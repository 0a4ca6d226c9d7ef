"""How well scores tell right solutions from wrong ones: ranking and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def auc(scores: Sequence[float] | Floats, right: Sequence[bool] | npt.NDArray[np.bool_]) -> float:
    """P(a right one scores above a wrong one), ties counting half; NaN without both kinds.

    scores, right: shape (samples,).
    """
    values, kinds = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    positives, negatives = int(kinds.sum()), int((~kinds).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    midranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = midranks[inverse][kinds].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def auc_within(
    scores: Sequence[float] | Floats,
    right: Sequence[bool] | npt.NDArray[np.bool_],
    groups: Sequence[object],
) -> float:
    """Mean over groups (problems) of the AUC inside each; NaN if none has both kinds.

    Unlike the overall AUC it gives no credit for telling easy problems from hard ones.
    """
    values, kinds = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=bool)
    members: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    inside = np.array([auc(values[rows], kinds[rows]) for rows in members.values()])
    known = inside[~np.isnan(inside)]
    return float(known.mean()) if known.size else float("nan")


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Scores in [low, high): how many, their mean, and the share that is really right."""

    low: float
    high: float
    count: int
    mean_score: float
    share_right: float


def reliability(
    scores: Sequence[float] | Floats, right: Sequence[float] | Floats, bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """The bins of a reliability diagram, of equal width over [0, 1]; empty ones are left out."""
    values, outcomes = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.float64)
    which = np.minimum((values * bins).astype(int), bins - 1)
    found = []
    for index in np.unique(which):
        inside = which == index
        found.append(
            ReliabilityBin(
                low=float(index / bins),
                high=float((index + 1) / bins),
                count=int(inside.sum()),
                mean_score=float(values[inside].mean()),
                share_right=float(outcomes[inside].mean()),
            )
        )
    return tuple(found)


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean distance of score and outcome over bins, weighted by count (Guo et al. 2017, eq. 5)."""
    total = sum(entry.count for entry in bins)
    return sum(abs(b.mean_score - b.share_right) * b.count for b in bins) / total
