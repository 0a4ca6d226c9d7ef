r"""What searches do on a GPU: opening both models on one card, then strategies under load.

    python -m benchmarks.gpu.kit --output benchmarks/results/gpu_NAME.json \
        [--model DIR --verifier DIR] [--engine vllm|transformers] [--minutes 8]

Without models it makes random ones of a real size: a generator of 1.5B and a process reward model
of 7B, in bfloat16. Every cell is one strategy with N samples and so many problems in flight, kept
going for an equal share of the time that is left once the models are open; searches that time
cuts count with what they did. `ceiling` is the engine's own rate: as many rows, sampled without
a search or a verifier. It is all measured again at each call; a cell that fails says why.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from transformers import AutoTokenizer

from benchmarks.gpu.checkpoints import SHAPES, make, step_delimiter
from benchmarks.gpu.clocked import Clock, ClockedGenerator, ClockedVerifier
from benchmarks.gpu.picture import draw
from benchmarks.provenance import provenance
from router.models.errors import NoCandidates, RouterError
from router.models.placement import measure_cards
from router.models.prompts import delimited
from router.models.types import Chain, Problem, Sampling
from router.models.usage import Usage
from router.models.weights.find import find_model
from router.opening import Models, load_models
from router.pairs import Pair
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.registry import parse_strategy

STRATEGIES = ("best_of_n", "beam_search", "dvts", "lookahead")
SIZES = (16, 64)
IN_FLIGHT = (1, 32, 256)
CEILING = "ceiling"
CLOSING_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """strategy: a name, or `ceiling`; n: samples; in_flight: problems that run at once."""

    strategy: str
    n: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Work:
    """What each search does.

    max_tokens: of a solution; step_tokens: of a step, about, of a random model.
    """

    max_tokens: int
    step_tokens: int

    def strategy(self, cell: Cell) -> str:
        if cell.strategy == "best_of_n":
            return f"best_of_n(n={cell.n})"
        depth = max(2, self.max_tokens // self.step_tokens)
        # Looking one step ahead doubles the cost; its N is what it may spend, as everywhere.
        n = cell.n // 2 if cell.strategy == "lookahead" else cell.n
        return f"{cell.strategy}(n={n}, width=4, depth={depth})"


def cells(rows: int) -> Iterator[Cell]:
    """All cells; a ceiling for each number of rows up to `rows`, from which on it is the same."""
    loads = list(itertools.product(SIZES, IN_FLIGHT))
    for count in sorted({min(n * flight, rows) for n, flight in loads}):
        yield Cell(CEILING, 1, count)
    for strategy, (n, flight) in itertools.product(STRATEGIES, loads):
        yield Cell(strategy, n, flight)


async def measure(cell: Cell, models: Models, work: Work, seconds: float) -> dict[str, Any]:
    """Keep `cell.in_flight` searches going for so long."""
    sampler, judge = Clock(), Clock()
    assert models.verifier is not None
    generator = ClockedGenerator(models.generator, sampler)
    verifier = None if cell.strategy == CEILING else ClockedVerifier(models.verifier, judge)
    sampling = Sampling(temperature=1.0, max_tokens=work.max_tokens)
    number, finished, spent = itertools.count(), 0, Usage()
    started, own = time.monotonic(), time.thread_time()

    async def one() -> None:
        nonlocal finished, spent
        while (left := started + seconds - time.monotonic()) > 0:
            index = next(number)
            problem = Problem(f"{cell}/{index}", _text(index))
            if verifier is None:
                with suppress(TimeoutError):
                    try:
                        async with asyncio.timeout(left):
                            sampled = await generator.sample(Chain(problem), 1, sampling)
                    except asyncio.CancelledError as error:
                        spent += getattr(error, "usage", Usage())
                        raise
                    spent += Usage.of_sampling(sampled, generator.info.parameters)
                    finished += 1
                continue
            strategy = parse_strategy(work.strategy(cell))
            budget = Budget(strategy.cost, seconds=left)
            try:
                outcome = await run_search(strategy, problem, generator, verifier, budget, sampling)
                spent += outcome.usage
                finished += outcome.ended == "completed"
            except NoCandidates as error:
                spent += error.usage or Usage()

    async with asyncio.TaskGroup() as group:
        for _ in range(cell.in_flight):
            group.create_task(one())
    took, own = time.monotonic() - started, time.thread_time() - own
    return {
        "seconds": round(took, 2),
        "searches_finished": finished,
        "sampled_tokens_per_second": _rate(spent.sampled_tokens, took),
        "verifier_tokens_per_second": _rate(spent.verifier_tokens, took),
        "prompt_tokens_cached": spent.prompt_tokens_cached,
        "prompt_tokens": spent.prompt_tokens,
        "driver_share": round(own / took, 4),
        "sampling_share": round(sampler.seconds / took, 3),
        "scoring_share": round(judge.seconds / took, 3),
        "lower_bound": spent.lower_bound,
    }


async def warm_up(models: Models) -> None:
    """One solution, scored: the first calls compile kernels and find cold caches."""
    root = Chain(Problem("warm-up", _text(0)))
    sampled = await models.generator.sample(root, 16, Sampling(temperature=1.0, max_tokens=64))
    assert models.verifier is not None
    await models.verifier.score(root.extend(*sampled.continuations[0].steps))


def _text(number: int) -> str:
    return f"Problem {number}: what is {number} + {number + 1}? " + "Think of it in detail. " * 8


def _rate(tokens: int | None, seconds: float) -> float | None:
    return None if tokens is None else round(tokens / seconds, 1)


@asynccontextmanager
async def opened(
    model: Path, verifier: Path, engine: str, delimiter: str | None, record: dict[str, Any]
) -> AsyncIterator[Models]:
    """Both models, as the command opens them; how long it took and what it took of the card."""
    before, started = _cards(), time.monotonic()
    prompt = delimited("plain", delimiter) if delimiter else "plain"
    pair = Pair(str(model), engine, prompt=prompt, verifier=str(verifier))
    models = await load_models({"": pair})
    try:
        assert models.verifier is not None
        record["opening"] = {
            "seconds": round(time.monotonic() - started, 1),
            "cards_before": before,
            "cards": _cards(),
            "generator": models.generator.info.to_dict(),
            "verifier": models.verifier.info.to_dict(),
        }
        yield models
    finally:
        await models.aclose()


def _cards() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [
        {"name": name, **asdict(card)} for name, card in zip(names, measure_cards(), strict=True)
    ]


async def run(
    record: dict[str, Any],
    model: Path,
    verifier: Path,
    engine: str,
    delimiter: str | None,
    work: Work,
    ends: float,
    output: Path,
) -> None:
    """Measure every cell and write the record after each."""
    async with opened(model, verifier, engine, delimiter, record) as models:
        await warm_up(models)
        plan = list(cells(rows=512))
        click.echo(json.dumps(record["opening"]), err=True)
        for index, cell in enumerate(plan):
            seconds = (ends - CLOSING_SECONDS - time.monotonic()) / (len(plan) - index)
            row: dict[str, Any] = asdict(cell)
            if seconds < 1:
                row["error"] = "no time was left; give more --minutes"
            else:
                try:
                    row |= await measure(cell, models, work, seconds)
                except RouterError as error:
                    row["error"] = str(error)
            record["cells"].append(row)
            _store(record, output)
            click.echo(json.dumps(row), err=True)


def _store(record: dict[str, Any], output: Path) -> None:
    output.write_text(json.dumps(record, indent=1) + "\n")


@click.command(help=__doc__.partition("\n")[0] if __doc__ else None)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="[default: random]")
@click.option("--verifier", type=click.Path(path_type=Path, exists=True), help="[default: random]")
@click.option("--model-size", type=click.Choice(list(SHAPES)), default="1.5B", show_default=True)
@click.option("--verifier-size", type=click.Choice(list(SHAPES)), default="7B", show_default=True)
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Of random models. [default: the embedded model's]",
)
@click.option("--engine", default="auto", show_default=True)
@click.option("--minutes", default=8.0, show_default=True)
@click.option("--max-tokens", default=256, show_default=True)
def main(
    output: Path,
    model: Path | None,
    verifier: Path | None,
    model_size: str,
    verifier_size: str,
    tokenizer: Path | None,
    engine: str,
    minutes: float,
    max_tokens: int,
) -> None:
    """Measure it all, and write JSON and a picture beside it."""
    ends = time.monotonic() + 60 * minutes
    work = Work(max_tokens, step_tokens=32)
    record: dict[str, Any] = {**provenance(), "work": asdict(work), "engine": engine, "cells": []}
    with tempfile.TemporaryDirectory() as temporary:
        delimiter = None
        if model is None or verifier is None:
            tokenizer = tokenizer or find_model(None)
            started = time.monotonic()
            if model is None:
                model = make(model_size, tokenizer, Path(temporary) / f"random-{model_size}")
                texts = AutoTokenizer.from_pretrained(tokenizer)
                delimiter = step_delimiter(texts, work.step_tokens)
            if verifier is None:
                directory = Path(temporary) / f"random-prm-{verifier_size}"
                verifier = make(verifier_size, tokenizer, directory, verifier=True)
            record["random_models_seconds"] = round(time.monotonic() - started, 1)
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            asyncio.run(run(record, model, verifier, engine, delimiter, work, ends, output))
        except RouterError as error:
            raise click.ClickException(str(error)) from error
    draw(record, output.with_suffix(".png"))
    if any("error" in row for row in record["cells"]):
        sys.exit("some cells failed; see the record")


if __name__ == "__main__":
    main()
