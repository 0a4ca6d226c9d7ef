"""A generator and a verifier that say during which time somebody waited for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from router.models.base import Generator, GeneratorInfo, Verifier, VerifierInfo
from router.models.types import Chain, Sampled, Sampling, Scored


class Clock:
    """Seconds during which one call or more was in flight."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._since = 0.0
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        running = time.monotonic() - self._since if self._in_flight else 0.0
        return self._seconds + running

    @contextmanager
    def running(self) -> Iterator[None]:
        if not self._in_flight:
            self._since = time.monotonic()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._seconds += time.monotonic() - self._since


class ClockedGenerator:
    """The generator, with a clock."""

    def __init__(self, generator: Generator, clock: Clock) -> None:
        self._generator = generator
        self._clock = clock

    @property
    def info(self) -> GeneratorInfo:
        return self._generator.info

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        with self._clock.running():
            return await self._generator.sample(chain, n, sampling)

    async def aclose(self) -> None:
        await self._generator.aclose()


class ClockedVerifier:
    """The verifier, with a clock."""

    def __init__(self, verifier: Verifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock

    @property
    def info(self) -> VerifierInfo:
        return self._verifier.info

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        with self._clock.running():
            return await self._verifier.score(chain, known)

    async def aclose(self) -> None:
        await self._verifier.aclose()
