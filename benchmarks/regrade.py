"""Reads and grades stored rollouts again, by the tasks of their problems and the rules of today.

    python -m benchmarks.regrade sampled.jsonl.gz problems.jsonl out.jsonl.gz

A problem may have got a task since it was sampled, if it was put to the model in the same words.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from router.models.errors import InputError
from router.models.types import Problem
from router.problem_files import read_problems
from router.rollouts.export import export_store, open_rollouts
from router.rollouts.runs import StoredCandidate
from router.rollouts.store import RolloutStore
from router.strategies.tasks import get_task, posed

_file = click.Path(path_type=Path, dir_okay=False)


def regrade(source: Path, problems: Path, target: Path) -> tuple[int, int]:
    """Write `source` to `target` with new answers and grades.

    Returns:
        the number of solutions, and of those that are graded otherwise than before.

    Raises:
        InputError: a problem is not among `problems`, or was put in other words.
    """
    known = {problem.id: problem for problem in read_problems(problems).problems}
    count = changed = 0
    with (
        open_rollouts(source) as old,
        TemporaryDirectory() as scratch,
        RolloutStore.create(Path(scratch) / "new.sqlite", old.origin) as new,
    ):
        before = {problem.id: problem for problem in old.problems()}
        now = {name: _same(problem, known) for name, problem in before.items()}
        new.add_problems(now.values())
        with new.transaction():
            for run in old.runs():
                graded = [_graded(c, now[run.problem]) for c in run.candidates]
                count += len(graded)
                pairs = zip(run.candidates, graded, strict=True)
                changed += sum(was.correct != it.correct for was, it in pairs)
                new.add(replace(run, candidates=tuple(graded)))
            for name, prefill in old.prefills().items():
                new.add_prefill(name, prefill)
        export_store(new, target)
    return count, changed


def _same(problem: Problem, known: dict[str, Problem]) -> Problem:
    now = known.get(problem.id)
    if now is None:
        raise InputError(f"problem {problem.id!r} is not among the problems")
    if _words(now) != _words(problem):
        raise InputError(f"problem {problem.id!r} was put to the model in other words")
    return now


def _words(problem: Problem) -> str:
    asked = posed(problem)
    return f"{asked.text}\n\n{asked.ask}" if asked.ask else asked.text


def _graded(candidate: StoredCandidate, problem: Problem) -> StoredCandidate:
    task = get_task(problem.task)
    answer = task.read(candidate.text, candidate.finish == "length")
    right = problem.answer is not None and task.correct_sync(answer, problem.answer) is True
    return replace(candidate, answer=answer, correct=right)


@click.command()
@click.argument("source", type=_file)
@click.argument("problems", type=_file)
@click.argument("target", type=_file)
def main(source: Path, problems: Path, target: Path) -> None:
    count, changed = regrade(source, problems, target)
    click.echo(f"{count:,} solutions, {changed:,} of them graded otherwise, in {target}")


if __name__ == "__main__":
    main()
