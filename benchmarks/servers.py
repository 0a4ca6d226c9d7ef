r"""One beam search with its models in this process, and through two `vllm serve`.

    python -m benchmarks.servers ../shared/data/gsm8k_dev.jsonl \
        --output benchmarks/results/servers.json [--rounds 4]

Generator and verifier are the embedded model and its shipped head, on vLLM each time. Half of the
rounds in process come before those with servers, half after, so that what else the machine does
slows each about the same, and no more than two engines are open at once. Ratios are of medians over
rounds, with 95 % intervals by drawing rounds again: of tokens a second, and of tokens a CPU second
of all processes together, which other work on the machine changes less.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from ctypes.util import find_library
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import click
import httpx
import numpy as np

from benchmarks.provenance import provenance
from benchmarks.search_speed import cpu_seconds
from router.models.generators.load import load_generator
from router.models.types import Problem, Sampling
from router.models.usage import Usage
from router.models.verifiers.checkpoint import export_checkpoint
from router.models.verifiers.load import load_verifier
from router.models.verifiers.load_served import load_served_verifier
from router.models.verifiers.trained_head import shipped_head
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.opening import Models
from router.problem_files import read_problems
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.registry import parse_strategy

CONTEXT: Final = 2048
CACHE_BYTES: Final = 1 << 29
"""Of keys and values in each engine."""

HERE: Final = "in process"
UNBOUND: Final = "in process, threads not bound"
"""To cores, as those of the servers are not; that is faster on a machine with other work."""

THERE: Final = "two servers"
START_SECONDS: Final = 900
RESAMPLES: Final = 2000
THREADS: Final = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "KMP_BLOCKTIME": "5"}
"""Not bound; and waiting 5 ms for work before they sleep, as where vLLM binds them itself."""
PORTS: Final = (18211, 18212)
WORKER: Final = "router.models.generators.vllm_served_worker.ServedWorker"


@contextmanager
def serving(model: Path, port: int, *args: str) -> Iterator[str]:
    """A `vllm serve` as `docs/deploy.md` starts it on a CPU."""
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
        *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(CONTEXT)),
        *("--block-size", "32", "--max-num-seqs", "128", "--enforce-eager"),
        *("--kv-cache-memory-bytes", str(CACHE_BYTES)),
        *("--distributed-executor-backend", "uni", *args),
    ]
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    preload = [find_library("tcmalloc_minimal"), str(openmp) if openmp.is_file() else None]
    environment = os.environ | {
        **THREADS,
        "LD_PRELOAD": ":".join(filter(None, preload)),
        # The model runs in the engine's own process: two would wait for each other in a loop.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(1)
    raise click.ClickException(f"{url} does not start")


async def here() -> Models:
    """Both on engines of this process; the head reads a backbone of its own, as over there."""
    sizes: dict[str, Any] = {"max_model_len": CONTEXT, "kv_cache_memory_bytes": CACHE_BYTES}
    generator = await load_generator(engine="vllm", **sizes)
    head = str(shipped_head(DEFAULT.name))
    verifier = await load_verifier(head, engine="vllm", engine_args=sizes)
    return Models(generator, verifier, (generator, verifier))


async def there(generator_url: str, verifier_url: str) -> Models:
    generator = await load_generator(DEFAULT.name, endpoints=[generator_url], prompt=DEFAULT.prompt)
    verifier = await load_served_verifier(None, [verifier_url])
    return Models(generator, verifier, (generator, verifier))


async def measure(models: Models, problems: Sequence[Problem], search: str, tokens: int) -> Any:
    """Search all problems at once, and say what it took."""
    strategy = parse_strategy(search)
    started, cpu = time.monotonic(), cpu_seconds()
    outcomes = await asyncio.gather(
        *(
            run_search(
                strategy,
                problem,
                models.generator,
                models.verifier,
                Budget(strategy.cost),
                Sampling(max_tokens=tokens),
            )
            for problem in problems
        )
    )
    seconds, cpu = time.monotonic() - started, cpu_seconds() - cpu
    usage = sum((outcome.usage for outcome in outcomes), Usage())
    sampled = usage.sampled_tokens or 0
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "sampled_tokens": sampled,
        "verifier_tokens": usage.verifier_tokens,
        "tokens_per_second": round(sampled / seconds, 2),
        "tokens_per_cpu_second": round(sampled / cpu, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def ratios(rounds: Mapping[str, Sequence[dict[str, Any]]], way: str) -> dict[str, list[float]]:
    """Of the medians, two servers over `way`: [ratio, low, high], low to high 95 %."""
    rng, found = np.random.default_rng(0), {}
    for what in ("tokens_per_second", "tokens_per_cpu_second"):
        there, here = (np.array([one[what] for one in rounds[each]]) for each in (THERE, way))
        again = [
            np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)
            for values in (there, here)
        ]
        spread = np.quantile(again[0] / again[1], [0.025, 0.975])
        found[what] = [round(float(x), 3) for x in (np.median(there) / np.median(here), *spread)]
    return found


@asynccontextmanager
async def opened(way: str) -> AsyncIterator[Models]:
    """The models of one way, and with servers the servers."""
    if way != THERE:
        with patch.dict(os.environ, THREADS if way == UNBOUND else {}):
            models = await here()
        async with aclosing(models):
            yield models
        return
    head = shipped_head(DEFAULT.name)
    assert head is not None
    with ExitStack() as stack:
        exported = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "head"
        name = export_checkpoint(find_model(None), head, exported).name
        generator = ("--served-model-name", DEFAULT.name, "--worker-cls", WORKER)
        verifier = (
            *("--served-model-name", name, "--io-processor-plugin", "router"),
            *("--pooler-config", '{"tok_pooling_type": "ALL"}'),
        )
        urls = [
            stack.enter_context(serving(find_model(None), PORTS[0], *generator)),
            stack.enter_context(serving(exported, PORTS[1], *verifier)),
        ]
        for url in urls:
            await asyncio.to_thread(wait_for, url)
        async with aclosing(await there(*urls)) as models:
            yield models


async def run(
    problems: Sequence[Problem], search: str, tokens: int, rounds: int, done: dict[str, int]
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """What each way took, a round at a time. done: rounds of each that were measured before."""
    half = rounds // 2
    rest = rounds - half
    blocks = ((HERE, half), (UNBOUND, half), (THERE, rounds), (UNBOUND, rest), (HERE, rest))
    for way, count in blocks:
        before = min(count, done[way])
        done[way] -= before
        if before == count:
            continue
        async with opened(way) as models:
            # Not measured: the first requests find nothing warm.
            await measure(models, problems[:1], search, tokens)
            for _ in range(count - before):
                yield way, await measure(models, problems, search, tokens)


@click.command()
@click.argument("problems", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--search", default="beam_search(n=8, width=4, depth=6)")
@click.option("--count", default=4, help="Problems, all at once.")
@click.option("--max-tokens", default=192)
@click.option("--rounds", default=4, type=click.IntRange(min=2), help="Of each way.")
def main(
    problems: Path, output: Path, search: str, count: int, max_tokens: int, rounds: int
) -> None:
    """Measure the ways; goes on where the same command was stopped."""
    chosen = read_problems(problems).problems[:count]
    settings = {"search": search, "problems": count, "max_tokens": max_tokens}
    record: dict[str, Any] = {
        **provenance(),
        "settings": settings,
        "rounds": {HERE: [], UNBOUND: [], THERE: []},
    }
    if output.is_file():
        before = json.loads(output.read_text())
        if before["settings"] == settings:
            record["rounds"] |= before["rounds"]
    done = {way: len(measured) for way, measured in record["rounds"].items()}
    asyncio.run(store(run(chosen, search, max_tokens, rounds, done), record, output))
    click.echo(json.dumps(record["two_servers_of"]))


async def store(
    measured: AsyncIterator[tuple[str, dict[str, Any]]], record: dict[str, Any], output: Path
) -> None:
    """Write the record again after each round."""
    rounds = record["rounds"]
    async for way, one in measured:
        click.echo(json.dumps({way: one}), err=True)
        rounds[way].append(one)
        if all(rounds.values()):
            record["two_servers_of"] = {way: ratios(rounds, way) for way in (HERE, UNBOUND)}
        await asyncio.to_thread(output.write_text, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
