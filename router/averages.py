"""Average budgets: what problems cost in the mean, and the price that makes them cost so much.

A budget caps one problem; an average is what many cost. Each problem gets the configuration that
maximises expected accuracy - price * expected cost, and one price for all of them is what makes the
accuracy of a given average the highest (as in arXiv 2410.04707 and 2604.14853): the last generation
then adds as much on every problem. The price is found on a mix of problems: the fit's own, the
file that is to be solved, or, in a service, whatever comes (`Controller`).
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from router.bundle import Bundle
from router.choosing import ByTable, Chooser, Default
from router.difficulty.base import NOTHING, UNOBSERVED, Evidence, Needs
from router.models.errors import InputError
from router.models.types import Problem
from router.records import Decision
from router.strategies.budget import Budget
from router.table import CostUnit, Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PRICES: Final = (1e-5, 1.0)
"""Accuracy for one generation: below the first one buys whatever helps, at the last nothing."""

WINDOW: Final = 10
"""Requests after which a price that is wrong by a factor e is about right."""

_LOGS: Final = (math.log(PRICES[0]), math.log(PRICES[1]))
_PATIENCE: Final = 4  # windows
_MOST_OWED: Final = _LOGS[1] - _LOGS[0]  # windows: moves the price from one bound to the other
_SLACK: Final = 1e-9
_CLEAR: Final = 1e-5  # as a factor: so far from a price at which two searches are worth the same


@dataclass(frozen=True)
class Mix:
    """What each configuration of a table is worth on each of these problems.

    accuracy, cost: expected, shape (problems, configurations); cost in units of a plain sample.
    """

    accuracy: Floats
    cost: Floats

    @classmethod
    def of(
        cls,
        table: Table,
        levels: Sequence[Sequence[float]],
        budget: int,
        cost: CostUnit | None = None,
    ) -> Mix:
        """levels: P(level) of each problem. budget: the most that one may cost.

        Raises:
            InputError: as `Table.choose`.
        """
        _, accuracy, spent = table.curves(budget, cost)
        shares = np.asarray(levels, np.float64)
        shares = shares / shares.sum(axis=1, keepdims=True)
        return cls(shares @ accuracy, shares @ spent)

    def chosen(self, price: float | Floats) -> Ints:
        """The configuration that each problem gets at a price, or at its own; (problems,)."""
        value = self.accuracy - np.reshape(price, (-1, 1)) * self.cost
        # Of equal ones the cheapest.
        best = value >= value.max(axis=1, keepdims=True) - 1e-12
        return np.asarray(np.where(best, self.cost, np.inf).argmin(axis=1), np.int64)

    def at(self, price: float) -> tuple[Floats, Floats]:
        """Accuracy and cost of what each problem gets at a price, both of shape (problems,)."""
        chosen, rows = self.chosen(price), np.arange(len(self.cost))
        return self.accuracy[rows, chosen], self.cost[rows, chosen]

    def price_of(self, average: float) -> float:
        """The lowest price at which problems cost no more than that on average.

        Raises:
            InputError: even the cheapest configurations cost more.
        """
        least = float(self.cost.min(axis=1).mean())
        if not average > 0 or average < least - _SLACK:
            raise InputError(
                f"an average of {average:g} is too little: the cheapest search costs {least:.3g}"
            )
        return self._first(lambda price: bool(self.at(price)[1].mean() <= average + _SLACK))

    def price_for(self, accuracy: float) -> float:
        """The highest price at which the expected accuracy is no less than that.

        Raises:
            InputError: no price reaches it.
        """
        best = float(self.at(0.0)[0].mean())
        if not 0 < accuracy <= best + _SLACK:
            raise InputError(
                f"an accuracy of {accuracy:g} is out of reach: the table expects {best:.3f} at most"
            )
        low, high = 0.0, PRICES[1]
        for _ in range(60):
            middle = (low + high) / 2
            enough = self.at(middle)[0].mean() >= accuracy - _SLACK
            low, high = (middle, high) if enough else (low, middle)
        return low * (1 - _CLEAR)

    def prices(self, average: float) -> list[float]:
        """A price for each problem, so that together they use the average up.

        At one price for all, many may step up together; so some step up and others do not.

        Raises:
            InputError: as `price_of`.
        """
        price = self.price_of(average)
        lower = price * (1 - 2 * _CLEAR)
        spent, more = self.at(price)[1], self.at(lower)[1]
        left = average * len(spent) - spent.sum()
        found = []
        for step in more - spent:
            up = step <= left + _SLACK
            left -= step if up else 0.0
            found.append(lower if up else price)
        return found

    def _first(self, enough: Callable[[float], bool]) -> float:
        if enough(0.0):
            return 0.0
        low, high = map(math.log, PRICES)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if enough(math.exp(middle)) else (middle, high)
        return math.exp(high) * (1 + _CLEAR)


def priced(
    chooser: Chooser,
    bundle: Bundle | None,
    budget: Budget,
    average: float | None,
    accuracy: float | None,
) -> ByTable:
    """With the price of the average or the accuracy that is asked for, on the fit's mix.

    bundle: whose table the chooser goes by; None where something else decides.

    Raises:
        InputError: both are asked for, no table decides, or it cannot be had.
    """
    if average is not None and accuracy is not None:
        raise InputError("give an average or a target accuracy, not both")
    what = "an average" if accuracy is None else "a target accuracy"
    if bundle is None or not isinstance(chooser, ByTable):
        because = chooser.because if isinstance(chooser, Default) else "something else decides"
        raise InputError(f"{what} needs a bundle, and {because}; name one with --bundle")
    mix = Mix.of(chooser.table, bundle.mix, budget.generations, chooser.cost)
    if average is not None:
        return replace(chooser, price=mix.price_of(average))
    assert accuracy is not None
    return replace(chooser, price=mix.price_for(accuracy))


def shared_out(
    problems: Sequence[Problem], budget: Budget, chooser: ByTable, average: float
) -> dict[int, float]:
    """The price of each problem (by identity) that shares the average out over all of them.

    Where something is observed of a problem first, as much of its level as its text tells.
    """
    if not problems:
        return {}
    observes = chooser.needs != NOTHING
    estimator = chooser.otherwise if observes else chooser.estimator
    levels = [estimator.levels(problem, UNOBSERVED) for problem in problems]
    prices = Mix.of(chooser.table, levels, budget.generations, chooser.cost).prices(average)
    return {id(one): price for one, price in zip(problems, prices, strict=True)}


class Controller:
    """Holds what requests really cost at an average, whatever they are. Safe from several threads.

    It keeps a ledger of what was spent above the average. A request is entered as what it is
    expected to cost as soon as it is decided, and put right when it ends: so many in flight are not
    all decided at a price that knows of none of them. Each average owed multiplies the price by
    exp(1 / window); that part of the price which stays wrong becomes the price to begin with, over
    `_PATIENCE` windows, so that the ledger comes back to nothing and the mean to the average (a
    proportional-integral controller in the logarithm of the price). What no price within `PRICES`
    can hold is saved up or owed up to `_MOST_OWED` windows of it.

    average: generations. price: to begin with. window: requests; the shorter, the more it swings.
    """

    def __init__(self, average: float, price: float, *, window: int = WINDOW) -> None:
        self.average = average
        self.window = window
        self.in_flight = 0
        self._usual = math.log(min(max(price, PRICES[0]), PRICES[1]))
        self._owed = 0.0  # windows of averages
        self._last: deque[float] = deque(maxlen=10 * window)
        self._lock = threading.Lock()

    @property
    def price(self) -> float:
        """What one generation more must add, now."""
        low, high = _LOGS
        return math.exp(min(max(self._usual + self._owed, low), high))

    @property
    def mean(self) -> float | None:
        """What the last requests cost on average (ten windows of them); None before the first."""
        with self._lock:
            return sum(self._last) / len(self._last) if self._last else None

    def decided(self, expected: float) -> None:
        """A request is going to be searched for, and should cost so many generations."""
        with self._lock:
            self.in_flight += 1
            self._enter(expected - self.average)

    def ended(self, spent: float, expected: float | None = None) -> None:
        """A request has cost so much, however it ended.

        expected: as it was decided; None where it ended before that.
        """
        with self._lock:
            self.in_flight -= expected is not None
            self._enter(spent - (self.average if expected is None else expected))
            self._last.append(spent)
            low, high = _LOGS
            if low < self._usual + self._owed < high:  # beyond, no price would change anything
                self._usual += self._owed / _PATIENCE / self.window

    def _enter(self, generations: float) -> None:
        owed = self._owed + generations / self.average / self.window
        self._owed = min(max(owed, -_MOST_OWED), _MOST_OWED)


@dataclass(frozen=True)
class AtThePrice:
    """A table's choice, at whatever the price is when it is made."""

    table: ByTable
    price: Callable[[], float]

    @property
    def needs(self) -> Needs:
        return self.table.needs

    def choose(self, problem: Problem, evidence: Evidence, budget: Budget) -> Decision:
        """As `ByTable.choose`."""
        return replace(self.table, price=self.price()).choose(problem, evidence, budget)
