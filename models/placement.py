"""Gives the models of this process their cards and memory, before the first of them is loaded."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from router.models.errors import InputError, ModelError
from router.models.runtime.engine_args import EngineArgs
from router.models.runtime.memory import GraphicsCard, Role, Share, Tenant, share_cards, tenant
from router.models.weights.find import weight_files

logger = logging.getLogger("router")

_MEASURE: Final = """
import json, torch
count = torch.cuda.device_count()
print(json.dumps([torch.cuda.mem_get_info(index) for index in range(count)]))
"""
"""In a process of its own: asking takes a CUDA context on each card, which would stay in ours."""

_MEASURE_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that will be loaded here. engine: `vllm` or `transformers`."""

    role: Role
    name: str
    directory: Path
    engine: str
    args: EngineArgs


def on_gpu() -> bool:
    """Whether torch is here and sees a GPU."""
    if not find_spec("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def placed(wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
    """The engine arguments of each model, completed with its cards and share of memory. Blocks.

    wanted: all that will be loaded on GPUs. Where none runs on vLLM, nothing is divided.

    Raises:
        InputError: the models do not fit, or arguments that cannot be understood.
        ModelError: a checkpoint or the cards cannot be read.
    """
    args: list[dict[str, Any]] = [dict(one.args) for one in wanted]
    if not any(one.engine == "vllm" for one in wanted):
        return args
    cards = measure_cards()
    shares = share_cards(cards, [_tenant(one) for one in wanted])
    for index, (one, share) in enumerate(zip(wanted, shares, strict=True)):
        logger.info(
            "%s %s: cards %s, %.1f %% of their memory, context of about %s tokens",
            one.role,
            one.name,
            list(share.cards),
            100 * share.utilization,
            share.context,
        )
        if one.engine == "vllm":
            args[index] = _engine_args(share, len(cards)) | args[index]
    return args


def measure_cards() -> tuple[GraphicsCard, ...]:
    """The GPUs that this process may use (CUDA_VISIBLE_DEVICES), as they are now.

    Raises:
        ModelError: CUDA does not say.
    """
    command = [sys.executable, "-c", _MEASURE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_MEASURE_SECONDS
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines()
        raise ModelError(f"cannot ask CUDA for the cards' memory: {said[-1]}") from error
    return tuple(GraphicsCard(total, free) for free, total in found)


def _engine_args(share: Share, cards: int) -> dict[str, Any]:
    args: dict[str, Any] = {"gpu_memory_utilization": share.utilization}
    if cards > 1:
        # Indices into CUDA_VISIBLE_DEVICES, if that is set (vllm/engine/arg_utils.py:2101-2140).
        # The engine's processes see all cards still, and take these (gpu_worker.py:463-501).
        args["device_ids"] = list(share.cards)
    return args


def _tenant(wanted: Wanted) -> Tenant:
    from safetensors import SafetensorError, safe_open
    from transformers import AutoConfig

    tensors: list[tuple[str, str, Sequence[int]]] = []
    for file in weight_files(wanted.directory):
        try:
            with safe_open(file, "numpy") as stored:
                for name in stored.keys():  # noqa: SIM118 (not a dict)
                    part = stored.get_slice(name)
                    tensors.append((name, part.get_dtype(), part.get_shape()))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read {file}: {error}") from error
    # transformers takes the first card.
    args = wanted.args if wanted.engine == "vllm" else {"device_ids": [0]}
    try:
        config = AutoConfig.from_pretrained(wanted.directory).get_text_config()
        return tenant(wanted.role, wanted.name, tensors, config, args)
    except (TypeError, ValueError) as error:
        raise InputError(f"{wanted.role} {wanted.name}: {error}") from error
    except AttributeError as error:
        raise ModelError(
            f"cannot tell what {wanted.name} needs of a GPU: {error}; serve it with `vllm serve` "
            "(--endpoint)"
        ) from error
