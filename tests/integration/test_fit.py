"""`router fit` on real engines: killed once in the middle, and on Ray."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from router.bundle import Bundle
from router.core import Router
from router.fitting.distributed import ray_workers
from router.fitting.workers import SearchJob
from router.models.types import Problem, Sampling
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.best_of_n import BestOfN
from tests.problem_file import problem_file
from tests.stored_runs import stored_runs

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
PROBLEMS = ROOT / "benchmarks" / "problems" / "procedural_dev.jsonl"
SHORT = ("/chain_sum/", "/products/")
"""The kinds of problems with the shortest solutions; of ten, at times none is right in time."""


def test_a_killed_fit_of_the_embedded_model_goes_on_where_it_was(tmp_path: Path) -> None:
    easy = [Problem(f"easy/{i}", f"What is {i} + {i}?", str(2 * i)) for i in range(1, 6)]
    with PROBLEMS.open() as lines:
        short = (line for line in lines if any(kind in line for kind in SHORT))
        hard = "".join(itertools.islice(short, 5))
    with problem_file(tmp_path / "p.jsonl", easy).open("a") as file:
        file.write(hard)
    command = [
        *(sys.executable, "-m", "cli", "fit", str(tmp_path / "p.jsonl")),
        *("--out", str(tmp_path / "bundle"), "--budgets", "1,2", "--levels", "quantile:2"),
        *("--merge-levels", "--level-samples", "4", "--max-tokens", "96"),
        *("--strategy", "best_of_n", "--strategy", "beam_search(n=2, width=2)"),
    ]
    store = tmp_path / "bundle.rollouts.sqlite"
    fit = subprocess.Popen(command, cwd=ROOT)
    while len(stored_runs(store)) < 4:
        assert fit.poll() is None
        time.sleep(0.5)
    os.kill(fit.pid, signal.SIGKILL)
    fit.wait()
    kept = stored_runs(store)
    subprocess.run(command, cwd=ROOT, check=True)
    runs = stored_runs(store)
    assert [run for run in runs if run in kept] == kept
    assert len(kept) < len(runs)
    with RolloutStore.read(store) as rollouts:
        counts = rollouts.counts()
    # Racing may leave out searches, but no samples, and it makes none twice.
    assert [n for (_, name), n in counts.items() if name == SAMPLES] == [4 + 2] * 10
    assert all(n == 1 for (_, name), n in counts.items() if name != SAMPLES)
    assert all(run.usage.sampled_tokens for run in runs)
    assert Bundle.load(tmp_path / "bundle").table.budgets == (1, 2)


@pytest.mark.ray
def test_each_ray_worker_has_an_engine_that_ends_with_it(tiny_checkpoint: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("vllm")
    router = Router(str(tiny_checkpoint), engine="vllm", verifier=None)
    sampling = Sampling(max_tokens=8)
    problems = [Problem(str(i), f"What is {i} + {i}?", str(2 * i)) for i in range(8)]
    jobs = [SearchJob(problem, SAMPLES, BestOfN(4, select="majority"), 0) for problem in problems]

    async def work() -> None:
        async with ray_workers("local", 2, router.loader, sampling) as workers:
            assert workers.generator.engine == "vllm"
            first, second = await asyncio.gather(*map(_process, workers._in_flight))
            engines = [*first.children(recursive=True), *second.children(recursive=True)]
            assert len(engines) >= 2, _listing()
            runs = await asyncio.gather(*(workers.search(job, None) for job in jobs))
            assert [run.problem for run in runs] == [problem.id for problem in problems]
            assert all(len(run.candidates) == 4 for run in runs)
            below = first.children(recursive=True)
            first.kill()
            _, left = psutil.wait_procs(below, timeout=60)
            assert not left
            runs = await asyncio.gather(*(workers.search(job, None) for job in jobs))
            assert all(len(run.candidates) == 4 for run in runs)
            assert workers.count == 1
        _, left = psutil.wait_procs(engines, timeout=60)
        assert not left

    asyncio.run(work())


async def _process(actor: Any) -> psutil.Process:
    """The process of a Ray worker, as it says itself."""
    return psutil.Process(await actor.__ray_call__.remote(lambda _: os.getpid()))


def _listing() -> str:
    """All processes, for the message of a failure that nobody could repeat."""
    fields = ["pid", "ppid", "create_time", "cmdline"]
    return "\n".join(str(process.info) for process in psutil.process_iter(fields))
