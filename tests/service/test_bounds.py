"""What one client may take: bytes, values, connections, and time."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import httpx
import pytest

from router.choosing import Default
from router.core import Router
from router.models.fakes import FakeVerifier
from router.records import Decision
from router.service import server
from router.service.guard import MOST_TOKENS
from router.service.keys import ApiKeys
from router.service.settings import Settings
from tests.service import serving
from tests.service.serving import CHAT, QUESTION, Engine, Served, served, until
from tests.service.test_bad_input import ASK, JSON, connect, refused

RUNNING = "router_num_requests_running"
FILE = "/page/vendor/katex/katex.min.js"
KEY = "a-key-of-enough-characters"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    given = headers or (f"Content-Length: {len(body)}",)
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *given]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chat(**body: Any) -> bytes:
    return json.dumps({"model": "fake", "messages": ASK, **body}).encode()


# -- bytes that are no body ------------------------------------------------------------------------

ENDLESS = b"X-Long: "
BEGUN = b"GET / HTTP/1.1\r\n" + ENDLESS

BOMBS = {
    "at once": BEGUN,
    "behind an answer": get("/health") + BEGUN,
    "behind files that are not read": get(FILE) * 10 + BEGUN,
    "behind a search": post(CHAT, chat(stream=True)) + BEGUN,
    "behind a body": post(CHAT, chat()) + BEGUN,
    "address": b"GET /",
    "many headers": b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 1000,
    "trailer": post(CHAT, b"1\r\n{\r\n0\r\n", "Transfer-Encoding: chunked") + ENDLESS,
    "chunk of one byte each": post(CHAT, b"", "Transfer-Encoding: chunked"),
    "chunk extension": post(CHAT, b"1;x=", "Transfer-Encoding: chunked"),
    "blank lines": b"",
}
MORE = {
    "many headers": b"X-A: b\r\n",
    "chunk of one byte each": b"1\r\n \r\n",
    "blank lines": b"\r\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bytes_that_are_no_body_are_counted_whatever_is_in_flight(
    service: Served, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.3)  # nothing begins with blank lines
    service.engine.hold()
    piece = MORE.get(name, b"x")
    piece *= 20_000 // len(piece)
    accepted = 0
    with connect(service) as connection:
        connection.sendall(BOMBS[name])
        connection.settimeout(10)
        try:
            for _ in range(3000):  # 60 MB; the kernel itself takes some
                connection.sendall(piece)
                accepted += len(piece)
                time.sleep(0.001)
        except OSError:
            pass
    service.engine.go_on()
    assert accepted < 20_000_000
    until(lambda: service.metric("router_num_requests_running") == 0)


def test_a_body_is_not_counted_as_headers(service: Served) -> None:
    body = chat(user="x" * 500_000, router={"budget": 1})
    chunks = b"".join(
        f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        for piece in (body[at : at + 1000] for at in range(0, len(body), 1000))
    )
    with connect(service) as connection:
        for request in (
            post(CHAT, chunks + b"0\r\n\r\n", "Transfer-Encoding: chunked"),
            post(CHAT, body),
        ):
            connection.sendall(request)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.settimeout(0.5)
            assert not gone(connection)
            connection.settimeout(20)


def test_requests_that_pile_up_on_one_connection(service: Served) -> None:
    service.engine.hold()
    with connect(service) as connection:
        connection.sendall(post(CHAT, chat()) + get("/health") * 10_000)
        assert gone(connection)
    service.engine.go_on()
    until(lambda: service.metric("router_num_requests_running") == 0)


def test_some_requests_may_be_sent_before_the_first_is_answered(service: Served) -> None:
    with connect(service) as connection:
        connection.sendall(get("/health") * 10)
        received = b""
        while received.count(b'{"status":"ok"}') < 10:
            received += connection.recv(10_000)


def gone(connection: socket.socket) -> bool:
    """Whether the server ends the connection."""
    try:
        while connection.recv(100_000):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


# -- answers that are not read ---------------------------------------------------------------------


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A service whose kernel keeps little of what is not read, and that waits for half a second."""

    def bind(*where: Any) -> socket.socket:
        bound = server.bind(*where)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return bound

    monkeypatch.setattr(serving, "bind", bind)
    monkeypatch.setattr(server, "SEND_SECONDS", 0.5)
    engine = Engine()
    engine._script = lambda path, sampling, rng: ("x" * 30_000 + "\n\n", "stop")
    with served(engine) as service:
        service.http.close()
        yield service


