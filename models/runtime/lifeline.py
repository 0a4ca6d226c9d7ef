"""Ties vLLM's processes to the life of the process that started them.

vLLM's EngineCore and Worker processes outlive a parent that is killed with SIGKILL, holding all
of their memory. A `Lifeline` travels to each of them inside vLLM's own configuration: unpickling
it there, which is the first thing that a spawned process does, starts a thread that waits for the
owner's death and then kills the process. There is no window before it: a process whose owner died
earlier dies when it unpickles. Needs the `spawn` start method, and Linux (pidfd); elsewhere it
does nothing.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable


class Lifeline:
    """A picklable promise: whoever unpickles this does not outlive process `owner`.

    Satisfies vLLM's `SupportsHash`, so that it may be its `additional_config`.
    """

    def __init__(self, owner: int) -> None:
        self.owner = owner

    def compute_hash(self) -> str:
        """A constant, as the owner must not change the keys of vLLM's compilation cache."""
        return "lifeline"

    def __reduce__(self) -> tuple[Callable[[int], Lifeline], tuple[int]]:
        return _attach, (self.owner,)


def _attach(owner: int) -> Lifeline:
    # Copying the configuration inside the owner itself ends here too.
    if os.getpid() != owner and hasattr(os, "pidfd_open"):
        try:
            handle = os.pidfd_open(owner)
        except ProcessLookupError:
            _die()
        threading.Thread(target=_follow, args=(handle,), name="lifeline", daemon=True).start()
    return Lifeline(owner)


def _follow(handle: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll()
    _die()


def _die() -> None:
    # Not sys.exit: the main thread may be inside a kernel, and nothing is left to clean up for.
    os.kill(os.getpid(), signal.SIGKILL)
