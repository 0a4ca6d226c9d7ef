"""Gold answers as data sets store them."""

from __future__ import annotations

import pytest

from router.models.errors import InputError
from router.models.types import Problem
from router.strategies.tasks import check_gold, get_task

GSM8K = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"
)
MATH = (
    "The ratio is $\\frac{6}{8}$. Hence $x = 3$.\n\n"
    "Therefore, the probability is $\\boxed{\\frac{3}{4}}$, [asy]draw((0,0)--(4,2));[/asy] as"
)
MATRIX = "\\begin{pmatrix}\n1 & 2 \\\\\n3 & 4\n\\end{pmatrix}"


@pytest.mark.parametrize(
    ("stored", "gold"),
    [
        (GSM8K, "72"),
        ("He makes $300,000 - $20,000 = <<1=1>>280,000.\n#### 280,000", "280,000"),
        ("It cools.\n#### -5", "-5"),
        ("#### 54", "54"),
        (MATH, r"\frac{3}{4}"),
        (r"\boxed{12}", "12"),
        (r"$\boxed{x^2 + 1}$", "x^2 + 1"),
        ("The answer is 5.", "5"),
        ("6 * 9 = 54. So the answer is 54.", "54"),
        ("Answer: 54 apples", "54"),
        ("答案：54", "54"),
        ("She has 47.\nShe gets 7.\nNow it is 54.", "54"),
        ("<think>46?</think>The answer is 54.", "54"),
        # plain ones stay as they are
        ("54", "54"),
        (" 54\n", "54"),
        ("$18", "$18"),
        ("5 apples", "5 apples"),
        (r"\frac{3}{4}", r"\frac{3}{4}"),
        ("x = 5", "x = 5"),
        ("3, 5, 7", "3, 5, 7"),
        (r"\text{no real solutions}", r"\text{no real solutions}"),
        ("All real numbers except 3.", "All real numbers except 3."),
        (r"\left( 3, \frac{\pi}{2} \right)", r"\left( 3, \frac{\pi}{2} \right)"),
        ("(B)", "(B)"),
        (MATRIX, MATRIX),
        ("$$" + MATRIX + "$$", "$$" + MATRIX + "$$"),
        # nothing to read
        ("", None),
        (" \n", None),
        ("He buys some.\nHe sells some.", None),
    ],
)
def test_maths(stored: str, gold: str | None) -> None:
    assert get_task("maths").gold(stored) == gold


@pytest.mark.parametrize(
    ("task", "stored", "gold"),
    [
        ("choice", "B", "B"),
        ("choice", "(B)", "B"),
        ("choice", "B) 42", "B"),
        ("choice", "6 * 7 = 42.\nThe answer is B.", "B"),
        ("choice", r"\boxed{\text{B}}", "B"),
        ("choice", "1", None),
        ("choice", "forty-two", None),
        ("text", "Paris", "Paris"),
        ("text", "The answer is Paris.", "Paris"),
        ("text", "It lies on the Seine.\n#### Paris", "Paris"),
        ("text", r"\boxed{Paris}", "Paris"),
        ("text", "", None),
        ("open", "A poem\nof lines", "A poem\nof lines"),
    ],
)
def test_other_tasks(task: str, stored: str, gold: str | None) -> None:
    assert get_task(task).gold(stored) == gold


async def test_grading_reads_the_gold_answer() -> None:
    maths = get_task("maths")
    assert await maths.correct("72", GSM8K) is True
    assert await maths.correct("24", GSM8K) is False
    assert await maths.correct("0.75", MATH) is True
    assert await maths.correct("5", "The answer is 5.") is True
    assert await maths.correct("5", "He buys some.\nHe sells some.") is None
    assert await get_task("choice").correct("B", "The answer is B.") is True


def test_a_gold_answer_that_cannot_be_read_is_refused() -> None:
    check_gold(Problem("p", "1 + 1?", GSM8K))
    with pytest.raises(InputError, match="'p' has no gold answer"):
        check_gold(Problem("p", "1 + 1?"))
    with pytest.raises(InputError, match=r"gold answer of problem 'p' \(task 'choice'\): '42'"):
        check_gold(Problem("p", "Which?", "42", task="choice"))
