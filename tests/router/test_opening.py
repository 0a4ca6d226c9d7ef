"""Models are opened so that they share what they can, and closed when one of them fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from router.core import Router
from router.models.errors import InputError, ModelError
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.placement import Wanted
from router.models.runtime.engine_args import EngineArgs
from router.models.verifiers.load import GeneratorStates
from router.models.verifiers.trained_head import WEIGHTS_FILE, Backbone, HeadConfig
from router.models.weights.embedded import DEFAULT
from router.models.weights.fingerprint import fingerprint
from router.opening import Models, assumed, default_bundle, default_verifier, load_models
from router.pairs import Pair


class Loads:
    """Stands for the loaders; keeps what they were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.generator_options: dict[str, Any] = {}
        self.states: GeneratorStates | None = None
        self.format: str | None = None
        self.fails = False
        self.opened = False
        self.closed = 0
        self.verifier_runs = "vllm"
        self.verifier_args: EngineArgs = {}
        self.memory: dict[str, Any] = {}
        self.placed: list[Wanted] = []
        loads = self

        class Closing(FakeGenerator):
            async def aclose(self) -> None:
                loads.closed += 1

        self.generator = Closing

        async def load_generator(*args: Any, **options: Any) -> FakeGenerator:
            self.generator_options, self.opened = options, True
            return Closing()

        async def load_verifier(
            ref: str, *, format: str | None, generator: GeneratorStates, engine_args: EngineArgs
        ) -> FakeVerifier:
            if self.fails:
                raise ModelError("no such weights")
            self.states, self.format, self.verifier_args = generator, format, engine_args
            return FakeVerifier()

        def placed(wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
            self.placed = list(wanted)
            return [self.memory | dict(one.args) for one in wanted]

        monkeypatch.setattr("router.opening.placed", placed)
        monkeypatch.setattr("router.models.weights.find.find_model", lambda ref: Path("/found"))
        monkeypatch.setattr("router.models.verifiers.load.find_verifier", self.find_verifier)
        monkeypatch.setattr("router.models.generators.load.load_generator", load_generator)
        monkeypatch.setattr("router.models.generators.load.find_spec", lambda name: True)
        monkeypatch.setattr("router.models.verifiers.load.load_verifier", load_verifier)

    async def find_verifier(self, ref: str, **_: Any) -> tuple[str, Path]:
        return self.verifier_runs, Path(ref)

    async def open(
        self, verifier: Path | None, engine: str, format: str | None = None, **args: Any
    ) -> None:
        judge = None if verifier is None else str(verifier)
        await load_models(
            {"": Pair("here", engine, verifier=judge, verifier_format=format, **args)}
        )


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    return Loads(monkeypatch)


def head(directory: Path, format: str) -> Path:
    config = HeadConfig("h", format, 16, "qwen-math", "last", Backbone("b", "f", 8))
    config.save(directory)
    (directory / WEIGHTS_FILE).touch()
    return directory


EMBEDDED = "Qwen2.5-Coder-0.5B-Instruct"
URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("model", "engine", "endpoints"),
    [
        (None, "auto", ()),
        (EMBEDDED, "vllm", ()),
        (None, "transformers", ()),
        (EMBEDDED, "auto", (URL,)),
    ],
)
def test_the_embedded_model_comes_with_a_verifier(
    model: str | None, engine: str, endpoints: tuple[str, ...]
) -> None:
    found = Router(model, engine=engine, endpoints=endpoints).verifier
    assert isinstance(found, str)
    assert HeadConfig.load(Path(found)).backbone.name == EMBEDDED


@pytest.mark.parametrize(
    ("model", "engine", "endpoints"),
    [
        (None, "fake", ()),
        ("Qwen/Qwen2.5-1.5B-Instruct", "auto", ()),
        (f"/somewhere/{EMBEDDED}", "auto", ()),
        (None, "auto", (URL,)),
    ],
)
def test_other_models_come_with_none(
    model: str | None, engine: str, endpoints: tuple[str, ...]
) -> None:
    assert Router(model, engine=engine, endpoints=endpoints).verifier is None


def weights_of(directory: Path, value: float) -> str:
    directory.mkdir(parents=True)
    save_file({"model.layers.0.w": torch.full((2, 2), value)}, directory / "model.safetensors")
    return str(directory)


def test_weights_here_are_known_by_what_they_are_and_not_by_their_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = weights_of(tmp_path / "renamed", 1.0)
    original = weights_of(tmp_path / EMBEDDED, 2.0)
    model = replace(DEFAULT, fingerprint=fingerprint(Path(own)))
    monkeypatch.setattr("router.opening.EMBEDDED", {model.name: model})
    assert Router(own).verifier is not None
    assert Router(original).verifier is None
    assert default_bundle(own, "auto") is not None
    assert default_bundle(original, "auto") is None


