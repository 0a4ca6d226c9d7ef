"""`router serve` as a process: it starts, says where it is, drains and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from openai import OpenAI

from router.cli import main
from tests.service.serving import CHAT, QUESTION, until
from tests.service.test_engine import engine_process

ROOT = Path(__file__).parents[2]

SLOW_COMMAND = """
from router.models.fakes import FakeGenerator
from router.models.generators import load
async def slow(*args, **options):
    return FakeGenerator(seconds_per_token=0.1)
load.load_generator = slow
from router.cli import main
main()
"""

SLOW = """
import sys
from router.models.fakes import FakeGenerator
from router import Router
from router.service.logs import JsonFormatter
from router.service.server import Server, bind
from router.service.settings import Settings
import logging
logging.basicConfig(level=logging.INFO)
logging.getLogger().handlers[0].setFormatter(JsonFormatter())
drain, seconds = map(float, sys.argv[1:])
bound = bind("127.0.0.1", 0, Settings())
logging.info("listening on http://127.0.0.1:%d", bound.getsockname()[1])
router = Router(generator=FakeGenerator(seconds_per_token=seconds))
Server(router, Settings(), drain).serve_on(bound)
"""


COMPARES_FOR_EVER = """
import asyncio, time
from router.strategies.tasks.base import Task
async def group(*_):
    await asyncio.to_thread(time.sleep, 60)
Task.group = group
"""

HARD_ANSWERS = r"""
from router.models import fakes
def script(path, sampling, rng):
    return f"So it is \\boxed{{9^{{9^{{9^{{{rng.randint(10, 10**6)}}}}}}}+x}}.", "stop"
