"""The picture of `benchmarks.search_speed`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = {
    "beam_search": "tab:blue",
    "dvts": "tab:orange",
    "lookahead": "tab:green",
    "best_of_n": "tab:grey",
}


def plot(record: Mapping[str, Any], file: Path) -> None:
    """Problems an hour of each way at N = 16, and the token rate against problems in flight."""
    from matplotlib.figure import Figure

    rows = list(record["cells"].values())
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    bars = [row for row in rows if row["n"] == 16 and row["way"] != "ceiling"]
    bars.sort(key=lambda row: (row["strategy"], row["way"] == "router", row["in_flight"]))
    names = [f"{r['strategy']}, {r['way']}, {r['in_flight']} of {r['problems']}" for r in bars]
    left.barh(
        names,
        [row["problems_per_hour"] for row in bars],
        color=[COLOURS[row["strategy"]] for row in bars],
        alpha=0.85,
    )
    left.set(xlabel="problems an hour at N = 16 (in flight of problems in all)")
    left.tick_params(axis="y", labelsize=7)
    ceiling = next((row for row in rows if row["way"] == "ceiling"), None)
    for strategy, colour in COLOURS.items():
        points = sorted(
            (row["in_flight"], row["tokens_per_second"])
            for row in rows
            if (row["way"], row["strategy"], row["n"]) == ("router", strategy, 16)
        )
        if points:
            right.plot(*zip(*points, strict=True), "o-", color=colour, label=strategy)
    if ceiling:
        rate = ceiling["tokens_per_second"]
        right.axhline(rate, color="black", linestyle=":", label="the engine's own rate")
        right.axhline(0.8 * rate, color="black", linestyle=":", alpha=0.4, label="80 % of it")
    right.set(
        xlabel="problems in flight, N = 16", ylabel="generated tokens a second", ylim=(0, None)
    )
    right.set_xscale("log", base=2)
    right.set_xticks((1, 4, 16, 32), labels=("1", "4", "16", "32"))
    right.legend(fontsize=7)
    figure.savefig(file, dpi=150)
