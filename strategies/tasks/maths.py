r"""Problems of mathematics: the answer is a number, an expression, a set, a few words.

Two answers are equal when they denote the same mathematical object, with these conventions:

- Units are decoration: `$18`, `18 dollars`, `18` are equal, and so are `30^\circ` and `30`.
- A percent sign is a unit too: `50%` equals `50` and therefore not `0.5`.
- Numbers are exact: `1/3` is not `0.33`.
- A name on the left is decoration: `x = 5` equals `5`.
- Order matters in `(1, 2)`, not in `{1, 2}` or in a bare list `1, 2`, which is read as a set.
- Words are compared as text, ignoring case.

Each convention holds for every pair, so that equality stays transitive.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from router.strategies.tasks import symbolic
from router.strategies.tasks.base import Task
from router.strategies.tasks.clock import Clock
from router.strategies.tasks.reading import (
    DELIMITED,
    Statement,
    last_boxed,
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
        boxed = last_boxed(text)
        if boxed is not None:
            return boxed
        if truncated:
            text = whole_words(text)
        for statement in statements(text):
            answer = _stated(statement, truncated)
            if answer is not None:
                return answer
        amounts = [] if truncated else _ANY_AMOUNT.findall(text)
        return tidy(amounts[-1]) if amounts else None

    def normal(self, answer: str) -> str:
        return _normal(answer)

    def same(self, a: str, b: str, clock: Clock) -> bool | None:
        """Equality of normal forms. Most pairs are decided without a process."""
        instant = _instant(a, b)
        if instant is not None:
            return instant
        # One bad form must cost one time limit, not one with each other form.
        if not (_tractable(a, clock) and _tractable(b, clock)):
            return None
        return symbolic.compare(a, b, clock)


_MAX_LENGTH = 400  # characters; a longer answer equals only its own text

# ---------------------------------------------------------------------------------------------
# Reading

_AMOUNT = r"[-−–]?(?:\\?\$)?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?(?:\\?%)?"
_LEADING_AMOUNT = re.compile(rf"{_AMOUNT}(?=[\s.,;!?]|$)(?!\s*(?:[-−+*/^=(\\]|and\b|or\b|,\s*\d))")
_ANY_AMOUNT = re.compile(rf"(?<![A-Za-z\d_.]){_AMOUNT}")  # may follow a word in other letters
_HEADING = re.compile(r"(?:\d+[.)]\s*)?\**[^\W\d_]{2,}")


def _stated(statement: Statement, truncated: bool) -> str | None:
    if statement.noun in ("option", "choice"):
        return None
    if not statement.noun and not _is_result(statement, truncated):
        return None
    delimited = DELIMITED.match(statement.rest)
    amount = _LEADING_AMOUNT.match(statement.rest)
    if amount:  # first, since "$5 and then $6" would pass for delimited mathematics
        return tidy(amount.group())
    return tidy(delimited.group(delimited.lastgroup or 0) if delimited else statement.sentence)


def _is_result(statement: Statement, truncated: bool) -> bool:
    """Whether `####` begins GSM8K's result line, not a heading of Markdown."""
    heading = _HEADING.match(statement.line)
    # Words may be a result, but then nothing is under them.
    return heading is None or (statement.last and not truncated)


# ---------------------------------------------------------------------------------------------
# Equality

_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[−–]", "-"),
        ("×", r"\\times "),
        ("π", r"\\pi "),
        ("∞", r"\\infty "),
        ("√", r"\\sqrt "),
        (r"\bpi\b(?<!\\pi)", r"\\pi "),
        (r"\b(?<!\\)(?:infinity|infty|inf)\b", r"\\infty "),
        (r"(?<!\\)\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\*\*", "^"),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\(?:left|right|displaystyle|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"(?<!\\)\\(?:q?quad(?![A-Za-z])|[,;: ])|~", " "),
        (r"(?<!\\)\\[!()\[\]$%]|[$%€£]", ""),
        (r"\{,\}", ","),
        (r"\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|°", ""),
        (r"\\(?:text(?:bf|it|rm)?|mbox|math(?:rm|bf|it))\s*\{([^{}]*)\}", r" \1 "),
        (r"\\(le|ge|ne)q\b", r"\\\1"),
        (r"_\s*\{(\w)\}", r"_\1"),
        (r"\s+", " "),
    )
]
_NAME = re.compile(r"^(?:[A-Za-z]|[a-z]\([a-z]\)) ?(?:=|\\in(?![A-Za-z])) ?(?=[^=]*$)")
_CHOICE = re.compile(r"\(([A-Za-z])\)|([A-Z])[.)]")
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)"
_THOUSANDS = re.compile(r"([-+]?\d{1,3}(?:,\d{3})+)(?=\D|$)(?!,)(.*)")
_QUANTITY = re.compile(
    r"([-+]?[\d./]+(?: \d+/\d+)?) ?(?!million|billion|thousand|hundred|dozen|half|[ap]m\b)"
    r"(?:[A-Za-z]{3,}|(?<= )(?:[cmk]m|k?g|m[gl]|ft|in|[mgl]))(?: ?\^\{?[23]\}?)?"
    r"(?:(?: per |/| )[A-Za-z]+)*(?: ?\^\{?[23]\}?)?"
)
_SPACES = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")


