"""Comparing ends in time, with its request and with its process, and holds up nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from router.strategies.tasks import Clock, clock, get_task, symbolic

MATHS = get_task("maths")
SOON = 4  # seconds, for a deadline of one or less; the machine may be busy


def hard(count: int, name: str) -> list[str]:
    """Answers that no computer can compare; each test has its own, for verdicts are remembered."""
    return [f"9^{{9^{{9^{{{k}}}}}}}+{name}" for k in range(10, 10 + count)]


def warm() -> None:
    """One process that is ready. A start is no part of what is timed here."""
    assert symbolic.compare(f"x+{time.monotonic_ns()}", "x") is False


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the request's own limits end a comparison."""
    monkeypatch.setattr(symbolic, "LIMIT", 1000.0)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    """No test inherits a process that is busy."""
    yield
    assert not any(not (w.free or w.starting) for w in symbolic._workers)


@pytest.mark.usefixtures("patient")
async def test_a_deadline_ends_grouping() -> None:
    warm()
    start = time.monotonic()
    grouping = await MATHS.group(hard(3, "x"), until=start + 1)
    assert time.monotonic() - start < SOON
    assert grouping.representatives == tuple(hard(3, "x"))
    assert grouping.unsure == 3


@pytest.mark.usefixtures("patient")
async def test_a_deadline_ends_grading_without_a_verdict() -> None:
    warm()
    start = time.monotonic()
    assert await MATHS.correct(hard(1, "y")[0], "5", until=start + 1) is None
    assert time.monotonic() - start < SOON


async def test_a_deadline_holds_while_processes_start() -> None:
    symbolic._end_all()
    start = time.monotonic()
    grouping = await MATHS.group(["a+b+c", "c+b+a+0"], until=start + 0.05)
    assert time.monotonic() - start < 0.7
    assert grouping.unsure == 1
    # The process was not killed, so that the next request finds it.
    assert len(symbolic._workers) == 1
    assert (await MATHS.group(["a+b+c", "c+b+a+0"])).representatives == ("a+b+c", "a+b+c")


async def test_after_the_deadline_what_takes_no_time_is_still_compared() -> None:
    answers = ["1/2", "0.5", r"\frac{1}{2}", "p+q+q", "p+2q", "Monday", "monday"]
    grouping = await MATHS.group(answers, until=time.monotonic() - 1)
    half = "0.5"
    assert grouping.representatives == (half, half, half, "p+q+q", "p+2q", "Monday", "Monday")
    # The two sums with each other, and with each form of the half.
    assert grouping.unsure == 7
    assert await MATHS.correct("0.50", "1/2", until=time.monotonic() - 1) is True
    assert await MATHS.correct("p+q+q", "p+2q", until=time.monotonic() - 1) is None
    # That there was no time says nothing about the pair.
    assert await MATHS.correct("p+q+q", "p+2q") is True


@pytest.mark.usefixtures("patient")
async def test_without_a_deadline_a_request_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.strategies.tasks.base.REQUEST_SECONDS", 1.0)
    warm()
    start = time.monotonic()
    grouping = await MATHS.group(hard(8, "z"))
    assert time.monotonic() - start < SOON
    assert grouping.unsure == 28


def test_the_bound_is_ten_seconds() -> None:
    assert clock.REQUEST_SECONDS == 10


@pytest.mark.usefixtures("patient")
async def test_clients_that_left_make_nobody_wait() -> None:
    warm()
    left = [asyncio.create_task(MATHS.group(hard(3, name))) for name in ("u", "v", "w")]
    await asyncio.to_thread(_wait_until_all_are_busy)
    processes = [worker._process for worker in symbolic._workers]
    for task in left:
        task.cancel()
    start = time.monotonic()
    await asyncio.gather(*left, return_exceptions=True)
    assert time.monotonic() - start < SOON
    # A start is all that the next one may have to wait for.
    assert (await MATHS.group(["s+t", "t+s"], until=start + 20)).unsure == 0
    assert await MATHS.correct("s+t+t", "2t+s") is True
    for process in processes:
        process.wait(timeout=5)


