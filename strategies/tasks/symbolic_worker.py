"""The process that compares expressions for `symbolic`: a line in, a line out, in JSON.

    python -P symbolic_worker.py PATH     PATH: its `sys.path`, as JSON

It says `null` once it is ready, or why it cannot be; then, for each `[a, b, seconds]`, whether a
equals b. It ends when its input does (its parent has left, however), when it is unused for long,
or at the limits that it sets itself. It imports nothing of ours, so that it starts fast.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import queue
import signal
import sys
import threading
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TextIO

_MEMORY = 2 * 2**30  # bytes of address space
_IDLE = 60.0  # seconds after which an unused process leaves


def serve() -> None:
    """Answer until the end."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    null = open(os.devnull, "w")  # noqa: PTH123, SIM115
    os.dup2(null.fileno(), 1)  # parsers print there
    sys.path[:] = json.loads(sys.argv[1])
    try:
        import math_verify  # noqa: F401
    except Exception as error:
        _say(out, f"{type(error).__name__}: {error}")
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    logging.disable(logging.CRITICAL)
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(questions,), daemon=True).start()
    _limit_memory()
    _say(out, None)
    while True:
        try:
            a, b, seconds = json.loads(questions.get(timeout=_IDLE))
        except queue.Empty:
            return
        with _at_most(seconds, null):
            try:
                verdict = _equal(a, b)
            except Exception:  # SymPy raises anything; what cannot be read is not equal
                verdict = False
        _say(out, verdict)


def _read(questions: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        questions.put(line)
    os._exit(0)  # also in the middle of a comparison


def _say(out: TextIO, what: bool | str | None) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    with contextlib.suppress(ValueError):  # not every system can lower this one
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


@contextlib.contextmanager
def _at_most(seconds: float, null: TextIO) -> Iterator[None]:
    """End this process, whatever it is busy with, if the body takes longer.

    Seconds of CPU, by a signal whose default action that is; where there is none (Windows), seconds
    of the clock, by the one thread that Python's lock does not stop.
    """
    if sys.platform == "win32":
        faulthandler.dump_traceback_later(seconds, exit=True, file=null)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    else:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            yield
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


if __name__ == "__main__":
    serve()
