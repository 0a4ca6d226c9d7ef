r"""One beam search with its models in this process, and through two `vllm serve`.

    python -m benchmarks.servers ../shared/data/gsm8k_dev.jsonl \
        --output benchmarks/results/servers.json [--rounds 3]

Generator and verifier are the embedded model and its shipped head, on vLLM both times. All four
engines are open all along, and the ways take turns, round by round: what else the machine does
slows each the same. Ratios are of medians over rounds: of tokens a second, and of tokens a
CPU second of all processes together, which other work on the machine changes less.
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
from contextlib import ExitStack, aclosing, contextmanager
from ctypes.util import find_library
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import httpx

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
"""Of keys and values in each of the four engines."""

HERE: Final = "in process"
THERE: Final = "two servers"
START_SECONDS: Final = 900
PORTS: Final = (18211, 18212)


@contextmanager
def serving(model: Path, port: int, *args: str) -> Iterator[str]:
    """A `vllm serve` with the threads, blocks and libraries that `router` gives its engines."""
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
        *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(CONTEXT)),
        *("--block-size", "32", "--max-num-seqs", "128", "--enforce-eager"),
        *("--kv-cache-memory-bytes", str(CACHE_BYTES), *args),
    ]
    openmp = Path(sys.prefix, "lib", "libiomp5.so")
    preload = [find_library("tcmalloc_minimal"), str(openmp) if openmp.is_file() else None]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    environment = os.environ | {
        "LD_PRELOAD": ":".join(filter(None, preload)),
        "VLLM_CPU_OMP_THREADS_BIND": cores,
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


def ratios(rounds: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of the medians, two servers over in process."""
    found = {}
    for what in ("tokens_per_second", "tokens_per_cpu_second"):
        there, here = (median(one[way][what] for one in rounds) for way in (THERE, HERE))
        found[what] = round(there / here, 3)
    return found


async def run(
    problems: Sequence[Problem], search: str, tokens: int, rounds: int, urls: Sequence[str]
) -> AsyncIterator[dict[str, Any]]:
    """What each way took, a round at a time; every other round begins with the other way."""
    async with aclosing(await here()) as own, aclosing(await there(*urls)) as served:
        ways = {HERE: own, THERE: served}
        for models in ways.values():  # not measured: the first requests find nothing warm
            await measure(models, problems[:1], search, tokens)
        for number in range(rounds):
            order = list(ways) if number % 2 == 0 else list(ways)[::-1]
            yield {way: await measure(ways[way], problems, search, tokens) for way in order}


@click.command()
@click.argument("problems", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--search", default="beam_search(n=8, width=4, depth=6)")
@click.option("--count", default=4, help="Problems, all at once.")
@click.option("--max-tokens", default=192)
@click.option("--rounds", default=3)
def main(
    problems: Path, output: Path, search: str, count: int, max_tokens: int, rounds: int
) -> None:
    """Measure both ways, in turns."""
    chosen = read_problems(problems).problems[:count]
    head = shipped_head(DEFAULT.name)
    assert head is not None
    settings = {"search": search, "problems": count, "max_tokens": max_tokens}
    record: dict[str, Any] = {**provenance(), "settings": settings, "rounds": []}
    with ExitStack() as stack:
        exported = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "head"
        name = export_checkpoint(find_model(None), head, exported).name
        urls = [
            stack.enter_context(
                serving(find_model(None), PORTS[0], "--served-model-name", DEFAULT.name)
            ),
            stack.enter_context(
                serving(
                    exported,
                    PORTS[1],
                    *("--served-model-name", name, "--io-processor-plugin", "router"),
                    *("--pooler-config", '{"tok_pooling_type": "ALL"}'),
                )
            ),
        ]
        for url in urls:
            wait_for(url)
        asyncio.run(store(run(chosen, search, max_tokens, rounds, urls), record, output))
    click.echo(json.dumps(record["two_servers_of_in_process"]))


async def store(
    measured: AsyncIterator[dict[str, Any]], record: dict[str, Any], output: Path
) -> None:
    """Write the record again after each round."""
    async for one in measured:
        add(one, record, output)


def add(one: dict[str, Any], record: dict[str, Any], output: Path) -> None:
    click.echo(json.dumps(one), err=True)
    record["rounds"].append(one)
    record["two_servers_of_in_process"] = ratios(record["rounds"])
    output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
