"""Features of a problem's text, cheap enough to compute for every request.

A fixed, named, versioned vector: a saved estimator refuses any other version. All are counts,
lengths or shares, so a tree of thresholds can use them as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10
from typing import Final

import numpy as np
import numpy.typing as npt

VERSION: Final = 1
"""Of the vector; a new one whenever a feature is added, removed or changed."""

LONGEST: Final = 20_000
"""Characters that are looked at: a longer text is long, whatever follows."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?|(?<=[A-Za-z{(^_])\d+(?:\.\d+)?")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SYMBOL = re.compile(r"[^\w\s]|[\d_]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LARGEST = 1e30


@dataclass(frozen=True, slots=True)
class Parsed:
    """A problem's text, cut up once for all features.

    words: in lower case, without the names of LaTeX commands, each with its count.
    numbers: the values, unsigned. commands: names of LaTeX commands, each with its count.
    """

    text: str
    sentences: tuple[str, ...]
    words: Counter[str]
    numbers: tuple[float, ...]
    commands: Counter[str]

    @classmethod
    def of(cls, text: str) -> Parsed:
        text = text[:LONGEST]
        prose = _COMMAND.sub(" ", text)
        return cls(
            text,
            tuple(s for s in _SENTENCE_END.split(text.strip()) if s),
            Counter(_WORD.findall(prose.lower())),
            tuple(_values(text)),
            Counter(_COMMAND.findall(text)),
        )


def _values(text: str) -> list[float]:
    return [min(float(n.replace(",", "")), _LARGEST) for n in _NUMBER.findall(text)]


@dataclass(frozen=True, slots=True)
class Feature:
    """One number about a text; `doc` says which."""

    name: str
    doc: str
    value: Callable[[Parsed], float]


def _vocabulary(name: str, words: str) -> Feature:
    """Counts the words of a list."""
    known = frozenset(words.split())
    return Feature(
        name, f"Words such as {', '.join(words.split()[:3])}.", lambda p: _in(p.words, known)
    )


def _commands(name: str, commands: str) -> Feature:
    """Counts the LaTeX commands of a list."""
    known = frozenset(commands.split())
    shown = ", ".join(f"\\{command}" for command in commands.split()[:3])
    return Feature(name, f"LaTeX commands such as {shown}.", lambda p: _in(p.commands, known))


def _pattern(name: str, doc: str, pattern: str) -> Feature:
    """Counts the matches of a pattern, ignoring case."""
    compiled = re.compile(pattern, re.IGNORECASE)
    return Feature(name, doc, lambda p: len(compiled.findall(p.text)))


def _in(counts: Counter[str], known: frozenset[str]) -> int:
    return sum(counts[item] for item in known.intersection(counts))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _depth(text: str) -> int:
    """How deep brackets are nested; closing ones that open nothing are ignored."""
    depth = deepest = 0
    for bracket in re.findall(r"[(\[{}\])]", text):
        depth = depth + 1 if bracket in "([{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest


def _names(parsed: Parsed) -> int:
    """Different capitalised words that do not begin a sentence."""
    inside = re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", parsed.text)
    return len(set(inside))


def _final_question(parsed: Parsed) -> str:
    """The last sentence that asks, else the last one."""
    asking = [s for s in parsed.sentences if s.endswith("?")]
    return (asking or list(parsed.sentences) or [""])[-1]


_LENGTHS = (
    Feature("characters", "Characters.", lambda p: len(p.text)),
    Feature("words", "Words.", lambda p: p.words.total()),
    Feature("sentences", "Sentences.", lambda p: len(p.sentences)),
    Feature("distinct_words", "Different words.", lambda p: len(p.words)),
    Feature(
        "repetition",
        "Words divided by different words.",
        lambda p: p.words.total() / max(len(p.words), 1),
    ),
    Feature(
        "word_length",
        "Mean length of a word.",
        lambda p: sum(len(w) * n for w, n in p.words.items()) / max(p.words.total(), 1),
    ),
    Feature(
        "sentence_length",
        "Mean characters of a sentence.",
        lambda p: _mean([len(s) for s in p.sentences]),
    ),
    Feature(
        "longest_sentence",
        "Characters of the longest sentence.",
        lambda p: max(map(len, p.sentences), default=0),
    ),
    Feature("lines", "Line breaks.", lambda p: p.text.count("\n")),
    Feature(
        "symbol_share",
        "Share of characters that are no letters or spaces.",
        lambda p: len(_SYMBOL.findall(p.text)) / max(len(p.text), 1),
    ),
)

_NUMBERS = (
    Feature("numbers", "Numbers written in digits.", lambda p: len(p.numbers)),
    Feature("distinct_numbers", "Different numbers.", lambda p: len(set(p.numbers))),
    Feature(
        "largest_number",
        "log10 of 1 + the largest number.",
        lambda p: log10(1 + max(p.numbers, default=0.0)),
    ),
    Feature(
        "smallest_number",
        "log10 of 1 + the smallest number.",
        lambda p: log10(1 + min(p.numbers, default=0.0)),
    ),
    Feature(
        "number_size",
        "Mean log10 of 1 + a number.",
        lambda p: _mean([log10(1 + n) for n in p.numbers]),
    ),
    Feature("large_numbers", "Numbers over 100.", lambda p: sum(n > 100 for n in p.numbers)),
    Feature(
        "round_numbers", "Multiples of 10.", lambda p: sum(n > 0 and n % 10 == 0 for n in p.numbers)
    ),
    Feature(
        "number_density",
        "Numbers divided by words.",
        lambda p: len(p.numbers) / max(p.words.total(), 1),
    ),
    Feature(
        "question_numbers",
        "Numbers in the question itself.",
        lambda p: len(_values(_final_question(p))),
    ),
    _pattern("decimals", "Decimal numbers.", r"\d\.\d"),
    _pattern("fractions", "Fractions in digits or LaTeX.", r"\d\s*/\s*\d|\\[dtc]?frac"),
    _pattern("percents", "Percentages.", r"\\?%|\bper ?cent"),
    _pattern("money", "Amounts of money.", r"\\?\$\d|€|£|\b(?:dollar|cent|buck)s?\b"),
    _pattern("clock_times", "Times of day.", r"\d:\d\d|\d ?[ap]\.?m\b"),
    _vocabulary(
        "number_words",
        "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty"
        " forty fifty sixty hundred thousand million dozen dozens pair pairs",
    ),
    _vocabulary("fraction_words", "half third thirds quarter quarters fourth fifth fifths halves"),
    _vocabulary("ordinals", "first second seventh sixth eighth ninth tenth last final"),
)

_MATHEMATICS = (
    _pattern("sums", "Plus and minus signs between terms.", r"[\w)}]\s*[+−-]\s*(?=[\d\\({A-Z])"),
    _pattern("products", "Signs of multiplication and division.", r"[*×÷·]|\\(?:times|cdot|div)\b"),
    _pattern("powers", "Powers.", r"\^|\*\*|²|³"),
    _pattern("indices", "Subscripts.", r"_"),
    _pattern("equations", "Signs of equality.", r"="),
    _pattern("inequalities", "Signs of order.", r"[<>≤≥]|\\(?:leq?|geq?|lt|gt)\b"),
    _pattern("variables", "Letters that stand alone.", r"(?<![\w\\'’])(?!a\b|i\b)[a-z](?![\w'’])"),
    _pattern("absolute_values", "Vertical bars.", r"\|"),
    Feature("nesting", "Depth of nested brackets.", lambda p: _depth(p.text)),
    Feature("commands", "LaTeX commands.", lambda p: p.commands.total()),
    Feature("distinct_commands", "Different LaTeX commands.", lambda p: len(p.commands)),
    _commands("roots", "sqrt root"),
    _commands("functions", "sin cos tan cot sec csc arcsin arccos arctan log ln exp"),
    _commands("limits", "sum prod int lim infty max min"),
    _commands("greek", "alpha beta gamma delta theta lambda mu pi phi omega sigma"),
    _commands("geometry", "angle triangle overline circ degree perp parallel cong sim"),
    _commands("counting", "binom choose dbinom lfloor rfloor lceil rceil pmod equiv mid"),
    _commands("arrays", "begin end hline matrix pmatrix"),
    _pattern("figures", "Drawings in the text.", r"\[asy\]"),
)

_QUESTIONS = (
    _pattern("questions", "Question marks.", r"\?"),
    _pattern("how_many", "Asks how many.", r"\bhow many\b"),
    _pattern("how_much", "Asks how much.", r"\bhow much\b"),
    _pattern("how_long", "Asks how long, far, old, fast.", r"\bhow (?:long|far|old|fast|tall)\b"),
    _pattern("what_is", "Asks what something is.", r"\bwhat (?:is|are|was|were|will)\b"),
    _pattern(
        "find", "Asks to compute.", r"\b(?:find|compute|calculate|evaluate|determine|solve)\b"
    ),
    _pattern("prove", "Asks to prove.", r"\b(?:prove|show that|explain|justify)\b"),
    _pattern(
        "form", "Prescribes the answer's form.", r"\b(?:express|round|nearest|simplif|in terms of)"
    ),
    Feature("question_length", "Characters of the question.", lambda p: len(_final_question(p))),
)

_WORDS = (
    _vocabulary("each", "each every apiece all both either"),
    _vocabulary("rates", "per hour hours hourly minute minutes day days week weeks month year"),
    _vocabulary("speed", "speed miles mile mph km kilometers rate faster slower travels distance"),
    _vocabulary("multiples", "twice double doubles doubled triple times thrice quadruple half"),
    _vocabulary("comparisons", "than more less fewer older younger longer larger smaller greater"),
    _vocabulary("remainders", "left remaining remain remains rest leftover still"),
    _vocabulary("conditions", "if when unless suppose assume given provided whenever otherwise"),
    _vocabulary("totals", "total altogether sum combined together whole entire overall"),
    _vocabulary("sequence", "then after before next later initially originally now yesterday"),
    _vocabulary("changes", "gives gave lost loses bought sold spends spent adds removes eats ate"),
    _vocabulary("trade", "cost costs price discount profit tax sale paid pay earns save interest"),
    _vocabulary("averages", "average mean median mode ratio proportion"),
    _vocabulary("exceptions", "not no except only without instead but however although"),
    _vocabulary("bounds", "least most minimum maximum smallest largest greatest exactly"),
    _vocabulary("probability", "probability random randomly dice coin chance expected likely"),
    _vocabulary("arrangements", "ways arrange arrangements choose distinct different possible"),
    _vocabulary("integers", "integer integers prime divisible divisor divisors remainder digit"),
    _vocabulary("shapes", "triangle circle square rectangle radius area perimeter angle volume"),
    _vocabulary("algebra", "equation polynomial function roots real value values solutions"),
    _vocabulary("people", "he she they his her their him them"),
    Feature("names", "Different names.", _names),
)

_PUNCTUATION = (
    _pattern("commas", "Commas, not those inside numbers.", r",(?!\d{3})"),
    _pattern("parentheses", "Opening parentheses.", r"\("),
    _pattern("quotes", "Quotation marks.", r"[\"“”]"),
    _pattern("dashes", "Colons, semicolons and dashes.", r"[:;—–]"),
)

FEATURES: Final = (*_LENGTHS, *_NUMBERS, *_MATHEMATICS, *_QUESTIONS, *_WORDS, *_PUNCTUATION)
NAMES: Final = tuple(feature.name for feature in FEATURES)


def extract(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The features of each text, in the order of `NAMES`; finite, shape (texts, features)."""
    rows = [[feature.value(parsed) for feature in FEATURES] for parsed in map(Parsed.of, texts)]
    return np.array(rows, np.float32).reshape(len(texts), len(FEATURES))
