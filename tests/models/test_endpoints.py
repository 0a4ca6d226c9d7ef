"""Calls to servers: proxies, answers meant to hurt, reasons, and leaving while they connect."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.models.errors import EngineError, InputError
from router.models.generators.completions import parse_answer
from router.models.generators.endpoints import EndpointPool, HTTPFailure

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.models.generators.endpoints.FIRST_DELAY", 0.001)
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.fixture
def proxy() -> Iterator[Any]:
    """A proxy that answers itself, and says of what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b"no way out")

        def log_message(self, *_: Any) -> None:
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def named(proxy: Any) -> str:
    return f"http://user:secret@127.0.0.1:{proxy.server_address[1]}"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.3.4.5", "[::1]", "a.localhost"])
async def test_no_proxy_stands_before_this_machine(
    host: str, variable: str, proxy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, named(proxy))
    pool = EndpointPool([f"http://{host}:9/v1"])  # nobody listens there
    with pytest.raises(EngineError) as caught:
        await pool.call("GET", "v1/models")
    await pool.aclose()
    assert "proxy" not in str(caught.value)
    assert proxy.asked == []


async def test_errors_through_a_proxy_name_it(proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", named(proxy))
    pool = EndpointPool(["http://far.example/v1"])
    with pytest.raises(EngineError) as caught:
        await pool.call("GET", "v1/models")
    await pool.aclose()
    way = f"(through the proxy http://127.0.0.1:{proxy.server_address[1]})"
    assert f"http://far.example/v1/models {way} answered 403: no way out" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_no_proxy_of_the_user_is_heeded(proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", named(proxy))
    monkeypatch.setenv("NO_PROXY", "far.invalid")
    pool = EndpointPool(["http://far.invalid/v1"])
    with pytest.raises(EngineError) as caught:
        await pool.call("GET", "v1/models")
    await pool.aclose()
    assert "proxy" not in str(caught.value)
    assert proxy.asked == []


@pytest.mark.parametrize("url", ["gopher://p:1", "socks5://p:1", "p:1:1"])
async def test_a_proxy_that_cannot_be_used_is_named(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", url)
    await EndpointPool(["http://localhost:9"]).aclose()  # does not care
    if url == "socks5://p:1" and "socksio" in sys.modules:
        pytest.skip("SOCKS can be spoken here")
    with pytest.raises(InputError, match=r"proxy.*NO_PROXY|proxy"):
        EndpointPool(["http://far.example"])


def answering(content: bytes, status: int = 200) -> EndpointPool:
    reply = httpx.Response(status, content=content)
    return EndpointPool(["http://a:1"], transport=httpx.MockTransport(lambda _: reply))


HOSTILE = {
    "nested arrays": b"[" * 200_000,
    "nested and closed": b"[" * 200_000 + b"]" * 200_000,
    "nested objects": b'{"a":' * 100_000,
    "a huge number": b'{"choices": ' + b"9" * 10_000 + b"}",
    "not UTF-8": b'{"choices": "\xff\xfe"}',
    "UTF-16 halves": b'{"choices"',
    "nothing": b"",
    "a number": b"1e999",
    "an array": b"[]",
    "a long line": b"x" * 3_000_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_an_answer_that_is_meant_to_hurt_is_an_error(kind: str) -> None:
    for status in (200, 400, 503):
        with pytest.raises(EngineError) as caught:
            parse_answer(await answering(HOSTILE[kind], status).call("GET", "v1/models"))
        assert len(str(caught.value)) < 1_000


DEEP: Any = []
for _ in range(400):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "choice",
    [
        DEEP,
        {"text": DEEP, "finish_reason": "stop"},
        {"text": "a", "finish_reason": DEEP},
        {"text": "a", "finish_reason": "stop", "token_ids": ["1"]},
        {"text": "a", "finish_reason": "stop", "token_ids": [True]},
        {"text": "a", "finish_reason": "stop", "token_ids": {"1": 2}},
        {"text": None, "finish_reason": "stop"},
        [],
        None,
        7,
    ],
)
def test_a_choice_of_another_shape_is_an_error(choice: Any) -> None:
    for chat in (False, True):
        with pytest.raises(EngineError):
            parse_answer({"choices": [choice]}, chat=chat)


@pytest.mark.parametrize(
    "logprobs",
    [
        7,
        DEEP,
        {"tokens": 3, "token_logprobs": 4},
        {"tokens": ["a"], "token_logprobs": [None]},
        {"tokens": ["a"], "token_logprobs": [float("nan")]},
        {"tokens": [1], "token_logprobs": [-1.0]},
        {"tokens": ["a", "b"], "token_logprobs": [-1.0]},
        {"content": [None, 3]},
        {"content": {"token": "a"}},
    ],
)
def test_log_probabilities_of_another_shape_are_none(logprobs: Any) -> None:
    choice = {"text": "a", "finish_reason": "stop", "logprobs": logprobs}
    usage = {"prompt_tokens": -1, "completion_tokens": True, "prompt_tokens_details": 3}
    answer = parse_answer({"choices": [choice], "usage": usage})
    assert answer.choices[0].logprobs == ()
    assert (answer.prompt_tokens, answer.choices[0].tokens, answer.cached_tokens) == (None,) * 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "System role not supported", "code": 400}}, "System role not"),
        ({"object": "error", "message": "roles must alternate"}, "roles must alternate"),
        ({"detail": "no such role"}, "no such role"),
        ({"error": "bad template"}, "bad template"),
        ({"detail": [{"msg": "role missing"}]}, "role missing"),
    ],
)
async def test_a_refusal_has_the_servers_own_words(body: Any, reason: str) -> None:
    with pytest.raises(HTTPFailure, match=reason) as caught:
        await answering(json.dumps(body).encode(), 400).call("POST", "v1/completions", {})
    assert reason in caught.value.said


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "closing"])
def test_ctrl_c_ends_what_connects(answers: bool) -> None:
    """A server that hangs, and one that closes connections, which are tried again."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "cli", "solve", "1 + 1", "--endpoint", url]
        process = subprocess.Popen(
            [*command, "--verifier", "none"], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        listener.settimeout(60)
        connection, _ = listener.accept()
        if answers:
            connection.close()
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, said = process.communicate(timeout=30)
        connection.close()
    assert time.monotonic() - started < 2  # a second, and what a busy machine adds
    assert process.returncode == 130
    assert said.endswith("interrupted\n")
