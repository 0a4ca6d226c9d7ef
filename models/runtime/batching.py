"""Batches what concurrent tasks submit and runs it in one worker thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class MicroBatcher(Generic[T, R]):
    """Turns a blocking function over a batch into an async function over one item.

    `run` is called in one worker thread, never twice at once, with at most `max_batch` items in
    the order of their submission; it returns one result an item, in order. What arrives while it
    runs forms the next batch. May serve several event loops, at once or in turn.
    """

    def __init__(self, run: Callable[[list[T]], list[R]], max_batch: int) -> None:
        self._run = run
        self._max_batch = max_batch
        self._waiting: deque[tuple[T, Future[R]]] = deque()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="micro-batcher")

    async def submit(self, item: T) -> R:
        """The result of `item`; raises what `run` raised on it, whatever else was in the batch.

        Cancelling the call withdraws an item that has not started.
        """
        future: Future[R] = Future()
        try:
            self._waiting.append((item, future))
            # One turn of the event loop, so that tasks which are ready together share a batch.
            await asyncio.sleep(0)
            self._worker.submit(self._drain)
            return await asyncio.wrap_future(future)
        finally:
            future.cancel()

    async def aclose(self) -> None:
        """Finish what is running or waiting and end the thread."""
        await asyncio.to_thread(self._worker.shutdown)

    def _drain(self) -> None:
        """Run one batch of what is waiting; nothing to do when an earlier call took it all."""
        batch: list[tuple[T, Future[R]]] = []
        while self._waiting and len(batch) < self._max_batch:
            item, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                batch.append((item, future))
        if not batch:
            return
        try:
            self._resolve(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            # One bad item must not fail its neighbours: find it by running each alone.
            for entry in batch:
                try:
                    self._resolve([entry])
                except Exception as single:
                    entry[1].set_exception(single)

    def _resolve(self, batch: list[tuple[T, Future[R]]]) -> None:
        results = self._run([item for item, _ in batch])
        if len(results) != len(batch):
            raise RuntimeError(f"{len(batch)} items gave {len(results)} results")
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