@lru_cache(maxsize=2**14)
def _normal(answer: str) -> str:
    """The answer with its decoration removed: what equality is decided on."""
    if len(answer) > _MAX_LENGTH:
        return " ".join(answer.split())
    for pattern, replacement in _REWRITES:
        answer = pattern.sub(replacement, answer)
    answer = answer.strip().rstrip(".,;: ")
    answer = _NAME.sub("", answer)
    choice = _CHOICE.fullmatch(answer)
    if choice:
        return choice.group(1) or choice.group(2)
    thousands = _THOUSANDS.fullmatch(answer)
    if thousands and "," not in thousands.group(2):
        answer = thousands.group(1).replace(",", "") + thousands.group(2)
    quantity = _QUANTITY.fullmatch(answer)
    return _SPACES.sub("", quantity.group(1) if quantity else answer)


_DECIMAL = re.compile(
    rf"(?P<mantissa>{_NUMBER})"
    r"(?:(?:\\times|\\cdot|\*) ?10\^(?:\{(?P<braced>[-+]?\d{1,3})\}|(?P<bare>\d))"
    r"|[eE](?P<plain>[-+]?\d{1,3}))?"
)
_FRACTION = re.compile(
    r"(?P<sign>[-+]?)(?:(?P<whole>\d+) ?(?=\\)|(?P<mixed>\d+) )?"
    r"(?:\\frac ?(?:\{(?P<a>-?\d+)\}|(?P<b>\d)) ?(?:\{(?P<c>\d+)\}|(?P<d>\d))"
    r"|(?P<e>\d+)/(?P<f>\d+))"
)


def _number(form: str) -> Fraction | None:
    """The value of a plain integer, decimal, fraction or mixed number; None for anything else."""
    decimal = _DECIMAL.fullmatch(form)
    if decimal:
        exponent = int(decimal["braced"] or decimal["bare"] or decimal["plain"] or 0)
        return Fraction(decimal["mantissa"]) * Fraction(10) ** exponent
    parts = _FRACTION.fullmatch(form)
    if not parts:
        return None
    denominator = int(parts["c"] or parts["d"] or parts["f"])
    if denominator == 0:
        return None
    value = Fraction(int(parts["a"] or parts["b"] or parts["e"]), denominator)
    value += int(parts["whole"] or parts["mixed"] or 0)
    return -value if parts["sign"] == "-" else value


# math-verify reads a word as a product of letters (`Amy` = `May`) and drops a base (`204_5`) and
# the half of the day (`10 am`).
_LITERAL = re.compile(
    r"(?<![A-Za-z\\{])(?:[A-Za-z]{4,}|[A-Z][a-z]+)|^\d+_\d+$|\d ?[ap]\.?m\b", re.ASCII
)
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
    literal: bool
    brackets: tuple[str, str] | None


@lru_cache(maxsize=2**14)
def _kind(form: str) -> _Kind:
    return _Kind(_number(form), _LITERAL.search(form) is not None, _brackets(form))


@lru_cache(maxsize=2**16)
def _instant(a: str, b: str) -> bool | None:
    """Equality of normal forms, where it takes no time to tell; else None."""
    if a.casefold() == b.casefold():
        return True
    if max(len(a), len(b)) > _MAX_LENGTH or not a or not b:
        return False
    left, right = _kind(a), _kind(b)
    if left.number is not None and right.number is not None:
        return left.number == right.number
    if left.literal or right.literal:
        return False
    if left.brackets != right.brackets and (
        None not in (left.brackets, right.brackets) or (left.number, right.number) != (None, None)
    ):
        return False
    return None


def _tractable(form: str, clock: Clock) -> bool:
    """Whether a process survives this form."""
    return _kind(form).number is not None or symbolic.compare(form, "z+3571", clock) is not None
