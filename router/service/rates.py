"""How much each key may ask for in a minute."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Final

from router.service.errors import ServiceError

_MINUTE: Final = 60.0


@dataclass
class Rate:
    """A token bucket for each key, full at first: a minute's worth at once, then as it refills.

    a_minute: of `what`, for each key. Where no key is asked for, nothing is counted.
    """

    a_minute: int
    what: str
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)  # and when that was so

    def take(self, key: str | None, amount: int = 1) -> None:
        """Take so much of what a key has left.

        Raises:
            ServiceError: 429 where it has less, with when to come back.
        """
        if key is None:
            return
        now = time.monotonic()
        left, then = self._left.get(key, (self.a_minute, now))
        left = min(self.a_minute, left + (now - then) * self.a_minute / _MINUTE)
        if left < amount:
            seconds = math.ceil((amount - left) * _MINUTE / self.a_minute)
            raise ServiceError(
                429,
                f"a key may ask for {self.a_minute} {self.what} a minute;"
                f" there is room for {amount} more in {seconds} s",
                "rate_limit_exceeded",
                headers={"Retry-After": str(seconds)},
            )
        self._left[key] = (left - amount, now)
