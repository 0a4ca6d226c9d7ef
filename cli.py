"""The `router` command. Each subcommand lives in `router/commands/<name>.py`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from types import FrameType
from typing import Any

import click

from router.models.errors import RouterError

COMMANDS = {
    "solve": "Solve one problem, or many, within a budget.",
    "check": "Open the models, send one problem through them, and say what works.",
    "model": "Get models, and show what is here.",
    "verifier": "Train and measure a verifier for any generator.",
    "fit": "Find out which search pays, per level of difficulty and budget, on PROBLEMS.",
    "rollouts": "Sample solutions into a store, write a store to one file, and read it back.",
    "table": "Show what a fitted bundle has learned.",
    "difficulty": "Explain how hard a problem looks.",
    "evaluate": "Measure the routed policy on unseen problems.",
    "report": "Draw a bundle or an evaluation as one HTML page.",
    "serve": "Serve an OpenAI-compatible API and a page that shows the search.",
}
"""Name and help line; kept here so that `--help` imports no command."""

INTERRUPTED = 130
NOTICED_SECONDS = 0.2
"""From Ctrl-C to the handler's call, before the main thread is woken."""
LAST_SECONDS = 0.7
"""From there to the end, at most."""


class Commands(click.Group):
    """Imports a command when it is called, and turns every error into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"router.commands.{name}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(COMMANDS)}."
            ctx.fail(f"No such command {args[0]!r}. {hint}")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _ending_soon():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            ctx.exit(_report(error, debug=ctx.params["debug"]))


@contextmanager
def _ending_soon() -> Iterator[None]:
    """Ctrl-C ends the process within a second, whatever a thread or a library is busy with.

    Until then it is an exception like any other, so what is written so far is kept. The signal
    is watched through a pipe: Python runs a handler only once the main thread is back from what
    it waits for, and one that arrives just before it begins to wait does not end the wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noticed = threading.Event()

    def interrupted(number: int, frame: FrameType | None) -> None:
        noticed.set()
        signal.default_int_handler(number, frame)

    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.signal(signal.SIGINT, interrupted)
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watch = partial(_end_after_ctrl_c, read, interrupted, noticed)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, before)
        os.close(write)


def _end_after_ctrl_c(signals: int, handler: object, noticed: threading.Event) -> None:
    """Wait for SIGINT among the signals' numbers that come; give the process a second to end.

    One that a command has taken over, as a server does to finish what it has begun, is its own.
    The command may be over by the time this thread gets its turn: what it left busy ends too.
    """
    with open(signals, "rb", buffering=0) as numbers:
        while number := numbers.read(1):
            ours = noticed.is_set() or signal.getsignal(signal.SIGINT) is handler
            if number[0] == signal.SIGINT and ours:
                break
        else:
            return
        if not noticed.wait(NOTICED_SECONDS):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(LAST_SECONDS)
        os._exit(INTERRUPTED)


def _report(error: Exception, *, debug: bool) -> int:
    """Say what went wrong on stderr; return the exit code."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, RouterError):
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    hint = "" if debug else "; --debug shows where"
    click.echo(f"error: {type(error).__name__}: {error}{hint}", err=True)
    return 1


@click.group(
    cls=Commands,
    context_settings={
        "show_default": True,
        "help_option_names": ["-h", "--help"],
    },
)
@click.version_option(package_name="compute-optimal-router", prog_name="router")
@click.option(
    "-v", "--verbose", count=True, show_default=False, help="Log to stderr; -vv logs more."
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def main(verbose: int, debug: bool) -> None:
    """Spend test-time compute where it pays: per problem, the best search for your budget.

    Options can be set by environment variables too, such as ROUTER_MODEL; each command's help
    names them.
    """
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    level = logging.DEBUG if debug else levels[min(verbose, 2)]
    others = logging.WARNING if verbose or debug else logging.ERROR
    logging.basicConfig(level=others, stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger("router").setLevel(level)


if __name__ == "__main__":
    main()
