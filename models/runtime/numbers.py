"""The number format that this machine computes models in."""

from __future__ import annotations

import torch

_NATIVE = ("avx512_bf16", "amx_bf16", "bf16")
"""What a CPU is said to have when it multiplies bfloat16 itself (x86, x86, ARM)."""


def compute_dtype() -> str:
    """`bfloat16` on a GPU, and on a CPU that multiplies it itself; `float32` on others.

    A CPU with AVX2 alone widens every bfloat16 number before it multiplies: measured on one, full
    batches of a half-billion model are several times as fast in float32, which takes twice the
    memory (`benchmarks/README.md`, "What each change gave").
    """
    if torch.cuda.is_available():
        return "bfloat16"
    has = torch.cpu.get_capabilities()
    return "bfloat16" if any(has.get(name, False) for name in _NATIVE) else "float32"