@pytest.mark.parametrize(
    "request_",
    [
        get(FILE),
        get(FILE).replace(b"Host", b"Connection: close\r\nHost"),
        get("/openapi.json"),
        post(CHAT, chat(max_tokens=30_000)),
        post(CHAT, chat(max_tokens=30_000, stream=True)),
        post(CHAT, chat(max_tokens=30_000, stream=True, router={"trace": True})),
    ],
    ids=["file", "last file", "JSON", "answer", "stream", "trace"],
)
@pytest.mark.parametrize("slow", [False, True], ids=["unread", "slowly read"])
def test_who_does_not_read_is_dropped(narrow: Served, request_: bytes, slow: bool) -> None:
    connections = narrow.server.server_state.connections
    until(lambda: not connections)
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(5)
        host, port = narrow.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.sendall(request_)
        until(lambda: len(connections) == 1)

        def dropped() -> bool:
            if slow and connections:
                with suppress(OSError):
                    connection.recv(1)
            time.sleep(0.1)
            return not connections

        until(dropped)
    until(lambda: f"{RUNNING} 0.0" in httpx.get(f"{narrow.url}/metrics").text)


# -- connections -----------------------------------------------------------------------------------


def test_many_connections_shut_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SPARE_CONNECTIONS", 8)
    with served(settings=Settings(running=1, waiting=1)) as service:
        service.engine.hold()
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(service.chat(router={"budget": 1})))
        asking.start()
        until(lambda: service.engine.waiting == 1)
        idle = [connect(service) for _ in range(50)]
        for number, connection in enumerate(idle):
            connection.sendall(b"GET /health HTTP/1.1\r\n" if number % 2 else b"")
        assert httpx.get(f"{service.url}/health").status_code == 200
        assert len(service.server.server_state.connections) <= 11
        service.engine.go_on()
        asking.join()
        assert answers[0].status_code == 200  # what is answered is nobody's room
        for connection in idle:
            connection.close()


# -- bodies ----------------------------------------------------------------------------------------


def listed(value: str, times: int) -> str:
    return "[" + ",".join([value] * times) + "]"


def of(field: str, value: str) -> str:
    return json.dumps({"model": "fake", "messages": ASK})[:-1] + f', "{field}": {value}}}'


FIELDS = "{" + ",".join(f'"k{i}":0' for i in range(20_000)) + "}"

