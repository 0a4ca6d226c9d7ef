"""A pilot: samples that are drawn first, say which strategy to run, and are its own then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from router.models.types import Problem
from router.strategies.base import Candidate, Strategy
from router.strategies.scoring import candidates, step_values
from router.strategies.search import Search

Choose = Callable[[Sequence[float]], Awaitable[Strategy]]
"""The strategy for the verifier's scores of the pilot samples, one a sample."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """What the driver runs in place of a strategy that is not chosen yet.

    Pilot and strategy are one search: they share its budget, usage and trace. Pilot samples that
    the strategy does not take vote beside its candidates.
    """

    samples: int
    choose: Choose

    @property
    def cost(self) -> int:
        """Generations that it spends before the strategy does."""
        return self.samples

    @property
    def temperature(self) -> None:
        """The caller's own: the samples of a pilot are compared with those of the fit."""

    @property
    def needs_verifier(self) -> bool:
        return True

    @property
    def scores_samples(self) -> bool:
        return True

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        """Sample, score, choose, and run what was chosen."""
        paths = await search.sample(search.root, self.samples, whole=True)
        scores = await step_values(search, paths, search.aggregation())
        strategy = await self.choose(scores)
        takes = strategy.takes_samples
        search.kept = paths if takes else []
        search.score_samples, search.temperature = strategy.scores_samples, strategy.temperature
        found = await strategy.run(problem, search)
        left = search.kept if takes else paths
        return found + await candidates(search, left, scored=True)

    def __str__(self) -> str:
        return f"a pilot of {self.samples} samples"
