r"""Questions with lettered options: the answer is one letter."""

from __future__ import annotations

import re

from router.strategies.tasks.base import Task
from router.strategies.tasks.reading import WRAPPER, last_boxed, statements, whole_words

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
_MENTION = re.compile(
    r"\b[Oo]ption\s*\(?([A-Z])\b(?!')|\b[Cc]hoice\s*\(?([A-Z])\b(?!')|\(([A-Z])\)"
    r"|\b([A-Z]) is (?:the )?(?:correct|right|best)\b"
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
        boxed = last_boxed(text)
        letter = _letter(boxed, _STATED) if boxed else None
        if truncated:
            text = whole_words(text)
        stated = statements(text)
        while letter is None and (statement := next(stated, None)):
            letter = _letter(statement.line, _STATED)
        if letter is not None or truncated:
            return letter
        text = text.strip()
        first, last = text.partition("\n")[0], text.rpartition("\n")[2]
        return (
            _letter(last, _OPTION_LINE)
            or _mentioned(last)
            or _letter(first, _OPTION_LINE)
            or _mentioned(text)
        )

    def normal(self, answer: str) -> str:
        return _letter(answer, _STATED) or " ".join(answer.split()).casefold()


def _letter(text: str, pattern: re.Pattern[str]) -> str | None:
    """The letter of the option that a text begins with, if it begins with one."""
    plain = _DECORATION.sub(" ", WRAPPER.sub(" ", text[:_REACH])).strip()
    match = pattern.match(plain)
    return next(filter(None, match.groups())).upper() if match else None


def _mentioned(text: str) -> str | None:
    """The letter of the option that is named last."""
    mentions = _MENTION.findall(text)
    return "".join(mentions[-1]) if mentions else None
