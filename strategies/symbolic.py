"""Compare two LaTeX expressions symbolically, in a process that may hang or die.

SymPy can loop for hours or eat all memory on a short input (`9^{9^{9^9}}`), and no thread can be
stopped from outside. So the comparison runs in worker processes (loky) under limits that the
kernel enforces, and losing a worker costs its caller one verdict, nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import queue
import signal
import time
import zlib
from functools import lru_cache
from typing import Any

LIMIT = 5.0
"""CPU seconds that one comparison may take: a busy machine must not change a verdict."""

_MEMORY = 2 * 2**30  # bytes of address space of one worker
_IDLE = 60.0  # seconds after which an unused worker leaves, also one whose parent was killed
_WORKERS = 2


def compare(a: str, b: str) -> bool | None:
    """Whether two LaTeX expressions (without `$`) mean the same; False if either is unreadable.

    None means no verdict: the comparison outlived its limit or killed its worker. Blocks until
    then; a worker's start takes another second or two. May be called from any thread.
    """
    worker = _idle.get()
    try:
        return worker.compare(a, b)
    finally:
        _idle.put(worker)


class _Worker:
    """One process, started when first needed and replaced when it dies."""

    def __init__(self) -> None:
        self._executor: Any = None

    def compare(self, a: str, b: str) -> bool | None:
        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.process_executor import BrokenProcessPool

        for _ in range(2):
            if self._executor is None:
                self._executor = ProcessPoolExecutor(
                    max_workers=1, timeout=_IDLE, initializer=_prepare
                )
            start = time.monotonic()
            try:
                verdict: bool = self._executor.submit(_compare, a, b, LIMIT).result()
            except BrokenProcessPool:
                self._executor = None
                # A worker that died early was perhaps killed by the system, for no fault of this
                # pair: the pair gets one more try. One that ran to the limit does not.
                if time.monotonic() - start >= LIMIT:
                    return None
            else:
                return verdict
        return None

    def close(self) -> None:
        """Stop the process at once."""
        if self._executor is not None:
            self._executor.shutdown(kill_workers=True)
            self._executor = None


# Last in, first out: a single caller keeps using the worker that is already warm.
_idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
for _ in range(_WORKERS):
    _worker = _Worker()
    _idle.put(_worker)
    atexit.register(_worker.close)


def _prepare() -> None:
    """Set up a worker: imports before limits, and Ctrl-C left to the parent."""
    import resource

    import math_verify  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError):  # not every system can lower this one
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _compare(a: str, b: str, limit: float) -> bool:
    """Runs in the worker. SIGPROF's default action ends the process, whatever it is busy with."""
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        return _equal(a, b)
    except Exception:  # SymPy raises anything; what cannot be read is not equal
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _equal(a: str, b: str) -> bool:
    from math_verify import verify

    left, right = _parse(a), _parse(b)
    if _far_apart(left, right):
        return False
    # math-verify's own time limits need the main thread and cannot interrupt C code: off.
    # `verify` treats its gold side differently (x < 2 is accepted for an interval only there).
    return bool(
        verify(left, right, timeout_seconds=None) or verify(right, left, timeout_seconds=None)
    )


@lru_cache(maxsize=2**10)
def _parse(text: str) -> Any:
    from math_verify import LatexExtractionConfig, parse

    return parse(
        f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None
    )


def _far_apart(left: list[Any], right: list[Any]) -> bool:
    """Whether two scalar expressions differ at one generic point: disproof without algebra.

    Saves `verify` its attempts to simplify the difference, which are most of its time.
    """
    from sympy import Expr, Float

    if len(left) != 1 or len(right) != 1:
        return False
    values = []
    for expression in (left[0], right[0]):
        if not isinstance(expression, Expr):
            return False  # a set, a tuple, a relation, a matrix
        point = {symbol: Float(_coordinate(symbol.name)) for symbol in expression.free_symbols}
        try:
            values.append(complex(expression.evalf(subs=point)))
        except Exception:  # no finite number, or beyond SymPy: `verify` decides
            return False
    distance = abs(values[0] - values[1])
    return distance > 1e-3 * max(1.0, abs(values[0]), abs(values[1]))


def _coordinate(name: str) -> float:
    """A number in (1, 2) that depends on the name of a variable alone."""
    return 1 + zlib.crc32(name.encode()) / 2**32
