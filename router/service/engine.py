"""The router behind the service: opened in the background, watched, and opened again if it dies."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from router.core import Router
from router.models.errors import EngineError, VerifierError
from router.models.generators.endpoints import HTTPFailure
from router.models.types import Chain, Problem, Sampling
from router.opening import Models
from router.service.errors import not_ready
from router.service.metrics import Metrics

log = logging.getLogger("router.service")

QUIET_SECONDS: Final = 15.0
"""An engine that has answered nobody for so long, at work or not, is asked for one token."""

LATE_SECONDS: Final = 15.0
"""Where nothing has answered so long after that, the engine is not ready."""

HUNG_SECONDS: Final = 60.0
"""And after so long, it is opened again."""

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds between tries to open the models again: doubled each time."""

_LOOK_SECONDS: Final = 0.1
_SILENT: Final = "the engine does not answer"


class Engine:
    """Knows whether the models answer. The router stays the caller's to close.

    on_fatal: told of an error at the first opening that no waiting can mend: missing weights, a
        bundle of another model. Servers that do not answer yet are waited for.
    opened: called in a thread once the models are open; it may refuse them.
    """

    def __init__(
        self,
        router: Router,
        metrics: Metrics,
        on_fatal: Callable[[Exception], None],
        opened: Callable[[], None],
    ) -> None:
        self.router = router
        self.models: Models | None = None
        self._metrics = metrics
        self._on_fatal = on_fatal
        self._on_opened = opened
        self._doubted = asyncio.Event()
        self._answered = time.monotonic()
        self._why = "the models are being opened"
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return not self._why

    @property
    def why_not(self) -> str:
        """Why it is not ready; empty if it is."""
        return self._why

    def require(self) -> Models:
        """The models.

        Raises:
            ServiceError: 503 while they do not answer.
        """
        if self._why or self.models is None:
            raise not_ready(self._why)
        return self.models

    @contextmanager
    def used(self) -> Iterator[None]:
        """A search on the models. Where it fails in them, no other starts until they answer."""
        self.require()
        try:
            yield
        except HTTPFailure:
            raise  # a server refused this one request: it answers
        except (EngineError, VerifierError) as error:
            log.error("a search failed in the models: %s", error)
            if self.ready:
                self._set("the engine failed")
                self._doubted.set()
            raise

    def answered(self) -> None:
        """A model has answered some call of a search. From any thread."""
        self._answered = time.monotonic()

    def start(self) -> None:
        """Begin to open the models, and watch them from then on."""
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        try:
            await self._open()
        except Exception as error:
            self._on_fatal(error)
            return
        while True:
            await self._until_doubtful()
            try:
                await self._probe()
                self._set("")
            except Exception as error:
                log.error("the engine does not answer: %s", error)
                self._set(_SILENT)
                await self._reopen()

    async def _until_doubtful(self) -> None:
        """Wait until a search has failed in the models, or they have been quiet for long."""
        while (quiet := time.monotonic() - self._answered) < QUIET_SECONDS:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._doubted.wait(), QUIET_SECONDS - quiet)
                break
        self._doubted.clear()

    async def _open(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                models = await self.router.arun(_same)
                await asyncio.to_thread(lambda: self.router.fitted)  # read now, and refused now
                await asyncio.to_thread(self._on_opened)
                self._opened(models)
                return
            except (EngineError, VerifierError) as error:
                log.warning("waiting for the engine: %s", error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _reopen(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                await self.router.areopen()
                self.models = await self.router.arun(_same)
                await self._probe()
            except Exception as error:
                log.error("cannot open the models again: %s", error)
            else:
                self._metrics.reopened.inc()
                self._opened(self.models)
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _probe(self) -> None:
        """Ask for one token; an answer to a search, which may stand before it, is as good.

        Raises:
            TimeoutError: none has come. Or whatever the models raise.
        """
        asked = time.monotonic()
        probe = asyncio.create_task(self.router.arun(_ask))
        try:
            while not probe.done() and self._answered < asked:
                late = time.monotonic() - asked
                if late > HUNG_SECONDS:
                    raise TimeoutError(f"nothing came of it for {HUNG_SECONDS:g} seconds")
                if late > LATE_SECONDS and self.ready:
                    log.error("the engine has been silent for %.0f seconds", late)
                    self._set(_SILENT)
                await asyncio.wait({probe}, timeout=_LOOK_SECONDS)
            if probe.done():
                probe.result()
        finally:
            probe.cancel()
        self.answered()

    def _opened(self, models: Models) -> None:
        self.models = models
        generator, judge = models.generator.info, models.verifier
        name = judge.info.name if judge else "none"
        self._metrics.serves(generator.model, generator.engine, name)
        self._set("")
        log.info("ready: %s on %s", generator.model, generator.engine)

    def _set(self, why: str) -> None:
        self._why = why
        self._metrics.ready.set(not why)


async def _same(models: Models) -> Models:
    return models


async def _ask(models: Models) -> None:
    """Sample one token of each model, and have it scored."""
    chain = Chain(Problem("probe", "1 + 1 = ?"))
    for one in models.members:
        sampled = await one.generator.sample(chain, 1, Sampling(temperature=0.0, max_tokens=1))
        if one.verifier is not None:
            await one.verifier.score(chain.extend(*sampled.continuations[0].steps))
