from __future__ import annotations

import pytest
import torch

from router.models.runtime.numbers import compute_dtype


@pytest.mark.parametrize(
    ("gpu", "cpu", "chosen"),
    [
        (True, {}, "bfloat16"),
        (False, {"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        (False, {"bf16": True}, "bfloat16"),
        (False, {"avx2": True, "avx512_bf16": False}, "float32"),
        (False, {}, "float32"),
    ],
)
def test_bfloat16_is_for_machines_that_multiply_it_themselves(
    gpu: bool, cpu: dict[str, bool], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    assert compute_dtype() == chosen
