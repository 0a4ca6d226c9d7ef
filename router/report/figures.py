"""The pictures of the reference papers, drawn from plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from router.difficulty.validation import Bin
from router.intervals import Figure
from router.report.page import LINE, Draw, Key

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

ROUTED: Final = "#dd4b39"
"""What is routed, or chosen by the table."""

_POLICIES: Final = {
    "learned": ROUTED,
    "pilot": "#9a6fd0",
    "prefill": "#d9822b",
    "oracle": "#7a8794",
}
_RANKED: Final = ("#2a78c8", "#2f9e64", "#d9822b", "#9a6fd0")
"""With `ROUTED` beside them five colours, as many as can be told apart in one picture."""

OTHERS: Final = "#9aa5b0"
"""What is drawn to be seen among the others, and read in a table."""

_MARKED: Final = 10  # points; of more, each would hide the next
_NARROW: Final = 5.0  # inches


@dataclass(frozen=True, slots=True)
class Line:
    """One curve. low, high: its band, if it is drawn with one."""

    label: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False
    bold: bool = False

    @property
    def key(self) -> Key:
        return Key(self.label, self.colour, self.dashed)


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each policy, and for the first of the strategies; name the best ones first."""
    strategies = [name for name in names if name not in _POLICIES]
    ranked = dict(zip(strategies, _RANKED, strict=False))
    return {name: _POLICIES.get(name) or ranked.get(name, OTHERS) for name in names}


def told_apart(names: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """A colour for each of a few strategies: the known one, where that is its own."""
    own = {name: known[name] for name in names if known.get(name, OTHERS) != OTHERS}
    free = iter(colour for colour in _RANKED if colour not in own.values())
    return {name: own.get(name) or next(free, OTHERS) for name in names}


def keys(lines: Sequence[Line]) -> list[Key]:
    """The legend of some lines; those without a colour of their own are one entry."""
    named = [line.key for line in lines if line.colour != OTHERS]
    left = len(lines) - len(named)
    return [*named, Key(f"{left} others: see By level", OTHERS)] if left else named


def curves(lines: Sequence[Line], xlabel: str, ylabel: str = "problems solved, %") -> Draw:
    """Accuracy against compute, which doubles."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        _curves(axes, lines, xlabel, doubling=True)
        axes.set_ylabel(ylabel)

    return draw


def captioned(lines: Sequence[Line], xlabel: str) -> Draw:
    """The same with its legend inside, for a picture that stands alone."""

    def draw(canvas: Canvas) -> None:
        curves(lines, xlabel)(canvas)
        [axes] = canvas.axes
        for shown, line in zip(axes.lines, lines, strict=True):
            shown.set_label(line.label)
        axes.legend(frameon=False, loc="lower right")

    return draw


def panels(parts: Mapping[str, Sequence[Line]], ylabel: str = "problems solved, %") -> Draw:
    """The same against several units of compute, side by side or one below the other."""

    def draw(canvas: Canvas) -> None:
        for axes, (xlabel, lines) in zip(_split(canvas, len(parts)), parts.items(), strict=True):
            _curves(axes, lines, xlabel, doubling=False)
            axes.set_ylabel(ylabel)

    return draw


def _curves(axes: Axes, lines: Sequence[Line], xlabel: str, *, doubling: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log", base=2)
    if not doubling:
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    for line in lines:
        axes.plot(
            line.x,
            line.y,
            color=line.colour,
            linestyle="--" if line.dashed else "-",
            linewidth=2.8 if line.bold else 1.6,
            marker="o" if len(line.x) <= _MARKED else None,
            markersize=5 if line.bold else 3.5,
            zorder=3 if line.bold else 1 if line.colour == OTHERS else 2,
        )
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.13, lw=0)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    axes.set_xlabel(xlabel)
    _grid(axes)


def groups(
    places: Sequence[str],
    parts: Mapping[str, Sequence[Figure]],
    colour: Mapping[str, str],
    ylabel: str,
) -> Draw:
    """Grouped bars with intervals, in percentage points."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        width = 0.8 / len(parts)
        for index, (name, found) in enumerate(parts.items()):
            at = [place - 0.4 + (index + 0.5) * width for place in range(len(places))]
            values = [100 * figure.value for figure in found]
            reach = [
                [max(0.0, 100 * (figure.value - figure.low)) for figure in found],
                [max(0.0, 100 * (figure.high - figure.value)) for figure in found],
            ]
            axes.bar(
                at, values, width * 0.9, yerr=reach, color=colour[name], ecolor=LINE, capsize=2
            )
        axes.axhline(0, color=LINE, linewidth=1)
        axes.set_xticks(range(len(places)), places)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel(ylabel)
        _grid(axes)

    return draw


def stacked(
    places: Sequence[str], shares: Mapping[str, Sequence[float]], colour: Mapping[str, str]
) -> Draw:
    """Horizontal bars that add up to 100 %."""

    def draw(canvas: Canvas) -> None:
        canvas.set_size_inches(canvas.get_figwidth(), 0.9 + 0.38 * len(places))
        axes = canvas.subplots()
        left = [0.0] * len(places)
        for name, values in shares.items():
            axes.barh(places, [100 * v for v in values], 0.7, left=left, color=colour[name])
            left = [a + 100 * v for a, v in zip(left, values, strict=True)]
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel="problems, %")
        axes.tick_params(axis="y", length=0)

    return draw


def reliability(parts: Mapping[str, Sequence[Bin]], colour: Mapping[str, str]) -> Draw:
    """Stated probabilities against how often they came true."""

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.plot([0, 100], [0, 100], color=LINE, linewidth=1, linestyle="--")
        for name, bins in parts.items():
            stated = [100 * one.stated for one in bins]
            observed = [100 * one.observed for one in bins]
            axes.plot(stated, observed, color=colour[name], marker="o", markersize=5, linewidth=1.2)
        axes.set(
            xlabel="probability of a level as predicted, %",
            ylabel="how often it was true, %",
            xlim=(0, 100),
            ylim=(0, 100),
        )
        _grid(axes)

    return draw


def ranked(names: Sequence[str], values: Sequence[float], xlabel: str) -> Draw:
    """Horizontal bars, the largest on top."""

    def draw(canvas: Canvas) -> None:
        canvas.set_size_inches(canvas.get_figwidth(), 0.9 + 0.28 * len(names))
        axes = canvas.subplots()
        axes.barh(names, values, 0.7, color=_RANKED[0])
        axes.invert_yaxis()
        axes.set_xlabel(xlabel)
        axes.tick_params(axis="y", length=0)

    return draw


def short(value: float) -> str:
    """A number for an axis: 16, 2.4k, 1.5T."""
    for scale, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"


def _split(canvas: Canvas, count: int) -> Sequence[Axes]:
    if canvas.get_figwidth() < _NARROW:
        canvas.set_size_inches(canvas.get_figwidth(), 3.0 * count)
        return list(canvas.subplots(count, 1, squeeze=False)[:, 0])
    return list(canvas.subplots(1, count, squeeze=False)[0])


def _grid(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.yaxis.grid(True, color=LINE, alpha=0.25, linewidth=0.8)
    axes.set_axisbelow(True)
