"""One search, and another where its vote does not convince: usually of a larger model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from router.models.base import Aggregation
from router.models.errors import InputError
from router.models.types import Problem
from router.strategies.base import Candidate, Select, Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import MAX_GENERATIONS
from router.strategies.search import Search
from router.strategies.stopping import Stopping
from router.strategies.voting import poll


@dataclass(frozen=True)
class Escalate(Strategy):
    """A vote that is judged, and a second search where it does not convince (FrugalGPT, Chen et
    al. 2023; with agreement as the judge Yue et al. 2024, arXiv 2310.03094).

    Both are charged. Where the second is run, its candidates alone decide: what comes there is what
    the first could not tell.

    first: best-of-N by a vote. then: any search, by its `model` usually of a larger one.
    lead: the first convinces where its first answer is this far ahead of the second, in votes.
    give_up: and is left at that where its first answer has no more than this, in votes for each
        sample: it is not going to be solved.
    """

    name: ClassVar[str] = "escalate"

    n: int = field(init=False)
    select: Select = field(init=False)
    aggregate: Aggregation | None = field(init=False)
    temperature: float | None = field(init=False, kw_only=True)
    model: str | None = field(init=False, kw_only=True)
    first: Strategy
    then: Strategy
    lead: float
    give_up: float | None = None

    def __post_init__(self) -> None:
        for name in ("first", "then"):
            if not isinstance(getattr(self, name), Strategy):
                raise InputError(f"{self.name}: {name} must be a strategy, as best_of_n(n=2)")
        if not isinstance(self.first, BestOfN) or self.first.select == "best":
            raise InputError(
                f"{self.name}: first must be a vote whose lead can be told, as best_of_n(n=2),"
                f" not {self.first}"
            )
        for name in ("select", "aggregate", "temperature", "model"):
            object.__setattr__(self, name, getattr(self.first, name))
        object.__setattr__(self, "n", self.first.n + self.then.n)
        super().__post_init__()
        if self.lead is None:
            raise InputError(f"{self.name}: lead must be a number of votes, not None")
        self._check_number("lead", MAX_GENERATIONS)
        self._check_number("give_up", 1)

    @property
    def cost(self) -> int:
        return self.first.cost + self.then.cost

    @property
    def stages(self) -> tuple[Strategy, ...]:
        return (self.first, *self.then.stages)

    @property
    def needs_verifier(self) -> bool:
        return self.first.needs_verifier or self.then.needs_verifier

    @property
    def scores_samples(self) -> bool:
        return self.first.scores_samples

    @property
    def takes_samples(self) -> bool:
        return self.first.takes_samples

    @classmethod
    def within(cls, budget: int, params: dict[str, Any]) -> Strategy:
        whole = cls(**params)
        if whole.cost > budget:
            raise InputError(f"{whole} needs {whole.cost} generations, but the budget is {budget}")
        return whole

    def parts(self) -> tuple[tuple[Strategy, int], ...]:
        return (*self.first.parts(), *self.then.parts())

    @property
    def rule(self) -> Stopping:
        """When the first convinces, or is left at that."""
        return Stopping(self.first.n, self.lead, self.give_up)

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        search.follow(self.first)
        found = await self.first.run(problem, search)
        votes = await poll(self.first, search, found)
        if self.rule.settled(votes, len(found)):
            return found
        search.follow(self.then)
        return await self.then.run(problem, search)

    @property
    def family(self) -> str:
        return f"{self.name}({', '.join(self._written(self.first.family, self.then.family))})"

    def _parameters(self) -> list[str]:
        return self._written(str(self.first), str(self.then))

    def _written(self, first: str, then: str) -> list[str]:
        shown = [f"first={first}", f"then={then}", f"lead={self.lead:g}"]
        return shown if self.give_up is None else [*shown, f"give_up={self.give_up:g}"]

    def _said(self, *, sized: bool) -> str:
        first, then = (one.in_words(sized=sized) for one in (self.first, self.then))
        return f"{first}; unless that leads by {self.lead:g}, {then}"

    def _where(self) -> str:
        return ""  # its parts say it

    def _details(self) -> Iterator[str]:
        if self.give_up is not None:
            yield f"give_up {self.give_up:g}"
