"""A fit on a real local Ray of two workers, one of which is killed in mid-run."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from benchmarks.simulated import SEARCHES
from router.fitting.allocation import Allocation
from router.fitting.configurations import configurations
from router.fitting.distributed import RayWorkers, _Actor, _places, ray_workers
from router.fitting.measurements import LEVEL_SAMPLES
from router.fitting.sampler import Sampler, missing
from router.fitting.workers import SearchJob
from router.models.errors import EngineError, InputError, PromptTooLong
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Problem, Sampling
from router.opening import Models
from router.rollouts.runs import Origin
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.best_of_n import BestOfN

pytest.importorskip("ray", reason="the extra `ray` is not installed")

PROBLEMS = fake_problems(16)
STRATEGIES = configurations([1, 2, 4], SEARCHES[:5], verifier=True)


async def load(pids: Path, seconds_per_token: float, context: int = 16_384) -> Models:
    """What a worker runs; it leaves its process id in the directory `pids`."""
    (pids / str(os.getpid())).touch()
    generator = FakeGenerator(seconds_per_token=seconds_per_token, context=context)
    return Models(generator, FakeVerifier())


def on_ray(work: Callable[[RayWorkers], Awaitable[None]], pids: Path, **options: float) -> None:
    async def run() -> None:
        loader = partial(load, pids, **{"seconds_per_token": 0.0, **options})
        async with ray_workers("local", 2, loader, Sampling()) as workers:
            assert workers.count == len(_pids(pids)) == 2
            await work(workers)

    asyncio.run(run())


def _pids(directory: Path) -> list[int]:
    return [int(file.name) for file in directory.iterdir()]


def sampler(store: RolloutStore) -> Sampler:
    return Sampler(
        store, PROBLEMS, STRATEGIES, levels="quantile:2", allocation=Allocation.of("grid")
    )


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_worker_killed_in_mid_run_loses_nothing_and_nothing_is_done_twice(
    tmp_path: Path,
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    kept = []

    async def work(workers: RayWorkers) -> None:
        origin = Origin.of(workers.generator, Sampling(), workers.verifier)
        with RolloutStore.create(tmp_path / "r.db", origin) as store:
            store.add_problems(PROBLEMS)
            ten, done = asyncio.Event(), count()

            def tick(_: int) -> None:
                if next(done) == 10:
                    ten.set()

            fit = asyncio.create_task(sampler(store).run(workers, tick=tick, in_flight=6))
            await ten.wait()
            kept.extend(store.runs())
            os.kill(_pids(pids)[0], signal.SIGKILL)
            await fit
        assert workers.count == 1

    on_ray(work, pids, seconds_per_token=0.002)
    with RolloutStore.read(tmp_path / "r.db") as store:
        counts = store.counts()
        runs = list(store.runs())
        assert missing(PROBLEMS, STRATEGIES, store.held()) == []
    # Exactly what was asked for, once: more would be twice.
    searches = {str(s) for s in STRATEGIES if not isinstance(s, BestOfN)}
    assert counts == {
        (problem.id, name): 4 + LEVEL_SAMPLES if name == SAMPLES else 1
        for problem in PROBLEMS
        for name in (SAMPLES, *searches)
    }
    assert 10 <= len(kept) < len(runs)
    assert [run for run in runs if run in kept] == kept


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_what_a_worker_raises_arrives_and_ends_no_worker(tmp_path: Path) -> None:
    async def work(workers: RayWorkers) -> None:
        long = SearchJob(Problem("long", "1 + " * 5000 + "1", "5001"), SAMPLES, BestOfN(1), 0)
        with pytest.raises(PromptTooLong, match="long"):
            await workers.search(long, None)
        run = await workers.search(SearchJob(PROBLEMS[0], SAMPLES, BestOfN(3), 0), 1)
        assert len(run.candidates) == 3
        assert workers.count == 2
        for pid in _pids(tmp_path):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="every Ray worker has died"):
            await workers.search(SearchJob(PROBLEMS[0], SAMPLES, BestOfN(3), 0), 1)

    on_ray(work, tmp_path)


async def test_a_generator_that_fails_to_close_leaves_no_verifier_open() -> None:
    closed = []

    class Stuck(FakeGenerator):
        async def aclose(self) -> None:
            raise EngineError("it does not end")

    class Closing(FakeVerifier):
        async def aclose(self) -> None:
            closed.append(self)

    async def opened() -> Models:
        generator, verifier = Stuck(), Closing()
        return Models(generator, verifier, (generator, verifier))

    actor = _Actor(opened, Sampling())
    await actor.open()
    with pytest.raises(EngineError, match="does not end"):
        await actor.close()
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("nodes", "asked", "places"),
    [
        ([{"CPU": 8}, {"CPU": 8}], None, (2, 8)),
        ([{"CPU": 8}, {"CPU": 8}], 4, (4, 4)),
        ([{"CPU": 8}, {"CPU": 8}], 3, (3, 4)),
        ([{"CPU": 0}, {"CPU": 4}], None, (1, 4)),
    ],
)
def test_workers_share_a_nodes_cores(nodes: list[dict], asked: int | None, places: tuple) -> None:
    found, resources = _places([{"Alive": True, "Resources": node} for node in nodes], asked)
    assert (found, resources["num_cpus"]) == places


def test_a_worker_has_a_gpu_of_its_own() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 8, "GPU": 2}}, {"Alive": False, "Resources": {}}]
    assert _places(nodes, None) == (2, {"num_gpus": 1})
    with pytest.raises(InputError, match="--workers 3: the Ray cluster has 2 GPUs"):
        _places(nodes, 3)


def test_a_cluster_that_is_too_small_or_absent_is_refused() -> None:
    with pytest.raises(InputError, match="--workers 3: the Ray cluster has 2 CPUs on 1 nodes"):
        _places([{"Alive": True, "Resources": {"CPU": 2}}], 3)

    async def absent() -> None:
        async with ray_workers("127.0.0.1:1", None, partial(load, Path()), Sampling()):
            pass

    with pytest.raises(InputError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        asyncio.run(absent())
