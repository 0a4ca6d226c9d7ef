"""An event loop in a thread of its own, so that one engine serves callers of every kind.

Engines are bound to the loop that they were opened on. The router's loop outlives any caller's,
so the same `Router` works from plain code, from several threads, and inside running loops.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines until `stop`; a daemon thread, so it never keeps the process alive."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._executor = ThreadPoolExecutor(thread_name_prefix="router")
        self._loop.set_default_executor(self._executor)
        self._submitted: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="router", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work`; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(self._tracked(work), self._loop)

    def check_caller(self) -> None:
        """Refuse a caller that would wait here for itself.

        Raises:
            RuntimeError: called from this very thread.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a listener must not call the router and wait for it")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end. An interrupt (Ctrl-C) cancels it.

        Raises:
            RuntimeError: called from this very thread, which would wait for itself.
        """
        try:
            self.check_caller()
        except RuntimeError:
            work.close()
            raise
        future = self.submit(work)
        try:
            return future.result()
        finally:
            future.cancel()

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """As `run`, awaited from any other loop; cancelling the awaiter cancels `work`.

        Then waits until it has ended, and raises what it ended by: its error may tell what was
        spent. Who is cancelled once more does not wait.
        """
        ended: Future[asyncio.Task[T]] = Future()
        started: asyncio.Task[T]

        def start() -> None:
            nonlocal started
            started = self._loop.create_task(work)
            self._submitted.add(started)
            started.add_done_callback(self._submitted.discard)
            started.add_done_callback(ended.set_result)

        self._loop.call_soon_threadsafe(start)
        ending = asyncio.wrap_future(ended)
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            self._loop.call_soon_threadsafe(lambda: started.cancel())
            await asyncio.shield(ending)
            if not started.cancelled():
                raise
        # Of a cancelled task this raises, once, the very error that left its coroutine.
        return (await ending).result()

    def stop(self, cleanup: Coroutine[Any, Any, None]) -> None:
        """Cancel what still runs, then run `cleanup`, then end the thread."""
        try:
            self.run(self._finish(cleanup))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _tracked(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._submitted.add(task)
        try:
            return await work
        finally:
            self._submitted.discard(task)

    async def _finish(self, cleanup: Coroutine[Any, Any, None]) -> None:
        await _cancel(self._submitted - {asyncio.current_task()})
        try:
            await cleanup
        finally:
            await _cancel(asyncio.all_tasks() - {asyncio.current_task()})
            await self._loop.shutdown_asyncgens()
            # Nobody waits for work in threads any more, and no thread can be stopped.
            self._executor.shutdown(wait=False, cancel_futures=True)


async def _cancel(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel tasks and wait until each has ended, however it ends."""
    real = [task for task in tasks if task is not None]
    for task in real:
        task.cancel()
    await asyncio.gather(*real, return_exceptions=True)
