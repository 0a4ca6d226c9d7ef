"""The picture of `benchmarks.search_speed`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "beam_search": "tab:blue",
    "dvts": "tab:orange",
    "lookahead": "tab:green",
    "best_of_n": "tab:grey",
}
SIZES = (4, 16, 64)
TICKS = (1, 4, 16, 32)


def plot(record: Mapping[str, Any], file: Path) -> None:
    """Problems an hour of each way at N = 16, and the token rates against problems in flight."""
    from matplotlib.figure import Figure

    rows = list(record["cells"].values())
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    grid = figure.add_gridspec(1, 1 + len(SIZES), width_ratios=(2.4, *(1 for _ in SIZES)))
    _bars(figure.add_subplot(grid[0]), rows)
    first = None
    for column, n in enumerate(SIZES, 1):
        axes = figure.add_subplot(grid[column], sharey=first)
        _rates(axes, rows, n)
        if first is None:
            first = axes
            axes.set_ylabel("generated tokens a second")
            axes.set_ylim(0, 1.05 * max(row["tokens_per_second"] for row in rows))
            axes.legend(fontsize=7)
    figure.savefig(file, dpi=150)


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """One bar for each way of running at N = 16; a problem in flight at a time is the slowest."""
    shown = [row for row in rows if row["n"] == 16 and row["way"] != "ceiling"]
    shown.sort(key=lambda row: (row["strategy"], row["way"] == "router", row["in_flight"]))
    names = [f"{r['strategy']}, {r['way']}, {r['in_flight']} of {r['problems']}" for r in shown]
    bars = axes.barh(
        names,
        [row["problems_per_hour"] for row in shown],
        color=[COLOURS[row["strategy"]] for row in shown],
        alpha=0.85,
    )
    axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
    axes.margins(x=0.1)
    axes.set(xlabel="problems an hour at N = 16 (in flight of problems in all)")
    axes.tick_params(axis="y", labelsize=7)


def _rates(axes: Axes, rows: Sequence[Mapping[str, Any]], n: int) -> None:
    """Token rates of `router` at one N, beside the engine's own."""
    for strategy, colour in COLOURS.items():
        points = sorted(
            (row["in_flight"], row["tokens_per_second"])
            for row in rows
            if (row["way"], row["strategy"], row["n"]) == ("router", strategy, n)
        )
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, label=strategy)
    for row in rows:
        if row["way"] == "ceiling":
            rate = row["tokens_per_second"]
            axes.axhline(rate, color="black", linestyle=":", label="the engine's own rate")
            axes.axhline(0.8 * rate, color="black", linestyle=":", alpha=0.4, label="80 % of it")
    axes.set(title=f"N = {n}", xlabel="problems in flight")
    axes.set_xscale("log", base=2)
    axes.set_xticks(TICKS, labels=[str(load) for load in TICKS])
    axes.set_xlim(0.8, 40)
