"""Compare two LaTeX expressions symbolically, in a process that may hang or die.

SymPy can loop for hours or eat all memory on a short input (`9^{9^{9^9}}`), and no thread can be
stopped from outside. So the comparison runs in processes of `symbolic_worker`, which limit
themselves, and which are killed when the request that they work for ends. Losing one costs its
caller one verdict, nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import EllipsisType

from router.strategies.tasks.clock import Clock, changed

LIMIT = 2.0
"""CPU seconds that one comparison may take: a busy machine must not change a verdict.

Of 5,695 pairs of answers that models gave (benchmarks/rollouts), none took half of it.
"""

_WORKERS = 2
_STARTS = 3  # attempts to start a process, for one comparison
_REMEMBERED = 2**16  # verdicts
_SCRIPT = Path(__file__).with_name("symbolic_worker.py")

log = logging.getLogger("router")

_workers: list[_Worker] = []
_verdicts: dict[tuple[str, str], bool | None] = {}


def compare(a: str, b: str, clock: Clock | None = None) -> bool | None:
    """Whether two LaTeX expressions (without `$`) mean the same; False if either is unreadable.

    None means no verdict: the comparison outlived `LIMIT` or killed its process, which is
    remembered, or `clock` ended first. Blocks until then; the start of a process takes a second or
    two. May be called from any thread.
    """
    known = _verdicts.get((a, b), ...)
    if not isinstance(known, EllipsisType):
        return known
    clock = clock or Clock()
    if clock.over:
        return None
    try:
        verdict = _compare(a, b, clock)
    except _OutOfTime:
        return None
    if len(_verdicts) >= _REMEMBERED:
        _verdicts.clear()
    _verdicts[a, b] = verdict
    return verdict


class _OutOfTime(Exception):
    """The clock ended, which says nothing about the pair."""


def _compare(a: str, b: str, clock: Clock) -> bool | None:
    for _ in range(2):
        with changed:
            worker = _take(clock)
            started = time.monotonic()
            try:
                worker.send(a, b)
                if not clock.wait(worker.settled, comparing=True):
                    raise _OutOfTime
            except BaseException:  # Ctrl-C too must not leave it busy
                worker.kill()
                raise
            if worker.alive:
                worker.free = True
                changed.notify_all()
                return worker.reply
        # A process that died early was perhaps killed by the system, for no fault of this pair:
        # the pair gets one more try. One that ran to the limit does not.
        if time.monotonic() - started >= LIMIT:
            return None
    return None


def _take(clock: Clock) -> _Worker:
    """A process that waits for work; the caller holds `changed`.

    Raises:
        _OutOfTime: the clock ended first, or no process can be started, which is logged.
    """
    while True:
        # Last in, first out: a single caller keeps using the process that is already warm.
        for worker in reversed(_workers):
            if worker.free:
                worker.free = False
                return worker
        if _Worker.failures >= _STARTS:
            _Worker.failures = 0
            log.error("answers cannot be compared: %s", _Worker.failure)
            raise _OutOfTime
        if _may_start():
            try:
                _Worker()
            except OSError as error:
                _Worker.failures, _Worker.failure = _Worker.failures + 1, str(error)
        if not clock.wait(lambda: any(w.free for w in _workers) or _may_start(), comparing=False):
            raise _OutOfTime


def _may_start() -> bool:
    return len(_workers) < _WORKERS and not any(worker.starting for worker in _workers)


class _Worker:
    """One process, and the thread that hears from it. All fields are guarded by `changed`.

    starting: it is not ready yet. free: it waits for work. reply: its verdict on what it was sent
    last. failures: starts that have failed in a row, the last one by `failure`.
    """

    failures = 0
    failure = ""

    def __init__(self) -> None:
        # Our own path, so that it finds what we would; -P, since its folder holds no modules for
        # all to import.
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
        )
        self.starting = self.alive = True
        self.free = False
        self.reply: bool | None = None
        _workers.append(self)
        threading.Thread(target=self._listen, name="compare-worker", daemon=True).start()

    def settled(self) -> bool:
        return self.reply is not None or not self.alive

    def send(self, a: str, b: str) -> None:
        """Ask for a verdict, which `reply` will be."""
        self.reply = None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has just died, as `settled` will tell
            self._process.stdin.write(json.dumps([a, b, LIMIT]) + "\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once; it counts no more."""
        self._process.kill()
        self._forget()

    def _forget(self) -> None:
        self.alive = self.free = self.starting = False
        if self in _workers:
            _workers.remove(self)
        changed.notify_all()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with changed:
                match json.loads(line):
                    case bool(verdict):
                        self.reply = verdict
                    case None:
                        self.starting, self.free = False, True
                        _Worker.failures = 0
                    case why:
                        _Worker.failure = why
                changed.notify_all()
        with changed:
            if self.starting:
                _Worker.failures += 1
            self._forget()
        self._process.wait()


def _end_all() -> None:
    with changed:
        for worker in list(_workers):
            worker.kill()


def _begin_anew() -> None:
    _workers.clear()
    changed.release()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):  # a forked child must not talk to its parent's processes
    os.register_at_fork(
        before=changed.acquire, after_in_parent=changed.release, after_in_child=_begin_anew
    )
