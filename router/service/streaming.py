"""Server-sent events of one search: its progress, and then the answer (WHATWG HTML, sec. 9.2).

The answer can only be chosen when the search is over, so its text comes in one piece. Until then
there is progress: comments, which every client skips, or `reasoning_content`; with `trace`, chunks
without choices that carry the decision and the growing tree.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from router.records import Solution
from router.service import answers
from router.service.errors import ClientGone, described
from router.service.observe import LogEntry
from router.service.protocol import ChatRequest
from router.service.searching import Feed, leave, result

TRACE_SECONDS: Final = 0.05
PROGRESS_SECONDS: Final = 1.0
SEND_SECONDS: Final = 30.0
"""A client that takes nothing for so long is gone."""

_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

_DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Chunks:
    """Writes `chat.completion.chunk` objects of one completion."""

    completion_id: str
    created: int
    model: str
    include_usage: bool

    def delta(self, delta: dict[str, Any], finish: str | None = None, **further: Any) -> bytes:
        """A chunk of the answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event([choice], **further)

    def aside(self, **further: Any) -> bytes:
        """A chunk without choices."""
        return self._event([], **further)

    def _event(self, choices: list[Any], **further: Any) -> bytes:
        chunk = {
            "id": self.completion_id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **({"usage": None} if self.include_usage else {}),
            **further,
        }
        return _data(chunk)


class SearchStream(StreamingResponse):
    """The stream of one search. When it ends, for whatever reason, so does the search."""

    media_type = "text/event-stream"

    def __init__(
        self,
        task: asyncio.Task[Solution],
        feed: Feed,
        request: ChatRequest,
        chunks: Chunks,
        budget: int,
        entry: LogEntry,
    ) -> None:
        super().__init__(self._events(), headers=_HEADERS)
        self._task = task
        self._feed = feed
        self._request = request
        self._chunks = chunks
        self._budget = budget
        self._entry = entry
        self._decided = False  # and told so
        self._sent = 0.0  # when the last event was, in `time.monotonic` seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await send(message)
            except TimeoutError:
                raise ClientGone from None

        try:
            await super().__call__(scope, receive, sending)
        finally:
            if await leave(self._task):
                self._entry.client_gone()
            self._entry.spent(self._feed.usage)

    async def _events(self) -> AsyncIterator[bytes]:
        yield self._chunks.delta({"role": "assistant", "content": ""})
        self._sent = time.monotonic()
        trace, over = self._request.router.trace, False
        while not over:
            await asyncio.wait({self._task}, timeout=TRACE_SECONDS if trace else PROGRESS_SECONDS)
            over = self._task.done()
            if trace:
                async for event in self._traced():
                    yield event
            if not trace or time.monotonic() - self._sent > PROGRESS_SECONDS:
                yield self._progress()
        try:
            solution = result(self._task)
        except Exception as error:
            yield self._failure(error)
        else:
            self._entry.solved(solution, self._budget)
            for event in self._answer(solution):
                yield event
        yield _DONE

    async def _traced(self) -> AsyncIterator[bytes]:
        """The decision once it is there, and after it the nodes that are new."""
        decision = self._feed.decision
        if decision is None:
            return
        if not self._decided:
            self._decided = True
            yield self._aside(router={"event": "decision", "decision": decision.to_dict()})
        while nodes := await asyncio.to_thread(self._feed.take):
            yield self._aside(router={"event": "nodes", "nodes": nodes})

    def _progress(self) -> bytes:
        """How far the search is; also keeps the connection from looking dead."""
        self._sent = time.monotonic()
        text = f"{self._feed.finished} solutions finished, {self._feed.steps} steps in the tree"
        if self._request.router.reasoning:
            return self._chunks.delta({"reasoning_content": text + "\n"})
        return f": {text}\n\n".encode()

    def _aside(self, **further: Any) -> bytes:
        self._sent = time.monotonic()
        return self._chunks.aside(**further)

    def _answer(self, solution: Solution) -> Iterator[bytes]:
        chunks = self._chunks
        found = answers.summary(solution, self._budget)
        if self._request.router.trace:
            yield chunks.aside(router={"event": "spend", "usage": found["usage"]})
            yield chunks.aside(router={"event": "solution", "solution": found})
            found = {}
        yield chunks.delta({"content": solution.text})
        own = {"router": found} if found else {}
        yield chunks.delta({}, answers.finish_reason(solution), **own)
        if chunks.include_usage:
            yield chunks.aside(usage=answers.usage(solution))

    def _failure(self, error: Exception) -> bytes:
        failure = described(error)
        self._entry.failed(failure, error)
        return _data(failure.to_dict())


def _data(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
