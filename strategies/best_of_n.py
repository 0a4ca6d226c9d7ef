"""N independent samples of the whole solution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from router.models.types import Problem
from router.strategies.base import SELECTIONS, Candidate, Strategy
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

    def _said(self, *, sized: bool) -> str:
        if not sized:
            return SELECTIONS[self.select]
        if self.n == 1:
            return "one sample"
        if self.select == "best":
            return f"best of {self.n} by score"
        return f"{SELECTIONS[self.select]} of {self.n}"

    def _details(self) -> Iterator[str]:
        named = SELECTIONS[self.select]  # already; and of one sample nothing is selected
        return (text for text in super()._details() if text != named and self.n > 1)
