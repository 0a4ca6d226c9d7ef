r"""What the search driver itself costs: CPU time and memory, for N up to 4,096 and 1,000 problems.

    python -m benchmarks.driver_scale --output benchmarks/results/driver_scale.json

The models are stubs that answer at once with canned steps, so what is measured is all ours:
strategies, budget, trace, usage, asyncio. Exponents are slopes of log cost against log size: 1 is
linear. CPU times are the least of a few runs, as whatever else a machine does only adds to them.
Large sizes lose more of their caches to other work, so `calls` counts function calls too, which
nothing else can change. `tokens` is what an engine adds on each sample, on the embedded model's
real tokenizer.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.provenance import provenance
from router.models.base import GeneratorInfo, VerifierInfo
from router.models.prompts import get_prompt
from router.models.types import Chain, Continuation, Problem, Sampled, Sampling, Scored, Step
from router.strategies.budget import Budget
from router.strategies.driver import Outcome, run_search
from router.strategies.registry import STRATEGIES, parse_strategy

DEPTH = 8
STEP_TOKENS = 32
WIDTHS = (16, 64, 256, 1024, 4096)
PROBLEMS = (1, 10, 100, 1000)
N_OF_PROBLEMS = 16
LENGTHS = (128, 512, 2048, 8192)
REPEATS = 2

TEXT = "So the total is 12 + 30 = 42 apples, and each of the 3 children gets 14 of them.\n\n"


class CannedGenerator:
    """Answers with the same step every time; a solution has `DEPTH` of them."""

    def __init__(self) -> None:
        ids = tuple(range(STEP_TOKENS))
        self._step = Step(TEXT, "step", STEP_TOKENS, ids)
        self._last = Step("The answer is \\boxed{14}.", "stop", STEP_TOKENS, ids)
        self.info = GeneratorInfo("canned", "fake", "plain", parameters=1)

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        await asyncio.sleep(0)
        left = DEPTH - path.depth
        steps = (*[self._step] * (left - 1), self._last)
        if sampling.until == "step":
            steps = steps[:1]
        one = Continuation(steps, STEP_TOKENS * len(steps))
        return Sampled((one,) * n, prompt_tokens=path.tokens * n, cached_tokens=0)

    async def aclose(self) -> None:
        pass


class CannedVerifier:
    """Gives every step the same score."""

    info = VerifierInfo("canned", "fake", "last", parameters=1)

    async def score(self, path: Chain, known: int = 0) -> Scored:
        await asyncio.sleep(0)
        new = path.depth - known
        return Scored((0.5,) * new, tokens=STEP_TOKENS * new)

    async def aclose(self) -> None:
        pass


def search(strategy_text: str, problems: int) -> list[Outcome]:
    """Search all problems at once, as a batch does."""
    strategy = parse_strategy(strategy_text)
    generator, verifier = CannedGenerator(), CannedVerifier()

    async def run() -> list[Outcome]:
        searches = [
            run_search(
                strategy,
                Problem(f"p{index}", f"Share {index} apples."),
                generator,
                verifier,
                Budget(strategy.cost),
                Sampling(),
            )
            for index in range(problems)
        ]
        return list(await asyncio.gather(*searches))

    return asyncio.run(run())


def measure(strategy: str, n: int, problems: int) -> dict[str, Any]:
    text = f"{strategy}(n={n})"
    seconds = []
    for _ in range(REPEATS):
        gc.collect()
        started = time.process_time()
        outcomes = search(text, problems)
        seconds.append(time.process_time() - started)
    profile = cProfile.Profile()
    profile.runcall(search, text, problems)
    tracemalloc.start()
    outcomes = search(text, problems)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    samples = sum(len(outcome.candidates) for outcome in outcomes)
    return {
        "strategy": text,
        "n": n,
        "problems": problems,
        "calls": sum(entry.callcount for entry in profile.getstats()),
        "cpu_seconds": round(min(seconds), 4),
        "cpu_ms_per_sample": round(1e3 * min(seconds) / samples, 3),
        "peak_megabytes": round(peak / 1e6, 2),
        "held_megabytes": round(held / 1e6, 2),
        "trace_nodes": max(len(outcome.trace.nodes) for outcome in outcomes),
        "trace_dropped": max(outcome.trace.dropped for outcome in outcomes),
    }


def measure_tokens(lengths: Sequence[int]) -> list[dict[str, Any]]:
    """CPU time to cut one sample into steps, and to make the prompt that continues it."""
    from transformers import AutoTokenizer

    from router.models.tokens import ChainEncoder
    from router.models.weights.find import find_model

    encoder = ChainEncoder(AutoTokenizer.from_pretrained(find_model(None)), get_prompt("qwen-math"))
    unit = encoder.tokenizer.encode(TEXT)
    rows = []
    for length in lengths:
        ids = (unit * (length // len(unit) + 1))[:length]
        path = Chain(Problem("p", "Share 42 apples.")).extend(*encoder.split(ids, "stop"))
        encoder.chain_ids(path)
        rows.append(
            {
                "tokens": length,
                "steps": path.depth,
                "split_ms": _cpu_ms(lambda ids=ids: encoder.split(ids, "stop")),
                "prompt_ms": _cpu_ms(lambda path=path: encoder.chain_ids(path)),
            }
        )
    return rows


def _cpu_ms(call: Any) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        for _ in range(4):
            call()
        times.append((time.process_time() - started) / 4)
    return round(1e3 * min(times), 3)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost against log size."""
    return round(float(np.polyfit(np.log(sizes), np.log(costs), 1)[0]), 2)


