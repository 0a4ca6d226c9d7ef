r"""The normal form of a mathematical answer: what is left when all that means nothing is gone.

A form is a formula in LaTeX, or words: these begin with `"`, have no capitals, and equal their own
text only. Dates, times and ratios are words, for they are not arithmetic.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from router.strategies.tasks.numbers import number
from router.strategies.tasks.units import MAGNITUDES, without_units

MAX_LENGTH = 400
"""Characters; a longer answer equals only its own text."""

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_CHARACTERS = str.maketrans(
    _FULL_WIDTH
    | {ord(char): rf"\frac{{{a}}}{{{b}}}" for char, a, b in ("½12", "⅓13", "⅔23", "¼14", "¾34")}
    | {ord(char): char_for for char, char_for in zip("−–‐‑", "----", strict=True)}
    | {ord(char): " " for char in "\u00a0\u2009\u202f\u2007\u3000"}
    | {ord(char): None for char in '"“”„«»\u200b\u2060'}
    | {
        ord("×"): r"\times ",
        ord("·"): r"\cdot ",
        ord("⋅"): r"\cdot ",
        ord("÷"): "/",
        ord("π"): r"\pi ",
        ord("∞"): r"\infty ",
        ord("√"): r"\sqrt ",
        ord("±"): r"\pm ",
        ord("≤"): r"\le ",
        ord("≥"): r"\ge ",
        ord("≠"): r"\ne ",
        ord("≈"): r"\approx ",
        ord("∪"): r"\cup ",
        ord("∈"): r"\in ",
        ord("∅"): r"\emptyset ",
        ord("℃"): "°",
        ord("℉"): "°",
        ord("。"): ".",
        ord("、"): ",",
    }
)
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_MARKUP = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bpi\b(?<!\\pi)", r"\\pi "),
        (r"\b(?<!\\)(?:infinity|infty|inf)\b", r"\\infty "),
        (r"(?<!\\)\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<!\\)\bsqrt ?(\d+|[a-z]\b)", r"\\sqrt{\1}"),
        (
            r"(?<![\\A-Za-z])(sin|cos|tan|cot|sec|csc|log|ln|exp)(?= ?[(\\a-z\d^])(?![A-Zb-z]{2})",
            r"\\\1 ",
        ),
        (r"(?<=\d) ?x ?(?=10 ?\^)", r"\\times "),
        (r"^ *\*+|\*+ *$", ""),
        (r"\*\*", "^"),
        (r"\\varnothing", r"\\emptyset"),
        (r"\\mid(?![A-Za-z])", "|"),
        (r"\\[dtc]frac", r"\\frac"),
        (r"\\(?:left|right|displaystyle|limits|[bB]igg?[lr]?)(?![A-Za-z])", ""),
        (r"\{,\}|(?<=\d),\\!(?=\d)", ","),
        (r"(?<!\\)\\(?:q?quad(?![A-Za-z])|[,;: ]|!(?=\d))|~", " "),
        (r"\b(?:US|CA?|AU?|NZ|HK|R)(?=\\?\$)|^(?:USD|EUR|GBP|INR|Rs\.?) ?(?=[-\d])", ""),
        (r"(?<!\\)\\[!()\[\]$%]|[$%€£¥₹¢]", ""),
        (
            r"\\(?:text(?:bf|it|rm|sf|normal)?|mbox|hbox|math(?:rm|bf|it|sf))\s*\{([^{}]*)\}",
            r' "\1" ',
        ),
        (
            r"(?:\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])|°)"
            r"(?: *\"? *[CFK]\b(?! ?\() *\"?)?",
            "",
        ),
        (r"\\(le|ge|ne)q\b", r"\\\1"),
        (r"_\s*\{(\w)\}", r"_\1"),
        (r"\^ ?\{?(?: ?\" ?)?(st|nd|rd|th)(?: ?\" ?)?\}?(?![A-Za-z])", r"\1"),
        (r"\" *\"", " "),
        (r"\s+", " "),
    )
]
_GREEK = (
    "alpha|beta|gamma|delta|epsilon|varepsilon|theta|lambda|mu|nu|rho|sigma|tau|phi|varphi|omega"
)
_NAME = re.compile(
    rf"^(?:(?:[A-Za-z]|\\(?:{_GREEK}) ?)(?:_\{{?\w+\}}?)?|[a-z]\([a-z]\)|P\([A-Z]\)|[A-Z]{{2}}"
    r"|\"[^\"]*\"|[A-Za-z][a-z]{3,}(?: [a-z]+)*) ?"
    r"(?:=|\\in(?![A-Za-z])|\\approx(?![A-Za-z])) ?(?=[^=]*$)|^(?:=|\\approx(?![a-z])) ?"
)
_SUM = re.compile(r"^(?:[^A-Za-z\\=<>]|\\(?:times|cdot|div|frac|sqrt)(?![A-Za-z]))+=(?=[^=]*$)")
_CHOICE = re.compile(
    r"(?:(?i:option|choice|answer) ?)?(?:\(([A-Za-z])\)|([A-Z])[.)])"
    r"|(?:(?i:option|choice) )([A-Za-z])"
    r"|(?:(?i:option|choice) ?)?(?:\(([A-Z])\)|([A-Z])\))"
    r" ?(?![-+*/^=<>\\( ]|\\cdot).*|([A-Z])\. (?=[-\d\\]).*"
)
_GROUPED = re.compile(  # in brackets a comma parts two numbers
    r"(?<![\d.,])(\d{1,3})((?:,\d{3})+(?!.*[)\]]|.*\\\})(?!,\d)|(?:[ '’]\d{3})+)(?![\d/])"
)
_WORDS_OF_TEN = "|".join(MAGNITUDES)
_MAGNITUDE = re.compile(
    rf"(?P<value>.*(?:[\d)}}]|(?i:{_WORDS_OF_TEN}))) ?(?P<word>(?i:{_WORDS_OF_TEN}))"
    r"(?:s(?![a-z])|(?![A-Za-z]))"
)
_SPACES = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_AND = re.compile(r" ?,? (?:and|or) ")

# An algebra system would read products of letters (`Amy` = `May`), differences (`2025-03-14`),
# quotients (`10:20`), and drop a base (`204_5`).
_WORDS = re.compile(
    r"(?<![A-Za-z\\{])(?:[A-Za-z]{4,}|[A-Z][a-z]{2,})"
    r"|^(?i:(?=[a-z]*[eio])[a-z]{3}|no)$"
    r"|\d (?!and\b|or\b|mod\b)[a-z]{3}(?![a-z])|\d ?[A-Za-z]{2,3} \d|^\d+ ?h ?\d|\b(?:of|the)\b"
    r"|^\d+_\{?\d+\}?$|\d(?:st|nd|rd|th)\b"
    r"|[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]|[^\x00-\x7f]{2}",
)
_CLOCK = re.compile(r"0?(\d{1,2})((?:: ?\d\d){0,2}) ?(?:([AaPp])\.? ?[Mm]\b\.?)?")
_DATE = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2\d{4}|\d{1,2}/\d{1,2}/\d\d"
)
_RATIO = re.compile(r"[^{}|]*[\w)] ?: ?[\w(][^{}|]*")


@lru_cache(maxsize=2**14)
def normal(answer: str) -> str:
    """The answer with its decoration removed: what equality is decided on."""
    if len(answer) > MAX_LENGTH:
        return " ".join(answer.split())
    answer = _SUPERSCRIPT.sub(_raised, answer).translate(_CHARACTERS)
    for pattern, replacement in _MARKUP:
        answer = pattern.sub(replacement, answer)
    answer = answer.strip().rstrip(".,;: ")
    choice = _CHOICE.fullmatch(" ".join(answer.replace('"', "").split()))
    if choice:
        return str(next(filter(None, choice.groups())))
    answer = _SUM.sub("", _NAME.sub("", answer))
    bare = without_units(answer)
    answer = " ".join(bare.replace('"', "").split())
    answer = (without_units(answer) if '"' in bare else answer).rstrip(".,;: ")
    words = _moment(answer)
    if words is not None:
        return '"' + words
    answer = _multiplied(_GROUPED.sub(_joined, _AND.sub(", ", answer)))
    if _WORDS.search(answer):
        return '"' + answer.casefold()
    return _SPACES.sub("", answer)


def is_words(form: str) -> bool:
    """Whether a normal form equals its own text only."""
    return form.startswith('"') or len(form) > MAX_LENGTH


def _moment(answer: str) -> str | None:
    """A date, a time or a ratio, as words."""
    clock = _CLOCK.fullmatch(answer)
    if clock and (clock[2] or clock[3]):
        minutes, half = clock[2].replace(" ", ""), (clock[3] or "").lower()
        return f"{clock[1]}{'' if half and minutes == ':00' else minutes}{half and half + 'm'}"
    if _DATE.fullmatch(answer):
        return answer
    return answer.replace(" ", "").casefold() if _RATIO.fullmatch(answer) else None


def _raised(match: re.Match[str]) -> str:
    return f"^{{{match[0].translate(_DIGITS)}}}"


def _joined(match: re.Match[str]) -> str:
    """A number of which the digits are in groups of three."""
    return match[1] + re.sub(r"\D", "", match[2])


def _multiplied(answer: str) -> str:
    """The answer with the magnitude after it multiplied in."""
    magnitude = _MAGNITUDE.fullmatch(answer)
    if magnitude is None:
        return answer
    value, factor = _multiplied(magnitude["value"]), MAGNITUDES[magnitude["word"].lower()]
    exact = number(value)
    if exact is None and _WORDS.search(value):
        return answer
    return rf"({value})\cdot {factor}" if exact is None else str(exact * Fraction(factor))
