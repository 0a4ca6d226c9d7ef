"""Policies: which search a problem gets at a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from models.types import Problem
from router.records import Decision
from strategies.base import Strategy, parse_strategy
from strategies.best_of_n import BestOfN
from strategies.budget import Budget
from strategies.registry import STRATEGIES

AUTO = "auto"
"""The strategy text that leaves the choice to the policy."""


class Policy(Protocol):
    """Decides how one problem's budget is spent. Safe to call many times at once."""

    async def decide(self, problem: Problem, budget: Budget) -> Decision:
        """The decision for one problem; its strategy costs no more than the budget."""
        ...


@dataclass(frozen=True)
class DefaultPolicy:
    """Best-of-N over the whole budget: the safe choice before anything is fitted.

    verifier: whether there is one to weight the votes.
    because: why there is nothing better to go by.
    """

    verifier: bool
    because: str = "no bundle is fitted for this model"

    async def decide(self, problem: Problem, budget: Budget) -> Decision:  # noqa: ARG002
        strategy = BestOfN(n=budget.generations, select="weighted" if self.verifier else "majority")
        vote = "a vote weighted by the verifier" if self.verifier else "a majority vote"
        return Decision(str(strategy), None, None, f"{self.because}, so {vote} over the budget")


@dataclass(frozen=True)
class FixedPolicy:
    """The same strategy for every problem."""

    strategy: Strategy

    @classmethod
    def parse(cls, text: str, budget: Budget) -> FixedPolicy:
        """Read `name` (the largest within the budget) or `name(param=value, …)`.

        Raises:
            InputError: as `strategies.base.parse_strategy`.
        """
        return cls(parse_strategy(text, STRATEGIES, budget.generations))

    async def decide(self, problem: Problem, budget: Budget) -> Decision:  # noqa: ARG002
        return Decision(str(self.strategy), None, None, "asked for by name")
