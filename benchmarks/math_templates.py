r"""Problems in the manner of MATH, from templates of our own: in no test set, with exact answers.

Each template draws its numbers from a generator and returns the text and the gold answer in LaTeX.
Levels follow MATH's: 1 is a single step, 5 takes an idea and several steps. Where an answer can be
counted, it is counted by brute force, so that no formula of ours can be wrong in the same way as
a model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, permutations, product
from math import comb, factorial, gcd, isqrt, prod
from random import Random

Draw = Callable[[Random], tuple[str, str]]

FRACTION = "Express your answer as a common fraction."
RADICAL = "Express your answer in simplest radical form."
IN_PI = r"Express your answer in terms of $\pi$."


@dataclass(frozen=True, slots=True)
class Template:
    """A sort of problem; `draw` makes one."""

    name: str
    subject: str
    level: int
    draw: Draw


TEMPLATES: list[Template] = []


def template(subject: str, level: int) -> Callable[[Draw], Draw]:
    def register(draw: Draw) -> Draw:
        TEMPLATES.append(Template(draw.__name__, subject, level, draw))
        return draw

    return register


def fraction(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def form(value: Fraction) -> str:
    """What to say of the answer's form."""
    return FRACTION if value.denominator > 1 else ""


def root(square: int) -> str:
    """The square root of a positive integer, in simplest form."""
    outside = max(d for d in range(1, isqrt(square) + 1) if square % (d * d) == 0)
    inside = square // outside**2
    if inside == 1:
        return str(outside)
    return rf"{'' if outside == 1 else outside}\sqrt{{{inside}}}"


def signed(*terms: tuple[int, str]) -> str:
    """A sum such as `3x^2 - x + 7` of (coefficient, power) pairs without zeros."""
    text = ""
    for number, power in terms:
        if number:
            size = "" if abs(number) == 1 and power else str(abs(number))
            sign = ("-" if number < 0 else "") if not text else (" - " if number < 0 else " + ")
            text += sign + size + power
    return text


# -- Algebra --------------------------------------------------------------------------------


@template("Algebra", 1)
def linear_equation(rng: Random) -> tuple[str, str]:
    a, b, quotient = rng.randint(2, 9), rng.randint(2, 20), rng.randint(2, 12)
    return rf"Solve for $x$: $\frac{{x}}{{{a}}} + {b} = {quotient + b}$.", str(a * quotient)


@template("Algebra", 1)
def function_value(rng: Random) -> tuple[str, str]:
    a, b, c, x = rng.randint(2, 5), rng.randint(2, 9), rng.randint(1, 9), rng.randint(-4, 6)
    text = f"If $f(x) = {signed((a, 'x^2'), (-b, 'x'), (c, ''))}$, what is the value of $f({x})$?"
    return text, str(a * x * x - b * x + c)


@template("Algebra", 2)
def sum_and_difference(rng: Random) -> tuple[str, str]:
    y = rng.randint(2, 12)
    x = y + rng.randint(1, 9)
    text = f"If $x + y = {x + y}$ and $x - y = {x - y}$, what is the value of $xy$?"
    return text, str(x * y)


@template("Algebra", 2)
def distance(rng: Random) -> tuple[str, str]:
    (a, b), (dx, dy) = (
        (rng.randint(-5, 5), rng.randint(-5, 5)),
        rng.choice([(2, 4), (3, 6), (4, 6)]),
    )
    text = f"What is the distance between the points $({a}, {b})$ and $({a + dx}, {b + dy})$?"
    return f"{text} {RADICAL}", root(dx * dx + dy * dy)


@template("Algebra", 3)
def squares_of_roots(rng: Random) -> tuple[str, str]:
    p, q = rng.randint(5, 12), rng.randint(1, 6)
    text = rf"Let $r$ and $s$ be the solutions of $x^2 - {p}x + {q} = 0$. What is $r^2 + s^2$?"
    return text, str(p * p - 2 * q)


