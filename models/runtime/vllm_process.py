"""Starts and ends vLLM engines, with all that vLLM itself leaves to its caller."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes.util import find_library
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import torch

from router.models.errors import ModelError
from router.models.runtime.lifeline import Lifeline
from router.models.runtime.vllm_internals import async_llm, known, known_range, openmp_manager

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

CPU_CONTEXT = 4096
"""Tokens of prompt plus answer on the CPU build, unless the model has fewer; more would cost memory
that searches over short problems never use. On a GPU it is what the memory allows."""

FIT = -1
"""The `max_model_len` with which vLLM takes the longest context of the model that fits its share of
the memory, by what it measures (`vllm/v1/core/kv_cache_utils.py:2414`)."""

MAX_RUNNING = 128
"""Requests that run at once; the CPU build's default is 4 times as many, which thrashes caches."""

CPU_BLOCK = 32
"""Tokens in a block of the CPU build's prefix cache, its smallest. A path that is continued
computes again what the last, part-filled block holds: 16 tokens on average, and 64 with the
build's default of 128, which is more than most steps have."""

CPU_CACHE_BYTES = 2 << 30
"""KV cache of the CPU build, unless VLLM_CPU_KVCACHE_SPACE says otherwise."""

SHUTDOWN_SECONDS = 20.0
"""What vLLM's processes get to free their shared memory before they are killed."""

_STARTING = Lock()
"""One start at a time: each changes the environment of this process and takes that back."""


async def start_engine(model_path: Path, **engine_args: Any) -> AsyncLLM:
    """Start an engine on a checkpoint directory; its processes never outlive this one.

    engine_args: fields of vLLM's `AsyncEngineArgs` that replace our defaults.

    Raises:
        ModelError: vLLM cannot load the model; carries its cause.
    """
    left = Event()

    def start() -> AsyncLLM:
        engine = _start(model_path, engine_args)
        if left.is_set():
            engine.shutdown(SHUTDOWN_SECONDS)
        return engine

    try:
        return await asyncio.to_thread(start)
    except asyncio.CancelledError:
        left.set()  # a start cannot be stopped; what it starts is ended
        raise
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        hint = "" if known() else f" (`router` knows vLLM {known_range()})"
        raise ModelError(f"vLLM cannot load {model_path}: {error}{hint}") from error


async def stop_engine(engine: AsyncLLM) -> None:
    """End an engine's processes; holds the event loop until they are gone."""
    # In the loop's own thread, because vLLM's output task, were it to run before it is cancelled,
    # would report the end of the processes as a failure.
    engine.shutdown(SHUTDOWN_SECONDS)
    # The engine's __del__ calls it again, and fails at the interpreter's exit.
    engine.shutdown = lambda: None


def engine_arg_names() -> frozenset[str]:
    """The fields of vLLM's `AsyncEngineArgs`.

    Raises:
        ModelError: vLLM cannot be imported.
    """
    return frozenset(field.name for field in fields(_import("vllm").AsyncEngineArgs))


def runs_on_cpu() -> bool:
    """Whether this vLLM is a CPU build.

    Raises:
        ModelError: vLLM cannot be imported.
    """
    return bool(_import("vllm.platforms").current_platform.is_cpu())


def _import(module: str) -> Any:
    """A module of vLLM, which reads its environment when it is first imported."""
    with _STARTING, _environment():
        try:
            return import_module(module)
        except (ImportError, OSError, RuntimeError) as error:
            raise ModelError(f"vLLM cannot be imported: {error}") from error


def _start(model_path: Path, engine_args: Mapping[str, Any]) -> AsyncLLM:
    with _STARTING, _environment():
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform

        defaults: dict[str, Any] = {
            "max_model_len": FIT,
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        if current_platform.is_cpu():
            defaults |= _cpu_defaults(model_path)
        args = AsyncEngineArgs(
            model=str(model_path),
            additional_config=Lifeline(os.getpid()),
            **(defaults | dict(engine_args)),
        )
        return _launch(args, known())


def _cpu_defaults(model_path: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    from router.models.runtime.numbers import compute_dtype

    config = AutoConfig.from_pretrained(model_path).get_text_config()
    defaults: dict[str, Any] = {
        "max_model_len": min(config.max_position_embeddings, CPU_CONTEXT),
        "enforce_eager": True,
        "max_num_seqs": MAX_RUNNING,
        "block_size": CPU_BLOCK,
        "kv_cache_memory_bytes": CPU_CACHE_BYTES,
    }
    if getattr(config, "quantization_config", None) is None:
        defaults["dtype"] = compute_dtype(model_path)
    return defaults


def _useful(record: logging.LogRecord) -> bool:
    """False for what vLLM's CPU build says of each Triton that lies beside it, as xgrammar's does.

    It is said before vLLM reads VLLM_LOGGING_LEVEL.
    """
    return "doesn't include CPU backend" not in record.msg


def _launch(args: AsyncEngineArgs, internals: bool) -> AsyncLLM:
    """Start the processes; on one CPU the model runs in the engine's own.

    vLLM gives its CPU worker a process only to set its threads before it loads OpenMP. An engine
    that starts with these threads itself needs no second process to load, and no messages between
    the two at every step (`benchmarks/README.md`, "What each change gave").

    internals: whether this vLLM's are known.
    """
    from vllm.platforms import current_platform

    config = args.create_engine_config()
    start = partial(async_llm().from_vllm_config, config, disable_log_stats=args.disable_log_stats)
    parallel = config.parallel_config
    alone = parallel.world_size_across_dp == 1 and args.distributed_executor_backend is None
    if not (current_platform.is_cpu() and alone and internals):
        return start()
    parallel.distributed_executor_backend = "uni"
    with openmp_manager()(config).configure_omp_envs(rank=0, local_rank=0):
        return start()


@contextmanager
def _environment() -> Iterator[None]:
    """Environment variables for vLLM and its child processes, taken back afterwards.

    What the user has set stays, except that libraries are added to LD_PRELOAD.
    """
    logging.getLogger("vllm.triton_utils.importing").addFilter(_useful)
    # For where torch was imported before TORCH_LOGS was set.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    wanted = {key: os.environ.get(key, value) for key, value in _defaults().items()}
    if not torch.cuda.is_available():
        wanted |= _cpu_environment()
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _cpu_environment() -> dict[str, str]:
    """Threads on every core, bound to none.

    Bound ones wait for each other wherever another program, or a verifier's engine, holds a core:
    2.5 times the CPU time for a token was measured (`docs/deploy.md`), and nothing lost alone.
    """
    preload = [os.environ.get("LD_PRELOAD", ""), *_fast_libraries()]
    threads = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "KMP_BLOCKTIME": "5", "KMP_TPAUSE": "0"}
    wanted = {key: os.environ.get(key, value) for key, value in threads.items()}
    return {"LD_PRELOAD": ":".join(entry for entry in preload if entry), **wanted}


def _defaults() -> dict[str, str]:
    return {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        # What torch warns of inside vLLM's processes, no user can act on.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "TORCH_LOGS": "-torch._library.triton",
        "PYTHONWARNINGS": "ignore",
    }


def _fast_libraries() -> list[str]:
    """tcmalloc and Intel's OpenMP where present; without them the CPU build is far slower."""
    loaded = os.environ.get("LD_PRELOAD", "")
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    found = [
        find_library("tcmalloc_minimal") if "tcmalloc" not in loaded else None,
        str(openmp) if openmp.is_file() and "omp" not in loaded else None,
    ]
    return [library for library in found if library]
