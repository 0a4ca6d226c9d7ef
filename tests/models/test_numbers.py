from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from router.models.runtime import numbers

GIB = 1 << 30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """One with 12 GiB, and what a layer takes on it, in seconds."""

    def build(bfloat16: float, float32: float, *, cuda: bool = False) -> None:
        seconds = {torch.bfloat16: bfloat16, torch.float32: float32}
        numbers._much_faster.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(numbers, "_seconds", seconds.__getitem__)
        monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": GIB, "SC_PHYS_PAGES": 12}.__getitem__)

    return build


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    numbers._much_faster.cache_clear()


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
    cuda: bool,
    bfloat16: float,
    float32: float,
    chosen: str,
    machine: Callable[..., None],
    tmp_path: Path,
) -> None:
    machine(bfloat16, float32, cuda=cuda)
    assert numbers.compute_dtype(tmp_path) == chosen


@pytest.mark.parametrize(("gib", "chosen"), [(2, "float32"), (3, "bfloat16")])
def test_float32_is_for_models_that_leave_room_beside_them(
    gib: int, chosen: str, machine: Callable[..., None], tmp_path: Path
) -> None:
    machine(2.0, 1.0)
    for number in range(gib):
        with (tmp_path / f"{number}.safetensors").open("wb") as file:
            file.truncate(GIB)
    assert numbers.compute_dtype(tmp_path) == chosen


def test_this_machine_is_measured_once(tmp_path: Path) -> None:
    numbers._much_faster.cache_clear()
    assert numbers.compute_dtype(tmp_path) == numbers.compute_dtype(tmp_path)
    assert numbers._much_faster.cache_info().misses == 1
