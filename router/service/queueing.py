"""How much runs and waits: a bounded queue, so that overload is told and not suffered."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from router.service.errors import NO_RETRY, ServiceError
from router.service.metrics import Metrics
from router.service.rates import Rate
from router.service.settings import Settings

LONGEST_RETRY: Final = 60

_WEIGHT: Final = 0.2
"""Of the newest search in the mean duration."""


@dataclass
class _Room:
    """What may run at once: so many searches, of so many generations together."""

    most_searches: int
    most_generations: int
    searches: int = 0
    generations: int = 0

    def has(self, generations: int) -> bool:
        """Whether one more search fits; alone, one of any size does."""
        return self.searches == 0 or (
            self.searches < self.most_searches
            and self.generations + generations <= self.most_generations
        )


@dataclass(eq=False)
class _Ticket:
    """One search that waits or runs. turn: set once it may run."""

    key: str | None
    generations: int
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Queue:
    """Hands out room for searches: to keys in turn, and to each key's in the order they came.

    Where there are several keys, none holds more than its share of what runs and of what waits: no
    search is ended for another's sake, so a key that held all could lock others out for as long as
    a deadline. metrics: told of it; None for a queue that nobody watches.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self._settings = settings
        self._share = settings.key_share if len(settings.keys) > 1 else 1.0
        self._room = _Room(settings.running, settings.generations)
        self._rooms: dict[str | None, _Room] = {}  # of each key
        self._lines: OrderedDict[str | None, list[_Ticket]] = OrderedDict()  # none is empty
        self._rate = Rate(settings.key_generations, "generations")
        self._metrics = metrics
        self._mean = 1.0

    @asynccontextmanager
    async def place(
        self, key: str | None, generations: int, give_up_at: float
    ) -> AsyncIterator[None]:
        """Hold room for one search; waits for it until `give_up_at`, in `time.monotonic` seconds.

        Raises:
            ServiceError: 429 where too many wait already or the key has had its generations of
                this minute, 504 when the time is up.
        """
        self._rate.take(key, generations)
        arrived = time.monotonic()
        ticket = _Ticket(key, generations)
        self._lines.setdefault(key, []).append(ticket)
        try:
            self._admit()
            await self._turn(ticket, give_up_at - arrived)
            started = time.monotonic()
            if self._metrics is not None:
                self._metrics.queued(started - arrived)
            try:
                yield
            finally:
                self._mean += _WEIGHT * (time.monotonic() - started - self._mean)
        finally:
            self._leave(ticket)

    async def _turn(self, ticket: _Ticket, seconds: float) -> None:
        if ticket.turn.is_set():
            return
        most = self._settings.waiting
        own = len(self._lines[ticket.key])
        for waiting, limit, whose in (
            (self._waiting, most, ""),
            (own, self._part(most), " of this key"),
        ):
            if waiting > limit:
                raise ServiceError(
                    429,
                    f"{limit} requests{whose} are waiting already; try again later",
                    "queue_full",
                    headers={"Retry-After": str(self._retry_after())},
                )
        try:
            async with asyncio.timeout(seconds):
                await ticket.turn.wait()
        except TimeoutError:
            message = "the deadline passed while the request waited for its turn"
            raise ServiceError(504, message, "deadline_exceeded", headers=NO_RETRY) from None

    def _leave(self, ticket: _Ticket) -> None:
        if ticket.turn.is_set():
            self._hold(ticket, -1)
        else:
            self._unqueue(ticket)
        self._admit()

    def _admit(self) -> None:
        """Let run what has its turn and fits."""
        while (ticket := self._next()) is not None:
            self._unqueue(ticket)
            if ticket.key in self._lines:
                self._lines.move_to_end(ticket.key)
            self._hold(ticket, 1)
            ticket.turn.set()
        if self._metrics is not None:
            self._metrics.running.set(self._room.searches)
            self._metrics.allowed.set(self._room.generations)
            self._metrics.waiting.set(self._waiting)

    def _next(self) -> _Ticket | None:
        for key, line in self._lines.items():
            if self._of(key).has(line[0].generations):
                # Nobody overtakes what only the whole is too full for: it might wait for ever.
                return line[0] if self._room.has(line[0].generations) else None
        return None

    def _unqueue(self, ticket: _Ticket) -> None:
        line = self._lines[ticket.key]
        line.remove(ticket)
        if not line:
            del self._lines[ticket.key]

    def _hold(self, ticket: _Ticket, searches: int) -> None:
        for room in (self._room, self._of(ticket.key)):
            room.searches += searches
            room.generations += searches * ticket.generations

    def _of(self, key: str | None) -> _Room:
        most = self._settings
        new = _Room(self._part(most.running), self._part(most.generations))
        return self._rooms.setdefault(key, new)

    def _part(self, whole: int) -> int:
        return math.ceil(self._share * whole)

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._lines.values()))

    def _retry_after(self) -> int:
        """Seconds until there should be room in the queue, by how long searches take."""
        turns = self._waiting / max(1, self._room.searches)
        return min(LONGEST_RETRY, max(1, round(self._mean * turns)))
