"""Keeps vLLM's processes from spinning while they wait for each other on the CPU build.

vLLM's EngineCore waits for its worker's results in a loop around `sched_yield`. On a GPU that
costs a core that has nothing to do; on the CPU build all cores compute, and Linux since 6.6 gives
a process that yields its fair share all the same: about a third of one core here, and every other
core then waits for that one at the end of each operation.
"""

from __future__ import annotations


def stop_spinning() -> None:
    """Make this process sleep until a message comes, as vLLM itself does after an idle second."""
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    original = SpinCondition.__init__

    def sleeping(self: object, *args: object, **options: object) -> None:
        original(self, *args, **{**options, "busy_loop_s": 0})

    SpinCondition.__init__ = sleeping
