"""A verifier's evaluation as one self-contained HTML page, and its pictures as files."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from models.base import Aggregation
from models.errors import InputError
from models.verifiers.trained_head import HeadConfig
from router.intervals import Figure
from router.verifier.evaluation import Curve, VerifierReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Plot = Callable[["Axes", VerifierReport], None]

_COLOURS = {
    "oracle": "#7a8794",
    "weighted": "#2a78c8",
    "best": "#d9822b",
    "majority": "#2f9e64",
}
_INK = {"light": "#1d2733", "dark": "#e4e9ee"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #5c6875; --line: #d8dee4; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --dim: #9aa7b4; --line: #36414d; --page: #141a21; }
}
body { background: var(--page); color: var(--ink); margin: 2rem auto; max-width: 60rem;
  padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
p, figcaption { color: var(--dim); max-width: 46rem; }
.key { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.5rem 0; }
.key b { display: block; font-size: 1.7rem; } .key span { color: var(--dim); font-size: .85rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
.dark { display: none; }
@media (prefers-color-scheme: dark) { .dark { display: inline; } .light { display: none; } }
"""


def check_drawable() -> None:
    """Make sure that pages can be drawn, before hours go into what they show.

    Raises:
        InputError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise InputError("pictures need: pip install 'compute-optimal-router[report]'")


def render(report: VerifierReport, config: HeadConfig) -> str:
    """The page. Needs matplotlib; its pictures follow the reader's light or dark theme."""
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
    }
    cards = "".join(
        f"<div><b>{value}</b>{low_high}<br><span>{html.escape(name)}</span></div>"
        for name, (value, low_high) in key.items()
    )
    figures = "".join(
        f"<h2>{title}</h2><figure>{_themed(plot, report)}"
        f"<figcaption>{caption}</figcaption></figure>"
        for title, plot, caption in _PLOTS
    )
    title = f"Verifier {html.escape(config.name)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{report.solutions:,} solutions of {report.problems} problems, {report.mixed_problems}"
        f" of them with right and wrong ones; pass@1 {report.pass_at_1.value:.1%}. Reads layer"
        f" {config.layer} of {html.escape(config.backbone.name)} in format {config.format}."
        " All intervals are 95 %, by bootstrap over problems.</p>"
        f'<div class="key">{cards}</div>{figures}{_table(report)}</body></html>\n'
    )


def save_pictures(report: VerifierReport, directory: Path) -> list[Path]:
    """Write each picture of the page as a PNG file on white."""
    files = []
    for title, plot, _ in _PLOTS:
        file = directory / f"verifier-{title.lower().replace(' ', '-')}.png"
        file.write_bytes(_picture(plot, report, "light", "png"))
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


def _themed(plot: Plot, report: VerifierReport) -> str:
    images = []
    for theme in _INK:
        data = base64.b64encode(_picture(plot, report, theme, "svg")).decode()
        images.append(f'<img class="{theme}" alt="" src="data:image/svg+xml;base64,{data}">')
    return "".join(images)


def _picture(plot: Plot, report: VerifierReport, theme: str, kind: str) -> bytes:
    """One picture, transparent as SVG and on white as PNG; the same bytes for the same report."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    ink = _INK[theme]
    style: Any = {
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "svg.hashsalt": "router",
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
    }
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.subplots()
        axes.set_facecolor("none")
        plot(axes, report)
        out = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        canvas.savefig(out, format=kind, transparent=kind == "svg", dpi=150, metadata=metadata)
    return out.getvalue()


def _table(report: VerifierReport) -> str:
    """Every curve at a few N."""
    sizes = [size for size in report.sizes if size & (size - 1) == 0 or size == report.sizes[-1]]
    head = "".join(f"<th>N = {size}</th>" for size in sizes)
    rows = "".join(
        f"<tr><td>{_name(curve)}</td>"
        + "".join(
            f"<td>{100 * curve.accuracy[report.sizes.index(size)].value:.1f}</td>" for size in sizes
        )
        + f"<td>{_points(curve.gain[-1])[0]} {_points(curve.gain[-1])[1]}</td></tr>"
        for curve in report.curves
    )
    return (
        f"<h2>All curves</h2><table><tr><th>problems solved, %</th>{head}"
        f"<th>over majority at N = {report.sizes[-1]}</th></tr>{rows}</table>"
    )


def _name(curve: Curve) -> str:
    return curve.select if curve.aggregation is None else f"{curve.select}, {curve.aggregation}"


def _percent(figure: Figure) -> tuple[str, str]:
    return f"{figure.value:.1%}", f"{figure.low:.1%} to {figure.high:.1%}"


def _points(figure: Figure) -> tuple[str, str]:
    return f"{100 * figure.value:+.1f}", f"({100 * figure.low:+.1f} to {100 * figure.high:+.1f})"


def _plain(figure: Figure) -> tuple[str, str]:
    return f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}"
