"""`router fit` on real processes that are killed: one of two servers, and the fit itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from router.bundle import Bundle
from router.fitting.configurations import DEFAULTS, configurations
from router.fitting.measurements import LEVEL_SAMPLES
from router.models.fakes import fake_problems
from router.rollouts.runs import Run
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.best_of_n import BestOfN
from tests.problem_file import problem_file
from tests.stored_runs import stored_runs

PROBLEMS = fake_problems(12)
BUDGETS = (1, 2, 4)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Endpoint:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def served(self) -> int:
        """Completions that it was asked for, none with a seed: some servers die of one."""
        asked = [json.loads(line) for line in self.log.read_text().splitlines()]
        assert all(one["seed"] is None for one in asked)
        return len(asked)


@contextmanager
def endpoint(log: Path, seconds_per_token: float) -> Iterator[Endpoint]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log.touch()
    module = [sys.executable, "-m", "tests.completions_server"]
    process = subprocess.Popen([*module, str(port), str(log), str(seconds_per_token)], cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{port}"
        wait(lambda: answers(url), process)
        yield Endpoint(url, process, log)
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/models").is_success
    except httpx.TransportError:
        return False


def wait(until: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fit(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "cli", "fit", str(directory / "p.jsonl")),
        *("--out", str(directory / "bundle"), "--budgets", ",".join(map(str, BUDGETS))),
        *("--levels", "quantile:2", "--merge-levels", "--allocation", "grid"),
    ]
    return subprocess.Popen([*command, *options], cwd=ROOT)


def stored(directory: Path) -> list[Run]:
    return stored_runs(directory / "bundle.rollouts.sqlite")


def check_complete(directory: Path, kept: list[Run]) -> None:
    """Every search was made once, no more and no less, and what was kept is as it was."""
    runs = stored(directory)
    with RolloutStore.read(directory / "bundle.rollouts.sqlite") as store:
        counts = store.counts()
    fitting = [text for text in DEFAULTS if "lookahead" not in text]  # which costs 8
    strategies = configurations(BUDGETS, fitting, verifier=True)
    searches = {str(s) for s in strategies if not isinstance(s, BestOfN)}
    pools = {
        SAMPLES: BUDGETS[-1] + LEVEL_SAMPLES,
        "best_of_n(n=1, temperature=0)": 1,
        "best_of_n(n=1, temperature=0.3)": BUDGETS[-1],
    }
    expected = pools | dict.fromkeys(searches, 1)
    assert counts == {
        (problem.id, name): count for problem in PROBLEMS for name, count in expected.items()
    }
    assert kept
    assert len(kept) < len(runs)
    assert [run for run in runs if run in kept] == kept
    assert Bundle.load(directory / "bundle").table.budgets == BUDGETS


def test_a_server_killed_in_mid_run_loses_nothing_and_nothing_is_done_twice(
    tmp_path: Path,
) -> None:
    problem_file(tmp_path / "p.jsonl", PROBLEMS)
    with ExitStack() as servers:
        doomed, other = (
            servers.enter_context(endpoint(tmp_path / name, 0.002)) for name in ("a", "b")
        )
        urls = ("--endpoint", doomed.url, "--endpoint", other.url)
        process = fit(tmp_path, *urls, "--verifier", "fake", "--in-flight", "6")
        wait(lambda: len(stored(tmp_path)) >= 8, process)
        kept = stored(tmp_path)
        doomed.process.kill()
        doomed.process.wait()
        served = doomed.served, other.served
        assert process.wait(180) == 0
        assert min(served) > 1  # one is the probe
        assert doomed.served == served[0]
        assert other.served > served[1]
    check_complete(tmp_path, kept)


def test_a_fit_killed_in_mid_run_goes_on_where_it_was(tmp_path: Path) -> None:
    problem_file(tmp_path / "p.jsonl", PROBLEMS)
    with endpoint(tmp_path / "log", 0.002) as server:
        options = ("--endpoint", server.url, "--verifier", "fake", "--in-flight", "4")
        process = fit(tmp_path, *options)
        wait(lambda: len(stored(tmp_path)) >= 15, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = stored(tmp_path)
        assert not (tmp_path / "bundle").exists()
        assert fit(tmp_path, *options).wait(180) == 0
    check_complete(tmp_path, kept)
