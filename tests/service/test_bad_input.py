"""Nothing that a client sends gives a 500, and every refusal says what to do."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from typing import Any

import httpx
import pytest

from router.service import guard, server
from router.service.logs import JsonFormatter
from tests.service.serving import CHAT, QUESTION, Served

JSON = {"Content-Type": "application/json"}
FOREIGN = re.compile(
    r"pydantic|Input should|validator|Extra inputs|function-|<|0x|constrained|Expecting|NoneType"
)
"""Words of pydantic's, or of Python's."""

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
    error = refused(service.http.post(CHAT, content=content, headers=JSON), 400)
    assert error["code"] in ("invalid_json", "invalid_value")
    assert error["param"] == "body"
    assert not FOREIGN.search(error["message"])


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
        ({"messages": [{**ASK[0], "weight": 1}]}, "messages[0].weight"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}, *ASK]}, "messages[0].tool_calls"),
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
        ({"router": {"trace": True}}, "router.trace"),
        ({"router": {"reasoning": True}}, "router.reasoning"),
        ({"stream": True, "stream_options": {"surprise": 1}}, "stream_options.surprise"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{"type": "function"}], "tool_choice": "auto"}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"reasoning_effort": "hard"}, "reasoning_effort"),
        ({"min_p": 0.1}, "min_p"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": "json"}, "response_format"),
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
    assert error["param"] == param
    assert param.split(".")[-1] in error["message"]
    assert error["code"] in ("invalid_value", "unsupported_value", "budget_not_allowed")
    assert not FOREIGN.search(error["message"])


@pytest.mark.parametrize(
    ("part", "field", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "image_url", "images are not"),
        ({"type": "input_audio", "input_audio": {"data": "x"}}, "input_audio", "audio is not"),
        ({"type": "file", "file": {"file_id": "x"}}, "file", "files are not"),
        ({"type": "surprise"}, "type", "only text"),
        ({"type": "text"}, "text", "required"),
        ({"type": "text", "text": "1", "image": "x"}, "image", "not supported"),
        ({"type": "text", "text": 7}, "text", "must be text"),
        ({"text": "1"}, "type", "required"),
    ],
    ids=str,
)
def test_what_is_no_text_is_refused_and_not_dropped(
    service: Served, part: dict[str, Any], field: str, words: str
) -> None:
    parts = [{"type": "text", "text": "1 + 1?"}, part]
    error = refused(
        post(service, {"model": "fake", "messages": [{"role": "user", "content": parts}]}), 400
    )
    assert error["param"] == f"messages[0].content[1].{field}"
    assert words in error["message"]
    assert error["param"] in error["message"]


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
    error = refused(service.chat(headers={"x-router-budget": header}), 400, "invalid_value")
    assert error["param"] == "x-router-budget"


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
    error = refused(answer, 400, "invalid_value")
    assert words in error["message"]
    assert error["param"] == "router.strategy"
    if strategy.isascii():
        asked = {"problem": QUESTION, "budget": 4, "strategy": strategy}
        answer = service.http.post("/v1/route", json=asked)
        assert refused(answer, 400, "invalid_value")["param"] == "strategy"


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
    assert error["param"] == "messages[0].content"


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
    error = refused(service.http.request(method, path), status)
    assert error["code"]
    assert error["param"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/chat/completion", "POST /v1/chat/completions"),
        ("/chat/completions", "POST /v1/chat/completions"),
        ("/v1/v1/responses", "POST /v1/responses"),
        ("/api/v1/models", "GET /v1/models"),
        ("/v1/embeddings", "the API is POST /v1/chat/completions"),
        ("/v1/responses/resp_1", "nothing is stored"),
    ],
)
def test_paths_of_other_apis_get_a_hint(service: Served, path: str, hint: str) -> None:
    assert hint in refused(service.http.post(path, json={}), 404, "not_found")["message"]


def test_a_slash_at_the_end_means_nothing(service: Served) -> None:
    for path in ("/v1/models/", "/health/", "/v1/models/fake/"):
        assert service.http.get(path).status_code == 200  # and no redirect, which forgets TLS
    asked = {"model": "fake@1", "messages": ASK}
    assert service.http.post(f"{CHAT}/", json=asked).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/page/main.js"])
def test_head(service: Served, path: str) -> None:
    got, asked = service.http.get(path), service.http.head(path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_forms_that_any_web_page_can_send_are_refused(service: Served, kind: str) -> None:
    body = json.dumps({"model": "fake", "messages": ASK})
    answer = service.http.post(CHAT, content=body, headers={"Content-Type": kind})
    refused(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "[", ""]
)
def test_names_that_resolve_to_this_machine_are_not_it(service: Served, host: str) -> None:
    answer = service.http.get("/ready", headers={"Host": host})
    assert "--keys" in refused(answer, 403, "host_not_allowed")["message"]


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
