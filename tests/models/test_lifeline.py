"""Processes that hold a lifeline do not outlive its owner."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from router.models.runtime.lifeline import Lifeline

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd (Linux)")

ROOT = Path(__file__).parents[2]

FAMILY = """
import multiprocessing, os, time
from router.models.runtime.lifeline import Lifeline

def child(lifeline):
    spawn.Process(target=grandchild, args=(lifeline,)).start()
    print(os.getpid(), flush=True)
    time.sleep(600)

def grandchild(lifeline):
    print(os.getpid(), flush=True)
    while True:  # busy in Python, as an engine may be
        pass

spawn = multiprocessing.get_context("spawn")
if __name__ == "__main__":
    spawn.Process(target=child, args=(Lifeline(os.getpid()),)).start()
    time.sleep(600)
"""


def runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_children_and_grandchildren_die_with_a_killed_owner(tmp_path: Path) -> None:
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as owner:
        assert owner.stdout is not None
        family = [int(owner.stdout.readline()) for _ in range(2)]
        assert all(runs(pid) for pid in family)
        owner.kill()
    deadline = time.monotonic() + 20
    while any(runs(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(runs(pid) for pid in family)


def test_who_takes_it_up_after_the_owners_death_dies_at_once() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    load = "import pickle, sys; pickle.loads(sys.stdin.buffer.read()); print('alive')"
    late = subprocess.run(
        [sys.executable, "-c", load],
        input=pickle.dumps(Lifeline(gone.pid)),
        capture_output=True,
        cwd=ROOT,
    )
    assert (late.returncode, late.stdout) == (-signal.SIGKILL, b"")


def test_a_copy_in_the_owner_itself_does_nothing() -> None:
    before = threading.active_count()
    assert copy.deepcopy(Lifeline(os.getpid())).owner == os.getpid()
    assert threading.active_count() == before


def test_the_owner_does_not_change_the_hash_of_the_configuration() -> None:
    assert Lifeline(1).compute_hash() == Lifeline(2).compute_hash()