TOO_MUCH = {
    "parts": of("messages", listed('{"role":"user","content":[{"type":"x"}]}', 60_000 // 4)),
    "bad messages": of("messages", listed("7", MOST_TOKENS)),
    "lists": of("metadata", listed("[]", MOST_TOKENS)),
    "objects": of("metadata", listed("{}", MOST_TOKENS)),
    "nested": "[" * MOST_TOKENS * 2,
    "nested objects": '{"a":' * MOST_TOKENS,
    "strings": of("stop", listed('""', MOST_TOKENS)),
    "after a string with quotes": of("user", '"' + '\\"' * 99 + '"') + "[" * MOST_TOKENS,
    "fields": of("router", FIELDS),
    "fields of a message": of("messages", f"[{FIELDS}]"),
    "fields of all": FIELDS,
}


@pytest.mark.parametrize("path", [CHAT, "/v1/route"])
@pytest.mark.parametrize("name", TOO_MUCH)
def test_bodies_of_too_many_values_are_refused_early(service: Served, path: str, name: str) -> None:
    body = TOO_MUCH[name].encode()
    if path != CHAT and name.startswith("fields of a"):
        body = FIELDS.encode()
    answer = service.http.post(path, content=body, headers=JSON)
    if path != CHAT and name == "fields":
        refused(answer, 400, "invalid_value")  # a decision has no such field to look into
        return
    assert re.search(r"100000|\b100\b", refused(answer, 400, "too_many_values")["message"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_no_other_encoding_hides_what_is_in_a_body(service: Served, encoding: str) -> None:
    body = of("metadata", '"\u2201\u0122[[["').encode(encoding)
    answer = service.http.post(CHAT, content=body, headers=JSON)
    assert "UTF-8" in refused(answer, 400, "invalid_json")["message"]


def test_text_may_hold_whatever_it_likes(service: Served) -> None:
    text = r'$\frac{[1,2]}{"3"}$, \\ ' * 30_000
    assert text.count("[") + text.count(",") + text.count('"') > MOST_TOKENS
    answer = service.chat(text, user="\\", max_tokens=5, router={"budget": 1})
    assert "too_many_values" not in answer.text


@pytest.mark.parametrize(
    "change",
    [
        {"model": "m" * 100_000},
        {"m" * 100_000: 1},
        {"router": {"m" * 100_000: 1}},
        {"router": {"task": "m" * 100_000}},
        {"router": {"strategy": "m" * 100_000}},
        {"router": {"strategy": "m" * 900}},
        {"router": {"strategy": f"best_of_n({'m' * 900}=1)"}},
        {"router": {"strategy": f"best_of_n({','.join(['n=4'] * 20_000)})"}},
        {"messages": [{"role": "m" * 100_000, "content": "5"}]},
        {"messages": [{"role": "user", "content": [{"type": "m" * 100_000}]}]},
        {"response_format": {"type": "m" * 100_000}},
        {"reasoning_effort": "m" * 100_000},
    ],
    ids=range(12),
)
def test_what_was_sent_is_not_echoed_at_length(service: Served, change: dict[str, Any]) -> None:
    body = {"model": "fake", "messages": ASK, **change}
    answer = service.http.post(CHAT, json=body)
    assert answer.status_code in (400, 404)
    error = answer.json()["error"]
    assert len(error["message"]) < 1100
    assert len(error["param"] or "") < 250


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", FILE])
def test_nobody_without_a_key_has_a_body_read(path: str) -> None:
    settings = Settings(keys=ApiKeys.parse(KEY, "here"))
    with served(settings=settings) as service, connect(service) as connection:
        connection.sendall(post(path, b"{", "Content-Length: 900000"))
        assert b" 405 " in connection.recv(1000)


# -- decisions -------------------------------------------------------------------------------------


def test_decisions_wait_for_each_other_and_for_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    choose = Default.choose

    def slow(self: Default, *asked: Any) -> Decision:
        hold.wait(20)
        return choose(self, *asked)

    router = Router(generator=(engine := Engine()), verifier=FakeVerifier())
    with served(engine, Settings(running=1, waiting=2), router=router) as service:
        asked = {"problem": QUESTION}
        engine.hold()
        searching = threading.Thread(target=service.chat)
        searching.start()
        until(lambda: engine.waiting > 0)
        assert service.http.post("/v1/route", json=asked).status_code == 200
        monkeypatch.setattr(Default, "choose", slow)
        statuses: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: statuses.append(
                    httpx.post(f"{service.url}/v1/route", json=asked, timeout=30).status_code
                )
            )
            for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        until(lambda: len(statuses) == 4)  # four run, two wait
        assert statuses == [429] * 4
        assert service.http.get("/health").status_code == 200
        hold.set()
        engine.go_on()
        for thread in [*threads, searching]:
            thread.join()
        assert sorted(statuses) == [200] * 6 + [429] * 4


# -- the page's files ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/style/base.css", FILE])
def test_a_browser_asks_whether_its_copy_is_still_the_same(service: Served, path: str) -> None:
    first = service.http.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = service.http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code in ((200, 304) if path == "/" else (304,))
    assert again.headers["cache-control"] == "no-cache"