@template("Algebra", 3)
def least_value(rng: Random) -> tuple[str, str]:
    a, b, c = rng.randint(2, 4), rng.choice([-11, -9, -7, -5, 5, 7, 9, 11]), rng.randint(1, 9)
    polynomial = signed((a, "x^2"), (b, "x"), (c, ""))
    text = f"What is the smallest value of ${polynomial}$ over all real numbers $x$? {FRACTION}"
    return text, fraction(c - Fraction(b * b, 4 * a))


@template("Algebra", 4)
def integers_in_inequality(rng: Random) -> tuple[str, str]:
    a, b = rng.randint(3, 9), rng.randint(11, 40)
    text = f"How many integers $n$ satisfy $n^2 - {a}n < {b}$?"
    return text, str(sum(n * n - a * n < b for n in range(-100, 101)))


@template("Algebra", 4)
def geometric_series(rng: Random) -> tuple[str, str]:
    first, q = rng.randint(2, 9), rng.choice([Fraction(2, 5), Fraction(3, 7), Fraction(3, 8)])
    terms = [first * q**i for i in range(3)]
    series = " + ".join(map(fraction, terms))
    total = first / (1 - q)
    text = rf"Find the sum of the infinite geometric series ${series} + \cdots$. {form(total)}"
    return text.strip(), fraction(total)


@template("Algebra", 5)
def work_together(rng: Random) -> tuple[str, str]:
    a, b, c = sorted(rng.sample([4, 5, 6, 8, 9, 10, 12], 3))
    two = Fraction(1, a) + Fraction(1, b)
    hours = 1 + (1 - two) / (two + Fraction(1, c))
    text = (
        f"Three pumps empty a pool alone in {a}, {b} and {c} hours. The first two run together for"
        " 1 hour, then the third joins them. How many hours in all does it take to empty the pool,"
        f" counted from the start? {form(hours)}"
    )
    return text.strip(), fraction(hours)


# -- Counting and probability -----------------------------------------------------------------


@template("Counting & Probability", 1)
def letters(rng: Random) -> tuple[str, str]:
    word = rng.choice(["BANANA", "LEVEL", "TOOTH", "PEPPER", "ERROR", "COFFEE", "TATTOO", "ARRAY"])
    count = factorial(len(word)) // prod(map(factorial, Counter(word).values()))
    return f"In how many distinct ways can the letters of the word {word} be arranged?", str(count)


@template("Counting & Probability", 2)
def committee(rng: Random) -> tuple[str, str]:
    m, w, a, b = rng.randint(4, 7), rng.randint(4, 7), rng.randint(1, 3), rng.randint(2, 3)
    text = (
        f"A club has {m} juniors and {w} seniors. In how many ways can it choose a committee of"
        f" {a + b} members with exactly {b} seniors?"
    )
    return text, str(comb(m, a) * comb(w, b))


@template("Counting & Probability", 3)
def grid_paths(rng: Random) -> tuple[str, str]:
    x, y = rng.randint(3, 5), rng.randint(3, 5)
    a, b = rng.randint(1, x - 1), rng.randint(1, y - 1)
    text = (
        f"A bug walks from $(0, 0)$ to $({x}, {y})$. Each step goes one unit right or one unit up."
        f" How many different walks do not pass through the point $({a}, {b})$?"
    )
    return text, str(comb(x + y, x) - comb(a + b, a) * comb(x + y - a - b, x - a))


@template("Counting & Probability", 5)
def bounded_solutions(rng: Random) -> tuple[str, str]:
    total, most = rng.randint(9, 14), rng.randint(4, 6)
    text = (
        "How many ordered triples $(a, b, c)$ of nonnegative integers satisfy"
        rf" $a + b + c = {total}$ and $a \le {most}$?"
    )
    triples = product(range(total + 1), repeat=3)
    return text, str(sum(sum(t) == total and t[0] <= most for t in triples))


@template("Counting & Probability", 2)
def two_balls(rng: Random) -> tuple[str, str]:
    red, blue = rng.randint(3, 7), rng.randint(3, 7)
    text = (
        f"A bag holds {red} red balls and {blue} blue balls. Two balls are drawn at random without"
        f" replacement. What is the probability that they have the same color? {FRACTION}"
    )
    return text, fraction(Fraction(comb(red, 2) + comb(blue, 2), comb(red + blue, 2)))


