"""lm-eval and inspect-ai, end to end: on the fake engine, and on the embedded model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.clients.conftest import Tries, Try, python, ran
from tests.service.test_serve_command import process

pytestmark = [pytest.mark.clients, pytest.mark.timeout(1800)]

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    """Where `router serve` serves the embedded model."""
    python("lm_eval")  # skips where the harnesses are not installed, before a model is opened
    options = ("--engine", "vllm", "--port", "0", "--max-tokens", "256")
    with process("-m", "cli", "serve", *options, opening_seconds=500) as (running, url):
        yield url
        running.child.terminate()
        running.child.wait(timeout=60)


def lm_eval(url: str, model: str, home: Path) -> tuple[str, float]:
    """lm-eval's version, and the share that it finds right."""
    arguments = f"model={model},base_url={url}/v1/chat/completions,num_concurrent=2"
    ran(
        *(python("lm_eval"), "-m", "lm_eval", "run", "--tasks", "sums", "--include_path", "."),
        *("--model", "local-chat-completions", "--apply_chat_template"),
        *("--model_args", f"{arguments},tokenized_requests=False", "--output_path", str(home)),
        HF_DATASETS_CACHE=str(home),
        **OFFLINE,
        folder="harness",
    )
    [found] = home.rglob("results_*.json")
    told = json.loads(found.read_text())
    return told["lm_eval_version"], told["results"]["sums"]["exact_match,boxed"]


def inspect_ai(url: str, model: str, home: Path) -> tuple[str, float]:
    """inspect-ai's version, and the share that it finds right."""
    ran(
        *(python("inspect_ai"), "-m", "inspect_ai", "eval", "sums.py", "--display", "plain"),
        *("--model", f"openai-api/router/{model}", "--log-dir", str(home), "--log-format", "json"),
        ROUTER_API_KEY="none",
        ROUTER_BASE_URL=f"{url}/v1",
        folder="harness",
    )
    [found] = home.glob("*.json")
    told = json.loads(found.read_text())
    assert told["status"] == "success"
    [score] = told["results"]["scores"]
    return told["eval"]["packages"]["inspect_ai"], score["metrics"]["accuracy"]["value"]


HARNESSES = {"lm-eval": lm_eval, "inspect-ai": inspect_ai}
Harness = Callable[[str, str, Path], tuple[str, float]]


@pytest.mark.parametrize("name", HARNESSES)
def test_on_the_fake_engine(name: str, url: str, tries: Tries, tmp_path: Path) -> None:
    harness: Harness = HARNESSES[name]
    version, right = harness(url, "fake@8", tmp_path)
    assert right == 1.0
    tries.append(Try(name, version, "four sums on the fake engine, budget 8: all right", ""))


@pytest.mark.model
@pytest.mark.parametrize("name", HARNESSES)
def test_on_the_embedded_model(name: str, embedded: str, tries: Tries, tmp_path: Path) -> None:
    harness: Harness = HARNESSES[name]
    version, right = harness(embedded, "Qwen2.5-Coder-0.5B-Instruct@4", tmp_path)
    assert right >= 0.5
    told = f"the same on the embedded model, budget 4: {right:.0%} right"
    tries.append(Try(name, version, told, ""))
