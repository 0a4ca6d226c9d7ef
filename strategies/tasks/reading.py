r"""Where a solution states its final answer: `\boxed{…}`, "the answer is …", `#### …`.

Takes time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

WINDOW = 2000
"""Characters after `\\boxed` or "the answer is" in which the answer must end."""

DELIMITED = re.compile(
    r"\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|(?<!\\)\$\$?(?P<dollar>(?:[^$\\]|\\.)+)\$",
    re.DOTALL,
)
"""Mathematics between its delimiters; the last group is what is between them."""

WRAPPER = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|math(?:rm|bf|it))\s*\{")
"""What opens words inside mathematics."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"[^\s${}]+")
_PHRASE = re.compile(
    r"(?:\b(?P<noun>answer|option|choice)\**\s*(?P<verb>is|:|=)|(?<!#)####(?!#))\s*:?\s*",
    re.IGNORECASE,
)
_REVERSED_PUNCTUATION = re.compile(r"(?:[.,;: ]\\?)+")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n|,? (?:because|since)\b")

# "is" may also say something about the answer, instead of stating it.
_REMARK = re.compile(
    r"(?:(?:indeed|also|now|then|thus|therefore|clearly|simply|just) )?"
    r"(?:(?:(?:in)?(?:correct|consistent|valid|complete)|right|wrong|clear|obvious|plausible"
    r"|(?:un)?reasonable|verified|confirmed|unique|as follows)"
    r"(?=\s*(?:[.,;:!?]|$|(?:and|as|because|for|if|since|that|to|when|with)\b))"
    r"|(?:\w+ed|found|given|shown) (?:after|as|by|from|if|in|through|to|using|via|when|with)\b"
    r"|not (?=[\d$\\-]))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What follows a phrase that states an answer, to the end of its window.

    rest: the text there. noun: `answer`, `option`, `choice`; empty after `####`. colon: the phrase
    ended in `:` or `=`, not in "is". last: nothing follows the line it is on.
    """

    rest: str
    noun: str
    colon: bool
    last: bool

    @property
    def line(self) -> str:
        return self.rest.partition("\n")[0]

    @property
    def sentence(self) -> str:
        """To the end of the sentence, or to where its reason begins."""
        end = _SENTENCE_END.search(self.rest)
        return self.rest[: end.start()] if end else self.rest


def last_boxed(text: str) -> str | None:
    r"""What the last closed `\boxed{…}` holds; boxes of nothing do not count."""
    boxes = [match.end() for match in _BOX.finditer(text)]
    closing = _closing_braces(text) if boxes else {}
    for start in reversed(boxes):
        if text.startswith("{", start):
            end = closing.get(start, start + WINDOW)
            content = text[start + 1 : end] if end < start + WINDOW else None
        else:  # `\boxed 5`
            bare = _BARE.match(text, start, start + WINDOW)
            content = bare.group() if bare else None
        answer = tidy(content) if content else None
        if answer is not None:
            return answer
    return None


def _closing_braces(text: str) -> dict[int, int]:
    """Where each brace that is closed is closed."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing


def statements(text: str) -> Iterator[Statement]:
    """What seems to state an answer, the last one first; no remarks on an answer."""
    filled = len(text.rstrip())
    for match in reversed(list(_PHRASE.finditer(text))):
        start = match.end()
        is_colon = match["verb"] in (":", "=") or ":" in match.group()
        rest = text[start : start + WINDOW].lstrip("*_ \n")
        if not is_colon and match["noun"] and _REMARK.match(rest):
            continue
        end_of_line = text.find("\n", start, start + WINDOW)
        last = filled <= (end_of_line if end_of_line >= 0 else start + WINDOW)
        yield Statement(rest, (match["noun"] or "").lower(), is_colon, last)


def tidy(answer: str) -> str | None:
    """The answer without delimiters, emphasis and final punctuation; None if nothing is left."""
    answer = " ".join(answer.split()).strip("*_ ")
    punctuation = _REVERSED_PUNCTUATION.match(answer[::-1])
    if punctuation:
        answer = answer[: len(answer) - punctuation.end()]
    delimited = DELIMITED.fullmatch(answer)
    if delimited:
        answer = delimited.group(delimited.lastgroup or 0).strip()
    return answer or None


def whole_words(text: str) -> str:
    """A cut text without its last word, which the cut may have split."""
    return text.removesuffix(re.split(r"\s", text)[-1])
