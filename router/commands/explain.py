"""A decision as people read it: how hard the problem looks, what was weighed, what won and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from router.records import Considered, Decision

_BAR_WIDTH: Final = 30
_SHOWN: Final = 12


def explain(decision: Decision, console: Console) -> None:
    """Print P(level), the configurations that were weighed, best first, and the reason."""
    if decision.levels is not None:
        console.print("How hard the problem looks", style="bold")
        console.print(level_bars(decision.levels))
    if decision.considered:
        console.print("What was weighed", style="bold")
        console.print(_weighed(decision.considered))
    console.print(f"Why {decision.strategy}", style="bold", markup=False, highlight=False)
    for reason in _reasons(decision):
        console.print(reason, markup=False, highlight=False)


def level_bars(levels: Sequence[float]) -> Table:
    """P(level) as bars."""
    table = Table.grid(padding=(0, 1))
    for number, probability in enumerate(levels, start=1):
        ends = {1: "easiest", len(levels): "hardest"} if len(levels) > 1 else {}
        bar = Bar(1, 0, probability, width=_BAR_WIDTH)
        table.add_row(f"level {number}", bar, f"{probability:4.0%}", ends.get(number, ""))
    return table


def _weighed(considered: Sequence[Considered]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("configuration", overflow="fold")
    table.add_column("expected accuracy", justify="right", no_wrap=True)
    table.add_column("generations", justify="right")
    for index, one in enumerate(considered[:_SHOWN]):
        mark, style = (">", "green") if index == 0 else ("", "")
        table.add_row(mark, str(one.strategy), _accuracy(one), str(one.cost), style=style)
    if len(considered) > _SHOWN:
        table.add_row("", f"{len(considered) - _SHOWN} more", "", "", style="dim")
    return table


def _accuracy(one: Considered) -> str:
    if one.expected_accuracy is None:
        return "not known"
    if one.interval is None:
        return f"{one.expected_accuracy:.1%}"
    low, high = one.interval
    return f"{one.expected_accuracy:.1%} ({low:.0%} to {high:.0%})"


def _reasons(decision: Decision) -> Iterator[str]:
    yield decision.why
    if len(decision.considered) < 2:
        return
    winner, other = decision.considered[:2]
    if winner.expected_accuracy is None or other.expected_accuracy is None:
        return
    points = 100 * (winner.expected_accuracy - other.expected_accuracy)
    order = "ahead of" if points >= 0 else "behind"
    text = f"{abs(points):.1f} points {order} {other.strategy}"
    if winner.interval is not None and other.interval is not None:
        apart = winner.interval[0] > other.interval[1] or other.interval[0] > winner.interval[1]
        text += "" if apart else "; their 95 % intervals overlap, so the data leave it open"
    yield text
