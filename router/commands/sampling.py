"""What the commands that sample graded problems share."""

from __future__ import annotations

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

from models.errors import InputError
from models.types import Problem
from router.fitting.sampler import Price, Ticker
from router.io import read_problems


def parse_budgets(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...]:
    """The callback of `--budgets`; empty if it was not given."""
    try:
        return tuple(int(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        raise InputError(f"--budgets must be whole numbers such as 1,2,4,8, not {text!r}") from None


def read_graded(file: Path) -> tuple[Problem, ...]:
    """The problems of a file.

    Raises:
        InputError: it cannot be read, a line is broken, or a problem has no gold answer.
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
    return found.problems


def price_text(due: Price) -> str:
    """What sampling costs, as far as it is known."""
    text = f"{due.generations:,} generations"
    if due.tokens is None:
        return text + "; tokens and hours are known once something is sampled"
    text += f", {due.tokens:,.0f} tokens"
    if due.hours is None:
        return text
    time = f"{due.hours:.1f} hours" if due.hours >= 1 else f"{60 * due.hours:.0f} minutes"
    return f"{text}, {time} at the pace so far"


@contextmanager
def sampling_progress(total: int) -> Iterator[Ticker]:
    """A progress bar of generations on stderr, with the time left."""
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("sampling", total=total)
        yield lambda generations: progress.advance(task, generations)
