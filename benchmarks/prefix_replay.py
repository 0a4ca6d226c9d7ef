r"""What continuing a path step by step costs in tokens, replayed from stored samples.

    python -m benchmarks.prefix_replay benchmarks/rollouts/gsm8k_train.jsonl.gz \
        ../shared/data/gsm8k_train.jsonl --output benchmarks/results/prefix_replay.json

Every sample is taken as one path of a search: a step a round, the last round to the end. Its prompt
grows with it; an engine computes what its prefix cache lacks: whole blocks are cached, and the last
token is always computed. A verifier scores either every token of the path in every round, or the
new ones only. No model runs, so the figures are exact and the same on any machine.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.provenance import provenance
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.weights.find import find_model
from router.problem_files import read_problems

BLOCKS = (16, 32, 64, 128)


def paths(rollouts: Path, problems: Path, encoder: ChainEncoder) -> Iterator[tuple[int, list[int]]]:
    """(tokens of the prompt, tokens of each step) of every sample."""
    known = {problem.id: problem for problem in read_problems(problems).problems}
    with gzip.open(rollouts, "rt") as lines:
        for record in map(json.loads, lines):
            prompt = len(encoder.prompt_ids(known[record["id"]]))
            for sample in record["samples"]:
                steps = encoder.split(sample["token_ids"], "stop")
                yield prompt, [step.tokens or 0 for step in steps]


def replay(samples: list[tuple[int, list[int]]], depth: int) -> dict[str, Any]:
    """Tokens over all samples, and per sampled token."""
    sampled = rounds = continued = prompts = whole = new = 0
    computed = dict.fromkeys(BLOCKS, 0)
    for prompt, steps in samples:
        last = steps[depth - 1 :]
        at = prompt
        for number, step in enumerate([*steps[: depth - 1], *([sum(last)] if last else [])]):
            if number:
                continued += 1
                prompts += at
                for block in BLOCKS:
                    computed[block] += at - (at - 1) // block * block
            rounds += 1
            sampled += step
            at += step
            whole += at
            new += step
    return {
        "samples": len(samples),
        "rounds_per_sample": round(rounds / len(samples), 2),
        "tokens_per_round": round(sampled / rounds, 1),
        "blocks": {
            block: {
                "computed_per_continued_round": round(tokens / continued, 1),
                "computed_per_sampled_token": round(tokens / sampled, 3),
                "hit_rate": round(1 - tokens / prompts, 4),
            }
            for block, tokens in computed.items()
        },
        "verifier_tokens_per_sampled_token": {
            "whole solutions": round(whole / sampled, 2),
            "new steps": round(new / sampled, 2),
        },
    }


@click.command()
@click.argument("rollouts", type=click.Path(path_type=Path, exists=True))
@click.argument("problems", type=click.Path(path_type=Path, exists=True))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--depth", default=8, show_default=True, help="Most rounds.")
def main(rollouts: Path, problems: Path, output: Path, depth: int) -> None:
    from transformers import AutoTokenizer

    encoder = ChainEncoder(AutoTokenizer.from_pretrained(find_model(None)), get_prompt("qwen-math"))
    found = replay(list(paths(rollouts, problems, encoder)), depth)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({**provenance(), "depth": depth, **found}, indent=1) + "\n")
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
