"""Questions with short answers in words: a name, a date, a phrase."""

from __future__ import annotations

import re
import unicodedata

from router.strategies.tasks.base import Task
from router.strategies.tasks.reading import (
    WRAPPER,
    is_stated,
    last_boxed,
    parts,
    statements,
    tidy,
    whole_words,
)

_DASH = re.compile(r"[−–—]")
_DROPPED = re.compile(r"(?<=\d),(?=\d{3})|['’\"“”`*$€£%]|\.(?!\d)")
_SEPARATOR = re.compile(r"(?!(?<!\w)-[.\d])[^\w\s.+#&]|_")  # but for the sign of a number
_ARTICLE = re.compile(r"\b(?:a|an|the) (?=\S)")


class Text(Task):
    """Questions with short answers in words."""

    id = "text"
    ask = "End with a line that begins with `Answer:` and holds the answer alone."

    def read(self, text: str, truncated: bool = False) -> str | None:
        r"""The answer that a solution states; None if it states none.

        Looks for the last `\boxed{…}`, then the last line such as `Answer: …` or sentence such as
        "the answer is …", then takes the last line, unless the text was cut.
        """
        for part, is_cut in parts(text, truncated):
            answer = _stated(part, is_cut)
            if answer is not None:
                return answer
        return None if is_cut else tidy(part.rstrip().rpartition("\n")[2])

    def gold(self, text: str) -> str | None:
        return self.read(text) if is_stated(text) else super().gold(text)

    def normal(self, answer: str) -> str:
        """Without case, punctuation, articles and doubled spaces, which decide nothing."""
        text = unicodedata.normalize("NFKC", WRAPPER.sub(" ", answer)).casefold()
        text = _DROPPED.sub("", _DASH.sub("-", text))
        text = " ".join(_SEPARATOR.sub(" ", text).split())
        return _ARTICLE.sub("", text) or answer


def _stated(text: str, truncated: bool) -> str | None:
    """The answer in a box, or after a phrase that states it."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    for statement in statements(whole_words(text) if truncated else text):
        if statement.noun == "answer" or (not statement.noun and statement.last):
            answer = tidy(statement.line if statement.colon else statement.sentence)
            if answer is not None:
                return answer
    return None
