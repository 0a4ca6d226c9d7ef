"""Keeps vLLM's processes from spinning while they wait for each other on the CPU build.

vLLM's EngineCore waits for its worker's results in a loop around `sched_yield`. On a GPU that
costs a core that has nothing to do; on the CPU build all cores compute, and Linux since 6.6 gives
a process that yields its fair share all the same: about a third of one core here, and every other
core then waits for that one at the end of each operation.
"""

from __future__ import annotations

import time

NAP = 0.0005
"""Seconds between two looks; a step of the engine takes a hundred times as long."""


def stop_spinning() -> None:
    """Make this process nap between two looks for a message.

    Not by sleeping until vLLM announces one (`SpinCondition.busy_loop_s`): it announces by a
    socket that drops what comes too fast, and a reader that then sleeps on stalls the engine for
    seconds. vLLM itself relies on it after an idle second only.
    """
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = lambda: time.sleep(NAP)
