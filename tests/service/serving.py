"""A real server on a free port, over fakes whose failures a test can choose."""

from __future__ import annotations

import asyncio
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx

from router import Router
from router.bundle import Bundle
from router.choosing import Difficulty
from router.models.errors import EngineError
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.types import Chain, Sampled, Sampling
from router.rollouts.runs import Origin
from router.service.server import Server, bind
from router.service.settings import Settings

QUESTION = "What is 12 + 35 + 7?"
CHAT = "/v1/chat/completions"


class Engine(FakeGenerator):
    """A fake engine that can be killed, and made to answer nobody until it is let go on.

    It keeps what searches ask, `prompts` with their `samplings`, and counts the service's own
    `probes`, which come whenever an engine has been quiet.
    """

    def __init__(self, seconds_per_token: float = 0.0) -> None:
        super().__init__(seconds_per_token=seconds_per_token)
        self.dead = False
        self.bug = False
        self.prompts: list[Chain] = []
        self.samplings: list[Sampling] = []
        self.probes = 0
        self.waiting = 0
        self._go_on = threading.Event()
        self._go_on.set()

    def hold(self) -> None:
        self._go_on.clear()

    def go_on(self) -> None:
        self._go_on.set()

    def keep(self, path: Chain, sampling: Sampling) -> None:
        """Remember one call."""
        if path.problem.id == "probe":
            self.probes += 1
        else:
            self.prompts.append(path)
            self.samplings.append(sampling)

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        self.keep(path, sampling)
        self.waiting += 1
        try:
            while not self._go_on.is_set():  # noqa: ASYNC110 (set by the test's own thread)
                await asyncio.sleep(0.005)
        finally:
            self.waiting -= 1
        if self.dead:
            raise EngineError("secret-host:8000 is dead")
        if self.bug:
            raise RuntimeError("a secret inside")
        return await super().sample(path, n, sampling)


class Served:
    """One running service. `http` is a client of it, `url` its address, `engine` its fake."""

    def __init__(self, url: str, engine: Engine, server: Server) -> None:
        self.url = url
        self.engine = engine
        self.server = server
        self.http = httpx.Client(base_url=url, timeout=30)

    def chat(self, content: str = QUESTION, **body: object) -> httpx.Response:
        """Ask one question."""
        messages = [{"role": "user", "content": content}]
        headers = body.pop("headers", None)
        assert headers is None or isinstance(headers, dict)
        return self.http.post(
            CHAT, json={"model": "fake", "messages": messages, **body}, headers=headers
        )

    def metric(self, name: str) -> float:
        """The value of one line of /metrics; 0 if there is none yet."""
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        return 0.0


@contextmanager
def served(
    engine: Engine | None = None,
    settings: Settings | None = None,
    drain: float = 5.0,
    router: Router | None = None,
) -> Iterator[Served]:
    engine = engine or Engine()
    settings = settings or Settings()
    router = router or Router(generator=engine, verifier=FakeVerifier())
    server = Server(router, settings, drain)
    bound = bind("127.0.0.1", 0, settings)
    thread = threading.Thread(target=server.serve_on, args=(bound,))
    thread.start()
    service = Served(f"http://127.0.0.1:{bound.getsockname()[1]}", engine, server)
    try:
        until(lambda: server.started)
        until(lambda: service.http.get("/ready").status_code == 200)
        yield service
    finally:
        engine.go_on()
        service.http.close()
        server.should_exit = True
        thread.join()


def bundled(
    bundle: Bundle, engine: Engine, home: pathlib.Chain, difficulty: Difficulty = "text"
) -> Router:
    """A router of this engine, whose bundle passes for one that was fitted on it."""
    judge = FakeVerifier()
    origin = Origin.of(engine.info, Sampling(), judge.info)
    manifest = {**bundle.manifest, "origin": origin.to_dict()}
    replace(bundle, origin=origin, manifest=manifest).save(home)
    return Router(generator=engine, verifier=judge, bundle=home, difficulty=difficulty)


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until it holds.

    Raises:
        AssertionError: it does not, for so long.
    """
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
