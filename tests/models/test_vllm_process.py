"""How vLLM is started on CPUs and GPUs, and what that keeps from the terminal; no engine runs."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from router.models.errors import ModelError
from router.models.runtime import vllm_internals, vllm_process
from router.models.runtime.vllm_process import CPU_CONTEXT, FIT, _useful, start_engine

NOISE = "Triton is installed, but doesn't include CPU backend. Disabling Triton."


@pytest.mark.parametrize(("text", "kept"), [(NOISE, False), ("Triton is broken: %s", True)])
def test_only_a_triton_that_is_not_for_cpus_goes_unsaid(text: str, kept: bool) -> None:
    record = logging.LogRecord("vllm", logging.WARNING, "importing.py", 1, text, (), None)
    assert _useful(record) is kept


class Vllm:
    """Stands for the parts of vLLM that a start uses; keeps what an engine was started with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cpu: bool) -> None:
        self.args: dict[str, Any] = {}
        self.started: SimpleNamespace | None = None
        self.environment: dict[str, str] = {}
        vllm = self

        class AsyncEngineArgs:
            disable_log_stats = True
            distributed_executor_backend = None

            def __init__(self, **args: Any) -> None:
                vllm.args = args

            def create_engine_config(self) -> SimpleNamespace:
                return SimpleNamespace(parallel_config=SimpleNamespace(world_size_across_dp=1))

        class AsyncLLM:
            @staticmethod
            def from_vllm_config(config: SimpleNamespace, disable_log_stats: bool) -> str:
                vllm.started = config
                vllm.environment = dict(os.environ)
                return "engine"

        class OMPProcessManager:
            def __init__(self, config: SimpleNamespace) -> None: ...

            @contextmanager
            def configure_omp_envs(self, rank: int, local_rank: int) -> Iterator[None]:
                yield

        modules: dict[str, dict[str, Any]] = {
            "vllm": {"AsyncEngineArgs": AsyncEngineArgs},
            "vllm.platforms": {"current_platform": SimpleNamespace(is_cpu=lambda: cpu)},
            "vllm.v1": {},
            "vllm.v1.engine": {},
            "vllm.v1.engine.async_llm": {"AsyncLLM": AsyncLLM},
            "vllm.utils": {},
            "vllm.utils.ompmultiprocessing": {"OMPProcessManager": OMPProcessManager},
        }
        if not cpu:
            del modules["vllm.utils.ompmultiprocessing"]
        for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
            monkeypatch.delitem(sys.modules, name)
        for name, contents in modules.items():
            module = ModuleType(name)
            module.__dict__.update(contents)
            if not name.endswith("ompmultiprocessing"):
                module.__path__ = []  # a package, of which only these parts can be imported
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr("torch.cuda.is_available", lambda: not cpu)
        monkeypatch.setattr(vllm_process, "known", lambda: True)
        monkeypatch.setattr(vllm_process, "_fast_libraries", lambda: ["/fast.so"])
        monkeypatch.delenv("LD_PRELOAD", raising=False)

    def start(self, directory: Path, **args: Any) -> None:
        assert asyncio.run(start_engine(directory, **args)) == "engine"