def test_what_is_believed_of_a_servers_weights_is_said() -> None:
    assert "4-bit" in (assumed(EMBEDDED, "auto", (URL,)) or "")
    assert assumed(EMBEDDED, "vllm", ()) is None
    assert assumed("other", "auto", (URL,)) is None
    assert assumed(None, "auto", (URL,)) is None
    assert Router(EMBEDDED, endpoints=(URL,))._assumed
    assert not Router(EMBEDDED, endpoints=(URL,), verifier=None, bundle=None)._assumed


def test_no_verifier_is_chosen_against_the_callers_wish_or_without_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Router(verifier=None).verifier is None
    assert Router(verifier="other").verifier == "other"
    assert Router(generator=FakeGenerator()).verifier is None
    monkeypatch.setattr("router.opening.find_spec", lambda name: None)
    assert default_verifier(None, "auto") is None


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
async def test_trained_head_reads_the_states_of_the_engine(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    await loads.open(head(tmp_path, "self"), engine)
    assert loads.generator_options == {"state_layer": 16}
    assert loads.states == GeneratorStates("here", "plain", given=True)


@pytest.mark.parametrize(("format", "engine"), [("self", "vllm"), ("qwen-prm", "transformers")])
async def test_elsewhere_the_verifier_runs_its_own_backbone(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, engine: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # vLLM gives no states there
    await loads.open(head(tmp_path, format), engine)
    assert loads.generator_options == {}
    assert loads.states == GeneratorStates("here", "plain", given=False)


async def test_the_verifier_gets_the_format_that_is_asked_for(loads: Loads, tmp_path: Path) -> None:
    await loads.open(tmp_path, "vllm", "math-shepherd")
    assert loads.format == "math-shepherd"


async def test_generator_is_closed_when_the_verifier_fails(loads: Loads, tmp_path: Path) -> None:
    loads.fails = True
    with pytest.raises(ModelError, match="no such weights"):
        await loads.open(tmp_path, "vllm")
    assert loads.closed == 1


async def test_the_failure_to_load_is_told_even_if_closing_fails_too(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(self: FakeGenerator) -> None:
        raise OSError("stuck")

    monkeypatch.setattr(loads.generator, "aclose", stuck)
    loads.fails = True
    with pytest.raises(ModelError, match="no such weights"):
        await loads.open(tmp_path, "vllm")


async def test_every_model_is_closed_and_the_first_failure_is_told() -> None:
    closed = []

    class Closing(FakeVerifier):
        def __init__(self, failure: Exception | None) -> None:
            super().__init__()
            self._failure = failure

        async def aclose(self) -> None:
            closed.append(self)
            if self._failure is not None:
                raise self._failure

    models = (Closing(OSError("first")), Closing(OSError("second")), Closing(None))
    with pytest.raises(OSError, match="first"):
        await Models(FakeGenerator(), None, models).aclose()
    assert closed == list(models)


def test_the_embedded_model_is_sampled_alike_wherever_it_runs() -> None:
    own = Router().sampling
    assert Router(EMBEDDED, endpoints=(URL,)).sampling == own
    assert Router(endpoints=(URL,)).sampling == Router("other").sampling != own


async def test_engines_get_their_memory_and_what_was_asked_for_them(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "router.models.runtime.vllm_process.engine_arg_names",
        lambda: frozenset({"max_model_len", "dtype", "gpu_memory_utilization"}),
    )
    loads.memory = {"gpu_memory_utilization": 0.3}
    asked: dict[str, Any] = {"gpu_memory_utilization": 0.5, "dtype": "float16"}
    await loads.open(tmp_path, "vllm", engine_args={"max_model_len": 512}, verifier_args=asked)
    assert [(one.role, one.engine) for one in loads.placed] == [
        ("generator", "vllm"),
        ("verifier", "vllm"),
    ]
    assert loads.generator_options == {"gpu_memory_utilization": 0.3, "max_model_len": 512}
    assert loads.verifier_args == asked


@pytest.mark.parametrize(
    ("engine", "runs", "verifier", "args", "said"),
    [
        ("transformers", "vllm", "v", "engine_args", "the generator runs on transformers"),
        ("vllm", "transformers", "v", "verifier_args", "the verifier runs on transformers"),
        ("vllm", "the generator's states", "v", "verifier_args", "on the generator's states"),
        ("vllm", "vllm", None, "verifier_args", "no verifier is opened"),
    ],
)
async def test_engine_arguments_without_vllm_are_refused_before_anything_is_loaded(
    loads: Loads, engine: str, runs: str, verifier: str | None, args: str, said: str
) -> None:
    loads.verifier_runs = runs
    directory = None if verifier is None else Path(verifier)
    with pytest.raises(InputError, match=said):
        await loads.open(directory, engine, **{args: {"dtype": "float16"}})
    assert not loads.opened


async def test_an_unknown_argument_is_refused_before_anything_is_loaded(
    loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "router.models.runtime.vllm_process.engine_arg_names", lambda: frozenset({"dtype"})
    )
    for name, option in (("engine_args", "--engine-arg"), ("verifier_args", "--verifier-arg")):
        with pytest.raises(InputError, match=f"{option} dtyp: .*did you mean 'dtype'"):
            await loads.open(tmp_path, "vllm", **{name: {"dtyp": "float16"}})
    assert not loads.opened
