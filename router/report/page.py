"""What every HTML page of results shares: one file without requests, light and dark, phone or desk.

Pictures are drawn by matplotlib as SVG that takes its ink from the page, once for wide and once
for narrow windows, since text that is scaled down cannot be read.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from router.models.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Draw = Callable[["Canvas"], None]
"""Draws a picture on an empty canvas; narrow canvases are higher than wide."""

INK: Final = "#1d2733"
LINE: Final = "#8899a6"

_INCHES: Final = {"wide": (7.4, 3.9), "narrow": (3.7, 3.5)}

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2733; --dim: #5c6875; --line: #d8dee4; --page: #fff;
  --card: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --dim: #9aa7b4; --line: #36414d; --page: #141a21; --card: #1c242d; }
}
* { box-sizing: border-box; }
body { background: var(--page); color: var(--ink); margin: 2rem auto; max-width: 72rem;
  padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin: 3rem 0 .2rem; }
p, figcaption { max-width: 48rem; margin: .3rem 0; } .dim { color: var(--dim); font-size: .9rem; }
.lead { font-size: 1.1rem; border-left: 4px solid #2a78c8; padding: .2rem 0 .2rem 1rem;
  margin: 1.2rem 0; }
.key { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .8rem;
  margin: 1.5rem 0; }
.key div { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; }
.key b { display: block; font-size: 1.6rem; line-height: 1.3; }
.key span { color: var(--dim); font-size: .85rem; display: block; }
figure { margin: .8rem 0; max-width: 52rem; }
figure svg { width: 100%; height: auto; display: block; }
figure svg text { font-family: system-ui, sans-serif !important; }
.narrow { display: none; }
@media (max-width: 36rem) { .narrow { display: block; } .wide { display: none; } }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; margin: .4rem 0;
  list-style: none; font-size: .9rem; }
.legend i { display: inline-block; width: 1.3rem; border-top: 3px solid; margin-right: .4rem;
  vertical-align: middle; }
.legend i.dashed { border-top-style: dashed; }
.scroll { overflow-x: auto; }
.heat { width: 100%; table-layout: fixed; border-collapse: separate; border-spacing: 2px; }
.heat th:first-child { width: 34%; font-weight: 400; white-space: normal; }
.heat :is(th, td) { padding: .3rem .35rem; border: 0; text-align: center; white-space: normal; }
.heat th:first-child { text-align: left; text-wrap: balance; }
.heat tr:first-child th:first-child { text-align: right; }
.heat tr:first-child th { color: var(--dim); }
.heat td { border-radius: 3px;
  background: color-mix(in srgb, #2a78c8 calc(55% * var(--share)), var(--card)); }
.heat td:not([style]) { background: none; } .heat b { max-width: none; margin: 0; }
h3 { margin: 1.2rem 0 .2rem; font-size: 1rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
td b { display: block; white-space: normal; max-width: 8rem; margin-left: auto;
  text-wrap: balance; }
th:first-child, td:first-child { text-align: left; } td small { color: var(--dim); display: block; }
@media (max-width: 36rem) {
  .stacked, .stacked tbody, .stacked td:first-child { display: block; }
  .stacked tr:first-child { display: none; }
  .stacked tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  .stacked td { display: grid; grid-template-columns: 4.2rem 1fr auto; gap: 0 .6rem;
    align-items: baseline; padding: .2rem 0; border: 0; text-align: left; }
  .stacked td::before { content: attr(data-head); color: var(--dim); }
  .stacked td:first-child::before { content: none; }
  .stacked td b { max-width: none; margin: 0; }
  .stacked td > span { text-align: right; }
  .heat { font-size: .8rem; } .heat :is(th, td) { padding: .25rem .1rem; }
}
details { margin: 1rem 0; } summary { cursor: pointer; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True, slots=True)
class Card:
    """One figure that matters: its value, its interval or other small print, and its name."""

    value: str
    small: str
    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a picture's legend."""

    label: str
    colour: str
    dashed: bool = False


def page(title: str, intro: str, body: Iterable[str]) -> str:
    """The whole page. title, intro: plain text; body: HTML."""
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{_STYLE}</style></head><body><h1>{name}</h1><p class="dim">{html.escape(intro)}'
        f"</p>{''.join(body)}</body></html>\n"
    )


