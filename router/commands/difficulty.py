"""`router difficulty`: how hard a problem looks to a bundle's estimator, and why."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from router.bundle import Bundle
from router.commands.common import asked, bundle_to_show, option
from router.commands.explain import level_bars
from router.models.errors import InputError
from router.models.types import Problem

if TYPE_CHECKING:
    from router.difficulty.text_estimator import Contribution, TextEstimator

_SHOWN = 8


@click.command()
@click.argument("problem", required=False)
@click.option(
    "--file",
    "-f",
    type=click.Path(path_type=Path),
    help="Read the problem from this file.",
)
@option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Bundle whose estimator is asked.",
    show_default="the one that comes with `router` for the default model",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def difficulty(problem: str | None, file: Path | None, bundle: Path | None, as_json: bool) -> None:
    """Explain how hard a problem looks.

    PROBLEM is the text itself. Without it, or with `-`, the text is read from stdin.

    Level 1 is the easiest for the generator that the bundle was fitted on. A feature's effect is
    what it adds to the log-odds of a harder level.
    """
    found = asked(problem, file)
    if not isinstance(found, str):
        raise InputError(f"{found.name} holds many problems; give the text of one")
    one = Problem.of_text(found)
    estimator = _estimator(bundle_to_show(bundle))
    estimator.levels(one)  # the first call also sets libraries up
    started = time.perf_counter()
    levels = estimator.levels(one)
    milliseconds = (time.perf_counter() - started) * 1000
    reasons = estimator.contributions(one.text)
    if as_json:
        record = {
            "levels": list(levels),
            "contributions": [reason.to_dict() for reason in reasons],
            "milliseconds": milliseconds,
        }
        click.echo(json.dumps(record))
        return
    console = Console()
    console.print(level_bars(levels))
    console.print(_reasons(reasons[:_SHOWN]))
    console.print(f"decided in {milliseconds:.1f} ms", style="dim", highlight=False)


def _estimator(directory: Path) -> TextEstimator:
    estimator = Bundle.load(directory).estimator
    if estimator is None:
        raise InputError(
            f"bundle {directory} has no difficulty estimator; fit one with `router fit`"
        )
    return estimator


def _reasons(reasons: tuple[Contribution, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Feature")
    table.add_column("Value", justify="right")
    table.add_column("Effect", justify="right")
    for reason in reasons:
        direction = "harder" if reason.effect > 0 else "easier"
        table.add_row(reason.feature, f"{reason.value:.3g}", f"{reason.effect:+.2f} {direction}")
    return table
