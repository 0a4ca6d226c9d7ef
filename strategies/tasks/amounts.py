r"""What a number looks like in prose: `−5`, `$1,200`, `3 1/2`, `12\pi`, `10:20`, `20 June`.

Takes time linear in the text.
"""

from __future__ import annotations

import re

from router.strategies.tasks.units import MAGNITUDES, UNIT

_MONTH = (
    "(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b)"
)
_SPACE = "[ \u00a0\u2009\u202f]"
_GROUPS = rf"\d{{1,3}}(?:(?:,\d{{3}})+|(?:{_SPACE}\d{{3}})+|(?:\\,\d{{3}})+|(?:['’]\d{{3}})+)(?!\d)"
_DECIMAL = (
    rf"(?:\d{{1,3}}(?:\.\d{{3}})+,\d+(?!,?\d)|{_GROUPS}(?:\.\d+)?|\d+\.\d+|\.\d+"
    r"|(?<!\d,)\d+,\d+(?!,?\d)|\d+)"
)
_POWER = (
    r"(?:[eE][-+−]?\d{1,3}(?!\w)"
    r"|[ ]?(?:\\times|\\cdot|×|·|\*|x)[ ]?10[ ]?(?:\^[ ]?(?:\{[-−]?\d+\}|[-−]?\d+)|[⁻⁰¹²³⁴-⁹]+))?"
)
_BRACES = r"\{[^{}]{0,80}(?:\{[^{}]{0,40}\}[^{}]{0,40}){0,2}\}"
_TERM = (
    rf"(?:\\[dtc]?frac ?(?:{_BRACES} ?{_BRACES}|\d\d)|\\sqrt(?:\[\d\])?(?:{_BRACES}|\d)"
    r"|\\pi(?![A-Za-z])|π|√\d+)"
)
_PARTS = "thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths|halves"
_SUFFIX = (
    r"(?:[ ]?(?:\\?%|％))?"
    rf"(?:[ ](?i:{'|'.join(filter(str.isascii, MAGNITUDES))}|{_PARTS})s?\b|[ ]?[万萬亿億])?"
    r"(?:[ ]?(?i:[ap]\.m\.|[ap]m\b))?"
)
_DATE = (
    r"\d{4}-\d\d-\d\d(?!\d)|\d{1,2}/\d{1,2}/\d{2,4}(?!\d)|\d{1,2}\.\d{1,2}\.\d{4}(?!\d)"
    rf"|\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}(?:,? \d{{4}})?"
    rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:, \d{{4}})?(?!\d)"
    r"|\d+(?::\d+)+(?:[ ]?(?i:[ap]\.m\.|[ap]m\b))?|\d+(?: : \d+)+"
)
_NUMBER = (
    rf"[-−–]?(?:\\?[$€£¥₹])?[-−–]?(?:\d+[ ]\d+/\d+|\d*[½⅓⅔¼¾]|{_DECIMAL}?{_POWER}{_TERM}+(?:/\d+)?"
    rf"|{_DECIMAL}{_POWER}(?:/\d+|\^(?:\d+|\{{[^{{}}]{{1,20}}\}}))?){_SUFFIX}"
)
AMOUNT = rf"(?:{_DATE}|{_NUMBER})"

# What follows makes it a part of something longer.
_WHOLE = (
    r"(?![\w\\^=+/<>$])(?!\*\*?\w)(?!\s*(?:[-−–+*/^=\\×·÷<>]|\((?![A-Za-z]{2})|(?:and|or)\b|,\s*\d))"
    rf"(?! (?:{UNIT}),? (?:and )?\d)"  # 5 feet 3 inches
    r"|(?=[^\x00-\x7f])(?![-−–×·÷π√])"
)
LEADING = re.compile(rf"(?>{AMOUNT})(?:{_WHOLE})")
_ANY = re.compile(
    r"(?=[-−–.\d\\$€£¥₹π√½⅓⅔¼¾A-S])(?:"  # most characters begin nothing
    r"\\\((?P<round>(?:[^\\]|\\[^()\[\]])+)\\\)|\\\[(?P<square>(?:[^\\]|\\[^()\[\]])+)\\\]"
    r"|(?<![\\A-Za-z0-9$])\$\$?(?P<dollar>(?=[^\s$])(?:[^$\\\n]|\\.)+)(?<!\s)\$(?!\d)"
    r"|\$\$(?P<display>(?:[^$\\]|\\.)+)\$\$"
    r"|(?<![A-Za-z\d_.\\])(?=[-−–\\]{0,2}[$€£¥₹]?[-−–]?[\d.\\½⅓⅔¼¾π√]|[A-S][a-z]{2})"
    rf"{AMOUNT})"  # may follow a word in other letters
)
_HAS_VALUE = re.compile(r"\d|\\(?:pi|infty|emptyset)\b")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[a-z]{3,} +[a-z]{2,}")
_ASIDE = re.compile(r"\b(?:since|because|as|where|for|when|if|with)\s*$")
_RELATION = re.compile(r"=|\\(?:approx|equiv|implies|Rightarrow|to)(?![A-Za-z])")
_EQUATION = re.compile(  # to the end of a text
    r"(?<![\w\\])[A-Za-z](?:\([a-z]\))? ?= ?"
    r"(?P<right>(?:[A-Za-z]{1,2}(?![A-Za-z])|[-−+*/^()\d. ])+)$"
)
_REACH = 80  # characters in which such an equation begins


def equation(text: str) -> str | None:
    """The equation of a line or a function (`y = 2x + 3`) in which a text ends."""
    found = _EQUATION.search(text.rstrip("*. \n")[-_REACH:])
    return found.group() if found and re.search("[A-Za-z]", found["right"]) else None


def amounts(text: str) -> list[str]:
    """The numbers, and the formulas that have a value, which a text names, not yet tidied."""
    named = []
    for match in _ANY.finditer(text):
        if match.lastgroup is None:
            named.append(match.group())
            continue
        formula = match[match.lastgroup]
        value = _RELATION.split(formula)[-1]
        aside = _ASIDE.search(text, max(0, match.start() - 12), match.start())
        if _HAS_VALUE.search(value) and not _PROSE.search(formula) and not aside:
            named.append(value)
    return named
