"""Policies: which search a problem gets at a budget."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from router.bundle import Bundle
from router.models.errors import InputError
from router.models.types import Problem
from router.records import Decision
from router.strategies.base import Strategy, parse_strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.registry import STRATEGIES
from router.table import CostUnit

State = npt.NDArray[np.float32]

AUTO = "auto"
"""What leaves a choice to the router: of the strategy, the verifier or the bundle."""

Difficulty = Literal["text", "prefill", "pilot"]
"""What a problem's level is told by: its text, the generator's state after reading it, or the
verifier's scores of its first samples."""

_LONG_TEXT: Final = 4_000
"""Characters; features of longer texts take more than about 20 ms, so not on an event loop."""

_PILOT_SHARE: Final = 4
_LARGEST_PILOT: Final = 8


class Policy(ABC):
    """Decides how one problem's budget is spent. Safe to call many times at once."""

    @property
    def reads_prompt(self) -> bool:
        """Whether the generator is to read the problem's prompt before the decision."""
        return False

    def pilot(self, budget: Budget) -> int:
        """Samples that are to be drawn and scored before the decision, on the same budget."""
        return 0

    @abstractmethod
    async def decide(
        self,
        problem: Problem,
        budget: Budget,
        scores: Sequence[float] = (),
        state: State | None = None,
    ) -> Decision:
        """The decision for one problem; its strategy costs no more than the budget.

        scores: the verifier's, of each pilot sample; none before they are drawn.
        state: the generator's after reading the prompt, (hidden,); None before it has.
        """


@dataclass(frozen=True)
class DefaultPolicy(Policy):
    """Best-of-N over the whole budget: the safe choice before anything is fitted.

    verifier: whether there is one to weight the votes.
    because: why there is nothing better to go by.
    """

    verifier: bool
    because: str = "no bundle is fitted for this model"

    async def decide(
        self,
        problem: Problem,
        budget: Budget,
        scores: Sequence[float] = (),
        state: State | None = None,
    ) -> Decision:
        strategy = BestOfN(n=budget.generations, select="weighted" if self.verifier else "majority")
        vote = "a vote weighted by the verifier" if self.verifier else "a majority vote"
        return Decision(str(strategy), None, None, f"{self.because}, so {vote} over the budget")


@dataclass(frozen=True)
class FixedPolicy(Policy):
    """The same strategy for every problem."""

    strategy: Strategy

    @classmethod
    def parse(cls, text: str, budget: Budget) -> FixedPolicy:
        """Read `name` (the largest within the budget) or `name(param=value, …)`.

        Raises:
            InputError: as `strategies.base.parse_strategy`.
        """
        return cls(parse_strategy(text, STRATEGIES, budget.generations))

    async def decide(
        self,
        problem: Problem,
        budget: Budget,
        scores: Sequence[float] = (),
        state: State | None = None,
    ) -> Decision:
        return Decision(str(self.strategy), None, None, "asked for by name")


@dataclass(frozen=True)
class BundlePolicy(Policy):
    """Decides by a bundle's table, on the level that a problem's text suggests.

    tolerance: accuracy that may be given up for a cheaper search. cost: the unit of "cheaper" and
    of the budget; the table's own by default. own_temperature: whether strategies that set a
    temperature of their own count.

    Raises:
        InputError: a tolerance outside 0 to 1.
    """

    bundle: Bundle
    tolerance: float = 0.0
    cost: CostUnit | None = None
    own_temperature: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise InputError(f"tolerance must lie between 0 and 1, not {self.tolerance}")

    async def decide(
        self,
        problem: Problem,
        budget: Budget,
        scores: Sequence[float] = (),
        state: State | None = None,
    ) -> Decision:
        """The best configuration of the table for this problem.

        Raises:
            InputError: as `Table.choose`.
        """
        known = "its text" if self.bundle.estimator else "how common each level is"
        if len(problem.text) > _LONG_TEXT:
            levels = await asyncio.to_thread(self.bundle.level_probabilities, problem)
        else:
            levels = self.bundle.level_probabilities(problem)
        return self._choose(levels, budget, known)

    def _choose(
        self, levels: Sequence[float], budget: Budget, known: str, drawn: int = 0
    ) -> Decision:
        decision = self.bundle.table.choose(
            levels,
            budget.generations,
            tolerance=self.tolerance,
            cost=self.cost,
            drawn=drawn,
            own_temperature=self.own_temperature,
        )
        return replace(decision, why=f"{decision.why}; difficulty judged by {known}")


