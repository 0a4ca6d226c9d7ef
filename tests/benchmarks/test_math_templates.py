"""Templates in the manner of MATH: every draw is a whole problem, and its answer can be graded."""

from random import Random

import pytest

from benchmarks.math_templates import FRACTION, IN_PI, RADICAL, TEMPLATES, root, signed
from router.strategies.tasks import get_task


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_draws_are_whole_problems(template):
    drawn = [template.draw(Random(seed)) for seed in range(40)]
    for text, answer in drawn:
        assert text.count("$") % 2 == 0
        assert text.count("{") == text.count("}")
        assert get_task("maths").correct_sync(answer, answer)
        # The text says what form the answer has, and no other.
        assert (FRACTION in text) == (r"\frac" in answer and r"\pi" not in answer)
        assert (RADICAL in text) >= (r"\sqrt" in answer)
        assert (IN_PI in text) == (r"\pi" in answer)
    assert len({text for text, _ in drawn}) > 3
    assert template.level in range(1, 6)


def test_numbers_are_written_as_in_print():
    assert [root(n) for n in (16, 2, 12, 45)] == ["4", r"\sqrt{2}", r"2\sqrt{3}", r"3\sqrt{5}"]
    assert signed((1, "x^2"), (-1, "x"), (0, "y"), (-7, "")) == "x^2 - x - 7"
