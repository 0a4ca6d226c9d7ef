"""Logs are JSON lines, and hold nothing of a prompt unless that is asked for."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from router import Router
from router.models.errors import EngineError, VerifierError
from router.models.fakes import FakeGenerator
from router.models.generators import endpoints
from router.service.logs import JsonFormatter
from router.service.settings import Settings
from tests.completions_server import Handler, Server
from tests.service.serving import CHAT, Engine, Served, served, until
from tests.service.test_bad_input import connect

SECRET = "the-secret-of-Ann"


class Lines(logging.Handler):
    """What the whole process would write to stderr. prompts: as in `log_as_json`."""

    def __init__(self, prompts: bool) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(prompts))
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record))


@contextmanager
def logged(prompts: bool = False) -> Iterator[Lines]:
    lines, root, ours = Lines(prompts), logging.getLogger(), logging.getLogger("router.service")
    level = ours.level
    root.addHandler(lines)
    ours.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(lines)
        ours.setLevel(level)
    for line in lines.text:
        json.loads(line)


# -- words of an engine ----------------------------------------------------------------------------


class Quoting(Handler):
    """An engine that quotes the prompt wherever it can, once it is told how."""

    generator = FakeGenerator()
    log = Path("/dev/null")
    answer: ClassVar[tuple[int, bytes] | None] = None

    def do_POST(self) -> None:
        if self.path == "/tokenize" or self.answer is None:
            super().do_POST()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        status, data = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def quoted(value: Any) -> bytes:
    return json.dumps(value).encode()


ANSWERS = {
    "500": (500, f"cannot sample {SECRET!r}".encode()),
    "503 JSON": (503, quoted({"error": {"message": SECRET}})),
    "429": (429, quoted({"error": SECRET})),
    "400": (400, quoted({"error": f"too long: {SECRET}"})),
    "no JSON": (200, f"<html>{SECRET}</html>".encode()),
    "list": (200, quoted([SECRET])),
    "no choices": (200, quoted({"object": SECRET})),
    "no text": (200, quoted({"choices": [{"text": 7, "finish_reason": SECRET}]})),
    "wrong end": (200, quoted({"choices": [{"text": SECRET, "finish_reason": "error"}]})),
    "wrong tokens": (200, quoted({"choices": [{"text": SECRET, "token_ids": SECRET}]})),
}


@contextmanager
def quoting(answer: tuple[int, bytes], **settings: Any) -> Iterator[Served]:
    class Here(Quoting):
        pass

    engine = Server(("127.0.0.1", 0), Here)
    threading.Thread(target=engine.serve_forever).start()
    try:
        url = f"http://127.0.0.1:{engine.server_address[1]}"
        router = Router(endpoints=[url], verifier=None)
        with served(router=router, settings=Settings(**settings)) as service:
            Here.answer = answer
            yield service
    finally:
        engine.shutdown()
        engine.server_close()


def ask(service: Served, stream: bool) -> httpx.Response:
    messages = [{"role": "user", "content": f"What is {SECRET} + 1?"}]
    body = {"model": "fake-server@1", "messages": messages, "stream": stream}
    return service.http.post(CHAT, json=body)


@pytest.mark.parametrize("name", ANSWERS)
def test_no_word_of_an_engine_is_logged(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(endpoints, "FIRST_DELAY", 0.01)
    with logged() as lines, quoting(ANSWERS[name]) as service:
        answer = ask(service, stream=False)
        assert answer.status_code in (400, 502, 503), answer.text
        assert SECRET not in answer.text
    assert SECRET not in "".join(lines.text)
    requests = [json.loads(line) for line in lines.text if '"message": "request"' in line]
    assert any(line["status"] == answer.status_code for line in requests)
    if answer.status_code == 503:  # where it failed, and how, is said
        assert any("answered" in line and '"error"' in line for line in lines.text)


def test_words_of_an_engine_are_logged_where_prompts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "FIRST_DELAY", 0.01)
    with logged(prompts=True) as lines, quoting(ANSWERS["500"], log_prompts=True) as service:
        ask(service, stream=False)
    assert any("cannot sample" in line for line in lines.text)


class Bad(Engine):
    """Fails in whatever way it is told to."""

    failure: Exception

    async def sample(self, *asked: Any) -> Any:
        if asked[0].problem.id != "probe":
            try:
                raise ValueError(f"{SECRET} at the root")
            except ValueError:
                raise self.failure from None
        return await super().sample(*asked)


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError(f"a bug that quotes {SECRET}"),
        KeyError(SECRET),
        ExceptionGroup(SECRET, [ValueError(SECRET)]),
        EngineError("vLLM failed", SECRET),
        VerifierError("the verifier failed", SECRET),
    ],
    ids=lambda failure: type(failure).__name__,
)
@pytest.mark.parametrize("stream", [False, True])
def test_no_word_of_a_failure_is_logged(failure: Exception, stream: bool) -> None:
    engine = Bad()
    engine.failure = failure
    with logged() as lines, served(engine) as service:
        answer = service.chat(f"What is {SECRET}?", stream=stream)
        assert SECRET not in answer.text
    assert SECRET not in "".join(lines.text)
    name = type(failure).__name__
    assert any(name in line or str(getattr(failure, "plain", name)) in line for line in lines.text)


# -- every line ------------------------------------------------------------------------------------

STRAY = """
import asyncio, contextlib, gc, logging, sys, threading, warnings
logging.basicConfig(stream=sys.stderr)
from router.service.logs import log_as_json
log_as_json(False)
warnings.warn("a warning\\nof two lines")
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")

def fails(*_):
    raise ValueError("SEC" "RET in a thread")

thread = threading.Thread(target=fails)
thread.start()
thread.join()

async def forgets():
    async def task():
        raise ValueError("SEC" "RET in a task")
    kept = asyncio.create_task(task())
    await asyncio.sleep(0)
    del kept
    gc.collect()
    asyncio.get_running_loop().call_soon(fails)
    await asyncio.sleep(0.01)

asyncio.run(forgets())

class Dies:
    def __del__(self):
        fails()

Dies()
with contextlib.suppress(ModuleNotFoundError):
    import vllm.logger

    vllm.logger.init_logger("vllm.engine").error("EngineCore failed\\nto start")
fails()
"""


def test_every_line_is_json_whoever_writes_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRAY], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "SECRET" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["logger"] for line in lines} >= {
        "py.warnings",
        "uvicorn.error",
        "asyncio",
        "router.service",
        *(["vllm.engine"] if find_spec("vllm") else []),
    }
    assert sum("ValueError" in line.get("exception", "") for line in lines) >= 4


@pytest.mark.parametrize(
    "sent", [b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\x00"]
)
def test_what_is_no_http_gets_an_id_that_is_logged(service: Served, sent: bytes) -> None:
    with logged() as lines, connect(service) as connection:
        connection.sendall(sent)
        answer = b""
        while piece := connection.recv(1000):
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["error"]["code"] == "invalid_http"
        request_id = head.decode().partition("x-request-id: ")[2].split()[0]
        until(lambda: any(request_id in line for line in lines.text))


def test_no_answer_is_cut_by_what_is_no_http(service: Served) -> None:
    service.engine.hold()
    with connect(service) as connection:
        body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "1 + 1"}]})
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        whole = f"{head}Content-Length: {len(body)}\r\n\r\n{body}"
        connection.sendall(whole.encode())
        until(lambda: service.engine.waiting > 0)
        connection.sendall(b"\x00\xff\r\n\r\n")
        with suppress(ConnectionResetError):
            assert connection.recv(1000) == b""  # no 400 that would pass for its answer
    service.engine.go_on()
