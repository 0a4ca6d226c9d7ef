r"""Where one step of a solution ends and the next begins.

A step ends after the delimiter, which is a blank line unless the prompt says otherwise. Where it is
a blank line, a step also ends before a line that begins as headings of steps do (`Step 2:`,
`## Step 2`, `**步骤 2**`, `第二步`). Neither counts inside a code block or displayed mathematics.

Whether a step has ended is told by its own text alone, up to the point where it is known: a step
sampled on its own ends where the whole solution would be cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from router.models.types import FinishReason, Step

BLANK_LINE: Final = "\n\n"

LONGEST_BLOCK: Final = 4000
"""Characters of a code block or of displayed mathematics; what is never closed holds no more."""

_NUMBERED: Final = ("Step ", "步骤", *(f"第{number}步" for number in "123456789一二三四五六七八九"))
"""What a heading begins with; few, because an engine looks for each of them at every token."""

_HEADING: Final = rf"\n(?=(?P<heading>[ \t>#*_-]*(?:{'|'.join(map(re.escape, _NUMBERED))})))"
_BLOCKS: Final[Mapping[str, str]] = {
    "fence": r"^[ \t]*(?:`{3}|~{3})",
    "square": r"(?<!\\)\\\[",
    "dollars": r"(?<!\\)\$\$",
    "environment": r"(?<!\\)\\begin\{[a-zA-Z]+\*?\}",
}
"""What opens a block, as regular expressions."""


@dataclass(frozen=True, slots=True)
class StepEnd:
    """Where a step ends in a text.

    at: characters up to its end.
    known: characters up to where that is told; more than `at` where the next step's heading tells.
    """

    at: int
    known: int


def step_stops(delimiter: str) -> tuple[str, ...]:
    """Strings of which one is the last thing written when a step is known to have ended."""
    if delimiter != BLANK_LINE:
        return (delimiter,)
    return (BLANK_LINE, "\r\n\r\n", *_NUMBERED)


def first_end(text: str, delimiter: str) -> StepEnd | None:
    """The end of the step that a text begins with; None if it may go on.

    Blank text at the start ends nothing. A run of delimiters and blank lines counts as one.
    """
    begun, at = len(text) - len(text.lstrip()), 0
    while found := _pattern(delimiter).search(text, at):
        if found.lastgroup in _BLOCKS:
            at = _block_end(text, found)
        elif found.start() > begun:
            return StepEnd(found.end(), max(found.end(), found.end("heading")))
        else:
            at = found.end()
    return None


def step_ends(text: str, delimiter: str) -> Iterator[StepEnd]:
    """The end of each step but the last, which has text."""
    start, last = 0, len(text.rstrip())
    while (end := first_end(text[start:], delimiter)) and start + end.at < last:
        yield StepEnd(start + end.at, start + end.known)
        start += end.at


def split_text(
    text: str, finish: FinishReason, delimiter: str, tokens: int | None = None
) -> tuple[Step, ...]:
    """Cut a continuation whose engine reports text only; same rules as `ChainEncoder.split`.

    tokens: the engine's own count, kept only where there is one step to give it to.
    """
    bounds = [0, *(end.at for end in step_ends(text, delimiter)), len(text)]
    pieces = [text[start:end] for start, end in pairwise(bounds)]
    return tuple(
        Step(
            text=piece,
            finish=finish if index == len(pieces) - 1 else "step",
            tokens=tokens if len(pieces) == 1 else None,
        )
        for index, piece in enumerate(pieces)
    )


@lru_cache
def _pattern(delimiter: str) -> re.Pattern[str]:
    mark, heading = re.escape(delimiter), "(?P<heading>(?!))"
    if delimiter == BLANK_LINE:
        mark, heading = r"(?:\n\n|\r\n\r\n)", _HEADING
    run = rf"{mark}(?:\s*{mark})*(?:\s*\n)?"
    blocks = "|".join(f"(?P<{name}>{opens})" for name, opens in _BLOCKS.items())
    return re.compile(f"{run}|{heading}|{blocks}", re.MULTILINE)


def _block_end(text: str, opened: re.Match[str]) -> int:
    """Where the block that begins here is over: where it is closed, or is too long for one."""
    match opened.lastgroup:
        case "square":
            closes = r"(?<!\\)\\\]"
        case "environment":
            closes = re.escape(opened.group().replace("begin", "end", 1))
        case _:
            closes = _BLOCKS[opened.lastgroup or ""]
    most = opened.end() + LONGEST_BLOCK
    closed = re.compile(closes, re.MULTILINE).search(text, opened.end(), most)
    return closed.end() if closed else most
