r"""Our decoder beside transformers' own continuous batching, on the embedded model.

    python -m benchmarks.continuous_batching --output benchmarks/results/continuous_batching.json

Both sample as many tokens for every row, from the same weights in the same number format at one
temperature, with log-probabilities and without an end-of-text token. No prompt comes twice, so no
cache helps. Each computes in one thread, and CPU time is what counts, as other work on the machine
only adds to the time by the clock. transformers' engine gets twice the blocks of cache that its
rows fill: it would take most of the machine's memory otherwise. A cell is stored when it is done;
those that the output holds are not measured again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    PreTrainedModel,
)

from benchmarks.provenance import provenance
from router.models.generators.decoding import Decoder, Request
from router.models.runtime.numbers import compute_dtype
from router.models.weights.find import find_model

PROMPT_TOKENS, TEMPERATURE, PAGE = 100, 0.8, 256
CELLS = ((1, 1), (1, 8), (1, 32), (1, 64), (8, 1), (32, 1))
"""Prompts, and continuations of each."""

Prompts = list[list[int]]


def ours(model: PreTrainedModel, prompts: Prompts, n: int, tokens: int) -> int:
    """Tokens that were sampled."""

    async def run() -> int:
        decoder = Decoder(model, frozenset())
        requests = [
            Request(ids, n, tokens, TEMPERATURE, 1.0, None, lambda: lambda _: None)
            for ids in prompts
        ]
        await asyncio.gather(*map(decoder.decode, requests))
        await decoder.aclose()
        return sum(request.sampled_tokens for request in requests)

    return asyncio.run(run())


def theirs(model: PreTrainedModel, prompts: Prompts, n: int, tokens: int) -> int:
    """Tokens that were sampled."""
    blocks = len(prompts) * n * -(-(PROMPT_TOKENS + tokens) // PAGE)
    with model.continuous_batching_context_manager(
        generation_config=GenerationConfig(
            do_sample=True,
            temperature=TEMPERATURE,
            top_k=0,
            max_new_tokens=tokens,
            eos_token_id=-1,
            num_return_sequences=n,
        ),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=2 * blocks + 2,
            max_batch_tokens=1024,
            return_logprobs=True,
            per_request_processors=True,
        ),
    ) as manager:
        manager.add_requests(prompts)
        sampled: list[int] = []
        while len(sampled) < len(prompts) * n:
            result = manager.get_result(timeout=1)
            if result is not None:
                sampled.append(len(result.generated_tokens))
            elif not manager.is_running():
                raise RuntimeError("transformers' engine ended early")
    return sum(sampled)


def measure(run: Callable[..., int], *arguments: Any) -> dict[str, float]:
    cpu, clock = time.process_time(), time.perf_counter()
    sampled = run(*arguments)
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return {
        "sampled_tokens": sampled,
        "tokens_per_cpu_second": round(sampled / cpu, 1),
        "tokens_per_second": round(sampled / clock, 1),
    }


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--cell", "chosen", nargs=2, type=int, multiple=True, help="Of CELLS alone.")
@click.option("--tokens", default=128, show_default=True, help="Sampled tokens a row.")
def main(output: Path, chosen: tuple[tuple[int, int], ...], tokens: int) -> None:
    torch.set_num_threads(1)
    model = find_model()
    dtype = compute_dtype(model)
    engines = [
        (run, AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval())
        for run in (ours, theirs)
    ]
    record: dict[str, Any] = {
        **provenance(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": dtype,
        "prompt_tokens": PROMPT_TOKENS,
        "cells": {},
    }
    if output.exists():
        record["cells"] = json.loads(output.read_text())["cells"]
    for count, n in chosen or CELLS:
        key = f"{count} x {n}, {tokens} tokens"
        if key in record["cells"]:
            continue
        ids = np.random.default_rng(n).integers(1000, 100_000, (count, PROMPT_TOKENS)).tolist()
        cell: dict[str, Any] = {
            run.__name__: measure(run, model, ids, n, tokens) for run, model in engines
        }
        rate = {name: cell[name]["tokens_per_cpu_second"] for name in cell}
        cell["theirs_over_ours"] = round(rate["theirs"] / rate["ours"], 2)
        record["cells"][key] = cell
        click.echo(f"{key:<24} {cell}")
        output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