@template("Counting & Probability", 3)
def two_dice(rng: Random) -> tuple[str, str]:
    bound = rng.choice([8, 10, 12, 15, 18, 20])
    text = (
        "Two fair six-sided dice are rolled. What is the probability that the product of the two"
        f" numbers is greater than {bound}? {FRACTION}"
    )
    rolls = list(product(range(1, 7), repeat=2))
    return text, fraction(Fraction(sum(a * b > bound for a, b in rolls), len(rolls)))


@template("Counting & Probability", 4)
def no_neighbours(rng: Random) -> tuple[str, str]:
    n = rng.randint(7, 10)
    text = (
        rf"Three different numbers are chosen at random from $\{{1, 2, \ldots, {n}\}}$. What is the"
        f" probability that no two of them are consecutive? {FRACTION}"
    )
    found = list(combinations(range(1, n + 1), 3))
    good = sum(b - a > 1 and c - b > 1 for a, b, c in found)
    return text, fraction(Fraction(good, len(found)))


@template("Counting & Probability", 5)
def fixed_points(rng: Random) -> tuple[str, str]:
    n = rng.randint(5, 6)
    fixed = rng.randint(0, 2)
    text = (
        f"{n} friends put their hats in a box, and each takes one hat out at random. What is the"
        f" probability that exactly {fixed} of them get their own hat? {FRACTION}"
    )
    orders = list(permutations(range(n)))
    good = sum(sum(i == hat for i, hat in enumerate(order)) == fixed for order in orders)
    return text, fraction(Fraction(good, len(orders)))


# -- Number theory ----------------------------------------------------------------------------


@template("Number Theory", 1)
def remainder(rng: Random) -> tuple[str, str]:
    a, m = rng.randint(100, 999), rng.choice([7, 9, 11, 12, 13])
    return f"What is the remainder when ${a}$ is divided by ${m}$?", str(a % m)


@template("Number Theory", 2)
def divisors(rng: Random) -> tuple[str, str]:
    n = rng.choice([48, 60, 72, 80, 84, 90, 96, 108, 120, 126, 144, 150, 180])
    return f"How many positive divisors does ${n}$ have?", str(
        sum(n % d == 0 for d in range(1, n + 1))
    )


@template("Number Theory", 3)
def units_digit(rng: Random) -> tuple[str, str]:
    a, n, b, m = rng.choice("378"), rng.randint(20, 99), rng.choice("249"), rng.randint(20, 99)
    text = f"What is the units digit of ${a}^{{{n}}} + {b}^{{{m}}}$?"
    return text, str((int(a) ** n + int(b) ** m) % 10)


@template("Number Theory", 3)
def from_base(rng: Random) -> tuple[str, str]:
    base = rng.randint(5, 9)
    number = rng.randint(base**3, base**4 - 1)
    digits, rest = "", number
    while rest:
        digits, rest = str(rest % base) + digits, rest // base
    return f"Write the number ${digits}_{{{base}}}$ in base 10.", str(number)


@template("Number Theory", 4)
def two_remainders(rng: Random) -> tuple[str, str]:
    a, b = rng.choice([(5, 7), (7, 9), (8, 11), (9, 11), (11, 13)])
    r, s = rng.randint(1, a - 1), rng.randint(1, b - 1)
    text = (
        f"What is the smallest positive integer that leaves a remainder of {r} when divided by {a}"
        f" and a remainder of {s} when divided by {b}?"
    )
    return text, str(next(n for n in range(1, a * b + 1) if n % a == r and n % b == s))


@template("Number Theory", 4)
def multiples(rng: Random) -> tuple[str, str]:
    most, (a, b) = rng.choice([100, 150, 200, 250]), rng.choice([(4, 6), (6, 9), (6, 10), (8, 12)])
    text = (
        f"How many positive integers up to {most} are multiples of {a} or of {b}, but not of both?"
    )
    return text, str(sum((n % a == 0) != (n % b == 0) for n in range(1, most + 1)))


