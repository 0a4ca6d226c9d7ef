r"""Our decoder beside transformers' own continuous batching, on the embedded model.

    python -m benchmarks.continuous_batching --output benchmarks/results/continuous_batching.json

Both sample as many tokens for every row, from the same weights in the same number format at one
temperature, with log-probabilities and without an end-of-text token. The rows are either of
different prompts or continuations of one; no prompt comes twice, so that no cache helps. The
engines take turns, since the machine's own speed drifts, and the best turn of each is kept.
transformers' engine gets as many blocks of its cache as the rows fill twice over: it would take
most of the machine's memory otherwise.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
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
OURS, THEIRS = "models.generators.decoding", "transformers.generation.continuous_batching"


def ours(model: PreTrainedModel, prompts: list[list[int]], n: int, tokens: int) -> float:
    """Sampled tokens a second."""

    async def run() -> float:
        decoder = Decoder(model, frozenset())
        requests = [
            Request(ids, n, tokens, TEMPERATURE, 1.0, None, lambda: lambda _: None)
            for ids in prompts
        ]
        started = time.perf_counter()
        await asyncio.gather(*map(decoder.decode, requests))
        seconds = time.perf_counter() - started
        await decoder.aclose()
        return sum(request.sampled_tokens for request in requests) / seconds

    return asyncio.run(run())


def theirs(model: PreTrainedModel, prompts: list[list[int]], n: int, tokens: int) -> float:
    """Sampled tokens a second."""
    rows = len(prompts) * n
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
            num_blocks=2 * rows * -(-(PROMPT_TOKENS + tokens) // PAGE) + 2,
            max_batch_tokens=1024,
            return_logprobs=True,
            per_request_processors=True,
        ),
    ) as manager:
        manager.warmup()
        started = time.perf_counter()
        manager.add_requests(prompts)
        done: list[Any] = []
        while len(done) < rows:
            result = manager.get_result(timeout=1)
            if result is not None:
                done.append(result)
            elif not manager.is_running():
                raise RuntimeError("transformers' engine ended early")
        seconds = time.perf_counter() - started
    return sum(len(result.generated_tokens) for result in done) / seconds


def turn(
    models: dict[str, PreTrainedModel], rows: int, distinct: bool, tokens: int, seed: int
) -> dict[str, float]:
    """One measurement of each engine."""
    count, n = (rows, 1) if distinct else (1, rows)
    rates = {}
    for name, run in ((OURS, ours), (THEIRS, theirs)):
        ids = np.random.default_rng(seed).integers(1000, 100_000, (count, PROMPT_TOKENS))
        rates[name] = round(run(models[name], ids.tolist(), n, tokens), 1)
    return rates


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path))
@click.option("--rows", multiple=True, type=int, default=(1, 8, 32, 64), show_default=True)
@click.option("--tokens", default=128, show_default=True)
@click.option("--turns", default=2, show_default=True)
def main(output: Path | None, rows: tuple[int, ...], tokens: int, turns: int) -> None:
    models = {
        name: AutoModelForCausalLM.from_pretrained(find_model(None), dtype=compute_dtype()).eval()
        for name in (OURS, THEIRS)
    }
    record = {
        **provenance(),
        "torch": torch.__version__,
        "dtype": compute_dtype(),
        "prompt_tokens": PROMPT_TOKENS,
        "sampled_tokens_a_row": tokens,
        "turns": turns,
        "tokens_per_second": [],
    }
    for distinct in (False, True):
        for count in rows:
            if distinct and count == 1:
                continue
            runs = [turn(models, count, distinct, tokens, seed) for seed in range(turns)]
            best: dict[str, Any] = {"rows": count, "prompts": count if distinct else 1}
            best |= {name: max(run[name] for run in runs) for name in models}
            best["ratio"] = round(best[THEIRS] / best[OURS], 2)
            record["tokens_per_second"].append({**best, "runs": runs})
            click.echo(best)
            if output:
                output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
