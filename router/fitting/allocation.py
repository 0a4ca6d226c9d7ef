"""Which configuration still gets problems: all of them (grid), or those that may win (racing).

Racing is successive elimination as in irace (López-Ibáñez et al. 2016): after each round of
problems, a configuration leaves its level's race when the best of those that cost no more beats it
in a paired t-test. What it costs, the winner costs at most, so it can win in no cell.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

Kind = Literal["racing", "grid"]


@dataclass(frozen=True, slots=True)
class Allocation:
    """How a level's problems are handed out.

    first: problems of the first round; growth: how much larger each next total is; confidence: of
    the test that ends a configuration. `first=None` gives every problem to every configuration.
    """

    first: int | None
    growth: float = 1.5
    confidence: float = 0.95

    @classmethod
    def of(cls, kind: Kind) -> Allocation:
        return cls(first=8 if kind == "racing" else None)

    def rounds(self, problems: int) -> list[int]:
        """Problems that a surviving configuration has had after each round; ends with all."""
        totals = []
        if self.first is not None:
            total = self.first
            while total < problems:
                totals.append(total)
                total = int(np.ceil(total * self.growth))
        return [*totals, problems]

    def survivors(self, accuracy: Floats, costs: Floats, alive: Bools) -> Bools:
        """Configurations that may still win, after a round.

        accuracy: of one level's problems so far, shape (problems, configurations), NaN where not
            measured; costs: mean generations; alive; both of shape (configurations,).
        """
        if self.first is None:
            return alive
        from scipy.stats import ttest_rel

        kept = alive.copy()
        for column in np.flatnonzero(alive):
            rivals = np.flatnonzero(alive & (costs <= costs[column]))
            common = ~np.isnan(accuracy[:, [*rivals, column]]).any(axis=1)
            if common.sum() < 2:
                continue
            best = rivals[accuracy[np.ix_(common, rivals)].mean(axis=0).argmax()]
            if best == column:
                continue
            difference = accuracy[common, best], accuracy[common, column]
            # Differences without spread make SciPy warn; equal outcomes give NaN: no verdict.
            with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
                p = ttest_rel(*difference, alternative="greater").pvalue
            kept[column] = not p < 1 - self.confidence
        return kept
