"""Short answers in words."""

from __future__ import annotations

import pytest

from router.strategies.tasks import get_task

TEXT = get_task("text")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It stands in Paris.\n\nAnswer: The Eiffel Tower", "The Eiffel Tower"),
        ("**Answer:** St. Louis, Missouri.\n", "St. Louis, Missouri"),
        ("The answer is Marie Curie. She was born in 1867.", "Marie Curie"),
        ("The answer is consistent.\n\nAnswer: 42 km", "42 km"),
        (r"so \boxed{\text{Paris}}", r"\text{Paris}"),
        ("Paris", "Paris"),
        ("Let me think.\n\nIt is Paris.", "It is Paris"),
        ("Answer: Paris\nAnswer: Rome", "Rome"),
        ("", None),
        ("\n", None),
    ],
)
def test_read(text: str, answer: str | None) -> None:
    assert TEXT.read(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Answer: Paris, Fra", "Paris"), ("It is Paris", None), ("Answer: Par", None)],
)
def test_a_cut_text_is_read_only_where_it_states_an_answer(text: str, answer: str | None) -> None:
    assert TEXT.read(text, truncated=True) == answer


EQUAL = [
    ("Paris", "paris."),
    ("The Eiffel Tower", "eiffel  tower"),
    ("a cat on the roof", "Cat on roof"),
    ("New York, NY", "New York NY"),
    ("U.S.A.", "USA"),
    ("well-known", "well known"),
    ("“Hamlet”", "Hamlet"),
    ("Ångström", "Ångström"),
    (r"\text{Paris}", "Paris"),
    ("1,000", "1000"),
    ("−5", "-5"),
    ("ＡＢＣ", "abc"),
]

DIFFERENT = [
    ("Paris", "Rome"),
    ("5", "-5"),
    ("3.5", "35"),
    ("1/2", "12"),
    ("vitamin A", "vitamin"),
    ("C++", "C"),
    ("A", "B"),
    ("...", "!!!"),
    ("the", "a"),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal(a: str, b: str) -> None:
    assert TEXT.correct_sync(a, b) is True
    assert TEXT.correct_sync(b, a) is True


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert TEXT.correct_sync(a, b) is False
    assert TEXT.correct_sync(b, a) is False


async def test_group() -> None:
    answers = ["the Seine", "Seine", None, "Seine", "Rhine"]
    grouping = await TEXT.group(answers)
    assert grouping.representatives == ("Seine", "Seine", None, "Seine", "Rhine")
    assert grouping.unsure == 0
