"""Problems of mathematics: the answer is a number, an expression, a set, a few words.

docs/answers.md says how an answer is found, and which are equal: those of one `normal` form, and
those of which an algebra system says so. Each convention holds for every pair, so that equality
stays transitive.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from router.strategies.tasks import symbolic
from router.strategies.tasks.amounts import LEADING, amounts, equation
from router.strategies.tasks.base import Task
from router.strategies.tasks.choice import mentioned, option, stated_letter
from router.strategies.tasks.clock import Clock
from router.strategies.tasks.normal import is_words, normal
from router.strategies.tasks.numbers import number
from router.strategies.tasks.reading import (
    DELIMITED,
    Statement,
    is_stated,
    last_boxed,
    parts,
    statements,
    tidy,
    whole_words,
)


class Maths(Task):
    """Problems whose answers are mathematical objects."""

    id = "maths"

    def read(self, text: str, truncated: bool = False) -> str | None:
        r"""The final answer that a solution states; None if it states none.

        Looks for the last `\boxed{…}`, then the last phrase such as "the answer is …", then takes
        the last number. A text cut by a limit of tokens (`truncated`) has not reached its answer,
        so its last number is not taken for one, nor is a word that the cut may have split.
        """
        for part, is_cut in parts(text, truncated):
            answer = _stated(part, is_cut)
            if answer is not None:
                return answer
        if is_cut:
            return None
        named = amounts(part)
        return option(part) or equation(part) or (tidy(named[-1]) if named else mentioned(part))

    def gold(self, text: str) -> str | None:
        """As data sets store it: a plain answer, or a solution, which is read as any other."""
        text = text.strip()
        is_plain = _ENVIRONMENT.match(text) or not ("\n" in text or _SENTENCES.search(text))
        return super().gold(text) if is_plain and not is_stated(text) else self.read(text)

    def normal(self, answer: str) -> str:
        return normal(answer)

    def same(self, a: str, b: str, clock: Clock) -> bool | None:
        """Equality of normal forms. Most pairs are decided without a process."""
        instant = _instant(a, b)
        if instant is not None:
            return instant
        # One bad form must cost one time limit, not one with each other form.
        if not (_tractable(a, clock) and _tractable(b, clock)):
            return None
        return symbolic.compare(a, b, clock)


# ---------------------------------------------------------------------------------------------
# Reading

_HEADING = re.compile(r"(?:\d+[.)]\s*)?\**[^\W\d_]{2,}")
_SENTENCES = re.compile(r"[.!?] +[A-Z]")
_ENVIRONMENT = re.compile(r"\$*(?:\\[\[(])?\s*(?:\\left.)?\s*\\begin\b")
# "The answer is the sum, which is 7": a clause, of which the number is the answer.
_CLAUSE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|there|she|he|they|it|we|will|can|needs?"
    r"|takes|costs?|makes|namely|i\.e)\b"
    r"|[\u3040-\u30ff\u4e00-\u9fff]{2}",
    re.IGNORECASE,
)
_COMPARISON = re.compile(
    r"\b(?:than|least|most|between|except|from|not|all|any|every)\b|[大小]于", re.IGNORECASE
)
_RESULT = re.compile(r"(?:\b(?:is|are|be|equals|namely|makes|costs?|has|have|i\.e\.),?|=)\s")


def _stated(text: str, truncated: bool) -> str | None:
    """The answer in a box, or after a phrase that states it."""
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    if truncated:
        text = whole_words(text)
    answers = (_answer(statement, truncated) for statement in statements(text))
    return next((answer for answer in answers if answer is not None), None)


def _answer(statement: Statement, truncated: bool) -> str | None:
    if statement.noun in ("option", "choice", "letter"):
        return stated_letter(statement.line)
    if not statement.noun and not _is_result(statement, truncated):
        return None
    amount = LEADING.match(statement.rest)
    if amount:  # first, since "$5 and then $6" would pass for delimited mathematics
        return tidy(amount.group())
    delimited = DELIMITED.match(statement.rest)
    if delimited:
        return tidy(delimited.group(delimited.lastgroup or 0))
    sentence = statement.sentence
    return _of_clause(sentence) or tidy(sentence)


def _of_clause(sentence: str) -> str | None:
    """The number that a clause is about; None if it is none, or names more."""
    if not _CLAUSE.search(sentence) or _COMPARISON.search(sentence):
        return None
    ends_in = equation(sentence)
    if ends_in is not None:
        return ends_in
    named = amounts(sentence)
    if len(named) > 1:
        results = list(_RESULT.finditer(sentence))
        value = LEADING.match(sentence, results[-1].end()) if results else None
        return tidy(value.group()) if value else None
    return tidy(named[0]) if named else None


def _is_result(statement: Statement, truncated: bool) -> bool:
    """Whether `####` begins GSM8K's result line, not a heading of Markdown."""
    heading = _HEADING.match(statement.line)
    # Words may be a result, but then nothing is under them.
    return heading is None or (statement.last and not truncated)


# ---------------------------------------------------------------------------------------------
# Equality

_BRACKETED = re.compile(r"(\(|\[|\\\{)[^()\[\]]*,[^()\[\]]*(\)|\]|\\\})")


def _brackets(form: str) -> tuple[str, str] | None:
    """What encloses a plain list of items: order, and open or closed ends, hang on it."""
    bracketed = _BRACKETED.fullmatch(form)
    if bracketed:
        return bracketed.group(1), bracketed.group(2)
    bare = "," in form and not re.search(r"[()\[\]]|\\[{}]", form)
    return ("\\{", "\\}") if bare else None


class _Kind(NamedTuple):
    """What is known of a normal form without an algebra system."""

    number: Fraction | None
    brackets: tuple[str, str] | None


@lru_cache(maxsize=2**14)
def _kind(form: str) -> _Kind:
    return _Kind(number(form), _brackets(form))


@lru_cache(maxsize=2**16)
def _instant(a: str, b: str) -> bool | None:
    """Equality of normal forms, where it takes no time to tell; else None."""
    if a == b:
        return True
    if not a or not b or is_words(a) or is_words(b):
        return False
    left, right = _kind(a), _kind(b)
    if left.number is not None and right.number is not None:
        return left.number == right.number
    if left.brackets != right.brackets and (
        None not in (left.brackets, right.brackets) or (left.number, right.number) != (None, None)
    ):
        return False
    return None


def _tractable(form: str, clock: Clock) -> bool:
    """Whether a process survives this form."""
    return _kind(form).number is not None or symbolic.compare(form, "z+3571", clock) is not None
