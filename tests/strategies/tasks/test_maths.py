"""Maths: reading, equality and grouping of final answers."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections.abc import Sequence
from typing import Any

import pytest

from router.strategies.tasks import get_task, symbolic

MATHS = get_task("maths")
extract = MATHS.read


def equivalent(a: str, b: str) -> bool | None:
    return MATHS.correct_sync(a, b)


def group_sync(answers: Sequence[str | None]) -> list[str | None]:
    return list(MATHS.group_sync(answers).representatives)


async def group(answers: Sequence[str | None]) -> list[str | None]:
    return list((await MATHS.group(answers)).representatives)


correct = MATHS.correct

# --- extraction ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{1, \frac{2}{3}\right\}}", r"\left\{1, \frac{2}{3}\right\}"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"$\boxed 5$", "5"),
        (r"\fbox{12}", "12"),
        (r"\boxed{ $18$ }", "18"),
        (r"\boxed{\text{Monday}}", r"\text{Monday}"),
        (r"\boxed{3} and then \boxed{", "3"),
        (r"\boxed{3} and then \boxed{}", "3"),
        (r"The answer is 5. But \boxed{6}", "6"),
        ("The answer is 42.", "42"),
        ("The answer is: **42**", "42"),
        ("The final answer is $\\frac{3}{4}$. I hope it is correct.", r"\frac{3}{4}"),
        ("**Final Answer:** \\(x^2 + 1\\)", "x^2 + 1"),
        ("Final answer: \\$18 per day", r"\$18"),
        ("The answer is 1,234.5 dollars, since 1 is 1", "1,234.5"),
        ("The answer is 3 + 4x.", "3 + 4x"),
        ("The answer is 3, 5 and 7.", "3, 5 and 7"),
        ("the answer is Monday because it rains", "Monday"),
        ("Answer: (A)", "(A)"),
        ("**Answer**: 42", "42"),
        ("the answer is $18 because 3 times $6 is $18", "$18"),
        ("the answer is $18 + x$", "18 + x"),
        (r"\boxed{5\,}", "5"),
        ("so 5 + 3 = 8\n#### 8", "8"),
        ("Then she has 5 apples, or 12 with his 7.", "7"),
        ("It costs -3.50", "-3.50"),
        ("it is $1,200,000.", "$1,200,000"),
        ("so three quarters, 3/4.", "3/4"),
        ("12-5", "5"),
        ("No idea at all.", None),
        ("", None),
    ],
)
def test_extract(text: str, answer: str | None) -> None:
    assert extract(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Then she has 5 apples and", None),  # a last number is not an answer here
        (r"so \boxed{5} because", "5"),
        (r"so \boxed{5", None),
        (r"first \boxed{4}, no: \boxed{5", "4"),
        ("the answer is 18 because of", "18"),
        ("the answer is 18 ", "18"),
        ("the answer is 18", None),  # perhaps 180, but for the cut
        ("", None),
    ],
)
def test_extract_from_text_cut_by_a_token_limit(text: str, answer: str | None) -> None:
    assert extract(text, truncated=True) == answer


def test_extract_reads_every_form_of_gold_answer() -> None:
    for gold in GOLDS:
        assert extract(f"So it is at most 7, hence $x^2 = \\boxed{{{gold}}}$ by (3).") == gold


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # a Markdown heading is no answer
        ("It is 7.\n\n#### Conclusion\n\nShe has 12 apples.", "12"),
        ("#### Step 1\n\n5 + 3 = 8", "8"),
        ("#### 3. Conclusion\n\nShe has 12 apples.", "12"),
        ("##### Note\nIt is 4", "4"),
        ("#### Final Answer\n\n42", "42"),
        ("#### **Final Answer:** 42\n\nDone.", "42"),
        ("#### 8\n\nQuestion: what are 3 and 4?", "8"),
        ("#### 8 apples", "8"),
        ("#### $\\frac{1}{2}$\n\n3", r"\frac{1}{2}"),
        ("It rains.\n#### Monday", "Monday"),
        # nor is what is said about the answer
        ("So answer is consistent.\n\nThus, the number of residents is **73**.", "73"),
        ("The answer is obtained by adding 3 and 4. So 7.", "7"),
        ("The answer is 5. This answer is correct.", "5"),
        ("So the answer is 12. The answer is verified, as 3 * 4 = 12.", "12"),
        ("The answer is rounded to 5", "5"),
        ("The answer is given in metres: 12", "12"),
        ("The answer is not 5 but 6", "6"),
        ("The answer is not defined", "not defined"),
        ("The answer is right triangle", "right triangle"),
        ("Answer: correct", "correct"),
        ("The answer is unique factorization", "unique factorization"),
        # numbers after letters of other scripts, and with other signs
        ("所以答案是54。", "54"),
        ("共有1,200个苹果", "1,200"),
        ("The result is −5.", "−5"),
        ("The result is –5.", "–5"),
        ("The answer is −5.", "−5"),
        ("12−5", "5"),
        ("pages 12–5", "5"),
        ("x5 has no number, B2 neither", None),
    ],
)
def test_what_is_an_answer_and_what_is_not(text: str, answer: str | None) -> None:
    assert extract(text) == answer


def test_a_heading_at_a_cut_is_no_answer() -> None:
    assert extract("It is 7.\n\n#### Conclusion ", truncated=True) is None


@pytest.mark.parametrize(
    "part",
    [
        r"\boxed{",
        r"\boxed{}",
        r"\boxed ",
        "the answer is ",
        "the answer is consistent. ",
        r"the answer is \( ",
        "#### Conclusion\n",
        "answer: . ",
        "$",
        "}",
    ],
)
def test_reading_100_kilobytes_takes_no_time(part: str) -> None:
    text = part * (100_000 // len(part))
    start = time.process_time()
    extract(text)
    assert time.process_time() - start < 0.2  # a twentieth of a second, on a machine that is idle


def test_extract_takes_linear_time() -> None:
    start = time.perf_counter()
    extract(r"\boxed{" * 2_000 + "the answer is " * 2_000 + "$" * 2_000 + "1" * 20_000)
    assert time.perf_counter() - start < 5


# --- equality --------------------------------------------------------------------------------

EQUAL = [
    # integers, decimals, money, units, percent
    ("5", "5.0"),
    ("5", "5."),
    ("5", "05"),
    ("-5", "−5"),
    ("0", "-0"),
    (".5", "0.50"),
    ("10,000", "10000"),
    (r"10,\!080", "10080"),
    ("10{,}080", "10080"),
    ("1,234,567.50", "1234567.5"),
    ("$18", "18"),
    ("€18", "18"),
    (r"\$1,200.00", "1200"),
    ("-$5", "$-5"),
    ("50%", "50"),
    (r"50\%", "50%"),
    ("18 dollars", "18"),
    (r"5.4 \text{ cents}", "5.4"),
    (r"12 \text{ cm}^2", "12"),
    ("60 miles per hour", "60"),
    ("60 km/h", "60"),
    ("1,000 meters", "1000"),
    (r"30^\circ", "30"),
    (r"30^{\circ}", "30 degrees"),
    ("$5$", r"\(5\)"),
    # fractions
    ("1/2", "0.5"),
    (r"\frac{1}{2}", "1/2"),
    (r"\dfrac{17}{50}", r"\tfrac{17}{50}"),
    (r"\frac12", r"\frac{1}{2}"),
    (r"\frac 59", "5/9"),
    (r"\frac9{19}", "9/19"),
    (r"\frac{2}{4}", r"\frac{1}{2}"),
    (r"-\frac{24}{25}", r"\frac{-24}{25}"),
    (r"1\frac{1}{2}", r"\frac{3}{2}"),
    ("1 1/2", "1.5"),
    (r"-2\frac{1}{4}", "-2.25"),
    (r"\frac{1}{-2}", "-1/2"),
    (r"\frac{1.5}{2}", "0.75"),
    # powers, roots, constants
    (r"1.2 \times 10^3", "1200"),
    (r"5 \cdot 10^{-2}", "0.05"),
    ("1e3", "1000"),
    ("10", "10^1"),
    ("2^{10}", "1024"),
    (r"2\sqrt{5}", r"\sqrt{20}"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
    ("sqrt(5)", r"\sqrt5"),
    ("√5", r"\sqrt{5}"),
    (r"12\pi", "12π"),
    ("2 pi", r"2\pi"),
    ("10!", "3628800"),
    (r"\binom{6}{2}", "15"),
    (r"\infty", "infinity"),
    ("1+2i", "2i + 1"),
    # algebra and equations
    ("x = 5", "5"),
    ("x=5", "5.0"),
    ("f(x) = x^2", "x^2"),
    ("y = 2x + 3", "y=3+2x"),
    ("y = -2x", "-2x"),
    ("(a+5)(b+2)", "ab + 2a + 5b + 10"),
    ("6r^2-4r-24", "2(3r^2 - 2r - 12)"),
    ("x**2 + 1", "x^2+1"),
    (r"\cot x", r"\frac{1}{\tan x}"),
    ("xy", "yx"),
    # intervals, sets, tuples, matrices
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
    (r"(-\infty, 0]", r"x \in (-\infty,0]"),
    (r"(2, \infty)", r"(2,\infty)"),
    (r"x > 3", r"3 < x"),
    (r"x > 3", r"(3,\infty)"),
    (r"(0,9) \cup (9,36)", r"(9,36) \cup (0,9)"),
    ("(1,-16,-4,43)", "(1, -16, -4, 43)"),
    (r"\{1, 2, 3\}", r"\{3, 2, 1\}"),
    ("3, 5, 7", "7, 5, 3"),
    ("3, 5, 7", r"\{3,5,7\}"),
    (r"2 \pm \sqrt{3}", r"2 + \sqrt{3}, 2 - \sqrt{3}"),
    (r"\emptyset", r"\{\}"),
    (r"\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}", r"\begin{bmatrix}0.2\\-3.6\end{bmatrix}"),
    (
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
    ),
    # words and choices
    (r"\text{Monday}", "monday"),
    (r"\text{Evelyn}", "Evelyn."),
    ("Yes", "yes"),
    (r"\textbf{(C)}", "C"),
    ("(A)", "A"),
    ("B.", "(B)"),
    ("204_5", "204_{5}"),
]

DIFFERENT = [
    ("5", "6"),
    ("5", "-5"),
    ("12", "1,2"),
    ("1,23", "123"),
    ("1,2345", "12345"),
    ("1/3", "0.33"),
    ("1/3", "0.333333"),
    ("0.5", "50%"),
    ("0.1", "0.10001"),
    ("1000000", "1000001"),
    ("12345678901234567890", "12345678901234567891"),
    ("5", "5 million"),
    ("10 am", "10 pm"),
    (r"1\frac{1}{2}", "1/2"),
    (r"\frac{1}{2}", r"\frac{2}{1}"),
    ("1.2e3", "1.2e4"),
    ("3.14", r"\pi"),
    (r"12\pi", "37.7"),
    (r"\sqrt{5}", "5"),
    (r"2\sqrt{5}", r"5\sqrt{2}"),
    (r"\infty", r"-\infty"),
    ("1+2i", "1-2i"),
    ("204_5", "204_6"),
    ("204_5", "204"),
    ("5r^5", "5r^6"),
    ("5x", "5y"),
    ("x", "-x"),
    ("x = 5", "6"),
    ("y = 2x + 3", "y = 3x + 2"),
    ("x + 1", "x"),
    (r"\cot x", r"\tan x"),
    ("(1,2)", "[1,2]"),
    ("(3,4]", "[3,4)"),
    ("(3,4]", "(3,4)"),
    (r"(-\infty, 0]", r"(-\infty, 0)"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", r"\{1,2\}"),
    ("(1,2)", "1, 2"),
    ("(1,2)", "(1,2,3)"),
    (r"\{1,2\}", r"\{1,3\}"),
    ("x > 3", r"x \ge 3"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    (r"\text{Monday}", r"\text{Tuesday}"),
    ("Amy", "May"),  # the same letters: math-verify reads a product
    (r"\text{Navin}", r"\text{Vanin}"),
    ("yes", "no"),
    ("even", "odd"),
    ("(A)", "(B)"),
    (r"\text{(C)}", "5"),
    ("Monday", "5"),
    ("1/0", "2/0"),
    ("", "0"),
    ("}{", "{}}"),
    (r"\undefinedmacro{", "5"),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal(a: str, b: str) -> None:
    assert equivalent(a, b)
    assert equivalent(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert not equivalent(a, b)
    assert not equivalent(b, a)


@pytest.mark.parametrize("answer", sorted({text for pair in EQUAL + DIFFERENT for text in pair}))
def test_every_answer_equals_itself(answer: str) -> None:
    assert equivalent(answer, answer)


# The forms of gold answers that occur in MATH-500, one each; no two are equal.
GOLDS = [
    *("8", "1.25", "-41", r"\frac{3\sqrt{3}}{4}", "5r^5", r"\frac 59", r"\frac{10}{11}"),
    *(r"\left( 3, \frac{\pi}{2} \right)", r"\text{even}", r"2 \sqrt{5}", r"30^\circ"),
    *(r"\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix}", r"(2,\infty)", "6+9i", r"\pi"),
    *(r"\cot x", r"\text{(C)}", "y = -2x", "(2,4)", r"(0,9) \cup (9,36)", "3, 5, 7", "(3,4]"),
    *(r"\$36", "15x - 80", "x^5 - x^4 + x^3 - x^2 + x - 1", r"5.4 \text{ cents}", "204_5"),
    *("(a+5)(b+2)", r"10,\!080", r"(-\sqrt{3}, \sqrt{3})", r"-\frac{\pi}{6}", "x=5"),
    *(r"\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right]", r"(-\infty, 0]", "(1,-16,-4,43)"),
]


def test_different_gold_answers_never_collide() -> None:
    assert group_sync(GOLDS) == GOLDS


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(a: str, b: str, clock: object) -> bool:
        raise AssertionError(f"a worker was asked to compare {a!r} and {b!r}")

    monkeypatch.setattr(symbolic, "compare", refuse)


@pytest.mark.usefixtures("no_worker")
def test_numbers_never_start_a_worker() -> None:
    numbers = ["18", "$18.00", "18 dollars", "1,800", "-3", "3/4", "75%", r"1\frac12", "1e5"]
    for a, b in itertools.combinations_with_replacement(numbers, 2):
        equivalent(a, b)
    assert group_sync(["18", "17", "$18"]) == ["18", "17", "18"]


# --- grouping --------------------------------------------------------------------------------


async def test_group_names_each_group_by_its_commonest_text() -> None:
    answers = ["1/2", None, r"\frac{1}{2}", "7", "0.5", r"\frac{1}{2}", None]
    half = r"\frac{1}{2}"
    assert await group(answers) == [half, None, half, "7", half, half, None]


def test_group_ignores_order_of_arrival() -> None:
    answers = ["2", "4/2", "2.0", r"\sqrt{4}", "x=2", "3", r"\sqrt{9}", "(1,2)", "1,2", "2,1"]
    expected = dict(zip(answers, group_sync(answers), strict=True))
    assert expected["x=2"] == expected[r"\sqrt{4}"] == "2"
    for seed in range(20):
        shuffled = random.Random(seed).sample(answers, len(answers))
        assert group_sync(shuffled) == [expected[answer] for answer in shuffled]


def test_group_is_transitive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the comparison were not: a = b and b = c put c with a."""
    links = {("alpha", "beta"), ("beta", "gamma")}
    monkeypatch.setattr(type(MATHS), "same", lambda self, a, b, clock: (a, b) in links)
    for order in itertools.permutations(["gamma", "alpha", "beta", "delta"]):
        groups = dict(zip(order, group_sync(order), strict=True))
        assert groups == {"alpha": "beta", "beta": "beta", "gamma": "beta", "delta": "delta"}


