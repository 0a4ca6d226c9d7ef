"""Server-sent events of one search: its progress, and then the answer (WHATWG HTML, sec. 9.2).

The answer can only be chosen when the search is over, so its text comes in quick pieces at the end.
Until then there is progress: comments, which every client skips, or what the API has for it. No
line is longer than clients take that read line by line.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from router.records import Solution
from router.service.answers import Reply
from router.service.errors import ServiceError, described
from router.service.jobs import Job
from router.service.observe import LogEntry
from router.service.searching import Feed, leave, result

TRACE_SECONDS: Final = 0.05
PROGRESS_SECONDS: Final = 1.0

DONE: Final = b"data: [DONE]\n\n"

_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Writer(ABC):
    """Writes one response as an API has it: whole, or as the events of a stream."""

    @abstractmethod
    def whole(self, answers: Sequence[Reply]) -> dict[str, Any]:
        """The response's body."""

    @abstractmethod
    def start(self) -> Iterator[bytes]:
        """What comes before anything is known."""

    @abstractmethod
    def answer(self, answer: Reply) -> Iterator[bytes]:
        """The answer, and the end of the stream."""

    @abstractmethod
    def failure(self, failure: ServiceError) -> Iterator[bytes]:
        """A failure, and the end of the stream."""

    def progress(self, text: str) -> bytes:
        """How far the search is; also keeps the connection from looking dead."""
        return f": {text}\n\n".encode()

    def event(self, event: dict[str, Any]) -> Iterable[bytes]:  # noqa: ARG002
        """What the search tells of itself, where the API has a place for it."""
        return ()


class SearchStream(StreamingResponse):
    """The stream of one search. When it ends, for whatever reason, so does the search."""

    media_type = "text/event-stream"

    def __init__(
        self, task: asyncio.Task[Solution], feed: Feed, job: Job, writer: Writer, entry: LogEntry
    ) -> None:
        super().__init__(self._events(), headers=_HEADERS)
        self._task = task
        self._feed = feed
        self._job = job
        self._writer = writer
        self._entry = entry
        self._decided = False  # and told so
        self._sent = 0.0  # when the last event was, in `time.monotonic` seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if await leave(self._task):
                self._entry.client_gone()
            self._entry.spent(self._feed.usage)

    async def _events(self) -> AsyncIterator[bytes]:
        for event in self._writer.start():
            yield event
        self._sent = time.monotonic()
        trace, over = self._feed.trace, False
        while not over:
            await asyncio.wait({self._task}, timeout=TRACE_SECONDS if trace else PROGRESS_SECONDS)
            over = self._task.done()
            if trace:
                async for told in self._told():
                    for event in self._writer.event(told):
                        yield event
                    self._sent = time.monotonic()
            if not trace or time.monotonic() - self._sent > PROGRESS_SECONDS:
                yield self._progress()
        try:
            solution = result(self._task)
        except Exception as error:
            failure = described(error)
            self._entry.failed(failure, error)
            ending = self._writer.failure(failure)
        else:
            self._entry.solved(solution, self._job.generations)
            ending = self._writer.answer(self._job.answer(solution))
        for event in ending:
            yield event

    async def _told(self) -> AsyncIterator[dict[str, Any]]:
        """The decision once it is there, and after it the nodes that are new."""
        decision = self._feed.decision
        if decision is None:
            return
        if not self._decided:
            self._decided = True
            yield {"event": "decision", "decision": decision.to_dict()}
        while nodes := await asyncio.to_thread(self._feed.take):
            yield {"event": "nodes", "nodes": nodes}

    def _progress(self) -> bytes:
        self._sent = time.monotonic()
        feed = self._feed
        return self._writer.progress(
            f"{feed.finished} solutions finished, {feed.steps} steps in the tree"
        )


def data(value: dict[str, Any]) -> bytes:
    """One event."""
    return f"data: {json.dumps(value)}\n\n".encode()
