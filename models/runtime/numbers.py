"""The number format that this machine computes models in."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import linear

_ROWS, _WIDTH, _TRIES = 128, 1024, 20
_WORTH = 1.25
"""So many times as fast float32 must be, as it takes twice the memory."""


_SHARE = 1 / 3
"""Of the machine's memory, what weights may take in float32; caches and others want some too."""


def compute_dtype(model: str | Path) -> str:
    """`bfloat16` on a GPU, and on a CPU that is not much faster in `float32`, or too small for it.

    model: directory of its weights, which are taken to have 16 bits each.
    """
    weights = 2 * sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
    fits = weights <= _SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return "float32" if fits and _much_faster() else "bfloat16"


@cache
def _much_faster() -> bool:
    """Whether this machine is so in float32.

    Measured, in a fifth of a second, since what a CPU says that it can do does not tell: one with
    AVX2 alone widens every bfloat16 number first, and one with AVX-512's instructions for it, but
    without AMX, may do half as many a second (`benchmarks/README.md`, "What each change gave").
    """
    if torch.cuda.is_available():
        return False
    formats = [torch.bfloat16, torch.float32]
    tries = np.array([[_seconds(dtype) for dtype in formats] for _ in range(_TRIES)])
    bfloat16, float32 = tries.min(axis=0)  # the least, as others may be at work
    return bool(float32 * _WORTH < bfloat16)


def _seconds(dtype: torch.dtype) -> float:
    """What a layer takes in this format for a full batch."""
    batch, weights = torch.ones(_ROWS, _WIDTH, dtype=dtype), torch.ones(_WIDTH, _WIDTH, dtype=dtype)
    start = time.perf_counter()
    linear(batch, weights)
    return time.perf_counter() - start
