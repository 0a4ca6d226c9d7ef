"""A verifier's evaluation as one self-contained HTML page, and its pictures as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from router.intervals import Figure
from router.models.base import Aggregation
from router.models.verifiers.trained_head import HeadConfig
from router.report.page import Card, Draw, cards, page, picture, section, table
from router.report.page import render as draw
from router.verifier.evaluation import SelectionCurve, VerifierReport
from router.verifier.sources import Source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Plot = Callable[["Axes", VerifierReport], None]

_COLOURS = {
    "oracle": "#7a8794",
    "weighted": "#2a78c8",
    "best": "#d9822b",
    "majority": "#2f9e64",
}


def render(report: VerifierReport, name: str, reads: str, sources: Sequence[Source] = ()) -> str:
    """The page. Needs matplotlib; its pictures follow the reader's light or dark theme.

    name: of the verifier; reads: a sentence on how it scores.
    """
    way = report.best_aggregation
    weighted, majority = report.curve("weighted", way), report.curve("majority")
    largest = report.sizes[-1]
    key = {
        f"weighted best-of-{largest}": _percent(weighted.accuracy[-1]),
        f"majority of {largest}": _percent(majority.accuracy[-1]),
        "gain over majority (paired)": _points(weighted.gain[-1]),
        "AUC inside problems, last step": _plain(report.within["last"]),
        "AUC inside problems, all steps": _plain(report.step_within),
        "calibration error": _plain(report.calibration_error),
        "Brier score": _plain(report.brier),
    }
    intro = (
        f"{report.solutions:,} solutions of {report.problems} problems, {report.mixed_problems} of"
        f" them with right and wrong ones; pass@1 {report.pass_at_1.value:.1%}."
        f" {reads} All intervals are 95 %, by bootstrap over problems."
    )
    body = [
        cards(Card(value, small, name) for name, (value, small) in key.items()),
        *(
            section(title, caption, picture(_drawn(plot, report), caption))
            for title, plot, caption in _PLOTS
        ),
        _table(report),
    ]
    if len(sources) > 1:
        body.insert(1, _by_source(sources))
    return page(f"Verifier {name}", intro, body)


def reads(config: HeadConfig) -> str:
    """How a trained head scores."""
    return f"Reads layer {config.layer} of {config.backbone.name} in format {config.format}."


def save_pictures(report: VerifierReport, directory: Path) -> list[Path]:
    """Write each picture of the page as a PNG file on white."""
    files = []
    for title, plot, _ in _PLOTS:
        file = directory / f"verifier-{title.lower().replace(' ', '-')}.png"
        file.write_bytes(draw(_drawn(plot, report), (7, 4), "png"))
        files.append(file)
    return files


def _draw_curves(axes: Axes, report: VerifierReport) -> None:
    way = report.best_aggregation
    for select, aggregation in (
        ("oracle", None),
        ("weighted", way),
        ("best", way),
        ("majority", None),
    ):
        curve = report.curve(select, aggregation)
        colour = _COLOURS[select]
        name = "oracle (pass@N)" if select == "oracle" else select
        points = [100 * figure.value for figure in curve.accuracy]
        axes.plot(
            report.sizes,
            points,
            color=colour,
            linestyle="--" if select == "oracle" else "-",
            marker="o",
            markersize=3,
            label=name,
        )
        if select in ("weighted", "majority"):
            low = [100 * figure.low for figure in curve.accuracy]
            high = [100 * figure.high for figure in curve.accuracy]
            axes.fill_between(report.sizes, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set(xlabel="N, solutions sampled", ylabel="problems solved, %")
    axes.legend(frameon=False)


def _draw_gains(axes: Axes, report: VerifierReport) -> None:
    ways: tuple[Aggregation, ...] = get_args(Aggregation)
    for index, way in enumerate(ways):
        gain = report.curve("weighted", way).gain[-1]
        _bar(axes, index - 0.18, gain, _COLOURS["weighted"], "weighted" if index == 0 else None)
        best = report.curve("best", way).gain[-1]
        _bar(axes, index + 0.18, best, _COLOURS["best"], "best" if index == 0 else None)
    axes.axhline(0, color="#8899a6", linewidth=1)
    axes.set_xticks(range(len(ways)), ways)
    axes.set(ylabel=f"points over majority at N = {report.sizes[-1]}")
    axes.legend(frameon=False)


def _bar(axes: Axes, at: float, figure: Figure, colour: str, label: str | None) -> None:
    value = 100 * figure.value
    reach = [[value - 100 * figure.low], [100 * figure.high - value]]
    axes.bar(at, value, 0.32, yerr=reach, color=colour, ecolor="#8899a6", capsize=3, label=label)


def _draw_reliability(axes: Axes, report: VerifierReport) -> None:
    axes.plot([0, 1], [0, 1], color="#8899a6", linewidth=1, linestyle="--")
    bins = report.reliability
    total = sum(entry.count for entry in bins)
    axes.scatter(
        [entry.mean_score for entry in bins],
        [entry.share_right for entry in bins],
        s=[30 + 900 * entry.count / total for entry in bins],
        color=_COLOURS["weighted"],
        alpha=0.8,
    )
    axes.set(xlabel="score of the last step", ylabel="share really right", xlim=(0, 1), ylim=(0, 1))


def _draw_positions(axes: Axes, report: VerifierReport) -> None:
    values = [figure.value for figure in report.by_position]
    reach = [
        [figure.value - figure.low for figure in report.by_position],
        [figure.high - figure.value for figure in report.by_position],
    ]
    axes.errorbar(
        range(len(values)), values, reach, color=_COLOURS["weighted"], marker="o", capsize=3
    )
    axes.axhline(0.5, color="#8899a6", linewidth=1, linestyle="--")
    names = ["first fifth", *[""] * (len(values) - 2), "last fifth"]
    axes.set_xticks(range(len(values)), names)
    axes.set(ylabel="AUC inside problems")


_PLOTS: tuple[tuple[str, Plot, str], ...] = (
    (
        "Best of N",
        _draw_curves,
        "Accuracy of the chosen answer over all subsets of N solutions. Bands: 95 % intervals.",
    ),
    (
        "Aggregation",
        _draw_gains,
        "What each way of turning step scores into one gains over an unweighted vote.",
    ),
    (
        "Reliability",
        _draw_reliability,
        "A calibrated verifier lies on the dashed line. Areas show how many solutions.",
    ),
    (
        "Step position",
        _draw_positions,
        "How well a step's score ranks the solutions of one problem, by where the step stands.",
    ),
)


def _drawn(plot: Plot, report: VerifierReport) -> Draw:
    return lambda canvas: plot(canvas.subplots(), report)


def _table(report: VerifierReport) -> str:
    """Every curve at a few N."""
    sizes = [size for size in report.sizes if size & (size - 1) == 0 or size == report.sizes[-1]]
    largest = report.sizes[-1]
    head = [*(f"N = {size}" for size in sizes), f"over majority at N = {largest}"]
    rows = [
        [
            _name(curve),
            *(f"{100 * curve.accuracy[report.sizes.index(size)].value:.1f}" for size in sizes),
            " ".join(_points(curve.gain[-1])),
        ]
        for curve in report.curves
    ]
    caption = "Accuracy of every selection at a few N, and what it gains, in points."
    return section("All curves", caption, table(["problems solved, %", *head], rows))


def _by_source(sources: Sequence[Source]) -> str:
    """What tells right from wrong in one source may not in another."""
    head = ["source", "problems", "AUC inside, last step", "all steps", "calibration", "Brier", ""]
    rows = [
        [source.name, str(source.problems), *_figures(source.report), source.verdict]
        for source in sources
    ]
    caption = "The same figures for each source of problems, and whether scores pay there."
    return section("Sources", caption, table(head, rows))


def _figures(report: VerifierReport | None) -> list[str]:
    if report is None:
        return ["–"] * 4
    figures = (report.within["last"], report.step_within, report.calibration_error, report.brier)
    return [" (".join(_plain(figure)) + ")" for figure in figures]


def _name(curve: SelectionCurve) -> str:
    return curve.select if curve.aggregation is None else f"{curve.select}, {curve.aggregation}"


def _percent(figure: Figure) -> tuple[str, str]:
    return f"{figure.value:.1%}", f"{figure.low:.1%} to {figure.high:.1%}"


def _points(figure: Figure) -> tuple[str, str]:
    return f"{100 * figure.value:+.1f}", f"({100 * figure.low:+.1f} to {100 * figure.high:+.1f})"


def _plain(figure: Figure) -> tuple[str, str]:
    return f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}"
