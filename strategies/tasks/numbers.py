"""Plain numbers and their exact values."""

from __future__ import annotations

import re
from fractions import Fraction

NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)"
_DECIMAL = re.compile(
    rf"(?P<mantissa>{NUMBER})"
    r"(?:(?:\\times|\\cdot|\*) ?10\^(?:\{(?P<braced>[-+]?\d{1,3})\}|(?P<bare>\d))"
    r"|[eE](?P<plain>[-+]?\d{1,3}))?"
)
_FRACTION = re.compile(
    r"(?P<sign>[-+]?)(?:(?P<whole>\d+) ?(?=\\)|(?P<mixed>\d+) )?"
    r"(?:\\frac ?(?:\{(?P<a>-?\d+)\}|(?P<b>\d)) ?(?:\{(?P<c>\d+)\}|(?P<d>\d))"
    r"|(?P<e>\d+)/(?P<f>\d+))"
)
_REPEATING = re.compile(r"([-+]?)(\d*)\.(\d{0,9})\\(?:overline|bar) ?\{(\d{1,9})\}")


def number(form: str) -> Fraction | None:
    """The value of a plain integer, decimal (also repeating), fraction or mixed
    number; None for anything else."""
    decimal = _DECIMAL.fullmatch(form)
    if decimal:
        exponent = int(decimal["braced"] or decimal["bare"] or decimal["plain"] or 0)
        return Fraction(decimal["mantissa"]) * Fraction(10) ** exponent
    repeating = _REPEATING.fullmatch(form)
    if repeating:
        sign, whole, once, again = repeating.groups()
        cycle = Fraction(int(again), int("9" * len(again)))
        return int(sign + "1") * (int(whole + once or 0) + cycle) / Fraction(10) ** len(once)
    parts = _FRACTION.fullmatch(form)
    if not parts:
        return None
    denominator = int(parts["c"] or parts["d"] or parts["f"])
    if denominator == 0:
        return None
    value = Fraction(int(parts["a"] or parts["b"] or parts["e"]), denominator)
    value += int(parts["whole"] or parts["mixed"] or 0)
    return -value if parts["sign"] == "-" else value
