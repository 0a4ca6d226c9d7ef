"""Work spread over cores."""

import threading

import pytest
import torch

from router.models.runtime.threads import map_on_cores, one_thread


def test_results_come_in_order_from_several_threads_of_one_core_each() -> None:
    before = torch.get_num_threads()
    together = threading.Barrier(2, timeout=30)
    seen: set[tuple[int, int]] = set()

    def work(item: int) -> int:
        together.wait()  # holds unless two items run at once
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return item * item

    torch.set_num_threads(2)
    try:
        assert list(map_on_cores(work, range(6))) == [0, 1, 4, 9, 16, 25]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 2
    assert {threads for _, threads in seen} == {1}


def test_a_failure_is_raised_and_the_setting_comes_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        list(map_on_cores(lambda item: 1 // item, [1, 0, 1]))
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == before