def _wait_until_all_are_busy() -> None:
    """By looking again: that a process was taken is told to nobody."""

    def busy() -> bool:
        with clock.changed:
            return sum(not (w.free or w.starting) for w in symbolic._workers) == symbolic._WORKERS

    end = time.monotonic() + 60
    while not busy():
        assert time.monotonic() < end, symbolic._workers
        time.sleep(0.01)


@pytest.mark.usefixtures("patient")
def test_a_clock_that_is_stopped_ends_a_comparison_in_a_thread() -> None:
    warm()
    watch = Clock()
    threading.Timer(0.3, watch.stop).start()
    start = time.monotonic()
    assert MATHS.correct_sync(hard(1, "t")[0], "5", watch) is None
    assert time.monotonic() - start < SOON


HANGING = textwrap.dedent("""
    import asyncio, sys, time
    from router.strategies.tasks import get_task, symbolic

    symbolic.LIMIT = 1000.0
    assert symbolic.compare("x+1", "1+x") is True

    async def main():
        work = asyncio.create_task(get_task("maths").group(["9^{9^{9^{9}}}+x", "x", "x+1"]))
        await asyncio.sleep(0.5)
        (worker,) = [w for w in symbolic._workers if not w.starting]
        assert not worker.free
        print(worker._process.pid, flush=True)
        %s

    asyncio.run(main())
""")


@pytest.mark.parametrize("how", ["return", "sys.exit(0)", "time.sleep(60)"])
def test_exit_does_not_wait_and_leaves_no_process(how: str) -> None:
    """The last is killed from outside, so that nothing of it can clean up."""
    host = subprocess.Popen(
        [sys.executable, "-c", HANGING % how], stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    worker = int(host.stdout.readline())
    start = time.monotonic()
    if "sleep" in how:
        host.kill()
    host.wait(timeout=30)
    assert time.monotonic() - start < 2
    if "sleep" not in how:
        assert host.returncode == 0
        assert not psutil.pid_exists(worker) or _is_zombie(worker)
    elif psutil.pid_exists(worker):  # busy in C code, it has its own limit: none in this test
        os.kill(worker, signal.SIGKILL)
    host.stdout.close()


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_process_that_cannot_start_is_logged_and_unsure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    symbolic._end_all()
    monkeypatch.setattr(sys, "path", ["/nowhere"])  # it would import math-verify from there
    monkeypatch.setenv("PYTHONPATH", "")
    assert MATHS.group_sync(["m+n", "n+m"]).unsure == 1
    assert "answers cannot be compared: ModuleNotFoundError" in caplog.text
    monkeypatch.undo()
    assert MATHS.group_sync(["m+n", "n+m"]).unsure == 0


def test_the_worker_limits_the_clock_where_there_are_no_signals() -> None:
    """As on Windows: no `resource`, no SIGPROF."""
    script = textwrap.dedent("""
        import json, runpy, sys
        sys.path[:] = json.loads(sys.argv[2])
        import math_verify  # what it needs of the standard library is this system's
        sys.platform = "win32"
        sys.modules["resource"] = None
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
    """)
    worker = subprocess.Popen(
        [sys.executable, "-c", script, str(symbolic._SCRIPT), json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stdout.readline() == "null\n"
    worker.stdin.write('["x+1", "1+x", 5]\n')
    worker.stdin.flush()
    assert worker.stdout.readline() == "true\n"
    worker.stdin.write('["9^{9^{9^{9}}}", "5", 1]\n')
    worker.stdin.flush()
    start = time.monotonic()
    assert worker.stdout.readline() == ""
    assert worker.wait(timeout=10) != 0
    assert time.monotonic() - start < 5
    worker.stdin.close()
    worker.stdout.close()
