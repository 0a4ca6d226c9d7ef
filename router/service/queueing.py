"""How many searches run and wait: a bounded queue, so that overload is told and not suffered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from router.service.errors import NO_RETRY, ServiceError
from router.service.metrics import Metrics

LONGEST_RETRY: Final = 60

_WEIGHT: Final = 0.2
"""Of the newest search in the mean duration."""


class Queue:
    """Hands out places for searches, first come, first served.

    running: searches at once; waiting: requests that may wait for one of those places.
    """

    def __init__(self, running: int, waiting: int, metrics: Metrics) -> None:
        self._places = asyncio.Semaphore(running)
        self._running = running
        self._most_waiting = waiting
        self._waiting = 0
        self._metrics = metrics
        self._mean = 1.0

    @asynccontextmanager
    async def place(self, give_up_at: float) -> AsyncIterator[None]:
        """Hold one place; waits for it until `give_up_at`, in `time.monotonic` seconds.

        Raises:
            ServiceError: 429 where too many wait already, 504 when the time is up.
        """
        arrived = time.monotonic()
        await self._wait(give_up_at - arrived)
        started = time.monotonic()
        self._metrics.queued(started - arrived)
        self._metrics.running.inc()
        try:
            yield
        finally:
            self._places.release()
            self._metrics.running.dec()
            self._mean += _WEIGHT * (time.monotonic() - started - self._mean)

    async def _wait(self, seconds: float) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        if self._waiting >= self._most_waiting:
            raise ServiceError(
                429,
                f"{self._waiting} requests are waiting already; try again later",
                "queue_full",
                headers={"Retry-After": str(self._retry_after())},
            )
        self._waiting += 1
        self._metrics.waiting.inc()
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            message = "the deadline passed while the request waited for its turn"
            raise ServiceError(504, message, "deadline_exceeded", headers=NO_RETRY) from None
        finally:
            self._waiting -= 1
            self._metrics.waiting.dec()

    def _retry_after(self) -> int:
        """Seconds until a place in the queue should be free, by how long searches take."""
        turns = (self._waiting + 1) / self._running
        return min(LONGEST_RETRY, max(1, round(self._mean * turns)))
