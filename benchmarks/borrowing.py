"""What it is worth that the levels of a fit borrow from each other (`router.fitting.shrinkage`).

    python -m benchmarks.borrowing --output benchmarks/results/borrowing.json

On the problems of the shipped bundle's fit alone (`rollouts/fit.jsonl.gz`): two thirds of those
that vote decide for the last third, many times, at true levels, so that what a fit is evaluated on
stays unseen. Points at equal cost over the best single votes, which are chosen without borrowing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import click
import numpy as np
import numpy.typing as npt

from benchmarks.choosing import BUDGETS, HERE, texts
from router.difficulty.levels import Levels, fit_levels
from router.evaluation.spending import Spending, Worth, best_votes, vote_sizes, votes_of
from router.fitting import cells
from router.fitting.configurations import configurations
from router.fitting.costs import measured_fleet
from router.fitting.measurements import Measurements, measure
from router.rollouts.export import open_rollouts

AVERAGES: Final = (2, 3, 4, 6, 8)
SPLITS: Final = 40
DECIDING: Final = 2 / 3

Floats = npt.NDArray[np.float64]


def read() -> tuple[Measurements, Levels]:
    """Every vote on the problems that vote, and the levels of all."""
    with open_rollouts(HERE / "rollouts" / "fit.jsonl.gz") as store:
        fleet = measured_fleet(store)
        found = measure(store, configurations(BUDGETS, texts(), verifier=True, fleet=fleet))
    levels = fit_levels(found.pass_at_1, "quantile:5", merge=True)
    return found.rows(np.asarray(~np.isnan(found.accuracy).any(axis=1))), levels


def alone(found: Measurements, levels: Levels) -> Worth:
    """What a fit on these problems would say if levels did not borrow."""
    with patch.object(cells, "borrowed", lambda own, *_: own):
        return Worth.refitted(found, levels)


def gains(deciding: Measurements, others: Measurements, levels: Levels) -> Floats:
    """Points over the best single votes; shape (alone and borrowed, averages)."""
    plain = alone(deciding, levels)
    strategies = deciding.strategies
    votes = votes_of(strategies, {})["vote"]
    sizes = vote_sizes(strategies, plain, votes, {})
    best = best_votes(strategies, plain, votes, {}, sizes)
    spending = Spending(others, np.ones((1, len(others.problems))), np.stack([best, best]))
    found = []
    for worth in (plain, Worth.refitted(deciding, levels)):
        told = np.eye(len(worth.prior))[worth.levels.of(others.pass_at_1) - 1]
        allowed = worth.useful(worth.within(strategies, BUDGETS[-1], {}))
        columns = [worth.at_average(told, allowed, average) for average in AVERAGES]
        equal = [spending.equal("oracle", BUDGETS[-1], spending.own(c), 1.0) for c in columns]
        found.append([100 * one.gain.value for one in equal])
    return np.array(found)


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    found, levels = read()
    rng = np.random.default_rng(0)
    splits = []
    for _ in range(SPLITS):
        decides = np.zeros(len(found.problems), np.bool_)
        decides[rng.permutation(len(decides))[: round(DECIDING * len(decides))]] = True
        splits.append(gains(found.rows(decides), found.rows(~decides), levels))
    before, after = np.mean(splits, axis=0)
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.borrowing --output {output}",
        "problems": len(found.problems),
        "splits": SPLITS,
        "averages": AVERAGES,
        "points_alone": before.tolist(),
        "points_borrowed": after.tolist(),
        "splits_in_which_borrowing_is_ahead": float(
            np.mean([new.mean() > old.mean() for old, new in splits])
        ),
    }
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    click.echo(json.dumps(record))


if __name__ == "__main__":
    main()
