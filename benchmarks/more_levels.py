"""Adds problems to a fit's store that only tell levels, so that difficulty is learned from more.

    python -m benchmarks.more_levels build/bundle.rollouts.sqlite --cache build/prefill.npz

The 401 problems that the shipped verifier was trained on have 8 samples each: enough for a level,
which is all that a fit takes from them, as their scores would flatter the verifier. Each prompt is
read once, for difficulty by the prefill (the cache is that of `benchmarks.difficulty_prefill`).
"""

from __future__ import annotations

from pathlib import Path

import click
from transformers import AutoTokenizer

from benchmarks.difficulty_prefill import read
from benchmarks.verifier import ROLLOUTS
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.rollouts.runs import StoredPrefill
from router.rollouts.samples_jsonl import import_samples
from router.rollouts.store import RolloutStore

LAYER = 16


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--cache", type=click.Path(path_type=Path), required=True)
def main(path: Path, cache: Path) -> None:
    with RolloutStore.read(path) as opened:
        origin = opened.origin
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(find_model()), get_prompt(DEFAULT.prompt))
    with RolloutStore.create(path, origin) as store, store.transaction():
        before = {problem.id for problem in store.problems()}
        count = import_samples(store, ROLLOUTS, {}, encoder)
        new = [problem for problem in store.problems() if problem.id not in before]
        states = read(new, encoder, cache)[f"layer {LAYER}"]
        for problem, state in zip(new, states.tolist(), strict=True):
            store.add_prefill(problem.id, StoredPrefill(LAYER, tuple(state)))
    click.echo(f"added {count:,} samples of {len(new)} problems to {path}")


if __name__ == "__main__":
    main()
