"""What a policy gets from each problem at a budget: a function of measurements and decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from router.fitting.measurements import Measurements

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """Expected outcome of each problem, arrays of shape (problems,).

    accuracy, coverage: chances that the chosen answer, or that some candidate, is right.
    choices: share of the problems that each configuration was chosen for.
    """

    accuracy: Floats
    coverage: Floats
    generations: Floats
    tokens: Floats
    flops: Floats
    choices: Mapping[str, float]


class Columns:
    """Measurements by the text of a strategy."""

    def __init__(self, found: Measurements) -> None:
        self.found = found
        self.index = {str(strategy): i for i, strategy in enumerate(found.strategies)}
        self._cost = np.array([strategy.cost for strategy in found.strategies], dtype=np.float64)

    def outcomes(self, chosen: Sequence[str] | str) -> Outcomes:
        """Of one strategy for every problem, or of the one that was chosen for each."""
        count = len(self.found.problems)
        names = [chosen] * count if isinstance(chosen, str) else list(chosen)
        at = np.arange(count), np.array([self.index[name] for name in names])
        return Outcomes(
            accuracy=self.found.accuracy[at],
            coverage=self.found.coverage[at],
            generations=self._cost[at[1]],
            tokens=self.found.tokens[at],
            flops=self.found.flops[at],
            choices=shares(names),
        )


def shares(names: Sequence[str]) -> dict[str, float]:
    """How often each name occurs, the commonest first."""
    return {name: times / len(names) for name, times in Counter(names).most_common()}
