"""Picking an engine: what is installed, what was asked for, and what does not go together."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router.models.base import GeneratorInfo
from router.models.errors import InputError, ModelError
from router.models.generators import load
from router.models.generators.load import load_generator, pick_engine
from router.models.generators.vllm import EXTENSION, VLLMGenerator
from router.models.prompts import Prompt
from router.models.weights.embedded import DEFAULT

SERVER = ("http://127.0.0.1:1",)


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(load, "find_spec", lambda name: object() if name in names else None)


@pytest.mark.parametrize(
    ("installed", "engine", "endpoints", "picked"),
    [
        (("torch", "transformers", "vllm"), "auto", (), "vllm"),
        (("torch", "transformers"), "auto", (), "transformers"),
        (("torch", "transformers", "vllm"), "transformers", (), "transformers"),
        (("torch", "transformers", "vllm"), "auto", SERVER, "openai"),
        ((), "openai", SERVER, "openai"),
    ],
)
def test_the_best_that_is_there_is_picked(
    monkeypatch: pytest.MonkeyPatch,
    installed: tuple[str, ...],
    engine: str,
    endpoints: tuple[str, ...],
    picked: str,
) -> None:
    install(monkeypatch, *installed)
    assert pick_engine(engine, endpoints) == picked


@pytest.mark.parametrize(
    ("installed", "engine", "endpoints", "message"),
    [
        ((), "auto", (), r"pip install 'compute-optimal-router\[vllm\]'"),
        (("torch", "transformers"), "vllm", (), "vllm not installed"),
        (("vllm",), "vllm", (), "vllm not installed"),
        ((), "openai", (), "needs at least one endpoint"),
        ((), "vllm", SERVER, "takes no endpoints; use 'openai'"),
        ((), "vlm", (), "no engine 'vlm'; did you mean 'vllm'"),
        ((), "zzz", (), "choose one of auto, vllm, transformers, openai"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
    installed: tuple[str, ...],
    engine: str,
    endpoints: tuple[str, ...],
    message: str,
) -> None:
    install(monkeypatch, *installed)
    with pytest.raises(InputError, match=message):
        pick_engine(engine, endpoints)


class Loaded:
    """Stands for an engine module's generator; remembers what it was loaded with."""

    def __init__(self, info: GeneratorInfo, path: Path) -> None:
        self.info = info
        self.path = path

    @classmethod
    async def load(cls, path: Path, *, name: str, prompt: Prompt) -> Loaded:
        return cls(GeneratorInfo(name, "transformers", prompt.id), path)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module: Any = pytest.importorskip("router.models.generators.transformers")
    monkeypatch.setattr(module, "TransformersGenerator", Loaded)
    monkeypatch.setattr(load, "find_model", lambda ref: Path(ref or tmp_path))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("model", "prompt", "name", "prompt_id"),
    [
        (None, None, DEFAULT.name, DEFAULT.prompt),
        (None, "plain", DEFAULT.name, "plain"),
        (
            "meta-llama/Llama-3.2-1B-Instruct",
            None,
            "meta-llama/Llama-3.2-1B-Instruct",
            "llama-eval",
        ),
    ],
)
async def test_a_model_gets_its_name_and_its_own_prompt(
    caplog: pytest.LogCaptureFixture,
    model: str | None,
    prompt: str | None,
    name: str,
    prompt_id: str,
) -> None:
    with caplog.at_level(logging.INFO, logger="router"):
        generator = await load_generator(model, "transformers", prompt)
    assert (generator.info.model, generator.info.prompt) == (name, prompt_id)
    assert f"{name} on transformers, prompt {prompt_id}" in caplog.text


@pytest.mark.usefixtures("engine")
async def test_a_directory_is_named_by_its_last_part(tmp_path: Path) -> None:
    directory = tmp_path / "Llama-3-tuned"
    directory.mkdir()
    generator = await load_generator(f"{directory}/", "transformers")
    assert (generator.info.model, generator.info.prompt) == ("Llama-3-tuned", "llama-eval")


async def test_vllm_engine_ends_when_the_tokenizer_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    class Engine:
        def shutdown(self, timeout: float) -> None:
            ended.append(timeout)

    async def start(path: Path, **args: Any) -> Engine:
        return Engine()

    platforms = SimpleNamespace(current_platform=SimpleNamespace(is_cpu=lambda: True))
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(platforms=platforms))
    monkeypatch.setattr("router.models.generators.vllm.start_engine", start)
    with pytest.raises((OSError, ValueError)):  # an empty directory has no tokenizer
        await VLLMGenerator.load(tmp_path, name="m", prompt=Prompt("plain"))
    assert len(ended) == 1


@pytest.mark.parametrize(
    ("cpu", "known", "extended"), [(True, True, True), (True, False, False), (False, True, False)]
)
async def test_our_code_joins_vllms_worker_only_on_a_cpu_and_in_versions_we_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: bool, known: bool, extended: bool
) -> None:
    started: dict[str, Any] = {}

    async def start(path: Path, **args: Any) -> None:
        started.update(args)
        raise ModelError("far enough")

    monkeypatch.setattr("router.models.generators.vllm.runs_on_cpu", lambda: cpu)
    monkeypatch.setattr("router.models.generators.vllm.known", lambda: known)
    monkeypatch.setattr("router.models.generators.vllm.start_engine", start)
    with pytest.raises(ModelError, match="far enough"):
        await VLLMGenerator.load(tmp_path, name="m", prompt=Prompt("plain"), dtype="half")
    assert started == {"dtype": "half"} | ({"worker_extension_cls": EXTENSION} if extended else {})
