"""The service that `benchmarks.service_load` measures, in a process of its own.

python -m benchmarks.service_process --seconds-per-token 0.02 [--direct 200] [-- router options]

Prints one JSON object: the service's URL and, with --direct, how long the engine itself takes for
one solution, without router and HTTP. Then it serves until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import Gauge

from benchmarks.simulated import simulated_store
from router import Router
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import DEFAULTS, configurations
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Chain, Sampling
from router.opening import Models
from router.rollouts.runs import Origin
from router.rollouts.store import RolloutStore
from router.service.server import Server, bind
from router.service.settings import Settings

BUDGETS = (1, 2, 4, 8, 16, 32, 64)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds-per-token", type=float, default=0.02)
    parser.add_argument("--direct", type=int, default=0, metavar="CALLS")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--engine", default="fake")
    options = parser.parse_args(arguments)
    settings = Settings(running=64, waiting=256)
    with tempfile.TemporaryDirectory() as directory:
        if options.engine == "fake":
            generator = FakeGenerator(seconds_per_token=options.seconds_per_token)
            bundle = fitted(Path(directory), generator)
            router = Router(generator=generator, verifier=FakeVerifier(), bundle=bundle)
        else:
            router = Router(engine=options.engine)
        router.open()
        direct = {}
        if options.direct:
            direct = router.run(lambda m: timed(m, router.sampling, options))
        bound = bind("127.0.0.1", 0, settings)
        server = Server(router, settings, drain=1.0)
        if options.engine == "fake":
            running = Gauge(
                "engine_calls", "Calls in flight.", registry=server.service.metrics.registry
            )
            running.set_function(lambda: generator.running)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        print(json.dumps({"url": url, "direct": direct}), flush=True)
        server.serve_on(bound)


def fitted(directory: Path, generator: FakeGenerator) -> Path:
    """A bundle with a difficulty estimator that passes for one of the fake engine."""
    strategies = configurations(BUDGETS, DEFAULTS, verifier=True)
    settings = FitSettings(BUDGETS, strategies, "quantile:3", level_samples=32)
    simulated_store(directory / "r.db", 200, strategies, level_samples=32)
    with RolloutStore.read(directory / "r.db") as store:
        bundle = fit_bundle(store, settings)
    origin = Origin.of(generator.info, Sampling(), FakeVerifier().info)
    manifest = {**bundle.manifest, "origin": origin.to_dict()}
    replace(bundle, origin=origin, manifest=manifest).save(directory / "bundle")
    return directory / "bundle"


async def timed(models: Models, sampling: Sampling, options: Any) -> dict[str, Any]:
    """The engine's own time for one solution of each problem."""
    problems = fake_problems(options.direct)

    async def call(index: int) -> None:
        await models.generator.sample(Chain(problems[index]), 1, sampling)

    return await measured(call, options.direct, options.concurrency)


async def measured(
    call: Callable[[int], Awaitable[None]], count: int, concurrency: int
) -> dict[str, Any]:
    """The latency of each of `count` calls, and the seconds of all, so many at once."""
    latencies = [0.0] * count
    waiting = iter(range(count))

    async def worker() -> None:
        for index in waiting:
            began = time.perf_counter()
            await call(index)
            latencies[index] = time.perf_counter() - began

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return {"latencies": latencies, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main(sys.argv[1:])
