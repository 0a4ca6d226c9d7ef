"""Whether searches that the shipped head guides beat a vote over as many samples.

    python -m benchmarks.searches --output benchmarks/results/searches.json

On the unseen problems of `rollouts/searches.jsonl.gz`, which holds a beam search and a DVTS of
each, beside the samples of the same problems in `rollouts/evaluate.jsonl.gz`. And what there is to
prune by: how much more often the quarter of all samples that the head likes best after so many
steps turns out right. Nothing is sampled.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from router.fitting.measurements import Measurements, measure
from router.intervals import mean_figure, resamples
from router.rollouts.export import import_store, open_rollouts
from router.rollouts.runs import StoredCandidate
from router.rollouts.store import RolloutStore
from router.strategies.registry import parse_strategy

ROLLOUTS: Final = Path(__file__).parent / "rollouts"
COMPARED: Final = (
    "best_of_n(n=8)",
    "best_of_n(n=8, select=majority)",
    "beam_search(n=8, width=4)",
    "beam_search(n=8, width=4, select=majority)",
    "dvts(n=8, width=4)",
    "dvts(n=8, width=4, select=majority)",
)
EASY: Final = 0.5
"""pass@1 from which a problem is easy."""

HARD: Final = 0.1
"""pass@1 below which it is hard."""

STEPS: Final = {"1": 1, "2": 2, "3": 3, "4": 4, "last": None}
"""Steps of a solution that a score has seen."""


def read() -> tuple[Measurements, list[tuple[StoredCandidate, ...]]]:
    """All of them on the problems that have searches, and the samples of every problem."""
    with open_rollouts(ROLLOUTS / "searches.jsonl.gz") as store:
        ids = {problem.id for problem in store.problems()}
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder) / "both.sqlite"
        for name in ("evaluate", "searches"):
            import_store(ROLLOUTS / f"{name}.jsonl.gz", both)
        with RolloutStore.read(both) as store:
            found = measure(store, list(map(parse_strategy, COMPARED)), ids)
            return found, [pool for _, pool in store.samples()]


def lifts(pools: Sequence[Sequence[StoredCandidate]]) -> dict[str, Any]:
    """What choosing a quarter of the samples by the score after some step adds to pass@1."""
    weights = resamples(len(pools), 0)

    def lift(pool: Sequence[StoredCandidate], step: int | None) -> float:
        scores = [(c.scores or (0.0,))[:step][-1] for c in pool]
        best = np.argsort(scores)[-len(pool) // 4 :]
        right = np.array([c.correct for c in pool], np.float64)
        return float(right[best].mean() - right.mean())

    return {
        name: asdict(mean_figure(np.array([lift(pool, step) for pool in pools]), weights))
        for name, step in STEPS.items()
    }


def figures(found: Measurements) -> list[dict[str, Any]]:
    weights = resamples(len(found.problems), 0)
    return [
        {
            "strategy": text,
            "accuracy": asdict(mean_figure(found.accuracy[:, column], weights)),
            "more_than_the_vote": asdict(
                mean_figure(found.accuracy[:, column] - found.accuracy[:, 0], weights)
            ),
            "right_among_candidates": asdict(mean_figure(found.coverage[:, column], weights)),
            "tokens": float(found.tokens[:, column].mean()),
        }
        for column, text in enumerate(COMPARED)
    ]


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    found, pools = read()
    known = found.rows(np.asarray(~np.isnan(found.accuracy).any(axis=1)))
    parts = {
        "all": np.full(len(known.problems), fill_value=True),
        "easy": known.pass_at_1 >= EASY,
        "middling": (known.pass_at_1 < EASY) & (known.pass_at_1 >= HARD),
        "hard": known.pass_at_1 < HARD,
    }
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.searches --output {output}",
        "pass_at_1": {"easy": EASY, "hard": HARD},
        "parts": {
            name: {"problems": int(rows.sum()), "strategies": figures(known.rows(rows))}
            for name, rows in parts.items()
        },
        "lift_of_the_best_quarter": lifts(pools),
    }
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    for name, part in record["parts"].items():
        click.echo(f"{name}: {part['problems']} problems")
        for row in part["strategies"]:
            gain, right = row["more_than_the_vote"], row["right_among_candidates"]
            low, value, high = (100 * gain[name] for name in ("low", "value", "high"))
            click.echo(
                f"  {row['strategy']:<44} {row['accuracy']['value']:6.1%}"
                f" {value:+5.1f} ({low:+.1f} to {high:+.1f}) {right['value']:6.1%}"
                f" {row['tokens']:6,.0f} tokens"
            )
    for step, lift in record["lift_of_the_best_quarter"].items():
        low, value, high = (100 * lift[name] for name in ("low", "value", "high"))
        click.echo(f"best quarter after step {step}: {value:+.1f} ({low:+.1f} to {high:+.1f})")


if __name__ == "__main__":
    main()
