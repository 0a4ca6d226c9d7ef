"""Engines that are not there yet, die, and come back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from router import Router
from router.models.errors import EngineError, ModelError, RouterError, VerifierError
from router.models.fakes import FakeGenerator
from router.models.generators import endpoints
from router.models.generators.endpoints import HTTPFailure
from router.service import engine as lifecycle
from router.service.server import Server, bind
from router.service.settings import Settings
from tests.service.serving import CHAT, QUESTION, Engine, Served, served, until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(lifecycle, "LONGEST_PAUSE", 0.1)


def test_killed_in_mid_request_and_back() -> None:
    with served() as service:
        engine, answers = service.engine, []
        engine.hold()
        asking = threading.Thread(target=lambda: answers.append(service.chat()))
        asking.start()
        until(lambda: engine.waiting > 0)
        engine.dead = True
        engine.go_on()
        asking.join()
        [answer] = answers
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "engine_failed"
        assert "secret-host" not in answer.text
        assert int(answer.headers["retry-after"]) > 0
        until(lambda: service.http.get("/ready").status_code == 503)
        for refused in (service.chat(), service.chat(stream=True), service.http.get("/v1/models")):
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "not_ready"
        assert service.http.get("/health").status_code == 200
        assert service.metric("router_ready") == 0
        engine.dead = False
        until(lambda: service.http.get("/ready").status_code == 200)
        assert service.chat().status_code == 200
        assert service.metric("router_engine_reopened_total") == 1


def test_one_failed_call_closes_nothing_for_long() -> None:
    class Once(Engine):
        failures = 1

        async def sample(self, path, n, sampling):  # type: ignore[no-untyped-def]
            if path.problem.id != "probe" and self.failures:
                self.failures -= 1
                raise EngineError("a glitch")
            return await super().sample(path, n, sampling)

    with served(Once()) as service:
        assert service.chat().status_code == 503
        until(lambda: service.http.get("/ready").status_code == 200)
        assert service.chat().status_code == 200
        assert service.metric("router_engine_reopened_total") == 0


@pytest.mark.parametrize(("status", "told"), [(400, 400), (403, 502)])
def test_a_server_that_refuses_one_request_is_not_dead(status: int, told: int) -> None:
    class Refusing(Engine):
        async def sample(self, path, n, sampling):  # type: ignore[no-untyped-def]
            raise HTTPFailure("POST http://secret-host answered: too long", status)

    with served(Refusing()) as service:
        answer = service.chat()
        assert answer.status_code == told
        assert answer.json()["error"]["code"] == "engine_refused"
        assert "secret-host" not in answer.text
        assert service.http.get("/ready").status_code == 200


def test_death_of_an_idle_engine_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "QUIET_SECONDS", 0.1)
    with served() as service:
        service.engine.dead = True
        until(lambda: service.http.get("/ready").status_code == 503)
        service.engine.dead = False
        until(lambda: service.http.get("/ready").status_code == 200)


def test_an_idle_engine_is_asked_so_long_after_its_last_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle, "QUIET_SECONDS", 3.0)
    with served() as service:
        time.sleep(1.5)
        assert service.chat(router={"budget": 1}).status_code == 200
        answered = time.monotonic()
        service.engine.dead = True
        until(lambda: service.http.get("/ready").status_code == 503)
        assert time.monotonic() - answered < 4.2  # and not at the second look, after 4.5


def test_an_engine_that_works_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "QUIET_SECONDS", 2.0)
    # Six steps one after the other, each of about a second at most.
    with served(Engine(seconds_per_token=0.05)) as service:
        probes = service.engine.probes
        strategy = "beam_search(n=1, width=1)"
        answer = service.chat("What is 1 + 2 + 3 + 4 + 5 + 6?", router={"strategy": strategy})
        assert answer.json()["router"]["usage"]["seconds"] > 3
        assert service.engine.prompts
        assert service.engine.probes == probes


class Hangs(Engine):
    """An engine that answers searches or probes, whichever a test lets through."""

    only: str | None = None

    async def sample(self, path, n, sampling):  # type: ignore[no-untyped-def]
        kind = "probe" if path.problem.id == "probe" else "search"
        if self.only not in (None, kind):
            self.keep(path, sampling)
            await asyncio.sleep(3600)
        return await super().sample(path, n, sampling)


@contextmanager
def asked_for_ever(service: Served) -> Iterator[None]:
    """Clients that ask again and again, whatever comes of it."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            with contextlib.suppress(httpx.TransportError):
                service.chat(router={"budget": 2, "deadline": 0.5})

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(lifecycle, "LATE_SECONDS", 0.5)
    monkeypatch.setattr(lifecycle, "HUNG_SECONDS", 30.0)


@pytest.mark.usefixtures("impatient")
def test_a_hung_engine_is_not_ready_under_traffic_and_ready_when_it_goes_on() -> None:
    with served() as service, asked_for_ever(service):
        service.engine.hold()
        until(lambda: service.http.get("/ready").status_code == 503)
        assert service.metric("router_ready") == 0
        service.engine.go_on()
        until(lambda: service.http.get("/ready").status_code == 200)
        assert service.metric("router_engine_reopened_total") == 0


