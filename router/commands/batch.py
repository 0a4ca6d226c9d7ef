"""Many problems in one run of `router solve`."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from router.commands import render
from router.commands.common import opened
from router.commands.settings import (
    differences,
    opened_settings,
    problem_digest,
    settings_of,
)
from router.core import Router
from router.intervals import wilson
from router.io import (
    Mode,
    Solved,
    keep_traces,
    line_file,
    read_solutions,
    write_line,
)
from router.models.errors import InputError, RouterError
from router.models.types import Problem
from router.models.usage import Usage
from router.problem_files import Problems
from router.records import Failure, Solution
from router.strategies.budget import Budget
from router.words import counted

logger = logging.getLogger("router")


@dataclass(frozen=True, slots=True)
class Batch:
    """What `router solve` was asked to do with many problems.

    out: None writes to stdout. resume: skip the problems that `out` holds.
    """

    read: Problems
    budget: Budget
    strategy: str
    tolerance: float
    seed: int | None
    in_flight: int
    out: Path | None
    trace: Path | None
    resume: bool


@dataclass(slots=True)
class Tally:
    """What has come of a batch so far."""

    broken: int = 0
    solutions: int = 0
    failed: int = 0
    unanswered: int = 0
    graded: int = 0
    right: int = 0
    usage: Usage = field(default_factory=Usage)

    def add(self, solution: Solution) -> None:
        self.solutions += 1
        self.unanswered += solution.answer is None
        self.graded += solution.correct is not None
        self.right += solution.correct is True
        self.usage += solution.usage


def run_batch(router: Router, batch: Batch) -> int:
    """Solve every problem; return the exit code.

    Raises:
        InputError: `out` or `trace` cannot be used: what they hold was made with other settings,
            or from other problems.
        ModelError: the models cannot be opened.
    """
    read = batch.read
    for sentence in read.told():
        click.echo(f"error: {sentence}", err=True)
    tally = Tally(broken=len(read.broken))
    started = time.monotonic()
    if batch.out is not None and batch.out.exists() and not batch.resume:
        raise InputError(f"{batch.out} exists; add --resume to go on with it, or take another file")
    settings = settings_of(
        router,
        batch.budget,
        strategy=batch.strategy,
        tolerance=batch.tolerance,
        seed=batch.seed,
        in_flight=batch.in_flight,
    )
    earlier = _earlier(batch, settings)
    todo = _left_over(batch, read.problems, earlier, tally)
    if todo:
        # Refuses bad options before a model is opened.
        router.decide(todo[0], batch.budget, strategy=batch.strategy, tolerance=batch.tolerance)
        mode: Mode = "a" if earlier else "w"
        with (
            line_file(batch.out, mode) as out,
            line_file(batch.trace, mode) as trace,
            opened(router),
        ):
            settings |= opened_settings(router.open())
            _refuse_others(batch, earlier, settings)
            _solve(router, batch, todo, settings, out, trace, tally)
    click.echo(f"{summary(tally)} in {render.seconds(time.monotonic() - started)}", err=True)
    nothing = tally.solutions == tally.unanswered
    return 1 if tally.broken or tally.failed or nothing else 0


def summary(tally: Tally) -> str:
    """The batch in a few lines: counts, accuracy with its 95 % Wilson interval, spend."""
    counts = f"{counted(tally.solutions, 'problem')} solved"
    if tally.failed:
        counts += f", {tally.failed} failed"
    if tally.unanswered:
        counts += f", {tally.unanswered} without an answer"
    if tally.broken:
        counts += f", {counted(tally.broken, 'line')} with no problem"
    lines = [counts]
    if tally.graded:
        low, high = wilson(tally.right, tally.graded)
        lines.append(
            f"accuracy {tally.right / tally.graded:.1%} ({tally.right} of {tally.graded};"
            f" 95 % interval {low:.1%} to {high:.1%})"
        )
    generations = counted(tally.usage.generations, "generation")
    lines.append(f"spent {generations}, {render.tokens(tally.usage)}")
    return "\n".join(lines)


def _earlier(batch: Batch, settings: dict[str, Any]) -> list[Solved]:
    """What earlier runs have solved; the trace is cut to it."""
    if not batch.resume or batch.out is None or not batch.out.exists():
        return []
    earlier = read_solutions(batch.out)
    if not earlier:
        return []
    _refuse_others(batch, earlier, settings)
    if batch.trace is not None:
        kept = keep_traces(batch.trace, earlier) if batch.trace.is_file() else 0
        if kept < len(earlier):
            without = len(earlier) - kept
            click.echo(f"note: {without} of the earlier solutions have no trace", err=True)
    return earlier


def _left_over(
    batch: Batch, problems: tuple[Problem, ...], earlier: list[Solved], tally: Tally
) -> list[Problem]:
    """The problems that are not solved yet; earlier solutions count in the tally.

    Raises:
        InputError: a problem is not what it was when it was solved.
    """
    if not earlier:
        return list(problems)
    done = {line.solution.problem_id: line for line in earlier}
    solved = [problem for problem in problems if problem.id in done]
    for problem in solved:
        if done[problem.id].problem_digest != problem_digest(problem):
            raise InputError(
                f"problem {problem.id!r} has another text or gold answer than when {batch.out}"
                " was written; give it another id, or take another --out"
            )
        tally.add(done[problem.id].solution)
    click.echo(f"{len(solved)} of {counted(len(problems), 'problem')} solved already", err=True)
    return [problem for problem in problems if problem.id not in done]


def _refuse_others(batch: Batch, earlier: list[Solved], settings: dict[str, Any]) -> None:
    """Make sure that all earlier solutions were made with these settings.

    Raises:
        InputError: one was not; names what differs.
    """
    for line in earlier:
        if different := differences(line.settings, settings):
            raise InputError(
                f"{batch.out} was made with other settings: {'; '.join(different)};"
                " take another --out"
            )


def _solve(
    router: Router,
    batch: Batch,
    problems: list[Problem],
    settings: dict[str, Any],
    out: TextIO | None,
    trace: TextIO | None,
    tally: Tally,
) -> None:
    results = router.solve_many(
        problems,
        batch.budget,
        strategy=batch.strategy,
        tolerance=batch.tolerance,
        seed=batch.seed,
        in_flight=batch.in_flight,
    )
    told: set[str] = set()
    digests = {problem.id: problem_digest(problem) for problem in problems}
    with _progress(len(problems), batch.out) as progress:
        task = progress.task_ids[0]
        try:
            for result in results:
                progress.advance(task)
                if isinstance(result, Failure):
                    tally.failed += 1
                    progress.console.print(
                        f"error: problem {result.problem_id}: {_why(result.error)}", markup=False
                    )
                    continue
                tally.add(result)
                line = Solved(result, settings, digests[result.problem_id])
                # The trace first: one without its solution is cut off when --resume goes on.
                if trace is not None:
                    write_line(trace, line.trace_dict())
                write_line(out or sys.stdout, line.to_dict())
                for note in set(result.notes) - told:
                    told.add(note)
                    progress.console.print(f"note: {note}", markup=False)
        except KeyboardInterrupt:
            progress.stop()
            where = f"{batch.out} keeps them; --resume goes on" if batch.out else "printed"
            click.echo(f"{counted(tally.solutions, 'problem')} solved ({where})", err=True)
            raise


def _why(error: Exception) -> str:
    """What ended a problem, in one line; a fault in the code is logged with where it lies."""
    if isinstance(error, RouterError):
        return str(error)
    logger.debug("a problem ended by a fault in the code", exc_info=error)
    return f"{type(error).__name__}: {error}; --debug shows where"


@contextmanager
def _progress(total: int, out: Path | None) -> Iterator[Progress]:
    """A bar on stderr, unless results share the terminal with it."""
    progress = Progress(
        TextColumn("solving"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False, soft_wrap=True),
        redirect_stdout=False,
        disable=out is None and sys.stdout.isatty(),
    )
    with progress:
        progress.add_task("", total=total)
        yield progress
