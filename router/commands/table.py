"""`router table`: what a fitted bundle has learned, as people read it."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table as Grid

from router.bundle import Bundle
from router.commands.common import bundle_to_show
from router.commands.render import print_grid
from router.table import Cell, Entry, Estimate, Table


@click.group()
def table() -> None:
    """Show what a fitted bundle has learned."""


@table.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the whole table as JSON.")
def show(bundle: Path | None, as_json: bool) -> None:
    """Levels x budgets of BUNDLE: best configuration, accuracy with 95 % interval, cost.

    Without BUNDLE: of the one that comes with `router` for the default model.
    """
    loaded = Bundle.load(bundle_to_show(bundle))
    if as_json:
        click.echo(json.dumps(loaded.table.to_dict(), indent=1))
        return
    console = Console(highlight=False)
    print_grid(_grid(loaded), console)
    console.print(_verdict(loaded.table), markup=False)


def _grid(bundle: Bundle) -> Grid:
    """One row for each level and budget, which fits the narrowest terminal."""
    fitted = bundle.table
    origin = bundle.origin
    judge = f"verifier {origin.verifier}" if origin.verifier else "no verifier"
    grid = Grid(
        title=f"{origin.model}, {judge}, {bundle.manifest['data']['problems']} problems",
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
    clear = [
        str(budget)
        for budget, families in winners.items()
        if any(_clear(fitted, level, budget, families) for level in range(1, fitted.levels + 1))
    ]
    doubt = (
        f"beyond 95 % intervals at {', '.join(clear)}" if clear else "never beyond 95 % intervals"
    )
    return f"The winning search depends on the level at budgets {', '.join(differing)}; {doubt}."


def _clear(fitted: Table, level: int, budget: int, families: set[str]) -> bool:
    """Whether a level's winner is ahead of some other level's by more than both intervals."""
    winner = fitted.best(level, budget)
    rivals: dict[str, Entry] = {}
    for entry in fitted.cell(level, budget).entries:  # best first
        rivals.setdefault(_name(entry), entry)
    return any(
        winner.estimate.low > rivals[family].estimate.high
        for family in families - {_name(winner)}
        if family in rivals
    )


def _name(entry: Entry) -> str:
    return entry.strategy.in_words(sized=False)
