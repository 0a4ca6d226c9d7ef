"""What searches may cost on average: of all that is asked here, or of each key's own.

Everything that a search spends counts, however it ended and whoever chose its strategy: a client
that names one is given it, and the table's choices make up for it. A budget, asked for by name, by
number or by effort, caps one search and moves no price.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from router.averages import PRICES, WINDOW, Controller
from router.core import LivePrice, Router
from router.models.usage import Usage
from router.records import Decision
from router.service.metrics import Metrics
from router.service.settings import Settings
from router.strategies.fleet import cost_of


class Averages:
    """Keeps the ledgers of one router's searches; without an average it keeps none."""

    def __init__(self, router: Router, settings: Settings, metrics: Metrics) -> None:
        self._router = router
        self._settings = settings
        self._first = 0.0
        self._of_keys: dict[str | None, Controller] = {}
        self._price = lru_cache(router.price)
        if router.average is not None:
            metrics.holds(router.average, WINDOW, PRICES, self._spent, self._prices)

    def open(self) -> None:
        """Find the price to begin with; in a thread, once the models are open.

        Raises:
            InputError: the average or the accuracy that is asked for cannot be had.
        """
        self._first = self._router.price(self._settings.budget)

    def price(self, key: str | None, budget: int) -> LivePrice | None:
        """What a generation more must add to a search of this key; None: nothing is asked."""
        controller = self._of(key)
        if controller is not None:
            return lambda: controller.price
        if self._router.target_accuracy is not None:
            return partial(self._price, budget)
        return None

    def decided(self, key: str | None, decision: Decision) -> None:
        """A search begins; from any thread."""
        controller = self._of(key)
        if controller is not None:
            controller.decided(self._expected(decision))

    def ended(self, key: str | None, decision: Decision | None, usage: Usage | None) -> None:
        """A search has ended, well or not. decision: None where it did before that.

        usage: None where nobody knows what it has spent; it then counts as was expected.
        """
        controller = self._of(key)
        expected = None if decision is None else self._expected(decision)
        spent = expected if usage is None else usage.generations
        if controller is not None and spent is not None:
            controller.ended(spent, expected)

    def state(self, key: str | None) -> dict[str, Any] | None:
        """How things stand for a key; None without an average."""
        controller = self._of(key)
        if controller is None:
            return None
        return {
            "asked": controller.average,
            "per_key": self._settings.average_per_key,
            "window": controller.window,
            "prices": PRICES,
            "price": controller.price,
            "spent": controller.mean,
            "in_flight": controller.in_flight,
        }

    def _of(self, key: str | None) -> Controller | None:
        average = self._router.average
        if average is None:
            return None
        own = key if self._settings.average_per_key else None
        return self._of_keys.setdefault(own, Controller(average, self._first))

    def _expected(self, decision: Decision) -> float:
        """What a search should cost; at most, where that is all that is known."""
        mean = decision.expected_cost
        return cost_of(decision.strategy, self._router.fleet) if mean is None else mean

    def _spent(self) -> float:
        return _mean([c.mean for c in self._of_keys.values()])

    def _prices(self) -> float:
        return _mean([c.price for c in self._of_keys.values()])


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")
