"""What all searches of one run of a sampler share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from router.fitting.workers import Worker

Ticker = Callable[[int], None]
"""Told of generations as they are done, or turn out not to be needed."""


class Room:
    """Room for so many generations at once, first come, first served; a larger job runs alone."""

    def __init__(self, generations: int) -> None:
        self._all = self._free = generations
        self._first = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, generations: int) -> AsyncIterator[None]:
        """Wait until there is room, and take it up within the block."""
        held = min(generations, self._all)
        async with self._first:
            while self._free < held:
                self._freed.clear()
                await self._freed.wait()
            self._free -= held
        try:
            yield
        finally:
            self._free += held
            self._freed.set()


class Shift:
    """What all searches of one `run` share.

    worker: runs them; tick: told of each; room: bounds how many run at once.
    failing: problems of which a call failed since the last success.
    """

    def __init__(self, worker: Worker, tick: Ticker, room: Room) -> None:
        self.worker = worker
        self.tick = tick
        self.room = room
        self.failing: set[str] = set()
        self._last = time.monotonic()

    def lap(self) -> float:
        """Seconds since it was last asked, or since the start."""
        last, self._last = self._last, time.monotonic()
        return self._last - last


async def gather(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
