r"""Which settings of vLLM's CPU build are fastest for what searches ask of it.

    python -m benchmarks.engine_settings ../shared/data/gsm8k_dev.jsonl \
        --output benchmarks/results/engine_settings.json [--only "as applied"]

Each setting gets an engine in a process of its own: load, a warm-up, then the samples of one
problem (a small batch, where what lies between two steps of the engine counts most), then those of
more problems with every request there from the start (a full batch). The settings take turns, and
the whole turn is repeated, since the machine's own speed drifts; the best run of each is kept. Runs
that the output already holds count too, so the same command measures further.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.provenance import provenance
from router.models.generators import vllm as vllm_generator
from router.models.generators.vllm import VLLMGenerator
from router.models.generators.vllm_worker import WorkerExtension
from router.models.prompts import get_prompt
from router.models.runtime import vllm_process
from router.models.types import Chain, Problem, Sampling
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.problem_files import read_problems

PROBLEMS, SAMPLES, TOKENS = 8, 16, 48
APPLIED = "as applied"
SETTINGS: dict[str, dict[str, Any]] = {
    APPLIED: {},
    "no allocator, no OpenMP preloaded": {"preload": False},
    "one thread": {"environment": {"VLLM_CPU_OMP_THREADS_BIND": "0"}},
    "threads bound to cores": {"environment": {"VLLM_CPU_OMP_THREADS_BIND": "0,1"}},
    "the worker in a process of its own": {"arguments": {"distributed_executor_backend": "mp"}},
    "vLLM's own way to draw tokens": {"gumbel": True},
    "float32": {"arguments": {"dtype": "float32"}},
    "bfloat16": {"arguments": {"dtype": "bfloat16"}},
    "compiled": {"arguments": {"enforce_eager": False}},
    "blocks of 128": {"arguments": {"block_size": 128}},
    "64 at once": {"arguments": {"max_num_seqs": 64}},
    "256 at once": {"arguments": {"max_num_seqs": 256}},
}


_MACHINE, _LOAD = ("processor", "native_bfloat16", "cores"), ("problems", "samples", "max_tokens")


class GumbelWorker(WorkerExtension):
    """Leaves vLLM's sampler as it is."""

    def draw_by_inversion(self) -> bool:
        return True


async def one(file: Path, setting: dict[str, Any]) -> dict[str, Any]:
    """Load, warm up and sample under one setting, in this process."""
    if not setting.get("preload", True):
        vllm_process._fast_libraries = lambda: []
    if setting.get("gumbel"):
        vllm_generator.EXTENSION = "benchmarks.engine_settings.GumbelWorker"  # type: ignore[attr-defined]
    problems = read_problems(file).problems[: PROBLEMS + 1]
    started = time.monotonic()
    generator = await VLLMGenerator.load(
        find_model(),
        name=DEFAULT.name,
        prompt=get_prompt(DEFAULT.prompt),
        **setting.get("arguments", {}),
    )
    loaded = time.monotonic()
    try:
        await generator.sample(Chain(problems[0]), 4, Sampling(max_tokens=16))
        small = await _rate(generator, problems[:1])
        full = await _rate(generator, problems[1:])
    finally:
        await generator.aclose()
    return {
        "load_seconds": round(loaded - started, 1),
        "tokens_per_second_small_batch": small,
        "tokens_per_second": full,
    }


async def _rate(generator: VLLMGenerator, problems: Sequence[Problem]) -> float:
    """Tokens a second while all samples of these problems are asked for at once."""
    started = time.monotonic()
    calls = (generator.sample(Chain(p), SAMPLES, Sampling(max_tokens=TOKENS)) for p in problems)
    sampled = sum(
        c.tokens or 0 for found in await asyncio.gather(*calls) for c in found.continuations
    )
    return round(sampled / (time.monotonic() - started), 1)


def apart(file: Path, name: str) -> dict[str, Any]:
    """The same in a process of its own, with the setting's environment."""
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine_settings", str(file), "--one", name],
        env={**os.environ, **SETTINGS[name].get("environment", {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    if found.returncode:
        return {"failed": found.returncode}
    run: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return run


def _best(
    choose: Callable[..., float], figure: str, runs: Sequence[dict[str, Any]]
) -> float | None:
    """Of the runs that did not fail; None if there is none."""
    found = [run[figure] for run in runs if figure in run]
    return choose(found) if found else None


def _earlier(output: Path, record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The runs that a file holds. Raises UsageError if they cannot be compared with new ones."""
    found = json.loads(output.read_text())
    ours, theirs = ([r["machine"][key] for key in _MACHINE] for r in (record, found))
    if ours != theirs or any(record[key] != found[key] for key in _LOAD):
        raise click.UsageError(f"{output} was measured on another machine or load: name a new file")
    return {name: setting["runs"] for name, setting in found["settings"].items()}


@click.command(help=__doc__)
@click.argument("problems", type=click.Path(path_type=Path, exists=True))
@click.option("--output", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(list(SETTINGS)))
@click.option("--turns", default=2, show_default=True)
@click.option("--one", "alone", type=click.Choice(list(SETTINGS)), hidden=True)
def main(
    problems: Path, output: Path | None, only: tuple[str, ...], turns: int, alone: str | None
) -> None:
    if alone:
        click.echo(json.dumps(asyncio.run(one(problems, SETTINGS[alone]))))
        return
    record = {**provenance(), "problems": PROBLEMS, "samples": SAMPLES, "max_tokens": TOKENS}
    runs = _earlier(output, record) if output and output.exists() else {}
    for _ in range(turns):
        for name in only or SETTINGS:
            runs.setdefault(name, []).append(apart(problems, name))
            click.echo(f"{name:<36} {runs[name][-1]}")
            record["settings"] = {
                key: {
                    "tokens_per_second": _best(max, "tokens_per_second", done),
                    "tokens_per_second_small_batch": _best(
                        max, "tokens_per_second_small_batch", done
                    ),
                    "load_seconds": _best(min, "load_seconds", done),
                    "runs": done,
                }
                for key, done in runs.items()
            }
            if output:
                output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
