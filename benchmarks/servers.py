r"""One beam search with its models in this process, and through two `vllm serve`.

    python -m benchmarks.servers ../shared/data/gsm8k_dev.jsonl \
        --output benchmarks/results/servers.json [--rounds 6]

Generator and verifier are the embedded model and its shipped head, on vLLM each time, with half of
the cores each unless OMP_NUM_THREADS says otherwise. All four engines stay open, and each round
searches both ways, one after the other, in turn the one and the other first: what else the machine
does slows both about the same. The ratio is the median over rounds of their ratios, with a 95 %
interval by drawing rounds again: of tokens a second, and of tokens a CPU second of all processes
together, which other work on the machine changes less.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from ctypes.util import find_library
from pathlib import Path
from typing import Any, Final

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
THERE: Final = "two servers"
START_SECONDS: Final = 900
RESAMPLES: Final = 2000
THREADS: Final = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "KMP_BLOCKTIME": "5",
    "KMP_TPAUSE": "0",
    "OMP_NUM_THREADS": os.getenv("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2))),
}
"""Of each engine, in all processes. Not bound; waiting 5 ms for work before they sleep, as where
vLLM binds them itself; and half of the cores, so that the threads of two engines that compute at
the same time do not wait for each other."""
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


def ratios(rounds: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Two servers over one process: [median of the rounds' ratios, low, high], 95 %."""
    rng, found = np.random.default_rng(0), {}
    for what in ("tokens_per_second", "tokens_per_cpu_second"):
        each = np.array([one[THERE][what] / one[HERE][what] for one in rounds])
        again = np.median(rng.choice(each, (RESAMPLES, len(each))), axis=1)
        spread = np.quantile(again, [0.025, 0.975])
        found[what] = [round(float(x), 3) for x in (np.median(each), *spread)]
    return found


@asynccontextmanager
async def served() -> AsyncIterator[Models]:
    """The models behind two servers, and the servers."""
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
    problems: Sequence[Problem], search: str, tokens: int, rounds: int
) -> AsyncIterator[dict[str, Any]]:
    """What both ways took, a round at a time."""
    async with served() as servers, aclosing(await here()) as process:
        ways = {HERE: process, THERE: servers}
        for models in ways.values():
            # Not measured: the first requests find nothing warm.
            await measure(models, problems[:1], search, tokens)
        for _ in range(rounds):
            yield {way: await measure(ways[way], problems, search, tokens) for way in ways}
            ways = dict(reversed(ways.items()))


@click.command()
@click.argument("problems", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--search", default="beam_search(n=8, width=4, depth=6)")
@click.option("--count", default=4, help="Problems, all at once.")
@click.option("--max-tokens", default=192)
@click.option("--rounds", default=6, type=click.IntRange(min=2))
def main(
    problems: Path, output: Path, search: str, count: int, max_tokens: int, rounds: int
) -> None:
    """Measure both ways; the record is written again after each round."""
    chosen = read_problems(problems).problems[:count]
    threads = int(THREADS["OMP_NUM_THREADS"])
    settings = {"search": search, "problems": count, "max_tokens": max_tokens, "threads": threads}
    os.environ.update(THREADS)
    record: dict[str, Any] = {**provenance(), "settings": settings, "rounds": []}

    async def measured() -> None:
        async for one in run(chosen, search, max_tokens, rounds):
            click.echo(json.dumps(one), err=True)
            record["rounds"].append(one)
            record["two_servers_of_one_process"] = ratios(record["rounds"])
            await asyncio.to_thread(output.write_text, json.dumps(record, indent=1) + "\n")

    asyncio.run(measured())
    click.echo(json.dumps(record["two_servers_of_one_process"]))


if __name__ == "__main__":
    main()