def test_group_of_nothing() -> None:
    assert group_sync([]) == []
    assert group_sync([None]) == [None]


async def test_correct() -> None:
    assert await correct(r"\dfrac{3}{4}", "0.75")
    assert not await correct("0.7", "0.75")
    assert not await correct(None, "0.75")


# --- nothing can hurt the caller --------------------------------------------------------------


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic, "LIMIT", 1.0)


TOWER = "9^{9^{9^{9}}}"


@pytest.mark.usefixtures("short_limit")
def test_a_hanging_comparison_is_killed_and_the_next_one_works() -> None:
    assert symbolic.compare("2^3", "8") is True  # start-up is not part of the limit
    start = time.monotonic()
    assert symbolic.compare(TOWER, "5") is None
    assert time.monotonic() - start < 60  # one CPU second, on a machine that may be busy
    assert symbolic.compare("2^4", "16") is True


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize(
    "monster",
    [
        TOWER,
        "(" * 150 + "x" + ")" * 150,
        r"\sqrt{" * 60 + "x" + "}" * 60,
        r"\frac{1}{" * 40 + "x" + "}" * 40,
        "{" * 300,
        "(x+1)^{99999999}",
        "99999999!",
        r"\int_0^1 x^{x^{x^x}} e^{\sin x^x} dx",
        "1e999999999",
        "x" * 100_000,
        "9" * 100_000,
        "\x00\ud800",
    ],
)
def test_monsters_differ_from_sane_answers(monster: str) -> None:
    assert not equivalent(monster, "5")
    assert not equivalent("x^2", monster)
    assert equivalent(monster, monster)


