from __future__ import annotations

import pytest
import torch

from router.models.runtime import numbers


@pytest.mark.parametrize(
    ("cuda", "bfloat16", "float32", "chosen"),
    [
        (True, 2.0, 1.0, "bfloat16"),
        (False, 1.0, 2.0, "bfloat16"),
        (False, 1.1, 1.0, "bfloat16"),  # not worth twice the memory
        (False, 2.0, 1.0, "float32"),
    ],
)
def test_float32_is_for_cpus_that_are_much_faster_in_it(
    cuda: bool, bfloat16: float, float32: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {torch.bfloat16: bfloat16, torch.float32: float32}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(numbers, "_seconds", seconds.__getitem__)
    assert numbers.compute_dtype.__wrapped__() == chosen


def test_this_machine_is_measured_once() -> None:
    numbers.compute_dtype.cache_clear()
    assert numbers.compute_dtype() == numbers.compute_dtype()
    assert numbers.compute_dtype.cache_info().misses == 1
