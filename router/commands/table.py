"""`router table`: what a fitted bundle has learned, as people read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click
import numpy as np
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table as Grid

from router.averages import Mix
from router.bundle import Bundle
from router.commands.common import bundle_to_show
from router.commands.render import print_grid
from router.models.errors import InputError
from router.strategies.budget import SLACK
from router.table import Cell, Entry, Estimate, Table

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"


@click.group()
def table() -> None:
    """Show what a fitted bundle has learned."""


@table.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the whole table as JSON.")
def show(bundle: Path | None, as_json: bool) -> None:
    """Levels x budgets of BUNDLE: best configuration, accuracy with 95 % interval, cost.

    Then what a generation buys at each level, and what an average buys (--average). Without BUNDLE:
    of the one that comes with `router` for the default model.
    """
    loaded = Bundle.load(bundle_to_show(bundle))
    if as_json:
        click.echo(json.dumps(loaded.table.to_dict(), indent=1))
        return
    console = Console(highlight=False)
    print_grid(_grid(loaded), console)
    print_grid(_curves(loaded.table), console)
    if len(loaded.mix) > 1:
        print_grid(_averages(loaded), console)
    else:
        console.print("What averages buy is not known: refit the bundle, for how problems differ.")
    console.print(_verdict(loaded.table), markup=False)


def _grid(bundle: Bundle) -> Grid:
    """One row for each level and budget, which fits the narrowest terminal."""
    fitted = bundle.table
    grid = Grid(
        title=f"{bundle.asks}, {bundle.manifest['data']['problems']} problems",
        caption="Accuracy on held-out problems where there are enough, with its 95 % interval;"
        f" mean tokens a problem. Chosen by {fitted.cost}.",
        box=HORIZONTALS,
        show_edge=False,
        pad_edge=False,
    )
    grid.add_column("level", no_wrap=True)
    grid.add_column("N", justify="right", no_wrap=True)
    grid.add_column("best search")
    grid.add_column("accuracy", justify="right", no_wrap=True)
    grid.add_column("tokens", justify="right", no_wrap=True)
    for level in range(1, fitted.levels + 1):
        about = _about(bundle, level)
        for number, budget in enumerate(fitted.budgets):
            name = about[number] if number < len(about) else ""
            grid.add_row(name, str(budget), *_row(fitted, fitted.cell(level, budget)))
        grid.add_section()
    return grid


def _about(bundle: Bundle, level: int) -> list[str]:
    """A level, the pass@1 of its problems, and how many are of it, in lines."""
    edges = (1.0, *bundle.levels.edges, 0.0)
    share = f"{bundle.prior[level - 1]:.0%} of problems"
    lines = [f"pass@1 {edges[level]:.2f}–{edges[level - 1]:.2f}", share]
    if len(bundle.table.budgets) <= len(lines):  # nothing is left out where rows are few
        return [", ".join([str(level), *lines])]
    return [str(level), *lines]


def _row(fitted: Table, cell: Cell) -> tuple[str, str, str]:
    """The winner of a cell, its accuracy, its tokens."""
    chosen = fitted.best(cell.level, cell.budget)
    tokens = chosen.cost.tokens
    return (
        chosen.strategy.in_words(),
        _interval(cell.held_out or chosen.estimate),
        "" if tokens is None else f"{tokens:,.0f}",
    )


def _curves(fitted: Table) -> Grid:
    """Accuracy against mean cost at each level."""
    _, accuracy, cost = fitted.curves(fitted.budgets[-1], "generations")
    grid = Grid(
        title="best expected accuracy, % of problems, for so many generations on average",
        box=HORIZONTALS,
        show_edge=False,
        pad_edge=False,
    )
    grid.add_column("level", no_wrap=True)
    for budget in fitted.budgets:
        grid.add_column(str(budget), justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for level in range(fitted.levels):
        reached = [
            float(accuracy[level, cost[level] <= budget + SLACK].max(initial=0.0))
            for budget in fitted.budgets
        ]
        drawn = "".join(_BLOCKS[round(value * (len(_BLOCKS) - 1))] for value in reached)
        grid.add_row(str(level + 1), *(f"{100 * value:.0f}" for value in reached), drawn)
    return grid


def _averages(bundle: Bundle) -> Grid:
    """What an average buys on problems like those of the fit, and who gets it."""
    fitted = bundle.table
    most = fitted.budgets[-1]
    mix = Mix.of(fitted, bundle.mix, most, "generations")
    shares = np.array(bundle.mix)
    grid = Grid(
        title=f"what --average buys, where one problem may cost {most}",
        caption="As the fit expects it of problems like its own. For all: of the one search that is"
        " best at that cost. Points: what one generation more must add. Then what problems of each"
        " level cost on average.",
        box=HORIZONTALS,
        show_edge=False,
        pad_edge=False,
    )
    for heading in ("average", "solved", "for all", "points", *_levels(fitted)):
        grid.add_column(heading, justify="right", no_wrap=True)
    for average in fitted.budgets[:-1]:
        try:
            prices = np.array(mix.prices(average))
        except InputError:  # the cheapest search costs more
            continue
        chosen, rows = mix.chosen(prices), np.arange(len(shares))
        spent = mix.cost[rows, chosen] @ shares / shares.sum(axis=0)
        alike = mix.accuracy.mean(axis=0)[mix.cost.mean(axis=0) <= average + SLACK]
        grid.add_row(
            str(average),
            f"{mix.accuracy[rows, chosen].mean():.1%}",
            f"{alike.max(initial=0.0):.1%}",
            f"{100 * prices.max():.2g}",
            *(f"{generations:.1f}" for generations in spent),
        )
    return grid


def _levels(fitted: Table) -> list[str]:
    return [f"level {number}" for number in range(1, fitted.levels + 1)]


def _interval(estimate: Estimate) -> str:
    return f"{estimate.accuracy:.0%} ({100 * estimate.low:.0f}–{100 * estimate.high:.0f})"


def _verdict(fitted: Table) -> str:
    """Says plainly whether difficulty makes a difference to the choice.

    A budget of one generation leaves no choice, so it is left out where there are others.
    """
    budgets = [budget for budget in fitted.budgets if budget > 1] or list(fitted.budgets)
    winners = {
        budget: {_name(fitted.best(level, budget)) for level in range(1, fitted.levels + 1)}
        for budget in budgets
    }
    everywhere = set().union(*winners.values())
    if len(everywhere) == 1:
        return f"One search wins everywhere, at every level and budget: {everywhere.pop()}."
    differing = [str(budget) for budget, families in winners.items() if len(families) > 1]
    if not differing:
        return "At each budget one search wins at every level: difficulty makes no difference."
    return (
        "On the problems of the fit, levels have winners of their own at budgets"
        f" {', '.join(differing)}; whether on others, `router evaluate` tests in pairs."
    )


def _name(entry: Entry) -> str:
    return entry.strategy.in_words(sized=False)
