"""`router serve` on the embedded model, asked by OpenAI's own client; its engine is killed once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import InternalServerError, OpenAI

from tests.service.serving import CHAT, until
from tests.service.test_serve_command import Running, process, ready

pytestmark = [pytest.mark.model, pytest.mark.timeout(1200)]

QUESTION = "What is 17 * 24?"
OPENING_SECONDS = 500


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Running, str]]:
    command = ("-m", "cli", "serve", "--port", "0", "--engine", "vllm", "--max-tokens", "128")
    with process(*command, opening_seconds=OPENING_SECONDS) as (running, url):
        yield running, url
        running.child.terminate()
        running.child.wait(timeout=60)


@pytest.fixture(scope="module")
def client(service: tuple[Running, str]) -> OpenAI:
    return OpenAI(base_url=f"{service[1]}/v1", api_key="none", max_retries=0, timeout=600)


def test_answers_and_says_what_it_has_spent(client: OpenAI) -> None:
    model = client.models.list().data[0].id
    answer = client.chat.completions.create(
        model=f"{model}@4",
        messages=[
            {"role": "system", "content": "You are good at sums."},
            {"role": "user", "content": QUESTION},
        ],
        temperature=0.7,
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    router = answer.model_extra["router"]  # type: ignore[index]
    assert router["usage"]["generations"] <= 4
    assert router["decision"]["why"]
    assert len(router["candidates"]) >= 1


def test_streams(client: OpenAI) -> None:
    model = client.models.list().data[0].id
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"router": {"budget": 4, "strategy": "beam_search", "trace": True}},
    )
    text, events, usage = "", [], None
    for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
        elif "router" in (chunk.model_extra or {}):
            events.append(chunk.model_extra["router"]["event"])  # type: ignore[index]
        usage = chunk.usage or usage
    assert text
    assert usage is not None
    assert usage.completion_tokens > 0
    assert events[0] == "decision"
    assert events[-1] == "solution"
    assert "nodes" in events


def test_engine_killed_in_mid_request_comes_back(
    service: tuple[Running, str], client: OpenAI
) -> None:
    running, url = service
    model = client.models.list().data[0].id
    failures: list[Exception] = []

    def ask() -> None:
        try:
            client.chat.completions.create(
                model=f"{model}@64", messages=[{"role": "user", "content": QUESTION}]
            )
        except Exception as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: "router_num_requests_running 1.0" in httpx.get(f"{url}/metrics").text, 60)
    threading.Event().wait(1.0)
    for engine in engines(running.child.pid):
        os.kill(engine, signal.SIGKILL)
    asking.join()
    [failure] = failures
    assert isinstance(failure, InternalServerError)
    assert failure.status_code == 503
    assert failure.code == "engine_failed"
    until(lambda: not ready(url), 10)
    until(lambda: ready(url), OPENING_SECONDS)
    body = {"model": f"{model}@1", "messages": [{"role": "user", "content": QUESTION}]}
    assert httpx.post(f"{url}{CHAT}", json=body, timeout=600).status_code == 200


def engines(parent: int) -> list[int]:
    """vLLM's engine processes below a process."""
    found, below = [], {parent}
    for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            name, _, rest = (path / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if int(rest.split()[1]) in below:
            below.add(int(path.name))
            if name.startswith("VLLM::EngineCor"):
                found.append(int(path.name))
    assert found, "no engine process"
    return found
