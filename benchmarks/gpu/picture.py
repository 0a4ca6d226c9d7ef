"""The picture of `benchmarks.gpu.kit`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = {
    "best_of_n": "tab:grey",
    "beam_search": "tab:blue",
    "dvts": "tab:orange",
    "lookahead": "tab:green",
}


def draw(record: Mapping[str, Any], file: Path) -> None:
    """Tokens a second of each strategy against problems in flight, one panel an N."""
    from matplotlib.figure import Figure

    rows = [row for row in record["cells"] if "error" not in row]
    sizes = sorted({row["n"] for row in rows if row["strategy"] in COLOURS})
    ceilings = [row for row in rows if row["strategy"] not in COLOURS]
    if not sizes:
        return
    figure = Figure(figsize=(5 * len(sizes), 4.2), layout="constrained")
    first = None
    for column, n in enumerate(sizes, 1):
        first = axes = figure.add_subplot(1, len(sizes), column, sharey=first)
        for strategy, colour in COLOURS.items():
            line = [row for row in rows if (row["strategy"], row["n"]) == (strategy, n)]
            flights = [row["in_flight"] for row in line]
            rates = [row["sampled_tokens_per_second"] for row in line]
            axes.plot(flights, rates, "o-", color=colour, label=strategy)
        own = sorted((row["in_flight"] / n, row["sampled_tokens_per_second"]) for row in ceilings)
        shown = [(flight, rate) for flight, rate in own if flight >= 1]
        axes.plot(*zip(*shown, strict=True), "k--", label="the engine alone", linewidth=1)
        axes.set_xscale("log", base=2)
        axes.set(title=f"N = {n}", xlabel="problems in flight")
        if column == 1:
            axes.set_ylabel("sampled tokens a second")
            axes.legend(fontsize=8)
    axes.set_ylim(bottom=0)
    cards = record.get("opening", {}).get("cards") or [{"name": record["machine"]["processor"]}]
    opening = record["opening"]
    figure.suptitle(
        f"{opening['generator']['model']} with {opening['verifier']['name']}, "
        f"{opening['generator']['engine']}, {cards[0]['name']}",
        fontsize=10,
    )
    figure.savefig(file, dpi=150)
