"""Models that are opened on first use, and used from one thread of their own."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from router.loop import LoopThread
from router.models.errors import RouterError
from router.opening import Models

T = TypeVar("T")


class Session(ABC):
    """Opens models, keeps them, and closes them; safe to use from several threads and loops.

    Engines are bound to the event loop that they were opened on, so everything that touches them
    runs on the session's own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._opening: asyncio.Task[Models] | None = None
        self._closed = False

    @property
    @abstractmethod
    def loader(self) -> Callable[[], Coroutine[Any, Any, Models]]:
        """Opens the models."""

    def open(self) -> Models:
        """Open the models unless they are open.

        Raises:
            InputError, ModelError, EngineError: they cannot be loaded or reached.
        """
        return self._loop().run(self._models())

    @property
    def opened(self) -> Models | None:
        """The models if they are open."""
        opening = self._opening
        if opening is None or not opening.done() or opening.cancelled() or opening.exception():
            return None
        return opening.result()

    def run(self, work: Callable[[Models], Coroutine[Any, Any, T]]) -> T:
        """Run other work on the models, on the loop that they are bound to.

        Raises:
            As `open`, and whatever the work raises.
        """
        return self._loop().run(self._on_models(work))

    async def arun(self, work: Callable[[Models], Coroutine[Any, Any, T]]) -> T:
        """As `run`, awaited from any event loop. Cancelling it cancels the work."""
        return await self._loop().wait(self._on_models(work))

    async def areopen(self) -> None:
        """Release the models and open them again: the way out when an engine has died.

        What still runs on them fails. Ready-made models stay as they are.

        Raises:
            As `open`; the next call then tries to open them again.
        """
        await self._loop().wait(self._reopen())

    def close(self) -> None:
        """Cancel what still runs and release the models; no call may follow.

        Raises:
            RuntimeError: called from the session's own thread, as by a listener; nothing changes.
        """
        with self._lock:
            if self._thread is not None:
                self._thread.check_caller()
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop(self._release())

    async def aclose(self) -> None:
        """As `close`, without blocking the caller's event loop."""
        if self._thread is not None:
            self._thread.check_caller()
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _loop(self) -> LoopThread:
        with self._lock:
            if self._closed:
                raise RouterError("this router is closed")
            if self._thread is None:
                self._thread = LoopThread()
            return self._thread

    async def _models(self) -> Models:
        """The opened models. Opening goes on when the caller that asked first is cancelled."""
        if self._opening is None:
            self._opening = asyncio.create_task(self.loader())
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except Exception:
            if self._opening is opening:
                self._opening = None
            raise

    async def _on_models(self, work: Callable[[Models], Coroutine[Any, Any, T]]) -> T:
        return await work(await self._models())

    async def _reopen(self) -> None:
        try:
            await self._release()
        finally:
            self._opening = None
        await self._models()

    async def _release(self) -> None:
        if self._opening is None:
            return
        self._opening.cancel()  # a server that does not answer is not waited for
        try:
            models = await self._opening
        except (Exception, asyncio.CancelledError):
            return
        await models.aclose()
