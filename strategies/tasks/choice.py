r"""Questions with lettered options: the answer is one letter."""

from __future__ import annotations

import re

from router.strategies.tasks.base import Task
from router.strategies.tasks.reading import WRAPPER, last_boxed, parts, statements, whole_words

_REACH = 100  # characters in which an option names its letter
_DECORATION = re.compile(r"[{}$*_]|\\[()\[\]]|\\[,;: !]")
_OPTION = (
    r"(?i:(?>(?:clearly |indeed |thus |therefore )?(?:the\s+)?(?:correct\s+|right\s+|best\s+)?"
    r"(?:option|choice|answer)\s*(?:is|:)?\s*){0,2}+)"
)
_DELIMITED = (
    r"(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])\s*(?:\)|[.:,;!?]?\s*$)|([A-Z])[.:,;!?](?=\s))"
)
_OPTION_LINE = re.compile(_OPTION + _DELIMITED)
# Where a letter is expected it may stand before other words; but `A` and `I` are words themselves.
_STATED = re.compile(
    rf"{_OPTION}(?:{_DELIMITED}|([B-HJ-Z])(?![\w'’])(?!\s*[(^=<>+*/\\-])"
    r"|([AI])(?=\s+(?:[^\sa-z]|(?:as|because|is|since|with)\b)))"
)
_ONE_OPTION = re.compile(
    r"(?:(?i:option|choice) \(?[A-Za-z]\)?\W*$|\( ?[A-Z] ?\)|[A-Z][.)])(?!\s*[-+*/^=<>])"
)
_MENTION = re.compile(
    r"\b[Oo]ption\s*\(?([A-Z])\b(?!')|\b[Cc]hoice\s*\(?([A-Z])\b(?!')|\(([A-Z])\)"
    r"|\b([A-Z]) is (?:the )?(?:correct|right|best)\b|选\s*([A-Z])(?![A-Za-z])"
)


class Choice(Task):
    """Questions with lettered options."""

    id = "choice"
    ask = "Answer with the letter of the correct option."

    def read(self, text: str, truncated: bool = False) -> str | None:
        r"""The letter that a solution chooses, as a capital; None if it chooses none.

        Looks for the last `\boxed{…}`, then the last phrase such as "the correct option is …", then
        at the last line, the first line, and for the option that is named last. In a cut text only
        the box and the phrase count.
        """
        for part, is_cut in parts(text, truncated):
            letter = _chosen(part, is_cut)
            if letter is not None:
                return letter
        if is_cut:
            return None
        text = part.strip()
        first, last = text.partition("\n")[0], text.rpartition("\n")[2]
        return (
            _letter(last, _OPTION_LINE)
            or mentioned(last)
            or _letter(first, _OPTION_LINE)
            or mentioned(text)
        )

    def gold(self, text: str) -> str | None:
        """The letter; None if there is none."""
        return stated_letter(text) or self.read(text)

    def normal(self, answer: str) -> str:
        return stated_letter(answer) or " ".join(answer.split()).casefold()


def _chosen(text: str, truncated: bool) -> str | None:
    """The letter in a box, or after a phrase that states it."""
    boxed = last_boxed(text)
    letter = stated_letter(boxed) if boxed else None
    stated = statements(whole_words(text) if truncated else text)
    while letter is None and (statement := next(stated, None)):
        letter = stated_letter(statement.line)
    return letter


def stated_letter(text: str) -> str | None:
    """The letter that stands where one is expected."""
    return _letter(text, _STATED)


def option(text: str) -> str | None:
    """The letter of a text that is one option, and nothing but that: `(B)`, `B) 42`, `Option B`."""
    line = text.strip()
    if "\n" in line or len(line) > _REACH or not _ONE_OPTION.match(_plain(line)):
        return None
    return _letter(line, _OPTION_LINE)


def _letter(text: str, pattern: re.Pattern[str]) -> str | None:
    """The letter of the option that a text begins with, if it begins with one."""
    match = pattern.match(_plain(text[:_REACH]))
    return next(filter(None, match.groups())).upper() if match else None


def _plain(text: str) -> str:
    return _DECORATION.sub(" ", WRAPPER.sub(" ", text)).strip()


def mentioned(text: str) -> str | None:
    """The letter of the option that is named last."""
    mentions = _MENTION.findall(text)
    return "".join(mentions[-1]) if mentions else None
