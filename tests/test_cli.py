"""The command group: fast help, one-line errors, exit codes."""

from __future__ import annotations

import logging
import signal
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
from router.models.fakes import fake_problems
from tests.problem_file import problem_file

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


BUSY = """
import asyncio, signal, threading, time
from router.models.fakes import FakeGenerator
from router.models.generators import load

class Stubborn(FakeGenerator):
    async def sample(self, *args):
        print("busy", flush=True)
        {work}

async def slow(*args, **options):
    if {while_loading}:
        print("busy", flush=True)
        {work}
    return Stubborn()

load.load_generator = slow
from router.cli import main
main()
"""


@pytest.mark.parametrize("while_loading", [True, False])
@pytest.mark.parametrize("work", ["time.sleep(60)", "await asyncio.to_thread(time.sleep, 60)"])
@pytest.mark.parametrize("command", ["solve 1+1", "fit {file} --out {out}"])
def test_ctrl_c_ends_within_a_second_whatever_is_busy(
    command: str, work: str, while_loading: bool, tmp_path: Path
) -> None:
    with _busy(command, work, while_loading, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _ends_within_a_second(process)


@pytest.mark.parametrize("while_loading", [True, False])
@pytest.mark.parametrize("command", ["solve 1+1", "fit {file} --out {out}"])
def test_ctrl_c_that_interrupts_no_wait_ends_within_a_second(
    command: str, while_loading: bool, tmp_path: Path
) -> None:
    """As one that arrives just before the main thread begins to wait."""
    to_this_thread = "signal.pthread_kill(threading.get_ident(), signal.SIGINT)"
    work = f"{to_this_thread}; await asyncio.to_thread(time.sleep, 60)"
    with _busy(command, work, while_loading, tmp_path) as process:
        _ends_within_a_second(process)


LATE = """
import select, time
from router import cli
watch = cli._end_after_ctrl_c

def late(signals, *rest):
    select.select([signals], [], [])
    time.sleep(0.5)
    watch(signals, *rest)

cli._end_after_ctrl_c = late
"""


@pytest.mark.parametrize("while_loading", [True, False])
@pytest.mark.parametrize("command", ["solve 1+1", "fit {file} --out {out}"])
def test_ctrl_c_ends_what_the_command_left_busy_even_if_its_watch_comes_late(
    command: str, while_loading: bool, tmp_path: Path
) -> None:
    """As on a loaded machine, when the command is over before the watch has its turn."""
    work = "await asyncio.to_thread(time.sleep, 60)"
    with _busy(command, work, while_loading, tmp_path, before=LATE) as process:
        process.send_signal(signal.SIGINT)
        _ends_within_a_second(process)


def test_a_command_may_take_ctrl_c_over() -> None:
    """As a server does, to finish what it has begun."""
    script = """
import signal, time
import click
from router import cli

@click.command()
def patient():
    signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
    print("busy", flush=True)
    for _ in range(15):
        time.sleep(0.1)
    print("done")

cli.Commands.get_command = lambda self, ctx, name: patient
cli.main(["patient"])
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "heard\ndone\n"
        assert process.wait(10) == 0


def _busy(
    command: str, work: str, while_loading: bool, folder: Path, before: str = ""
) -> subprocess.Popen[str]:
    """The command in a process of its own, busy with `work`, after what runs `before` it."""
    file = problem_file(folder / "p.jsonl", fake_problems(20))
    words = command.format(file=file, out=folder / "out").split()
    script = before + BUSY.format(work=work, while_loading=while_loading)
    budget = "--budget" if words[0] == "solve" else "--budgets"
    options = ("--engine", "fake", "--verifier", "none", budget, "2")
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words, *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    return process


def _ends_within_a_second(process: subprocess.Popen[str]) -> None:
    pressed = time.monotonic()
    assert process.wait(10) == 130
    assert time.monotonic() - pressed < 5  # a second, and a loaded machine


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["slove", "1+1"], "'solve'"),
        (["verifer"], "'verifier'"),
        (["verifier", "trian"], "'train'"),
        (["solve", "1+1", "--budgte", "3"], "'--budget'"),
        (["solve", "1+1", "--difficulty", "plot"], "'pilot'"),
        (["solve", "1+1", "--prompt", "qwen-mat"], "'qwen-math'"),
        (["solve", "1+1", "--task", "mats"], "'maths'"),
        (["solve", "1+1", "--engine", "fkae"], "'fake'"),
        (["solve", "1+1", "--engine", "fake", "--verifier", "noen"], "'none'"),
        (["solve", "1+1", "--engine", "fake", "--strategy", "best_of_m(n=4)"], "'best_of_n'"),
        (["solve", "1+1", "--engine", "fake", "--strategy", "best_of_n(selct=best)"], "'select'"),
        (["fit", "p.jsonl", "--cost", "token"], "'tokens'"),
    ],
)
def test_typing_errors_get_the_nearest_name(typed: list[str], meant: str) -> None:
    done = CliRunner().invoke(cli.main, typed)
    assert done.exit_code == 2
    assert meant in done.stderr
    assert "id you mean" in done.stderr


@pytest.mark.parametrize(
    "option",
    [
        *(f"--temperature {value}" for value in ("nan", "inf", "2.1", "-0.1")),
        *(f"--top-p {value}" for value in ("nan", "0", "1.1")),
        *(f"--deadline {value}" for value in ("nan", "inf", "0", "-1")),
        *(f"--tolerance {value}" for value in ("nan", "2")),
        *("--max-tokens 0", "--token-cap 0", "--budget 0", "--budget 65537"),
        "--strategy best_of_n(n=2,temperature=3)",
    ],
)
def test_numbers_out_of_range_are_refused(option: str) -> None:
    done = CliRunner().invoke(cli.main, ["solve", "1+1", "--engine", "fake", *option.split()])
    assert done.exit_code == 2
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("router sol", "solve"),
        ("router solve --diff", "--difficulty"),
        ("router verifier t", "train"),
    ],
)
def test_the_shell_completes(typed: str, offered: str) -> None:
    done = CliRunner().invoke(
        cli.main,
        prog_name="router",
        env={
            "_ROUTER_COMPLETE": "bash_complete",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(typed.count(" ")),
        },
    )
    assert f"plain,{offered}\n" in done.stdout
