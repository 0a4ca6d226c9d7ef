"""Tasks by id: ours, and those of other packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from router.models.errors import InputError
from router.models.prompts import PROMPTS
from router.models.types import Problem
from router.strategies.tasks import TASKS, check_task, get_task, posed
from router.strategies.tasks.registry import _brought

FOREIGN = """
from router.strategies.tasks import Task


class Colour(Task):
    id = "colour"
    ask = "Name one colour."

    def read(self, text, truncated=False):
        return text.split()[-1] if text.split() else None

    def normal(self, answer):
        return answer.lower()


class Broken(Task):
    id = "broken"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution of somebody else that brings tasks."""
    (tmp_path / "colours.py").write_text(FOREIGN)
    info = tmp_path / "colours-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[router.tasks]\ncolour = colours:Colour\nmaths = colours:Colour\nbroken = colours:Broken\n"
        "gone = nowhere:Gone\nother = colours:Colour\nnumber = builtins:int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("router.strategies.tasks.registry._brought", {})


def test_every_task_is_found_by_its_id() -> None:
    assert list(TASKS) == ["maths", "choice", "text", "open"]
    for task_id, task in TASKS.items():
        assert get_task(task_id) is task
        assert task.id == task_id


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no task 'math'; did you mean 'maths'"):
        get_task("math")
    with pytest.raises(InputError, match="no task 'qqq'; known: maths, choice, text, open"):
        get_task("qqq")
    assert not _brought


@pytest.mark.usefixtures("installed")
async def test_a_package_brings_a_task() -> None:
    colour = get_task("colour")
    assert colour is get_task("colour")
    grouping = await colour.group(["Red", "red", "blue"])
    assert grouping.representatives == ("Red", "Red", "blue")
    assert await colour.correct(colour.read("It is Red"), "RED")
    assert posed(Problem("p", "Of the sky?", task="colour")).ask == "Name one colour."
    assert get_task("maths") is TASKS["maths"]  # what is built in stays


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("task_id", ["broken", "gone", "other", "number"])
def test_a_broken_task_of_a_package_is_bad_input(task_id: str) -> None:
    with pytest.raises(InputError, match=task_id):
        get_task(task_id)


@pytest.mark.usefixtures("installed")
def test_a_typing_error_in_a_foreign_name_is_helped() -> None:
    with pytest.raises(InputError, match="did you mean 'colour'"):
        get_task("color")


def test_posed_adds_what_the_task_asks_for_once() -> None:
    plain = Problem("p", "1 + 1?")
    assert posed(plain) is plain
    asked = posed(Problem("p", "Which?\n(A) 1\n(B) 2", task="choice"))
    assert asked.ask == TASKS["choice"].ask
    assert asked.text == "Which?\n(A) 1\n(B) 2"
    assert posed(asked) is asked
    assert posed(replace(asked, task="maths")).ask == ""
    with pytest.raises(InputError, match="no task"):
        posed(replace(plain, task="nothing"))


def test_the_ask_follows_the_text_in_the_users_turn() -> None:
    asked = posed(Problem("p", "Which? (A) 1", task="choice"))
    *_, last = PROMPTS["qwen-math"].messages(asked)
    assert last.content == f"Which? (A) 1\n\n{asked.ask}"
    *_, last = PROMPTS["instruction-after"].messages(asked)
    assert last.content.startswith(f"Which? (A) 1\n\n{asked.ask}\n\nPlease reason")
    *_, last = PROMPTS["plain"].messages(Problem("p", "1 + 1?"))
    assert last.content == "1 + 1?"


def test_a_record_may_name_its_task() -> None:
    record = {"id": "p", "problem": "Which?", "answer": "B"}
    assert Problem.from_dict(record).task == "maths"
    assert Problem.from_dict({**record, "task": "choice"}).task == "choice"
    assert Problem.from_dict(record, default_task="text").task == "text"
    with pytest.raises(InputError, match="'task' must be a string"):
        Problem.from_dict({**record, "task": 5})


def test_a_majority_of_what_is_never_equal_is_refused() -> None:
    task = TASKS["open"]
    with pytest.raises(InputError, match="'open' are equal"):
        check_task(task, selects_by_score=False, n=2)
    check_task(task, selects_by_score=True, n=2)
    check_task(task, selects_by_score=False, n=1)
    check_task(TASKS["text"], selects_by_score=False, n=2)
