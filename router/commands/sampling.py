"""What the commands that sample graded problems share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from router.fitting.sampler import Price
from router.fitting.shift import Ticker
from router.io import read_problems
from router.models.errors import InputError
from router.models.types import Problem
from router.strategies.tasks import check_gold

LOG_SECONDS = 60.0
"""Between two lines of progress, where stderr is no terminal."""


def parse_budgets(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...]:
    """The callback of `--budgets`; empty if it was not given."""
    try:
        return tuple(int(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        raise InputError(f"--budgets must be whole numbers such as 1,2,4,8, not {text!r}") from None


def read_graded(file: Path) -> tuple[Problem, ...]:
    """The problems of a file.

    Raises:
        InputError: it cannot be read, a line is broken, or a problem has no gold answer or one
            that its task cannot read.
    """
    found = read_problems(file)
    for broken in found.broken:
        raise InputError(f"{file}, line {broken.line}: {broken.why}")
    ungraded = [problem.id for problem in found.problems if problem.answer is None]
    if ungraded:
        raise InputError(
            f"{len(ungraded)} of {len(found.problems)} problems in {file} have no gold answer"
            f" (first: {ungraded[0]!r}); give each record a field 'answer'"
        )
    for problem in found.problems:
        try:
            check_gold(problem)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
    return found.problems


def price_text(due: Price) -> str:
    """What sampling costs, as far as it is known."""
    text = f"{due.generations:,} generations"
    if due.tokens is None:
        return text + "; tokens and hours are known once something is sampled"
    text += f", {due.tokens:,.0f} tokens"
    return text if due.hours is None else f"{text}, {_time(due.hours)} at the pace so far"


def _time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"


@contextmanager
def sampling_progress(total: int) -> Iterator[Ticker]:
    """Progress in generations on stderr, with the time left: a bar, or lines in a log."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _log_lines(total)
        return
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("sampling", total=total)
        yield lambda generations: progress.advance(task, generations)


def _log_lines(total: int) -> Ticker:
    """A line now and then, and one at the end."""
    started = last = time.monotonic()
    done = 0

    def tick(generations: int) -> None:
        nonlocal done, last
        done += generations
        now = time.monotonic()
        ended = generations > 0 and done >= total
        if not ended and now < last + LOG_SECONDS:
            return
        last = now
        left = _time((now - started) * (total - done) / done / 3600) if done else "unknown time"
        click.echo(f"{done:,} of {total:,} generations, {left} left", err=True)

    return tick