def test_a_gpu_gets_the_context_that_fits_and_nothing_that_is_for_cpus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vllm = Vllm(monkeypatch, cpu=False)
    vllm.start(tmp_path, gpu_memory_utilization=0.3)  # the directory is not even read
    assert vllm.args["max_model_len"] == FIT
    assert vllm.args["gpu_memory_utilization"] == 0.3
    assert not {"enforce_eager", "max_num_seqs", "block_size", "dtype"} & vllm.args.keys()
    assert "kv_cache_memory_bytes" not in vllm.args
    assert not hasattr(vllm.started.parallel_config, "distributed_executor_backend")  # type: ignore[union-attr]
    assert not {"LD_PRELOAD", "VLLM_CPU_OMP_THREADS_BIND"} & vllm.environment.keys()
    assert vllm.environment["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


def test_a_cpu_gets_our_context_threads_and_libraries(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    vllm = Vllm(monkeypatch, cpu=True)
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    vllm.start(tiny_checkpoint)
    assert vllm.args["max_model_len"] == 2048 < CPU_CONTEXT  # the model has no more
    assert vllm.started.parallel_config.distributed_executor_backend == "uni"  # type: ignore[union-attr]
    assert vllm.environment["LD_PRELOAD"] == "/fast.so"
    assert vllm.environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert "LD_PRELOAD" not in os.environ
    vllm.start(tiny_checkpoint, max_model_len=512, dtype="float16")
    assert (vllm.args["max_model_len"], vllm.args["dtype"]) == (512, "float16")


def test_who_binds_threads_keeps_them_bound(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    vllm = Vllm(monkeypatch, cpu=True)
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "1,3")
    vllm.start(tiny_checkpoint)
    assert vllm.environment["VLLM_CPU_OMP_THREADS_BIND"] == "1,3"


@pytest.mark.parametrize("cpu", [True, False])
def test_an_unknown_vllm_is_said_to_be_so_wherever_it_runs(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, cpu: bool
) -> None:
    vllm = Vllm(monkeypatch, cpu=cpu)
    asked = []
    monkeypatch.setattr(vllm_process, "known", lambda: asked.append(cpu) or False)
    vllm.start(tiny_checkpoint)
    assert asked


def test_an_unknown_vllm_is_started_as_it_starts_itself(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    vllm = Vllm(monkeypatch, cpu=True)
    monkeypatch.setattr(vllm_process, "known", lambda: False)
    vllm.start(tiny_checkpoint)
    assert not hasattr(vllm.started.parallel_config, "distributed_executor_backend")  # type: ignore[union-attr]
    monkeypatch.delitem(sys.modules, "vllm.v1.engine.async_llm")
    with pytest.raises(ModelError, match=r"vLLM cannot load .*knows vLLM >=0\.32,<0\.34"):
        vllm.start(tiny_checkpoint)


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
    """The version that is found; put another one in."""
    found: list[str | None] = [None]
    monkeypatch.setattr(vllm_internals, "installed", lambda: found[0])
    vllm_internals.known.cache_clear()
    yield found
    vllm_internals.known.cache_clear()


@pytest.mark.parametrize(
    ("number", "known"),
    [
        ("0.32.0", True),
        ("0.32.1.dev3+g12", True),
        ("0.31.9", False),
        ("0.33.0", True),
        ("0.34.0", False),
        ("0.34.0rc1", False),
        ("1.0", False),
        (None, False),
    ],
)
def test_other_versions_than_those_we_know_say_what_is_lost(
    version: list[str | None],
    caplog: pytest.LogCaptureFixture,
    number: str | None,
    known: bool,
) -> None:
    version[0] = number
    assert [vllm_internals.known() for _ in range(2)] == [known, known]
    said = [record.message for record in caplog.records]
    if known or number is None:
        assert not said
    else:
        [message] = said  # once
        assert f"vLLM {number} is not one that `router` knows (>=0.32,<0.34)" in message
        assert "trained heads do not read the states" in message


def test_an_unknown_version_gives_no_states(
    version: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from router.models.generators.load import gives_states

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    version[0] = "0.32.4"
    assert gives_states("vllm")
    vllm_internals.known.cache_clear()
    version[0] = "0.40.0"
    assert not gives_states("vllm")


def test_the_installed_vllm_has_every_name_that_we_use_of_it() -> None:
    """The ends of the range: what is installed must be known, and be as `vllm_internals` says."""
    pytest.importorskip("vllm")
    assert vllm_internals.known(), vllm_internals.installed()
    for name in ("async_llm", "failures", "refusals", "openmp_manager", "cut"):
        assert getattr(vllm_internals, name)()
