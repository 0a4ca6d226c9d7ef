"""Nothing that a client sends gives a 500, and every refusal says what to do."""

from __future__ import annotations

import json
import logging
import socket
import time
from typing import Any

import httpx
import pytest

from router.service import guard, server
from router.service.observe import JsonFormatter
from tests.service.serving import CHAT, QUESTION, Served

JSON = {"Content-Type": "application/json"}
ASK = [{"role": "user", "content": QUESTION}]


def refused(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The error, which has OpenAI's shape."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error"}
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert response.headers["x-request-id"]
    if code is not None:
        assert error["code"] == code
    return error


def post(service: Served, body: object) -> httpx.Response:
    return service.http.post(CHAT, json=body)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2",
        b'{"model": "fake", "messages": [}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"model": "fake"} trailing',
        b"null",
        b'"text"',
        b"[]",
    ],
    ids=range(11),
)
def test_malformed_json(service: Served, content: bytes) -> None:
    refused(service.http.post(CHAT, content=content, headers=JSON), 400)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "What is 1 + 1?"}, "messages"),
        ({"messages": ["What is 1 + 1?"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "4", "tool_call_id": "1"}]}, "messages[0].role"),
        ({"messages": [{**ASK[0], "name": "Ann"}]}, "messages[0].name"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": True}, "top_p"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"seed": "x"}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"router": {"trace": True}}, "router.trace"),
        ({"router": {"reasoning": True}}, "router.reasoning"),
        ({"stream": True, "stream_options": {"surprise": 1}}, "stream_options.surprise"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"top_k": 5}, "top_k"),
        ({"router": 7}, "router"),
        ({"router": {"budget": 0}}, "router.budget"),
        ({"router": {"budget": "8"}}, "router.budget"),
        ({"router": {"budget": True}}, "router.budget"),
        ({"router": {"budget": 257}}, "router.budget"),
        ({"router": {"budget": 10**9}}, "router.budget"),
        ({"router": {"tolerance": 2}}, "router.tolerance"),
        ({"router": {"tolerance": None}}, "router.tolerance"),
        ({"router": {"deadline": 0}}, "router.deadline"),
        ({"router": {"token_cap": 0}}, "router.token_cap"),
        ({"router": {"surprise": 1}}, "router.surprise"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_types_and_values(service: Served, change: dict[str, Any], param: str) -> None:
    error = refused(post(service, {"model": "fake", "messages": ASK, **change}), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)
    assert param.split(".")[-1] in error["message"]


def test_an_image_is_refused_and_not_dropped(service: Served) -> None:
    parts = [{"type": "text", "text": "1 + 1?"}, {"type": "image_url", "image_url": {"url": "x"}}]
    error = refused(
        post(service, {"model": "fake", "messages": [{"role": "user", "content": parts}]}), 400
    )
    assert error["param"].startswith("messages[0].content")


def test_values_that_change_nothing_are_accepted(service: Served) -> None:
    answer = service.chat(
        n=1,
        tools=[],
        logprobs=False,
        response_format={"type": "text"},
        presence_penalty=0,
        user="me",
        metadata={"a": "b"},
        temperature=None,
        stop=None,
        max_tokens=90,
        max_completion_tokens=90,
        router={"budget": 1},
    )
    assert answer.status_code == 200


def test_an_answer_may_be_sent_back_as_it_came(service: Served) -> None:
    message = service.chat(router={"budget": 1}).json()["choices"][0]["message"]
    turns = [*ASK, {**message, "tool_calls": None, "reasoning_content": "2 done"}, *ASK]
    answer = post(service, {"model": "fake", "messages": turns, "router": {"budget": 1}})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "model", ["gpt-4", "fake@", "fake@0", "fake@x", "fake@1e3", "", "a" * 9999]
)
def test_unknown_model(service: Served, model: str) -> None:
    error = refused(post(service, {"model": model, "messages": ASK}), 404, "model_not_found")
    assert "'fake@N'" in error["message"]
    assert len(error["message"]) < 400


@pytest.mark.parametrize("asked", ["body", "header", "suffix"])
def test_budget_over_the_cap(service: Served, asked: str) -> None:
    answer = service.chat(
        model="fake@300" if asked == "suffix" else "fake",
        headers={"x-router-budget": "300"} if asked == "header" else None,
        router={"budget": 300} if asked == "body" else {},
    )
    error = refused(answer, 400, "budget_not_allowed")
    assert "1 to 256" in error["message"]


@pytest.mark.parametrize("header", ["x", "0", "-1", "1.5"])
def test_bad_budget_header(service: Served, header: str) -> None:
    refused(service.chat(headers={"x-router-budget": header}), 400)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("beem_search", "beam_search"),
        ("best_of_n(n=99)", "99 generations"),
        ("best_of_n(n=", "best_of_n(n="),
        ("\ud800", "surrogate"),
    ],
)
def test_bad_strategy(service: Served, strategy: str, words: str) -> None:
    body = {"model": "fake", "messages": ASK, "router": {"strategy": strategy, "budget": 4}}
    answer = service.http.post(CHAT, content=json.dumps(body), headers=JSON)
    assert words in refused(answer, 400)["message"]


