"""N independent samples of the whole solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from router.models.types import Problem
from router.strategies.base import Candidate, Strategy
from router.strategies.scoring import candidates
from router.strategies.search import Search


@dataclass(frozen=True)
class BestOfN(Strategy):
    """Best-of-N: majority (self-consistency, Wang et al. 2022), best, or weighted.

    Weighted sums the scores of equal answers (Li et al. 2022; Snell et al. 2024, App. E). Only
    `best` and `weighted` need a verifier.
    """

    name: ClassVar[str] = "best_of_n"

    @property
    def needs_verifier(self) -> bool:
        return self.select != "majority"

    @property
    def takes_samples(self) -> bool:
        return self.temperature is None  # else they are samples of another distribution

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        chains = await search.sample(search.root, self.n, whole=True)
        return await candidates(search, chains, scored=self.needs_verifier)

    def parts(self) -> tuple[BestOfN, int]:
        return BestOfN(n=1, temperature=self.temperature), self.n
