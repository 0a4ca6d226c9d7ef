"""What a search may spend."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from router.models.errors import BudgetExhausted, InputError

SLACK: Final = 1e-9
"""Costs of several models are no whole numbers."""

MAX_GENERATIONS = 65_536
"""A larger budget is a typing error; no published sweep goes past 2,048 samples a problem."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one search; whichever ends first is named by an `EndReason`.

    generations: N. One generation is one full solution sampled (Snell et al. 2024, sec. 5.2).
    tokens: cap on sampled tokens; never exceeded.
    seconds: wall-clock deadline, from the start of the search.

    Raises:
        InputError: a limit that is not a positive number in range.
    """

    generations: int
    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("budget", self.generations), ("token cap", self.tokens)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{name} must be a whole number, not {value!r}")
            if value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if self.generations > MAX_GENERATIONS:
            raise InputError(f"budget {self.generations} is over the limit of {MAX_GENERATIONS}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise InputError(f"deadline must be a positive number of seconds, not {self.seconds}")


class Generations:
    """Counts generations for any mix of steps and whole solutions, so that strategies compare.

    A sampled step occupies one generation at its own depth; a solution sampled to its end
    occupies one at its first depth and every later one. What is spent is the largest count at
    any depth. So best-of-N costs N; a beam that samples N steps at every depth costs N; k
    look-ahead steps for each of them cost N(k+1): Snell et al. 2024, sec. 5.2, measured from what
    was done rather than declared.

    Several models count apart, and those of each cost so many of the first.

    costs: of one generation of each model, by its name.
    """

    def __init__(self, limit: int, costs: Mapping[str, float] = MappingProxyType({"": 1})) -> None:
        self.limit = limit
        self._costs = costs
        self._books = {name: _Book() for name in costs}

    @property
    def spent(self) -> float:
        """In generations of the first model."""
        spent = sum(cost * self.of(name) for name, cost in self._costs.items())
        return int(spent) if spent == int(spent) else round(spent, 9)

    def of(self, model: str) -> int:
        """Generations of one model."""
        return self._books[model].spent

    def charge(self, depth: int, count: int, *, whole: bool, model: str = "") -> None:
        """Charge `count` samples that begin at `depth`.

        Raises:
            BudgetExhausted: it would exceed the limit; nothing is charged then.
        """
        book = self._books[model].solutions if whole else self._books[model].steps
        book[depth] += count
        if self.spent > self.limit + SLACK:
            book[depth] -= count
            raise BudgetExhausted(
                "generations",
                f"{count} more samples at depth {depth} would exceed {self.limit} generations",
            )


class _Book:
    """What one model was charged, by depth."""

    def __init__(self) -> None:
        self.steps: Counter[int] = Counter()
        self.solutions: Counter[int] = Counter()

    @property
    def spent(self) -> int:
        running, most = 0, 0
        for depth in sorted(self.steps.keys() | self.solutions.keys()):
            running += self.solutions[depth]
            most = max(most, running + self.steps[depth])
        return most


class TokenPurse:
    """A cap on sampled tokens that holds while many calls are in flight.

    A call reserves the most it may sample before it starts and gives back what it did not use,
    so calls run at once as long as all of them fit, and one by one near the end.
    """

    def __init__(self, cap: int | None) -> None:
        self._cap = cap
        self._reserved = 0
        self._spent = 0
        self._changed = asyncio.Condition()

    @property
    def capped(self) -> bool:
        return self._cap is not None

    @asynccontextmanager
    async def reserve(self, want: int) -> AsyncIterator[Reservation]:
        """Hold `want` tokens, or all that is left when nothing else is in flight.

        Raises:
            BudgetExhausted: no token is left.
        """
        reservation = Reservation(want)
        if self._cap is not None:
            async with self._changed:
                await self._changed.wait_for(lambda: self._fits(want))
                left = self._cap - self._spent - self._reserved
                if left < 1:
                    raise BudgetExhausted("tokens", f"the cap of {self._cap} tokens is reached")
                reservation.tokens = min(want, left)
                self._reserved += reservation.tokens
        try:
            yield reservation
        finally:
            if self._cap is not None:
                self._reserved -= reservation.tokens
                self._spent += reservation.tokens if reservation.used is None else reservation.used
                async with self._changed:
                    self._changed.notify_all()

    def _fits(self, want: int) -> bool:
        assert self._cap is not None
        return self._reserved == 0 or self._spent + self._reserved + want <= self._cap


@dataclass(slots=True)
class Reservation:
    """Tokens held for one call; `used` is set by the call, None counts as all of them."""

    tokens: int
    used: int | None = None
