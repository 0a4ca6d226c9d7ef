"""Every task by its id: ours, and those that installed packages bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import entry_points

from router.models.errors import InputError
from router.models.types import Problem
from router.strategies.tasks.base import Task
from router.strategies.tasks.choice import Choice
from router.strategies.tasks.maths import Maths
from router.strategies.tasks.open import Open
from router.strategies.tasks.text import Text

GROUP = "router.tasks"
"""Entry points of packages that bring a task: its id, and the class."""

TASKS: Mapping[str, Task] = {task.id: task for task in (Maths(), Choice(), Text(), Open())}

_brought: dict[str, Task] = {}


def get_task(task_id: str) -> Task:
    """The task of that id. Installed packages are asked only for what is not built in.

    Raises:
        InputError: no such id (names the nearest one), or its package is broken.
    """
    task = TASKS.get(task_id) or _brought.get(task_id)
    if task is None:
        task = _brought[task_id] = _load(task_id)
    return task


def task_names() -> list[str]:
    """All ids that can be asked for, those of other packages last."""
    return [*TASKS, *sorted({entry.name for entry in entry_points(group=GROUP)} - {*TASKS})]


def posed(problem: Problem) -> Problem:
    """The problem as it is put to a model: with what its task asks for.

    Raises:
        InputError: no such task.
    """
    ask = get_task(problem.task).ask
    return problem if problem.ask == ask else replace(problem, ask=ask)


def check_gold(problem: Problem) -> None:
    """Refuse a problem whose solutions cannot be graded.

    Raises:
        InputError: no gold answer, one that its task cannot read, or no such task.
    """
    gold = problem.answer
    if gold is None:
        raise InputError(
            f"problem {problem.id!r} has no gold answer, so its solutions cannot be graded; give"
            " each record a field 'answer'"
        )
    if get_task(problem.task).gold(gold) is None:
        raise InputError(
            f"no answer can be read in the gold answer of problem {problem.id!r}"
            f" (task {problem.task!r}): {gold[:100]!r}"
        )


def _load(task_id: str) -> Task:
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if task_id not in found:
        known, asked = [*TASKS, *found], task_id[:80]  # a client may send a megabyte
        near = get_close_matches(asked, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise InputError(f"no task {asked!r}; {hint}")
    entry = found[task_id]
    try:
        task = entry.load()()
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"the task {task_id!r} ({entry.value}) cannot be loaded: {why}") from error
    if not isinstance(task, Task) or task.id != task_id:
        raise InputError(f"the entry point {task_id!r} ({entry.value}) is no Task of that id")
    return task
