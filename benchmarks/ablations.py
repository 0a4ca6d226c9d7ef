"""What each part of choosing is worth, on the problems of the shipped bundle's fit alone.

    python -m benchmarks.ablations --output benchmarks/results/ablations.json

Two thirds of those of `rollouts/fit.jsonl.gz` that vote decide for the last third, many times, so
that what a fit is evaluated on stays unseen. Points at equal cost over the best single votes, by
how votes may stop (`router.strategies.stopping`), by whether levels borrow from each other
(`router.fitting.shrinkage`), and by who tells the level: the truth, the estimator that reads the
prompt (out of fold), or nobody. The rule that goes by worth and its constants were chosen on these
problems too, so what it earns elsewhere is for `benchmarks.choosing` to say.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import click
import numpy as np
import numpy.typing as npt

from benchmarks.choosing import BUDGETS, FLOORS, LEADS, ROLLOUTS, SCHEDULES, WORTHS, anytime, texts
from benchmarks.provenance import provenance
from router.difficulty.levels import Levels, fit_levels
from router.difficulty.prefill import PrefillEstimator
from router.evaluation.spending import Spending, Worth, best_votes, vote_sizes, votes_of
from router.fitting import cells
from router.fitting.configurations import configurations
from router.fitting.costs import measured_fleet
from router.fitting.measurements import Measurements, measure
from router.rollouts.export import open_rollouts

AVERAGES: Final = (2, 3, 4, 6, 8)
SPLITS: Final = 40
DECIDING: Final = 2 / 3
RULES: Final = {
    "none": {"none"},
    "lead and give_up": {"none", "lead"},
    "worth": {"none", "worth"},
    "worth, at three schedules of temperatures": {"none", "worth", "elsewhere"},
}
"""Which votes there are to choose from, by their `kind`."""

ELSEWHERE: Final = ("temperature=None", SCHEDULES[0])
TOLD: Final = ("true levels", "prefill", "nobody")

Floats = npt.NDArray[np.float64]


def others() -> list[str]:
    """Votes that stop at a lead, or give up, and those that stop by worth at other schedules."""
    leads = [
        text
        for select in LEADS
        for lead, floor in product(LEADS[select], FLOORS[select])
        for text in anytime(select, f"lead={lead}, give_up={floor}")
    ]
    worths = product(LEADS, WORTHS, ELSEWHERE)
    return leads + [text for s, w, e in worths for text in anytime(s, f"worth={w}", e)]


def kind(text: str) -> str:
    """Of a vote: fixed, or how it stops."""
    if "worth=" in text:
        return "worth" if SCHEDULES[-1] in text else "elsewhere"
    return "lead" if "lead=" in text else "none"


def read() -> tuple[Measurements, Levels, Floats]:
    """Votes on the problems that vote, the levels of all, and what the prefill tells of those."""
    with open_rollouts(ROLLOUTS / "fit.jsonl.gz") as store:
        fleet = measured_fleet(store)
        strategies = configurations(BUDGETS, [*texts(), *others()], verifier=True, fleet=fleet)
        found = measure(store, strategies)
    levels = fit_levels(found.pass_at_1, "quantile:5", merge=True)
    prefills = [read for read in found.prefills if read is not None]
    states = np.array([read.state for read in prefills], np.float32)
    level = levels.of(found.pass_at_1)
    estimator = PrefillEstimator.fit(states, level, found.pass_at_1, prefills[0].layer)
    votes = np.asarray(~np.isnan(found.accuracy).any(axis=1))
    return found.rows(votes), levels, estimator.classifier.held_out_proba_[votes]


def gains(deciding: Measurements, others: Measurements, levels: Levels, told: Floats) -> Floats:
    """Points over the best single votes.

    told: of each of the others what the prefill tells, shape (others, levels).

    Returns shape (rules, borrowing, told, averages).
    """
    with patch.object(cells, "borrowed", lambda own, *_: own):
        plain = Worth.refitted(deciding, levels)
    strategies = deciding.strategies
    votes = votes_of(strategies, {})["vote"]
    sizes = vote_sizes(strategies, plain, votes, {})
    best = best_votes(strategies, plain, votes, {}, sizes)
    spending = Spending(others, np.ones((1, len(others.problems))), np.stack([best, best]))
    kinds = [kind(str(strategy)) for strategy in strategies]
    found = np.zeros((len(RULES), 2, len(TOLD), len(AVERAGES)))
    worths = plain, Worth.refitted(deciding, levels)
    for (i, which), (j, worth) in product(enumerate(RULES.values()), enumerate(worths)):
        within = worth.within(strategies, BUDGETS[-1], {})
        allowed = worth.useful([c for c in within if kinds[c] in which])
        true = np.eye(len(worth.prior))[worth.levels.of(others.pass_at_1) - 1]
        nobody = np.tile(worth.prior, (len(others.problems), 1))
        for (k, by), (m, average) in product(enumerate((true, told, nobody)), enumerate(AVERAGES)):
            own = spending.own(worth.at_average(by, allowed, average))
            equal = spending.equal("oracle", BUDGETS[-1], own, 1.0)
            found[i, j, k, m] = 100 * equal.gain.value
    return found


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    found, levels, told = read()
    rng = np.random.default_rng(0)
    splits = []
    for _ in range(SPLITS):
        decides = np.zeros(len(found.problems), np.bool_)
        decides[rng.permutation(len(decides))[: round(DECIDING * len(decides))]] = True
        splits.append(gains(found.rows(decides), found.rows(~decides), levels, told[~decides]))
    points = np.array(splits)
    before = points[:, list(RULES).index("lead and give_up")].mean(axis=-1)
    rows: list[dict[str, Any]] = [
        {
            "stops_by": which,
            "levels_borrow": bool(j),
            "level_told_by": TOLD[k],
            "points": points[:, i, j, k].mean(axis=0).round(3).tolist(),
            "ahead_of_lead_and_give_up": float(
                (points[:, i, j, k].mean(axis=-1) > before[:, j, k]).mean()
            ),
        }
        for (i, which), j, k in product(enumerate(RULES), range(2), range(len(TOLD)))
    ]
    record = {
        "provenance": provenance(),
        "problems": len(found.problems),
        "splits": SPLITS,
        "averages": AVERAGES,
        "rows": rows,
    }
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    for row in rows:
        click.echo("  ".join(f"{value}" for value in row.values()))


if __name__ == "__main__":
    main()
