"""Adds problems to a fit's store that only tell levels, so that difficulty is learned from more.

    python -m benchmarks.more_levels build/bundle.rollouts.sqlite --cache build/prefill.npz

The 401 and 303 problems that the shipped verifier was trained on have 8 samples each: enough for a
level, which is all that a fit takes from them, as their scores would flatter the verifier. Problems
that have samples in the store are left as they are. Each prompt is read once, for difficulty by the
prefill (the cache is as that of `benchmarks.difficulty_prefill`, of the problems that are added).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from transformers import AutoTokenizer

from benchmarks.difficulty_prefill import read
from benchmarks.verifier import MIXED, ROLLOUTS
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.types import Problem
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.rollouts.export import open_rollouts
from router.rollouts.runs import Run, StoredPrefill
from router.rollouts.samples_jsonl import import_samples
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.tasks import posed

LAYER = 16


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--cache", type=click.Path(path_type=Path), required=True)
def main(path: Path, cache: Path) -> None:
    with RolloutStore.read(path) as opened:
        origin = opened.origin
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(find_model()), get_prompt(DEFAULT.prompt))
    with RolloutStore.create(path, origin) as store, store.transaction():
        before = {problem.id for problem, _ in store.samples()}
        new = []
        for problem, run in _pools(encoder):
            if problem.id not in before:
                store.add_problems([problem])
                store.add(run)
                new.append(problem)
        states = read([posed(problem) for problem in new], encoder, cache)[f"layer {LAYER}"]
        for problem, state in zip(new, states.tolist(), strict=True):
            store.add_prefill(problem.id, StoredPrefill(LAYER, tuple(state)))
    click.echo(f"added {len(new)} problems to {path}")


def _pools(encoder: ChainEncoder) -> Iterator[tuple[Problem, Run]]:
    with TemporaryDirectory() as folder:
        with open_rollouts(MIXED) as mixed:
            file, origin = Path(folder) / "older.sqlite", mixed.origin
            yield from _runs(mixed)
        with RolloutStore.create(file, origin) as older:
            import_samples(older, ROLLOUTS, {}, encoder)
            yield from _runs(older)


def _runs(store: RolloutStore) -> Iterator[tuple[Problem, Run]]:
    problems = {problem.id: problem for problem in store.problems()}
    return ((problems[run.problem], run) for run in store.runs(SAMPLES))


if __name__ == "__main__":
    main()
