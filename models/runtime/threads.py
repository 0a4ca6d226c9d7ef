"""Work spread over cores by its pieces instead of inside each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute each operation in the thread that asks for it.

    Threads that share one operation wait for each other at its end. On a machine with other work,
    that took ten times as long as the operations themselves.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def map_on_cores(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results of `work` in order; it runs on as many items at once as torch has threads.

    `work` runs torch, which leaves the interpreter's lock, and must be safe to call from several
    threads.
    """
    count = torch.get_num_threads()
    with one_thread(), ThreadPoolExecutor(count, initializer=_single) as workers:
        yield from workers.map(work, items)


def _single() -> None:
    torch.set_num_threads(1)  # a setting of each thread's own
