"""The command group: fast help, one-line errors, exit codes."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from router import cli
from router.models.errors import EngineError, InputError

ROOT = Path(__file__).parent.parent
HELP_SECONDS = 0.5


def test_help_is_fast_and_lists_commands() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "cli", "--help"], cwd=ROOT, capture_output=True, text=True
        )
        times.append(time.perf_counter() - start)
        assert done.returncode == 0
    assert "solve" in done.stdout
    # The fastest of five: what is measured is the command, not the machine's other work.
    assert min(times) < HELP_SECONDS


def test_help_imports_neither_models_nor_commands() -> None:
    code = (
        "import sys; from router import cli; cli.main(['--help'], standalone_mode=False)\n"
        "print(list(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    loaded = done.stdout.splitlines()[-1]
    assert "'click'" in loaded
    for heavy in ("router.core", "router.commands", "router.models.types", "pydantic", "numpy"):
        assert f"'{heavy}'" not in loaded


def test_help_line_is_the_commands_own() -> None:
    group = cli.main
    assert isinstance(group, click.Group)
    names = group.list_commands(click.Context(group))
    assert {"solve", "model"} <= set(names)
    for name in names:
        command = getattr(import_module(f"router.commands.{name}"), name)
        assert command.help.splitlines()[0] == cli.COMMANDS[name]


def test_version() -> None:
    done = CliRunner().invoke(cli.main, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("router, version ")


def test_unknown_command_is_named() -> None:
    done = CliRunner().invoke(cli.main, ["sovle"])
    assert done.exit_code == 2
    assert "sovle" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (EngineError("it broke"), 1, "error: it broke"),
        (InputError("not that"), 2, "error: not that"),
        (KeyError("bug"), 1, "error: KeyError: 'bug'; --debug shows where"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_error_is_one_line(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = _fail_with(error, monkeypatch)
    assert done.exit_code == code
    assert done.stderr == line + "\n"
    assert done.stdout == ""


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    done = _fail_with(KeyError("bug"), monkeypatch, "--debug")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.endswith("error: KeyError: 'bug'\n")


@pytest.mark.parametrize(
    ("flags", "level"),
    [([], logging.WARNING), (["-v"], logging.INFO), (["-vvv"], logging.DEBUG)],
)
def test_verbosity_is_the_routers_own_log_level(flags: list[str], level: int) -> None:
    CliRunner().invoke(cli.main, [*flags, "model", "--help"])
    assert logging.getLogger("router").level == level


def _fail_with(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, *flags: str
) -> click.testing.Result:
    @click.command()
    def broken() -> None:
        raise error

    monkeypatch.setattr(cli.Commands, "get_command", lambda self, ctx, name: broken)
    return CliRunner().invoke(cli.main, [*flags, "broken"])