@pytest.mark.usefixtures("short_limit")
def test_one_bad_answer_costs_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "8^{8^{8^{8}}}"
    sane = [f"x+{number}" for number in range(12)]
    verdicts = []

    def compare(a: str, b: str, clock: Any = None, compare: Any = symbolic.compare) -> bool | None:
        known = (a, b) in symbolic._verdicts
        verdict = compare(a, b, clock)
        verdicts.extend([] if known else [verdict])
        return verdict

    monkeypatch.setattr(symbolic, "compare", compare)
    assert group_sync([bad, *sane]) == [bad, *sane]
    assert verdicts.count(None) == 1
    assert symbolic.compare("2^5", "32") is True


def test_a_killed_worker_is_replaced() -> None:
    assert symbolic.compare("2^3", "8") is True
    victims = [worker._process.pid for worker in symbolic._workers]
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert symbolic.compare("3^3", "27") is True


@pytest.mark.usefixtures("short_limit")
async def test_the_event_loop_runs_on_while_a_comparison_hangs() -> None:
    comparison = asyncio.create_task(correct("7^{7^{7^{7}}}", "5"))
    longest = 0.0
    while not comparison.done():
        start = time.perf_counter()
        await asyncio.sleep(0.01)
        longest = max(longest, time.perf_counter() - start)
    assert not await comparison
    assert longest < 1.0
