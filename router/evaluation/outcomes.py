"""What a policy gets from each problem at a budget: a function of measurements and decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from router.fitting.measurements import Measurements
from router.strategies.base import Strategy

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
    choices: Mapping[Strategy, float]


class Columns:
    """Measurements by strategy."""

    def __init__(self, found: Measurements) -> None:
        self.found = found
        self.index = {strategy: i for i, strategy in enumerate(found.strategies)}

    def outcomes(self, chosen: Sequence[Strategy] | Strategy) -> Outcomes:
        """Of one strategy for every problem, or of the one that was chosen for each."""
        count = len(self.found.problems)
        each = [chosen] * count if isinstance(chosen, Strategy) else list(chosen)
        at = np.arange(count), np.array([self.index[strategy] for strategy in each])
        return Outcomes(
            accuracy=self.found.accuracy[at],
            coverage=self.found.coverage[at],
            generations=self.found.generations[at],
            tokens=self.found.tokens[at],
            flops=self.found.flops[at],
            choices=shares(each),
        )


def shares(chosen: Sequence[Strategy]) -> dict[Strategy, float]:
    """How often each strategy was chosen, the commonest first."""
    counts = Counter(chosen)
    return {strategy: times / len(chosen) for strategy, times in counts.most_common()}
