"""Starts and ends vLLM engines, with all that vLLM itself leaves to its caller."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from router.models.errors import ModelError
from router.models.runtime.lifeline import Lifeline

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

DEFAULT_CONTEXT = 4096
"""Tokens of prompt plus answer; more costs memory that searches over short problems never use."""

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
    try:
        return await asyncio.to_thread(_start, model_path, engine_args)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"vLLM cannot load {model_path}: {error}") from error


async def stop_engine(engine: AsyncLLM) -> None:
    """End an engine's processes; holds the event loop until they are gone."""
    # In the loop's own thread, because vLLM's output task, were it to run before it is cancelled,
    # would report the end of the processes as a failure.
    engine.shutdown(SHUTDOWN_SECONDS)
    # The engine's __del__ calls it again, and fails at the interpreter's exit.
    engine.shutdown = lambda: None


def _start(model_path: Path, engine_args: Mapping[str, Any]) -> AsyncLLM:
    with _STARTING, _environment():
        logging.getLogger("vllm.triton_utils.importing").addFilter(_useful)
        from transformers import AutoConfig
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform

        from router.models.runtime.numbers import compute_dtype

        longest = AutoConfig.from_pretrained(model_path).get_text_config()
        defaults: dict[str, Any] = {
            "max_model_len": min(longest.max_position_embeddings, DEFAULT_CONTEXT),
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        if current_platform.is_cpu():
            defaults |= {
                "enforce_eager": True,
                "max_num_seqs": MAX_RUNNING,
                "block_size": CPU_BLOCK,
                "kv_cache_memory_bytes": CPU_CACHE_BYTES,
            }
            if getattr(longest, "quantization_config", None) is None:
                defaults["dtype"] = compute_dtype()
        args = AsyncEngineArgs(
            model=str(model_path),
            additional_config=Lifeline(os.getpid()),
            **(defaults | dict(engine_args)),
        )
        return _launch(args)


def _useful(record: logging.LogRecord) -> bool:
    """False for what vLLM's CPU build says of each Triton that lies beside it, as xgrammar's does.

    It is said before vLLM reads VLLM_LOGGING_LEVEL.
    """
    return "doesn't include CPU backend" not in record.msg


def _launch(args: AsyncEngineArgs) -> AsyncLLM:
    """Start the processes; on one CPU the model runs in the engine's own.

    vLLM gives its CPU worker a process only to set its threads before it loads OpenMP. An engine
    that starts with these threads itself needs no second process to load, and no messages between
    the two at every step (`benchmarks/README.md`, "What each change gave").
    """
    from vllm.platforms import current_platform
    from vllm.utils.ompmultiprocessing import OMPProcessManager
    from vllm.v1.engine.async_llm import AsyncLLM

    config = args.create_engine_config()
    parallel = config.parallel_config
    alone = parallel.world_size_across_dp == 1 and args.distributed_executor_backend is None
    if not (current_platform.is_cpu() and alone):
        return AsyncLLM.from_vllm_config(config, disable_log_stats=args.disable_log_stats)
    parallel.distributed_executor_backend = "uni"
    with OMPProcessManager(config).configure_omp_envs(rank=0, local_rank=0):
        return AsyncLLM.from_vllm_config(config, disable_log_stats=args.disable_log_stats)


@contextmanager
def _environment() -> Iterator[None]:
    """Environment variables for vLLM and its child processes, taken back afterwards.

    What the user has set stays, except that libraries are added to LD_PRELOAD.
    """
    preload = [os.environ.get("LD_PRELOAD", ""), *_fast_libraries()]
    wanted = {
        "LD_PRELOAD": ":".join(entry for entry in preload if entry),
        **{key: os.environ.get(key, value) for key, value in _defaults().items()},
    }
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


def _defaults() -> dict[str, str]:
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    return {
        "VLLM_CPU_OMP_THREADS_BIND": cores,
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