@dataclass(frozen=True)
class PrefillPolicy(BundlePolicy):
    """Decides by a bundle's table, on the level that the generator's own state suggests.

    One pass over the prompt, which the search then has in its prefix cache. Before it, the
    problem's text is gone by.

    Raises:
        InputError: the bundle was fitted without such states.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bundle.prefill is None:
            raise InputError(
                "the bundle cannot tell difficulty by the prefill, as its generator handed out no"
                " states; refit it with `router fit` on an engine that does"
            )

    @property
    def reads_prompt(self) -> bool:
        return True

    async def decide(
        self,
        problem: Problem,
        budget: Budget,
        scores: Sequence[float] = (),
        state: State | None = None,
    ) -> Decision:
        """The best configuration for a problem whose prompt led the generator to this state.

        Raises:
            InputError: as `Table.choose`, or a state of another size.
        """
        assert self.bundle.prefill is not None
        if state is None:
            return await super().decide(problem, budget)
        levels = self.bundle.prefill.level_probabilities(state)
        return self._choose(levels, budget, "the generator's state after reading it")


@dataclass(frozen=True)
class PilotPolicy(BundlePolicy):
    """Decides by a bundle's table, on the level that the scores of first samples suggest.

    Predicted difficulty of Snell et al. 2024, sec. 3.2, from few samples instead of 2,048, and
    charged: a quarter of the budget, 8 samples at most. Best-of-N takes them as its own; other
    searches get what is left, and the samples vote beside their candidates. Before the pilot is
    drawn, levels are as common as in the fit.

    Raises:
        InputError: the bundle was fitted without scores.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bundle.pilot is None:
            raise InputError(
                "the bundle cannot tell difficulty by a pilot, as none of its samples was scored;"
                " refit it with `router fit --verifier …`"
            )

    def pilot(self, budget: Budget) -> int:
        return min(_LARGEST_PILOT, math.ceil(budget.generations / _PILOT_SHARE))

    async def decide(
        self,
        problem: Problem,
        budget: Budget,
        scores: Sequence[float] = (),
        state: State | None = None,
    ) -> Decision:
        """The best configuration for a problem whose first samples got these scores.

        Raises:
            InputError: as `Table.choose`, or a score is no probability.
        """
        assert self.bundle.pilot is not None
        drawn = len(scores) or self.pilot(budget)
        if not scores:
            return self._choose(self.bundle.prior, budget, "how common each level is", drawn)
        mean = math.fsum(scores) / drawn
        known = f"the mean score of a pilot, {mean:.2f} over {drawn} samples"
        levels = self.bundle.pilot.probabilities(np.array([mean]), drawn)[0].tolist()
        return self._choose(levels, budget, known, drawn)


@dataclass(frozen=True)
class OraclePolicy(BundlePolicy):
    """Decides by a bundle's table, on levels that are given: what perfect difficulty would gain.

    levels: of each problem, by its id; 1 is the easiest.
    """

    levels: Mapping[str, int] = field(kw_only=True)

    async def decide(
        self,
        problem: Problem,
        budget: Budget,
        scores: Sequence[float] = (),
        state: State | None = None,
    ) -> Decision:
        """The best configuration at the problem's level.

        Raises:
            InputError: as `Table.choose`, or the problem's level is not given.
        """
        level = self.levels.get(problem.id)
        if level is None:
            raise InputError(f"the level of problem {problem.id!r} is not given")
        one_hot = [float(n == level) for n in range(1, self.bundle.table.levels + 1)]
        return self._choose(one_hot, budget, "its true level")