@template("Number Theory", 5)
def zeros_of_factorial(rng: Random) -> tuple[str, str]:
    n, base = rng.randint(30, 80), rng.choice([6, 12])
    text = f"How many zeros are at the end of ${n}!$ when it is written in base {base}?"
    value, zeros = factorial(n), 0
    while value % base == 0:
        value, zeros = value // base, zeros + 1
    return text, str(zeros)


# -- Geometry -----------------------------------------------------------------------------------


@template("Geometry", 1)
def rectangle(rng: Random) -> tuple[str, str]:
    a, b = rng.randint(4, 15), rng.randint(4, 15)
    text = (
        f"A rectangle has an area of {a * b} square units and a width of {a} units. What is its"
        " perimeter, in units?"
    )
    return text, str(2 * (a + b))


@template("Geometry", 2)
def right_triangle(rng: Random) -> tuple[str, str]:
    a, b, c = rng.choice([(3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25)])
    k = rng.randint(1, 3)
    text = (
        f"A right triangle has a hypotenuse of length {c * k} and a leg of length {a * k}. What is"
        " its area?"
    )
    return text, str(a * b * k * k // 2)


@template("Geometry", 3)
def sector(rng: Random) -> tuple[str, str]:
    radius, angle = rng.randint(3, 9), rng.choice([40, 50, 72, 80, 100, 150])
    text = (
        rf"What is the area of a sector with a central angle of ${angle}^\circ$ in a circle of"
        f" radius {radius}? {IN_PI}"
    )
    area = Fraction(angle * radius**2, 360)
    if area.denominator == 1:
        return text, rf"{area}\pi"
    return text, rf"\frac{{{area.numerator}\pi}}{{{area.denominator}}}"


@template("Geometry", 4)
def hexagon(rng: Random) -> tuple[str, str]:
    side = 2 * rng.randint(1, 7)
    text = f"What is the area of a regular hexagon with a perimeter of {6 * side}? {RADICAL}"
    return text, rf"{3 * side * side // 2}\sqrt{{3}}"


@template("Geometry", 5)
def inscribed_circle(rng: Random) -> tuple[str, str]:
    a, b, c = rng.choice([(13, 14, 15), (10, 13, 13), (11, 13, 20), (7, 15, 20), (9, 10, 17)])
    half = Fraction(a + b + c, 2)
    area = isqrt(int(half * (half - a) * (half - b) * (half - c)))
    text = (
        f"A triangle has sides of length {a}, {b} and {c}. What is the radius of its inscribed"
        f" circle? {form(area / half)}"
    )
    return text.strip(), fraction(area / half)


# -- Intermediate algebra and precalculus ---------------------------------------------------------


@template("Intermediate Algebra", 3)
def logarithm(rng: Random) -> tuple[str, str]:
    base, top = rng.choice([2, 3, 5]), rng.randint(3, 5)
    below = rng.choice([k for k in (2, 3, 4) if gcd(k, top) == 1])
    text = rf"What is the value of $\log_{{{base**below}}} {base**top}$? {FRACTION}"
    return text, fraction(Fraction(top, below))


@template("Intermediate Algebra", 4)
def telescoping(rng: Random) -> tuple[str, str]:
    n, gap = rng.randint(8, 20), rng.randint(1, 2)
    term = rf"\frac{{1}}{{k(k + {gap})}}"
    text = rf"Compute $\displaystyle \sum_{{k=1}}^{{{n}}} {term}$. {FRACTION}"
    return text, fraction(sum((Fraction(1, k * (k + gap)) for k in range(1, n + 1)), Fraction(0)))


@template("Precalculus", 2)
def modulus(rng: Random) -> tuple[str, str]:
    a, b = rng.choice([(2, 4), (3, 6), (2, 6), (4, 6), (6, 3), (5, 5), (6, 2)])
    text = f"What is $|{a} - {b}i|$, where $i^2 = -1$? {RADICAL}"
    return text, root(a * a + b * b)
