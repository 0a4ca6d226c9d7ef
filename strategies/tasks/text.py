"""Questions with short answers in words: a name, a date, a phrase."""

from __future__ import annotations

import re
import unicodedata

from router.strategies.tasks.base import Task
from router.strategies.tasks.reading import WRAPPER, last_boxed, statements, tidy, whole_words

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
        boxed = last_boxed(text)
        if boxed is not None:
            return boxed
        if truncated:
            text = whole_words(text)
        for statement in statements(text):
            if statement.noun == "answer":
                answer = tidy(statement.line if statement.colon else statement.sentence)
                if answer is not None:
                    return answer
        return None if truncated else tidy(text.rstrip().rpartition("\n")[2])

    def normal(self, answer: str) -> str:
        """Without case, punctuation, articles and doubled spaces, which decide nothing."""
        text = unicodedata.normalize("NFKC", WRAPPER.sub(" ", answer)).casefold()
        text = _DROPPED.sub("", _DASH.sub("-", text))
        text = " ".join(_SEPARATOR.sub(" ", text).split())
        return _ARTICLE.sub("", text) or answer
