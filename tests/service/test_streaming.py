"""What a stream says before the answer, and what becomes of its search when the client leaves."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import APIError, OpenAI

from router import Router
from router.bundle import Bundle
from router.models.types import Chain
from router.service import searching
from router.service.settings import Settings
from tests.router.test_routing import bundle  # noqa: F401 (a fixture)
from tests.router.test_thinking import writes
from tests.service.serving import CHAT, QUESTION, Engine, Served, bundled, served, until


@pytest.fixture
def slow() -> Iterator[Served]:
    """A service whose engine needs half a second for each solution."""
    with served(Engine(seconds_per_token=0.01)) as service:
        yield service


def events(service: Served, **router: object) -> tuple[list[dict[str, Any]], list[str]]:
    """Data and comments of a stream."""
    data, comments = [], []
    body = {"model": "fake", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    with service.http.stream("POST", CHAT, json={**body, "router": router}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        for line in response.iter_lines():
            if line.startswith("data: "):
                data.append(line.removeprefix("data: "))
            elif line:
                assert line.startswith(": ")
                comments.append(line)
    assert data.pop() == "[DONE]"
    return [json.loads(chunk) for chunk in data], comments


def told(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The router's own events in these, those put together again that were too long for one."""
    parts, events = "", []
    for event in (chunk["router"] for chunk in chunks if "router" in chunk):
        if event["event"] == "part":
            parts += event["text"]
        if event.get("last", True):
            events.append(json.loads(parts) if parts else event)
            parts = ""
    return events


@pytest.mark.parametrize("budget", [1, 16])
def test_trace_shows_the_decision_and_the_tree_and_then_the_answer(
    slow: Served, budget: int
) -> None:
    strategy = "beam_search(n=16, width=4)" if budget == 16 else "auto"
    chunks, _ = events(slow, budget=budget, strategy=strategy, trace=True)
    asides = told(chunks)
    assert all(chunk["choices"] == [] for chunk in chunks if "router" in chunk)
    names = [aside["event"] for aside in asides]
    assert names[0] == "decision"
    assert names[-2:] == ["spend", "solution"]
    assert set(names[1:-2]) == {"nodes"}
    solution = asides[-1]["solution"]
    assert asides[0]["decision"] == solution["decision"]
    assert asides[-2]["usage"] == solution["usage"]
    nodes: dict[int, dict[str, Any]] = {}
    for aside in asides[1:-2]:
        for node in aside["nodes"]:
            assert node["parent"] is None or node["parent"] in nodes
            nodes[node["id"]] = node
    finished = [node for node in nodes.values() if node["status"] == "finished"]
    assert len(finished) == len(solution["candidates"])
    assert all(node["score"] is not None for node in finished)
    answers = [candidate["answer"] for candidate in solution["candidates"]]
    assert sorted(node["answer"] for node in finished) == sorted(answers)
    if budget == 16:
        assert names.count("nodes") > 1  # the tree was sent as it grew
        assert any(node["status"] == "pruned" for node in nodes.values())
    content = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    assert content[0] == ""
    assert "\\boxed{" in content[1]


def test_a_short_search_is_traced_too(service: Served) -> None:
    chunks, _ = events(service, budget=2, trace=True)
    names = [event["event"] for event in told(chunks)]
    assert names == ["decision", "nodes", "spend", "solution"]


def test_the_decision_comes_first_and_once_where_a_pilot_is_drawn_before_it(
    bundle: Bundle,  # noqa: F811
    tmp_path: pathlib.Chain,
) -> None:
    engine = Engine(seconds_per_token=0.002)
    router = bundled(bundle, engine, tmp_path / "bundle", "pilot")
    with served(engine, router=router) as service:
        chunks, _ = events(service, budget=8, trace=True)
    asides = told(chunks)
    assert [aside["event"] for aside in asides].count("decision") == 1
    decision = asides[0]["decision"]
    assert "2 samples" in decision["why"]
    assert decision == asides[-1]["solution"]["decision"]
    finished = [
        node
        for aside in asides
        if aside["event"] == "nodes"
        for node in aside["nodes"]
        if node["status"] == "finished"
    ]
    ids = {node["id"] for node in finished}
    assert len(ids) == len(asides[-1]["solution"]["candidates"])  # the pilot's two among them


def test_long_answers_are_read_once_and_not_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[Chain] = []

    def slowly(path: Chain) -> str:
        read.append(path)
        time.sleep(0.5)
        return "54"

    monkeypatch.setattr(searching, "read", slowly)
    with served() as service:
        reading = threading.Thread(target=lambda: events(service, budget=4, trace=True))
        reading.start()
        slowest = 0.0
        while reading.is_alive():
            started = time.monotonic()
            assert service.http.get("/health").status_code == 200
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.01)
        reading.join()
        assert len(read) == 4
        assert slowest < 0.45


CJK = "所以答案是五十四。"


