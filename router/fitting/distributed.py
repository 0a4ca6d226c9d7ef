"""Workers on a Ray cluster, each an actor with models of its own; the store stays with the driver.

Every worker holds a shard of the problems in flight. When one dies, its shard goes to the others:
what it had in flight was never answered, so it is not stored, and what was answered is not asked
again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from router.fitting.workers import LocalWorker, SearchJob
from router.models.base import GeneratorInfo, VerifierInfo
from router.models.errors import EngineError, InputError
from router.models.extras import require
from router.models.types import Problem, Sampling
from router.opening import Models
from router.rollouts.runs import Origin, Run, StoredPrefill

log = logging.getLogger("router")

LOCAL = "local"
"""Address of a cluster of this machine alone, made for the occasion."""

Load = Callable[[], Awaitable[Models]]
"""Opens the models of one worker; sent to it, so it must be picklable."""

_OBJECTS = 2**27  # bytes of a local cluster's object store; records of searches are small


class RayWorkers:
    """A `Worker` that hands each search to the actor with the fewest in flight."""

    def __init__(
        self,
        actors: list[Any],
        generator: GeneratorInfo,
        verifier: VerifierInfo | None,
        origin: Origin,
        reads_prompts: bool,
    ) -> None:
        self._in_flight = dict.fromkeys(actors, 0)
        self.generator = generator
        self.verifier = verifier
        self.origin = origin
        self.reads_prompts = reads_prompts

    @property
    def count(self) -> int:
        """Workers alive."""
        return len(self._in_flight)

    async def prefill(self, problem: Problem) -> StoredPrefill:
        found: StoredPrefill = await self._call("prefill", problem)
        return found

    async def search(self, job: SearchJob, seed: int | None) -> Run:
        run: Run = await self._call("search", job, seed)
        return run

    async def score(self, run: Run, problem: Problem) -> Run:
        scored: Run = await self._call("score", run, problem)
        return scored

    async def _call(self, method: str, *arguments: Any) -> Any:
        from ray.exceptions import RayActorError, RayError

        death: RayActorError | None = None
        while self._in_flight:
            actor = min(self._in_flight, key=self._in_flight.__getitem__)
            self._in_flight[actor] += 1
            try:
                return await getattr(actor, method).remote(*arguments)
            except RayActorError as error:
                death = error
                if self._in_flight.pop(actor, None) is not None:
                    log.warning("a worker died, %d go on: %s", self.count, _line(error))
            except RayError as error:
                raise _cause(error) from error
            finally:
                if actor in self._in_flight:
                    self._in_flight[actor] -= 1
        raise EngineError(
            "every Ray worker has died; what finished is stored, so start the same fit again"
        ) from death

    async def close(self) -> None:
        """Release the models of all workers; no call may follow. One that died has none."""
        closing = (actor.close.remote() for actor in self._in_flight)
        await asyncio.gather(*closing, return_exceptions=True)


class _Actor:
    """What runs in a worker's process."""

    def __init__(self, load: Load, sampling: Sampling) -> None:
        self._load = load
        self._sampling = sampling

    async def open(self) -> tuple[GeneratorInfo, VerifierInfo | None, Origin, bool]:
        self._models = await self._load()
        self._worker = worker = LocalWorker(self._models, self._sampling)
        return worker.generator, worker.verifier, worker.origin, worker.reads_prompts

    async def prefill(self, problem: Problem) -> StoredPrefill:
        return await self._worker.prefill(problem)

    async def search(self, job: SearchJob, seed: int | None) -> Run:
        return await self._worker.search(job, seed)

    async def score(self, run: Run, problem: Problem) -> Run:
        return await self._worker.score(run, problem)

    async def close(self) -> None:
        await self._models.aclose()


@asynccontextmanager
async def ray_workers(
    address: str, count: int | None, load: Load, sampling: Sampling
) -> AsyncIterator[RayWorkers]:
    """Workers on the cluster at `address`; they end with the block.

    address: of a running cluster (`auto` finds the one of this machine), or `local`.
    count: of workers; None is one a GPU, or one a node where there are none.

    Raises:
        InputError: Ray is not installed, no cluster is there, or it is too small.
        EngineError: a worker died before its models were open.
        ModelError, EngineError, InputError: what a worker raised when it opened them.
    """
    ray = _connect(address)
    try:
        from ray.exceptions import RayError

        count, resources = _places(ray.nodes(), count)
        create = ray.remote(**resources)(_Actor).remote
        actors = [create(load, sampling) for _ in range(count)]
        try:
            infos = await asyncio.gather(*(actor.open.remote() for actor in actors))
        except RayError as error:
            raise _cause(error) from error
        workers = RayWorkers(actors, *infos[0])
        yield workers
        await workers.close()
    finally:
        ray.shutdown()  # ends the actors of this driver


def _connect(address: str) -> Any:
    """The module `ray`, connected."""
    require("--ray", "ray", "ray")
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": _OBJECTS}
    try:
        if re.fullmatch(r"[^/]+:\d+", address):  # Ray itself would wait for it for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at {address!r} ({_line(error)}); give its address, or `local`"
        ) from error
    return ray


def _places(nodes: list[dict[str, Any]], count: int | None) -> tuple[int, dict[str, Any]]:
    """How many workers, and what Ray is to reserve for each.

    Raises:
        InputError: the cluster is too small: Ray itself would wait without end.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    if gpus:
        if count is not None and count > gpus:
            raise InputError(f"--workers {count}: the Ray cluster has {gpus} GPUs, one a worker")
        return count or gpus, {"num_gpus": 1}
    cores = [int(node["CPU"]) for node in alive if node.get("CPU", 0) >= 1]
    count = count or len(cores)
    on_a_node = -(-count // max(1, len(cores)))
    # Ray sets a worker's number of threads to the CPUs that it reserves.
    share = min(cores, default=0) // on_a_node
    if share < 1:
        raise InputError(
            f"--workers {count}: the Ray cluster has {sum(cores)} CPUs on {len(cores)} nodes,"
            " and each worker needs one"
        )
    return count, {"num_cpus": share, "scheduling_strategy": "SPREAD"}


def _cause(error: Exception) -> Exception:
    """What a worker itself raised, or what Ray says happened to it."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else EngineError(f"Ray: {_line(error)}")


def _line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).strip().partition("\n")[0]
