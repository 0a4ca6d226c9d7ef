r"""Final answers: find one in a solution, tell whether two are equal, group the equal ones.

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

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations

from router.strategies import symbolic

_MAX_LENGTH = 400  # characters; a longer answer equals only its own text
_WINDOW = 2000  # characters after `\\boxed` or "the answer is" in which the answer must end

# ---------------------------------------------------------------------------------------------
# Extraction

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_PHRASE = re.compile(r"(?:\banswer\**\s*(?:is|:|=)|####)\s*:?\s*", re.IGNORECASE)
_DELIMITED = re.compile(
    r"\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]|(?<!\\)\$\$?(?P<dollar>(?:[^$\\]|\\.)+)\$",
    re.DOTALL,
)
_AMOUNT = r"-?(?:\\?\$)?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?(?:\\?%)?"
_LEADING_AMOUNT = re.compile(rf"{_AMOUNT}(?=[\s.,;!?]|$)(?!\s*(?:[-+*/^=(\\]|and\b|or\b|,\s*\d))")
_ANY_AMOUNT = re.compile(rf"(?<![\w.]){_AMOUNT}")
_FINAL_PUNCTUATION = re.compile(r"(?:\\?[.,;: ])+$")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n|,? (?:because|since)\b")


def extract(text: str, truncated: bool = False) -> str | None:
    r"""The final answer that a solution states; None if it states none.

    Looks for the last `\boxed{…}`, then the last phrase such as "the answer is …", then takes the
    last number. A text cut by a limit of tokens (`truncated`) has not reached its answer, so its
    last number is not taken for one, nor is a word that the cut may have split.
    """
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    if truncated:
        text = text.removesuffix(re.split(r"\s", text)[-1])
    stated = _last_stated(text)
    if stated is not None or truncated:
        return stated
    amounts = _ANY_AMOUNT.findall(text)
    return _tidy(amounts[-1]) if amounts else None


def _last_boxed(text: str) -> str | None:
    for match in reversed(list(_BOX.finditer(text))):
        rest = text[match.end() : match.end() + _WINDOW]
        if rest.startswith("{"):
            content = _braced(rest)
        else:  # `\boxed 5`
            bare = re.match(r"[^\s${}]+", rest)
            content = bare.group() if bare else None
        answer = _tidy(content) if content else None
        if answer is not None:
            return answer
    return None


def _braced(text: str) -> str | None:
    """Content of the brace group that opens `text`; None if it is never closed."""
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0 and match.group() == "}":
            return text[1 : match.start()]
    return None


def _last_stated(text: str) -> str | None:
    for match in reversed(list(_PHRASE.finditer(text))):
        rest = text[match.end() : match.end() + _WINDOW].lstrip("*_ \n")
        delimited = _DELIMITED.match(rest)
        amount = _LEADING_AMOUNT.match(rest)
        if amount:  # first, since "$5 and then $6" would pass for delimited mathematics
            content = amount.group()
        elif delimited:
            content = delimited.group(delimited.lastgroup or 0)
        else:
            content = _SENTENCE_END.split(rest, maxsplit=1)[0]
        answer = _tidy(content)
        if answer is not None:
            return answer
    return None


def _tidy(answer: str) -> str | None:
    """The answer without delimiters, emphasis and final punctuation; None if nothing is left."""
    answer = " ".join(answer.split()).strip("*_ ")
    answer = _FINAL_PUNCTUATION.sub("", answer)
    delimited = _DELIMITED.fullmatch(answer)
    if delimited:
        answer = delimited.group(delimited.lastgroup or 0).strip()
    return answer or None


# ---------------------------------------------------------------------------------------------
# Equality


def equivalent(a: str, b: str) -> bool:
    """Whether two answers are equal. Symmetric; blocks for some seconds at worst.

    What cannot be compared within the limits of `strategies.symbolic` counts as not equal.
    """
    first, second = sorted((_normal(a), _normal(b)))
    return _equal(first, second)


async def correct(answer: str | None, gold: str) -> bool:
    """Whether an extracted answer equals the gold one, without blocking the event loop."""
    return answer is not None and await asyncio.to_thread(equivalent, answer, gold)


def group_sync(answers: Sequence[str | None]) -> list[str | None]:
    """For each answer the representative of its group of equal answers; None stays None.

    Groups are the transitive closure of `equivalent`. A representative is the commonest text of
    its group, then the shortest, then the first in the alphabet: the order of arrival is nothing.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    forms = {text: _normal(text) for text in counts}
    root = {form: form for form in forms.values()}

    def find(form: str) -> str:
        while root[form] != form:
            form = root[form]
        return form

    for a, b in combinations(sorted(root), 2):
        if find(a) != find(b) and _equal(a, b):
            root[find(b)] = find(a)
    representative: dict[str, str] = {}
    for text in sorted(counts, key=lambda text: (-counts[text], len(text), text)):
        representative.setdefault(find(forms[text]), text)
    return [None if text is None else representative[find(forms[text])] for text in answers]


async def group(answers: Sequence[str | None]) -> list[str | None]:
    """As `group_sync`, without blocking the event loop."""
    if len(set(answers) - {None}) < 2:
        return list(answers)  # there is nothing to compare
    return await asyncio.to_thread(group_sync, answers)


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


@lru_cache(maxsize=2**16)
def _equal(a: str, b: str) -> bool:
    """Equality of normal forms, `a <= b`. Most pairs are decided without a worker."""
    if a.casefold() == b.casefold():
        return True
    if max(len(a), len(b)) > _MAX_LENGTH or not a or not b:
        return False
    numbers = _number(a), _number(b)
    if None not in numbers:
        return numbers[0] == numbers[1]
    if _LITERAL.search(a) or _LITERAL.search(b):
        return False
    brackets = _brackets(a), _brackets(b)
    if brackets[0] != brackets[1] and (None not in brackets or numbers != (None, None)):
        return False
    return _tractable(a) and _tractable(b) and bool(symbolic.compare(a, b))


@lru_cache(maxsize=2**14)
def _tractable(form: str) -> bool:
    """Whether a worker survives this form: one bad answer must cost one time limit, not n."""
    return _number(form) is not None or symbolic.compare(form, "z+3571") is not None