@pytest.mark.parametrize("api", ["chat", "trace", "completions"])
def test_no_line_is_too_long_for_clients_that_read_by_lines(api: str) -> None:
    thought = "<think>" + 2_000 * CJK + "</think>"
    generator = writes(thought, 500 * CJK, 2_000 * CJK + "\\boxed{54}")
    path, body = CHAT, {"messages": [{"role": "user", "content": "1 + 2"}]}
    if api == "completions":
        path, body = "/v1/completions", {"prompt": "1 + 2"}
    asked = {"model": "fake@30", "stream": True, "max_tokens": 1 << 20, **body}
    asked["router"] = {"trace": api == "trace"}
    with served(router=Router(generator=generator, verifier=None)) as service:
        lines = service.http.post(path, json=asked).text.splitlines()
    assert max(map(len, lines)) < 16_000
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    said = [choice.get("text") or choice.get("delta", {}).get("content") for choice in choices]
    assert "".join(filter(None, said)) == 2_500 * CJK + "\\boxed{54}"
    if api == "chat":
        assert chunks[-1]["router"]["usage"]["generations"] == 30
        thoughts = [choice["delta"].get("reasoning_content") for choice in choices]
        assert "".join(filter(None, thoughts)) == 2_000 * CJK
    if api == "trace":
        asides = told(chunks)
        nodes = [node for event in asides if event["event"] == "nodes" for node in event["nodes"]]
        assert thought in {node["text"] for node in nodes}
        assert asides[-1]["solution"]["usage"]["generations"] == 30


def test_progress_is_comments_unless_reasoning_is_asked_for() -> None:
    with served(Engine(seconds_per_token=0.04)) as slow:
        chunks, comments = events(slow, budget=2)
        assert len(comments) >= 2
        assert "solutions finished" in comments[-1]
        assert [chunk["choices"][0]["delta"].keys() for chunk in chunks] == [
            {"role", "content"},
            {"content"},
            set(),
        ]
        chunks, comments = events(slow, budget=2, reasoning=True)
        assert comments == []
        thoughts = [c["choices"][0]["delta"].get("reasoning_content") for c in chunks]
        assert "solutions finished" in "".join(filter(None, thoughts))


def test_failure_in_mid_stream_reaches_the_client() -> None:
    with served() as service:
        service.engine.hold()
        client = OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
        stream = client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        chunks = iter(stream)
        assert next(chunks).choices[0].delta.role == "assistant"
        service.engine.dead = True
        service.engine.go_on()
        with pytest.raises(APIError, match="the engine failed") as caught:
            list(chunks)
        assert caught.value.code == "engine_failed"
        assert "secret" not in str(caught.value)


def test_failure_before_the_first_byte_is_a_status(service: Served) -> None:
    answer = service.chat("1 + 1 = " * 3000, stream=True)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


# -- clients that leave --------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_while_the_engine_works_ends_its_work(stream: bool) -> None:
    with served() as service:
        service.engine.hold()
        leave(service, stream, once=lambda: service.engine.waiting > 0)
        until(lambda: service.engine.waiting == 0)
        assert service.metric("router_num_requests_running") == 0
        until(lambda: gone(service) == 1)


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_the_queue_frees_the_place(stream: bool) -> None:
    with served(settings=Settings(running=1, waiting=1)) as service:
        service.engine.hold()
        first = threading.Thread(target=service.chat)
        first.start()
        until(lambda: service.engine.waiting > 0)
        leave(service, stream, once=lambda: service.metric("router_num_requests_waiting") == 1)
        until(lambda: service.metric("router_num_requests_waiting") == 0)
        service.engine.go_on()
        first.join()
        assert service.chat().status_code == 200


def test_leaving_while_the_answer_is_written(slow: Served) -> None:
    leave(slow, True, once=lambda: slow.engine.running > 0, read=b"chat.completion.chunk")
    until(lambda: gone(slow) == 1)
    until(lambda: slow.engine.running == 0)
    assert slow.chat(router={"budget": 1}).status_code == 200


def test_leaving_in_the_middle_of_the_body(service: Served) -> None:
    before = gone(service, "other")
    with connected(service) as connection:
        connection.sendall(head(500) + b'{"model": ')
    until(lambda: gone(service, "other") == before + 1)
    assert service.chat(router={"budget": 1}).status_code == 200


def leave(
    service: Served, stream: bool, once: Callable[[], bool], read: bytes | None = None
) -> None:
    """Send a request, and close the connection once that holds and this was read."""
    messages = [{"role": "user", "content": QUESTION}]
    body = json.dumps({"model": "fake", "messages": messages, "stream": stream}).encode()
    with connected(service) as connection:
        connection.sendall(head(len(body)) + body)
        received = b""
        while read is not None and read not in received:
            received += connection.recv(100)
        until(once)


def connected(service: Served) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(length: int) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def gone(service: Served, route: str = CHAT) -> float:
    return service.metric(f'router_requests_total{{outcome="client_gone",route="{route}"}}')
