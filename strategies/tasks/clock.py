"""How long the comparing of one request may go on, and whether anybody still waits for it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

REQUEST_SECONDS = 10.0
"""Most seconds of comparing for one request, in all; waiting for a free process is not counted."""

changed = threading.Condition()
"""Told whenever a clock is stopped or a comparing process has something new; guards both."""


class Clock:
    """One request's time to compare answers.

    until: an instant of `time.monotonic()`; None for none.
    seconds: most that may be spent comparing, in all.
    """

    def __init__(self, until: float | None = None, seconds: float = math.inf) -> None:
        self._until = math.inf if until is None else until
        self._left = seconds
        self._stopped = False

    @property
    def over(self) -> bool:
        """Whether only what takes no time may still be compared."""
        return self._stopped or self._left <= 0 or time.monotonic() >= self._until

    def stop(self) -> None:
        """Nobody waits any more; ends what is compared now. From any thread."""
        with changed:
            self._stopped = True
            changed.notify_all()

    def wait(self, done: Callable[[], bool], *, comparing: bool) -> bool:
        """Wait until `done()`; False if the clock ends first. The caller holds `changed`.

        comparing: whether this is time that a process spends on comparing.
        """
        started = time.monotonic()
        end = min(self._until, started + self._left) if comparing else self._until
        while not done():
            left = end - time.monotonic()
            if self._stopped or left <= 0:
                break
            changed.wait(min(left, threading.TIMEOUT_MAX))
        if comparing:
            self._left -= time.monotonic() - started
        return done()