def exponents(rows: Sequence[dict[str, Any]], size: str) -> dict[str, float]:
    """Of time and memory, from the two largest sizes up: small ones measure the start of a run."""
    large = rows[-3:]
    return {
        cost: exponent([row[size] for row in large], [row[cost] for row in large])
        for cost in ("calls", "cpu_seconds", "peak_megabytes")
    }


def plot(record: dict[str, Any], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, part in record["by_n"].items():
        sizes = [row["n"] for row in part["rows"]]
        left.plot(sizes, [row["cpu_seconds"] for row in part["rows"]], "o-", label=name)
        right.plot(sizes, [row["peak_megabytes"] for row in part["rows"]], "o-", label=name)
    linear = np.array(WIDTHS, dtype=float)
    left.plot(linear, linear * 2e-4, "k:", label="linear")
    right.plot(linear, linear * 2e-3, "k:", label="linear")
    left.set(xlabel="N", ylabel="CPU seconds of one search", xscale="log", yscale="log")
    right.set(xlabel="N", ylabel="peak megabytes of one search", xscale="log", yscale="log")
    left.legend(fontsize=8)
    figure.suptitle("The search driver's own cost (models that answer at once)", fontsize=11)
    figure.savefig(file, dpi=150)


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--quick", is_flag=True, help="Small sizes only, to see that it runs.")
def main(output: Path, quick: bool) -> None:
    """Measure, and write JSON and a picture beside it."""
    widths = WIDTHS[:3] if quick else WIDTHS
    counts = PROBLEMS[:3] if quick else PROBLEMS
    search("best_of_n(n=4)", 1)
    record: dict[str, Any] = {**provenance(), "depth": DEPTH, "step_tokens": STEP_TOKENS}
    record["by_n"], record["by_problems"] = {}, {}
    for name in STRATEGIES:
        rows = [measure(name, n, 1) for n in widths]
        record["by_n"][name] = {"exponents": exponents(rows, "n"), "rows": rows}
        rows = [measure(name, N_OF_PROBLEMS, count) for count in counts]
        record["by_problems"][name] = {"exponents": exponents(rows, "problems"), "rows": rows}
        click.echo(f"{name}: {record['by_n'][name]['exponents']}", err=True)
    record["tokens"] = measure_tokens(LENGTHS[:2] if quick else LENGTHS)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n")
    plot(record, output.with_suffix(".png"))


if __name__ == "__main__":
    main()
