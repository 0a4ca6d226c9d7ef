"""Runs searches: queued, measured, and ended when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final

from fastapi import Request

from router.models.errors import InputError, PromptTooLong
from router.models.types import Chain
from router.models.usage import Usage
from router.records import Decision, Solution
from router.service.averages import Averages
from router.service.engine import Engine
from router.service.errors import ClientGone, ServiceError, shutting_down
from router.service.jobs import Job
from router.service.metrics import Metrics
from router.service.queueing import Queue
from router.strategies.tasks import get_task
from router.strategies.trace import Node

MAX_BATCH: Final = 50
"""Nodes that are sent in one event."""

LEAVING_SECONDS: Final = 1.0
"""What a search that is ended gets to tell what it has spent."""


class Feed:
    """What a running search tells of itself. Nodes come from the router's thread.

    trace: whether nodes are kept to be sent, or only counted.
    usage: what was spent, once it has ended, however it ended; None if it never began.
    """

    def __init__(self, *, trace: bool) -> None:
        self.decision: Decision | None = None
        self.usage: Usage | None = None
        self.steps = 0
        self.trace = trace
        self._finished: set[int] = set()
        self._changed: dict[int, Node] = {}
        self._answers: dict[int, str | None] = {}
        self._lock = threading.Lock()

    @property
    def finished(self) -> int:
        """Solutions that are finished."""
        return len(self._finished)

    def decide(self, decision: Decision) -> None:
        """It is decided what is searched."""
        self.decision = decision

    def listen(self, node: Node) -> None:
        """A node has appeared or changed."""
        self.steps = max(self.steps, node.id)
        if node.status == "finished":
            self._finished.add(node.id)
        if self.trace:
            with self._lock:
                self._changed[node.id] = node

    def take(self) -> list[dict[str, Any]]:
        """Nodes that have changed since they were last taken, parents before children.

        Those that end a solution carry its `answer`, None where it states none. Finding it in a
        long text takes a while: not for an event loop.
        """
        with self._lock:
            ids = list(self._changed)[:MAX_BATCH]
            nodes = [self._changed.pop(number) for number in ids]
        return [self._told(node) for node in nodes]

    def _told(self, node: Node) -> dict[str, Any]:
        if node.status != "finished":
            return node.to_dict()
        if node.id not in self._answers:  # a node comes again when it is scored
            self._answers[node.id] = read(node.chain)
        return {**node.to_dict(), "answer": self._answers[node.id]}


class Searches:
    """All searches of this process."""

    def __init__(self, engine: Engine, queue: Queue, metrics: Metrics, averages: Averages) -> None:
        self._engine = engine
        self._queue = queue
        self._metrics = metrics
        self._averages = averages
        self._tasks: set[asyncio.Task[Solution]] = set()

    def start(self, job: Job, feed: Feed) -> asyncio.Task[Solution]:
        """Queue a search; cancelling the task cancels it, the engine's work included."""
        task = asyncio.create_task(self._run(job, feed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def end_all(self) -> None:
        """Cancel what still runs; whoever waits for it is told that the server shuts down."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, job: Job, feed: Feed) -> Solution:
        async with self._queue.place(job.key, job.generations, job.give_up_at):
            with self._engine.used():
                return await self._search(job, feed)

    async def _search(self, job: Job, feed: Feed) -> Solution:
        def listen(node: Node) -> None:
            if node.parent is not None:  # the problem itself is there before anything answers
                self._engine.answered()
            feed.listen(node)

        def decide(decision: Decision) -> None:
            self._averages.decided(job.key, decision)
            feed.decide(decision)

        def count(ended: str) -> None:
            self._averages.ended(job.key, feed.decision, feed.usage)
            self._metrics.searched(ended, feed.decision, feed.usage or Usage(), job.generations)

        try:
            solution = await self._engine.router.asolve(
                job.problem,
                job.budget(),
                strategy=job.strategy,
                tolerance=job.tolerance,
                sampling=job.sampling,
                seed=job.seed,
                listener=listen,
                decided=decide,
                price=self._averages.price(job.key, job.generations),
            )
        except BaseException as error:
            feed.usage = getattr(error, "usage", None)
            if feed.usage is not None or not isinstance(error, InputError):  # refused: no search
                count("left" if isinstance(error, asyncio.CancelledError) else "failed")
            if isinstance(error, PromptTooLong):
                code = "context_length_exceeded"
                raise ServiceError(400, str(error), code, job.field) from error
            raise
        feed.usage = solution.usage
        count(solution.ended)
        return solution


def read(chain: Chain) -> str | None:
    """The answer that a solution states."""
    return get_task(chain.problem.task).read(chain.marked, chain.truncated)


async def settled(
    task: asyncio.Task[Solution], request: Request, seconds: float | None = None
) -> bool:
    """Wait until the search has ended, `seconds` at most; whether it has.

    Raises:
        ClientGone: the client has closed the connection.
    """
    gone = asyncio.create_task(_gone(request))
    try:
        done, _ = await asyncio.wait(
            {task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        gone.cancel()
    if gone in done and task not in done:
        raise ClientGone
    return task in done


async def leave(task: asyncio.Task[Solution]) -> bool:
    """End a search; whether it still ran. Then waits, a moment at most, for what it has spent."""
    running = task.cancel()
    await asyncio.wait({task}, timeout=LEAVING_SECONDS)
    return running


def failed(task: asyncio.Task[Solution]) -> bool:
    """Whether an ended search has found nothing."""
    return task.cancelled() or task.exception() is not None


def result(task: asyncio.Task[Solution]) -> Solution:
    """What an ended search has found.

    Raises:
        ServiceError: it was ended because the server shuts down; or whatever the search raised.
    """
    if task.cancelled():
        raise shutting_down()
    return task.result()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
