r"""Which prompt suits a model: pass@1 of each on the same problems.

    python -m benchmarks.prompts ../shared/data/gsm8k_train.jsonl \
        --output benchmarks/results/prompts.json

The interval is a 95 % bootstrap over problems, since the samples of one problem are not
independent of each other.
"""

from __future__ import annotations

import asyncio
import json
import random
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

from router.models.generators.load import load_generator
from router.models.prompts import PROMPTS
from router.models.types import Chain, Problem, Sampling
from router.problem_files import read_problems
from router.strategies.tasks import get_task, posed

RESAMPLES = 10_000


async def measure(
    prompt: str, model: str | None, problems: Sequence[Problem], samples: int, sampling: Sampling
) -> dict[str, Any]:
    """pass@1 of one prompt, all problems at once."""
    generator = await load_generator(model, prompt=prompt)
    try:
        results = await asyncio.gather(
            *(generator.sample(Chain(posed(problem)), samples, sampling) for problem in problems)
        )
    finally:
        await generator.aclose()
    right = np.zeros((len(problems), samples), dtype=bool)
    for row, (problem, result) in enumerate(zip(problems, results, strict=True)):
        task = get_task(problem.task)
        for column, part in enumerate(result.continuations):
            answer = task.read(part.text, truncated=part.finish == "length")
            right[row, column] = await task.correct(answer, problem.answer or "") is True
    parts = [part for result in results for part in result.continuations]
    low, high = interval(right.mean(axis=1))
    return {
        "prompt": prompt,
        "generator": generator.info.to_dict(),
        "correct": int(right.sum()),
        "of": right.size,
        "pass_at_1": float(right.mean()),
        "interval": [low, high],
        "truncated": sum(part.finish == "length" for part in parts),
        "steps_per_sample": sum(len(part.steps) for part in parts) / len(parts),
        "tokens_per_sample": sum(part.tokens or 0 for part in parts) / len(parts),
    }


def interval(shares: np.ndarray[Any, Any]) -> tuple[float, float]:
    """95 % percentile interval of the mean over problems; `shares` has shape (problems,)."""
    rng = np.random.default_rng(0)
    means = rng.choice(shares, (RESAMPLES, len(shares))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--model", help="Directory or hub id; the embedded model unless given.")
@click.option("--prompt", "prompts", multiple=True, help="Prompt ids; all unless given.")
@click.option("--problems", "count", default=50, show_default=True)
@click.option("--samples", default=4, show_default=True)
@click.option("--temperature", default=0.8, show_default=True)
@click.option("--max-tokens", default=512, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Chooses the problems.")
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(
    source: Path,
    model: str | None,
    prompts: tuple[str, ...],
    count: int,
    samples: int,
    temperature: float,
    max_tokens: int,
    seed: int,
    output: Path,
) -> None:
    """Measure prompts on problems drawn from SOURCE (JSONL)."""
    labelled = [problem for problem in read_problems(source).problems if problem.answer]
    chosen = random.Random(seed).sample(labelled, count)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    record: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.prompts", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "source": source.name,
        "seed": seed,
        "problems": [problem.id for problem in chosen],
        "samples": samples,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "interval": "95 % percentile bootstrap over problems",
        "prompts": [],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    for prompt in prompts or PROMPTS:
        row = asyncio.run(measure(prompt, model, chosen, samples, sampling))
        low, high = row["interval"]
        click.echo(f"{prompt:16} {row['pass_at_1']:6.1%}  ({low:.1%} to {high:.1%})")
        record["prompts"].append(row)
        output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