fakes.slipping_sum = lambda: script
"""


HUNG_ENGINE = """
import sys
from router import Router
from router.service import engine
from router.service.logs import JsonFormatter
from router.service.server import Server, bind
from router.service.settings import Settings
import logging
logging.basicConfig(level=logging.INFO)
logging.getLogger().handlers[0].setFormatter(JsonFormatter())
engine.QUIET_SECONDS = engine.LATE_SECONDS = 0.2
engine.HUNG_SECONDS = 0.5
bound = bind("127.0.0.1", 0, Settings())
logging.info("listening on http://127.0.0.1:%d", bound.getsockname()[1])
Server(Router(endpoints=[sys.argv[1]], verifier=None), Settings(), 2).serve_on(bound)
"""


@dataclass
class Running:
    """A service in a process of its own. lines: what it has written to stderr."""

    child: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str | None:
        """Where it serves; None until it says so."""
        found = re.search(r'"listening on (\S+)"', "".join(self.lines))
        return found[1] if found else None

    def read(self) -> None:
        assert self.child.stderr is not None
        self.lines.extend(iter(self.child.stderr.readline, ""))


@contextmanager
def process(
    *command: str, opening_seconds: float = 60, **variables: str
) -> Iterator[tuple[Running, str]]:
    """A service in a process of its own, and its URL."""
    child = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    running = Running(child)
    reading = threading.Thread(target=running.read)
    reading.start()
    try:
        until(lambda: running.url is not None or child.poll() is not None, opening_seconds)
        url = running.url
        assert url is not None, "".join(running.lines)
        until(lambda: ready(url) or child.poll() is not None, opening_seconds)
        assert child.poll() is None, "".join(running.lines)
        yield running, url
    finally:
        child.kill()
        reading.join()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_serve_answers_and_ends_at_sigterm() -> None:
    with process("-m", "cli", "serve", "--engine", "fake", "--port", "0") as (running, url):
        client = OpenAI(base_url=f"{url}/v1", api_key="none")
        answer = client.chat.completions.create(
            model="fake@4", messages=[{"role": "user", "content": QUESTION}]
        )
        assert answer.choices[0].message.content
        running.child.terminate()
        running.child.wait(timeout=20)
    assert running.child.returncode == -signal.SIGTERM
    lines = [json.loads(line) for line in running.lines]
    assert [line["budget"] for line in lines if line.get("route") == CHAT] == [4]


def test_efforts_and_origins() -> None:
    options = ("--effort", "low=2", "--effort", "high=9", "--allow-origin", "https://app.example")
    with process("-m", "cli", "serve", "--engine", "fake", "--port", "0", *options) as (_, url):
        body = {"model": "fake", "messages": [{"role": "user", "content": QUESTION}]}
        origin = {"Origin": "https://app.example"}
        for effort, budget in (("low", 2), ("medium", 16), ("high", 9)):
            asked = {**body, "reasoning_effort": effort}
            answer = httpx.post(f"{url}{CHAT}", json=asked, headers=origin)
            assert answer.json()["router"]["budget"] == budget
            assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_keys_from_the_environment() -> None:
    key = "0123456789abcdef"
    command = ("-m", "cli", "serve", "--engine", "fake", "--port", "0", "--host", "0.0.0.0")
    with process(*command, ROUTER_API_KEYS=key) as (_, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/models").status_code == 401
        with_key = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{url}/v1/models", headers=with_key).status_code == 200


def ask(
    url: str, answers: list[httpx.Response], stream: bool, model: str = "fake@1"
) -> threading.Thread:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}

    def run() -> None:
        answers.append(httpx.post(f"{url}{CHAT}", json={**body, "stream": stream}, timeout=60))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_requests_finish(stream: bool, number: signal.Signals) -> None:
    answers: list[httpx.Response] = []
    command = ("serve", "--engine", "fake", "--verifier", "none", "--port", "0")
    with process("-c", SLOW_COMMAND, *command) as (running, url):
        asking = ask(url, answers, stream)
        time.sleep(0.7)
        running.child.send_signal(number)
        asking.join()
        running.child.wait(timeout=20)
    assert answers[0].status_code == 200
    assert "boxed" in answers[0].text
    assert not ready(url)


@pytest.mark.parametrize("stream", [False, True])
def test_sigterm_ends_what_takes_too_long(stream: bool) -> None:
    answers: list[httpx.Response] = []
    with process("-c", SLOW, "0.5", "10") as (running, url):
        asking = ask(url, answers, stream)
        time.sleep(0.7)
        started = time.monotonic()
        running.child.terminate()
        asking.join()
        running.child.wait(timeout=20)
        assert time.monotonic() - started < 5
    assert answers[0].status_code == (200 if stream else 503)
    assert "shutting_down" in answers[0].text
    assert answers[0].text.endswith("data: [DONE]\n\n") == stream


@pytest.mark.parametrize("comparing", [COMPARES_FOR_EVER, HARD_ANSWERS], ids=["thread", "hard"])
def test_sigterm_waits_for_no_comparing(comparing: str) -> None:
    answers: list[httpx.Response] = []
    with process("-c", comparing + SLOW, "2", "0.001") as (running, url):
        asking = [ask(url, answers, stream, "fake@16") for stream in (False, True, False)]
        time.sleep(1.5)  # all has been sampled, and is being compared
        started = time.monotonic()
        running.child.terminate()
        for thread in asking:
            thread.join()
        running.child.wait(timeout=20)
        assert time.monotonic() - started < 7  # not 10; the machine may be busy
    assert len(answers) == 3
    assert all("shutting_down" in answer.text for answer in answers)


def test_sigterm_waits_for_no_engine_that_hangs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        engine_process(port, tmp_path / "log") as engine,
        process("-c", HUNG_ENGINE, f"http://127.0.0.1:{port}") as (running, _),
    ):
        engine.send_signal(signal.SIGSTOP)
        until(lambda: any("the engine does not answer: " in line for line in running.lines))
        time.sleep(0.5)  # it is being opened again
        started = time.monotonic()
        running.child.terminate()
        running.child.wait(timeout=20)
        assert time.monotonic() - started < 3.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "give API keys"),
        (["--keys", "/nowhere"], "cannot read keys"),
        (["--max-budget", "0"], "at least 1"),
        (["--budget", "0"], "at least 1"),
        (["--deadline", "0"], "deadline must be"),
        (["--port", "70000"], "70000"),
        (["--effort", "low"], "write NAME=N"),
        (["--effort", "low=0"], "at least 1"),
        (["--effort", "lwo=4"], "no effort is called 'lwo'"),
        (["--allow-origin", "app.example"], "is no origin"),
    ],
)
def test_bad_options(options: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["serve", "--engine", "fake", *options])
    assert done.exit_code == 2
    assert words in done.stderr
