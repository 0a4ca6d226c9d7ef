"""Many problems at once: each gets a result of its own, as soon as there is one."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from router.loop import LoopThread
from router.models.errors import EngineError
from router.models.types import Problem
from router.records import Failure, Solution

Results = queue.SimpleQueue[Solution | Failure | None]
"""None is the end."""


async def solve_each(
    problems: Sequence[Problem],
    solve: Callable[[Problem], Awaitable[Solution]],
    results: Results,
    in_flight: int,
) -> None:
    """Put a solution of each problem into `results`, or a `Failure`, which ends no other.

    in_flight: problems that run at once.
    """
    slots = asyncio.Semaphore(in_flight)

    async def one(problem: Problem) -> None:
        async with slots:
            try:
                # A task of its own: before Python 3.13 one in which a task group failed says from
                # then on that it is being cancelled.
                results.put(await asyncio.ensure_future(solve(problem)))
            except BaseException as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # Not only Exception: an engine may cancel a call by itself, or panic in Rust.
                if not isinstance(error, Exception):
                    error = EngineError(f"the search ended by {error!r}")
                results.put(Failure(problem.id, error))

    async with asyncio.TaskGroup() as group:
        for problem in problems:
            group.create_task(one(problem))


def results_of(
    work: Coroutine[Any, Any, None], results: Results, loop: LoopThread
) -> Iterator[Solution | Failure]:
    """What `work`, on that loop, puts into `results` until None; leaving early cancels it.

    Raises:
        Whatever the work raises.
    """
    future = loop.submit(work)
    try:
        while (result := results.get()) is not None:
            yield result
        future.result()
    finally:
        future.cancel()