@pytest.mark.usefixtures("impatient")
def test_an_engine_that_hangs_for_long_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "HUNG_SECONDS", 1.0)
    with served(Hangs()) as service:
        engine = service.engine
        assert isinstance(engine, Hangs)
        engine.only = "nothing"
        until(lambda: service.http.get("/ready").status_code == 503)
        time.sleep(1.0)
        engine.only = None
        until(lambda: service.http.get("/ready").status_code == 200)
        assert service.metric("router_engine_reopened_total") == 1


@pytest.mark.usefixtures("impatient")
def test_an_answer_to_a_search_stands_for_one_to_the_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle, "LATE_SECONDS", 5.0)
    engine = Hangs(seconds_per_token=0.02)  # one second for a solution: quiet for longer than 0.5
    with served(engine) as service:
        engine.only = "search"
        end = time.monotonic() + 6
        while time.monotonic() < end:
            assert service.chat(router={"budget": 2}).status_code == 200
        assert engine.probes > 2  # each was given up when a search had its answer
        assert service.http.get("/ready").status_code == 200
        assert service.metric("router_engine_reopened_total") == 0


@pytest.mark.parametrize("down", [EngineError, VerifierError])
def test_an_engine_that_starts_later_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, down: type[RouterError]
) -> None:
    tries = 0

    async def load(*args: object, **options: object) -> FakeGenerator:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise down("connection refused")
        return FakeGenerator()

    monkeypatch.setattr("router.models.generators.load.load_generator", load)
    with served(router=Router(engine="fake", verifier=None)) as service:
        assert tries == 4
        assert service.chat(router={"budget": 1}).status_code == 200


def test_not_ready_while_the_models_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opening = threading.Event()

    async def load(*args: object, **options: object) -> FakeGenerator:
        if not opening.is_set():
            raise EngineError("connection refused")
        return FakeGenerator()

    monkeypatch.setattr("router.models.generators.load.load_generator", load)
    server = Server(Router(engine="fake", verifier=None), Settings(), 1.0)
    bound = bind("127.0.0.1", 0, Settings())
    thread = threading.Thread(target=server.serve_on, args=(bound,))
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}") as client:
        until(lambda: server.started)
        assert client.get("/health").status_code == 200
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert "being opened" in answer.json()["error"]["message"]
        opening.set()
        until(lambda: client.get("/ready").status_code == 200)
    server.should_exit = True
    thread.join()


def test_models_that_cannot_be_opened_end_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(*args: object, **options: object) -> FakeGenerator:
        raise ModelError("no such weights")

    monkeypatch.setattr("router.models.generators.load.load_generator", load)
    server = Server(Router(engine="fake", verifier=None), Settings(), 1.0)
    with (
        bind("127.0.0.1", 0, Settings()) as bound,
        pytest.raises(ModelError, match="no such weights"),
    ):
        server.serve_on(bound)


@contextmanager
def engine_process(port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An engine behind HTTP, 20 tokens a second, in a process that a test can kill."""
    module = [sys.executable, "-m", "tests.completions_server"]
    child = subprocess.Popen([*module, str(port), str(log), "0.05"])
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_an_engine_process_that_is_killed_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "FIRST_DELAY", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    router = Router(endpoints=[f"http://127.0.0.1:{port}"], verifier=None)
    log = tmp_path / "log"
    with engine_process(port, log) as child, served(router=router) as service:
        answers: list[httpx.Response] = []
        body = {
            "model": "fake-server@4",
            "messages": [{"role": "user", "content": QUESTION}],
        }
        assert service.http.post(CHAT, json=body).status_code == 200
        asked = log.stat().st_size
        asking = threading.Thread(target=lambda: answers.append(service.http.post(CHAT, json=body)))
        asking.start()
        until(lambda: log.stat().st_size > asked)
        child.kill()
        asking.join()
        assert answers[0].status_code == 503
        assert str(port) not in answers[0].text
        until(lambda: service.http.get("/ready").status_code == 503)
        with engine_process(port, log):
            until(lambda: service.http.get("/ready").status_code == 200)
            assert service.http.post(CHAT, json=body).status_code == 200


@pytest.mark.usefixtures("impatient")
def test_an_engine_process_that_is_stopped_and_goes_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    router = Router(endpoints=[f"http://127.0.0.1:{port}"], verifier=None)
    with engine_process(port, tmp_path / "log") as child, served(router=router) as service:
        body = {
            "model": "fake-server@2",
            "messages": [{"role": "user", "content": QUESTION}],
            "router": {"deadline": 20},
        }
        answers: list[httpx.Response] = []
        child.send_signal(signal.SIGSTOP)
        asking = threading.Thread(target=lambda: answers.append(service.http.post(CHAT, json=body)))
        asking.start()
        until(lambda: service.http.get("/ready").status_code == 503, seconds=10)
        assert service.http.post(CHAT, json=body).status_code == 503
        child.send_signal(signal.SIGCONT)
        until(lambda: service.http.get("/ready").status_code == 200)
        asking.join()
        assert answers[0].status_code == 200  # its search only took longer
        assert service.metric("router_engine_reopened_total") == 0
