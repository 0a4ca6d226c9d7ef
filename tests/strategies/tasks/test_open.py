"""Requests without one right answer."""

from __future__ import annotations

from router.strategies.tasks import get_task

OPEN = get_task("open")


def test_the_whole_text_is_the_answer() -> None:
    assert OPEN.read(" A poem.\n\nIts end: \\boxed{5}\n") == "A poem.\n\nIts end: \\boxed{5}"
    assert OPEN.read("A poem", truncated=True) == "A poem"
    assert OPEN.read(" \n") is None


async def test_no_two_answers_are_equal_and_none_is_graded() -> None:
    answers = ["A poem.", "a poem", None, "4", "2+2"]
    assert (await OPEN.group(answers)).representatives == tuple(answers)
    assert OPEN.group_sync(answers).representatives == tuple(answers)
    assert await OPEN.correct("A poem.", "A poem.") is None
