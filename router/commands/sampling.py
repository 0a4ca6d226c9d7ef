"""What the commands that sample graded problems share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

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

from router.fitting.sampler import Due
from router.fitting.shift import Ticker
from router.models.errors import InputError
from router.words import counted

LOG_SECONDS = 60.0
"""Between two lines of progress, where stderr is no terminal."""


def parse_budgets(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...]:
    """The callback of `--budgets`; empty if it was not given."""
    try:
        return tuple(int(part) for part in text.split(",")) if text is not None else ()
    except ValueError:
        raise InputError(f"--budgets must be whole numbers such as 1,2,4,8, not {text!r}") from None


def price_text(due: Due) -> str:
    """What sampling costs, as far as it is known."""
    text = counted(due.generations, "generation")
    if due.others:
        text += f" ({', '.join(f'{count:,} by {name}' for name, count in due.others.items())})"
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
        click.echo(f"{done:,} of {counted(total, 'generation')}, {left} left", err=True)

    return tick