def test_an_unknown_task(service: Served) -> None:
    error = refused(service.chat(router={"task": "choise"}), 400, "invalid_value")
    assert error["message"] == "no task 'choise'; did you mean 'choice'?"
    assert error["param"] == "router.task"
    asked = service.http.post("/v1/route", json={"problem": QUESTION, "task": "x" * 10_000})
    error = refused(asked, 400, "invalid_value")
    assert error["param"] == "task"
    assert len(error["message"]) < 200


def test_the_task_reads_the_answer(service: Served) -> None:
    answer = service.chat(router={"task": "open", "budget": 1}).json()
    assert answer["router"]["answer"] == answer["choices"][0]["message"]["content"].strip()
    assert service.chat(router={"task": "maths", "budget": 1}).json()["router"]["answer"]


def test_ten_megabytes_of_prompt(service: Served) -> None:
    refused(service.chat("1" * 10_000_000), 413, "body_too_large")


def test_ten_megabytes_without_a_length(service: Served) -> None:
    def pieces() -> Any:
        for _ in range(100):
            yield b"1" * 100_000

    try:
        answer = service.http.post(CHAT, content=pieces(), headers=JSON)
    except httpx.WriteError:
        return  # the connection was closed while it still wrote
    refused(answer, 413, "body_too_large")


def test_ten_thousand_messages(service: Served) -> None:
    error = refused(post(service, {"model": "fake", "messages": ASK * 10_000}), 400)
    assert error["param"] == "messages"


def test_prompt_longer_than_the_context(service: Served) -> None:
    error = refused(service.chat("1 + 1 = " * 3000), 400, "context_length_exceeded")
    assert "context" in error["message"]


@pytest.mark.parametrize("text", ["a\x00b", "\x1b[31m", "\u202e", "\r\n\r\n", "\ufffe", "\x7f"])
def test_control_characters_are_text(service: Served, text: str) -> None:
    answer = service.chat(f"{text}1 + 1{text}", router={"budget": 1})
    assert answer.status_code == 200
    assert service.engine.prompts[0].problem.text == f"{text}1 + 1{text}"


@pytest.mark.parametrize("text", ["\ud800", "1 + \udfff"])
def test_half_a_surrogate_pair_is_no_text(service: Served, text: str) -> None:
    body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": text}]})
    refused(service.http.post(CHAT, content=body, headers=JSON), 400)
    body = json.dumps({"model": "fake", "messages": ASK, text: 1})
    refused(service.http.post(CHAT, content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/page/../app.py", 404),
        ("GET", "/page/%2e%2e/app.py", 404),
        ("GET", "/\u00e9", 404),
        ("GET", "/docs", 404),
        ("POST", "/v1/route", 415),
    ],
)
def test_other_paths_and_methods(service: Served, method: str, path: str, status: int) -> None:
    refused(service.http.request(method, path), status)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_forms_that_any_web_page_can_send_are_refused(service: Served, kind: str) -> None:
    body = json.dumps({"model": "fake", "messages": ASK})
    answer = service.http.post(CHAT, content=body, headers={"Content-Type": kind})
    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "[", ""]
)
def test_names_that_resolve_to_this_machine_are_not_it(service: Served, host: str) -> None:
    refused(service.http.get("/ready", headers={"Host": host}), 403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:99", "[::1]:80"])
def test_this_machines_own_names(service: Served, host: str) -> None:
    assert service.http.get("/ready", headers={"Host": host}).status_code == 200


def test_request_id_is_kept_unless_it_is_odd(service: Served) -> None:
    def answered(sent: str) -> str:
        return service.http.get("/health", headers={"x-request-id": sent}).headers["x-request-id"]

    assert answered("trace-7.a_b") == "trace-7.a_b"
    for odd in ("a b", "x" * 129, "a;b", ""):
        assert answered(odd) != odd
        assert len(answered(odd)) == 32


def test_no_text_can_forge_a_log_line() -> None:
    record = logging.LogRecord("router", logging.INFO, "", 0, 'a\n{"level": "x"}', (), None)
    record.facts = {"problem": "\n\x1b[31m\ud800"}
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line)["problem"] == "\n\x1b[31m\ud800"


# -- slow clients --------------------------------------------------------------------------------


def connect(service: Served) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\n"])
def test_headers_that_trickle_in(
    service: Served, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS" if first else "KEEP_ALIVE_SECONDS", 0.5)
    started = time.monotonic()
    with connect(service) as connection:
        connection.sendall(first)
        assert closed_by_server(connection, b"X-Slow: 1\r\n" if first else b"")
    assert time.monotonic() - started < 5


def test_headers_that_trickle_in_after_a_good_request(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.5)
    with connect(service) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert closed_by_server(connection, b"X-Slow: 1\r\n")


def test_an_idle_connection_may_be_used_again(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    with connect(service) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reply = b""
            while not reply.endswith(b"}"):  # head and body may come apart
                reply += connection.recv(10_000)
            assert reply.startswith(b"HTTP/1.1 200")
            time.sleep(0.6)


def test_headers_without_end(service: Served) -> None:
    with connect(service) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert closed_by_server(connection, b"X-Long: " + b"1" * 20_000 + b"\r\n")


def test_a_body_that_trickles_in(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
    with connect(service) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 500\r\n\r\n{".encode()
        )
        assert b" 408 " in connection.recv(10_000)


def closed_by_server(connection: socket.socket, trickle: bytes) -> bool:
    connection.settimeout(0.1)
    for _ in range(100):
        try:
            if trickle:
                connection.sendall(trickle)
            if connection.recv(10_000) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False