def lead(sentences: Iterable[str]) -> str:
    """The conclusion."""
    return "".join(f'<p class="lead">{html.escape(sentence)}</p>' for sentence in sentences)


def cards(figures: Iterable[Card]) -> str:
    """The figures that matter, side by side."""
    inside = "".join(
        f"<div><b>{html.escape(c.value)}</b>{html.escape(c.name)}"
        f"<span>{html.escape(c.small)}</span></div>"
        for c in figures
    )
    return f'<div class="key">{inside}</div>'


def section(title: str, sentence: str, content: str) -> str:
    """A heading, the one sentence that says what is shown, and the content as HTML."""
    return f"<h2>{html.escape(title)}</h2><p>{html.escape(sentence)}</p>{content}"


def picture(draw: Draw, description: str, legend: Sequence[Key] = ()) -> str:
    """A drawing with its legend. Needs matplotlib; the same drawing gives the same bytes."""
    drawn = "".join(
        f'<div class="{width}">{_inline(render(draw, size, "svg").decode(), description)}</div>'
        for width, size in _INCHES.items()
    )
    keys = "".join(
        f'<li><i class="{"dashed" if key.dashed else ""}" style="color:{key.colour}"></i>'
        f"{html.escape(key.label)}</li>"
        for key in legend
    )
    listed = f'<ul class="legend">{keys}</ul>' if keys else ""
    return f"<figure>{listed}{drawn}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, stacked: bool = False) -> str:
    """A table of HTML cells that scrolls where it is wider than the window.

    stacked: on a phone each row becomes a list, its cells headed by their column.
    """
    top = "".join(f"<th>{cell}</th>" for cell in head)
    inside = "".join(
        "<tr>"
        + "".join(
            f'<td data-head="{html.escape(name)}">{cell}</td>'
            for name, cell in zip(head, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    kind = ' class="stacked"' if stacked else ""
    return f'<div class="scroll"><table{kind}><tr>{top}</tr>{inside}</table></div>'


def heat(budgets: Sequence[int], rows: Mapping[str, Mapping[int, float]]) -> str:
    """Accuracies in per cent by name and budget: best rows first, the best of each budget bold.

    Rows are named where they stand, so that any number of them can be told apart.
    """
    order = sorted(rows, key=lambda name: [-rows[name].get(n, -1.0) for n in reversed(budgets)])
    best = {n: max((row[n] for row in rows.values() if n in row), default=0.0) for n in budgets}

    def cell(found: Mapping[int, float], budget: int) -> str:
        if budget not in found:
            return "<td></td>"
        value = found[budget]
        shown = f"<b>{value:.0f}</b>" if value == best[budget] else f"{value:.0f}"
        return f'<td style="--share:{value / 100:.2f}">{shown}</td>'

    head = "".join(f"<th>{budget}</th>" for budget in budgets)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(cell(rows[name], n) for n in budgets)}</tr>"
        for name in order
    )
    return f'<table class="heat"><tr><th>N</th>{head}</tr>{body}</table>'


def details(summary: str, content: str) -> str:
    """HTML that is folded away."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def facts(values: Mapping[str, Any]) -> str:
    """Names and values."""
    inside = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in values.items()
        if value is not None
    )
    return f"<dl>{inside}</dl>"


def check_drawable() -> None:
    """Make sure that pages can be drawn, before hours go into what they show.

    Raises:
        NotInstalled: matplotlib is not there.
    """
    require("a report with pictures", "report", "matplotlib")


def render(draw: Draw, inches: tuple[float, float], kind: str) -> bytes:
    """A drawing as `svg`, transparent, or as `png`, on white."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "axes.edgecolor": LINE,
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "router",
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with matplotlib.rc_context(style):
        canvas = Figure(figsize=inches, layout="constrained")
        FigureCanvasAgg(canvas)
        draw(canvas)
        out = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        canvas.savefig(out, format=kind, transparent=kind == "svg", dpi=150, metadata=metadata)
    return out.getvalue()


def _inline(svg: str, description: str) -> str:
    """An SVG file as a part of the page: its ink is the page's, and it has no ids to collide."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg).replace(INK, "currentColor")
    svg = re.sub(r' (?:(?:width|height)="[\d.]+pt"|xmlns(?::xlink)?="[^"]*")', "", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
