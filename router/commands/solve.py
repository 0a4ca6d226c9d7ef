"""`router solve`: one problem, or a file of many."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from router.choosing import AUTO
from router.commands import render
from router.commands.batch import Batch, run_batch
from router.commands.common import asked, opened, option, tolerance_option, with_routing
from router.commands.explain import explain
from router.core import DEFAULT_BUDGET, IN_FLIGHT, Router
from router.io import line_file, write_line
from router.models.types import Problem
from router.strategies.budget import Budget
from router.strategies.tasks import TASKS, get_task
from router.strategies.trace import Listener, Node
from router.words import counted


@click.command()
@click.argument("problem", required=False)
@click.option(
    "--file",
    "-f",
    type=click.Path(path_type=Path),
    help="Read the problem from this file, or many: JSON lines, a JSON array, CSV; - is stdin.",
)
@option(
    "--task",
    default="maths",
    metavar="|".join(TASKS),
    help="What is asked for, or the id of a task that an installed package brings. Many problems:"
    " of those that name none.",
)
@option("--budget", "-n", type=int, default=DEFAULT_BUDGET, help="Generations for each problem.")
@option("--token-cap", type=int, help="Most sampled tokens for each problem.")
@option("--deadline", type=float, metavar="SECONDS", help="Time for each problem's search.")
@option(
    "--strategy",
    default=AUTO,
    help="`auto`, or a strategy such as 'beam_search(n=16, width=4)'; without n, the largest"
    " that the budget allows.",
)
@tolerance_option
@with_routing
@option("--seed", type=int, help="Make the search reproducible, where the engine takes seeds.")
@click.option(
    "--explain", "explained", is_flag=True, help="Say what was weighed, and why the winner won."
)
@click.option("--thoughts", is_flag=True, help="Show what the model thought before it answered.")
@click.option("--json", "as_json", is_flag=True, help="Print the solution as JSON.")
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write every step of the search to this file, one JSON line a problem.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Many problems: write solutions to this new file, not to stdout.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Many problems: go on with --out, with the settings that made it; skip what is in it.",
)
@option(
    "--in-flight",
    type=click.IntRange(min=1),
    default=IN_FLIGHT,
    help="Many problems: how many run at once.",
)
def solve(
    router: Router,
    problem: str | None,
    file: Path | None,
    task: str,
    budget: int,
    token_cap: int | None,
    deadline: float | None,
    strategy: str,
    tolerance: float,
    seed: int | None,
    explained: bool,
    thoughts: bool,
    as_json: bool,
    trace: Path | None,
    out: Path | None,
    resume: bool,
    in_flight: int,
) -> None:
    """Solve one problem, or many, within a budget.

    PROBLEM is the text itself. Without it, or with `-`, it is read from stdin; --file reads it from
    a file.

    A file or stdin may hold many problems: JSON lines, {"id": …, "problem": …, "answer": …}, a JSON
    array of such objects, or CSV with a header; only `problem` is needed, and other names that data
    sets use are known (docs/files.md). A line that holds no problem is named, and the others run.
    Solutions are written as JSON lines as they finish. With gold answers, the accuracy is shown at
    the end. Each line names the settings that made it and digests of them and of its problem.

    Exit code: 0, 1 when something failed or no answer was found, 2 for bad input.
    """
    get_task(task)
    limits = Budget(budget, token_cap, deadline)
    if resume and out is None:
        raise click.UsageError("--resume needs --out, the file to go on with")
    found = asked(problem, file, task)
    if not isinstance(found, str):
        if explained:
            raise click.UsageError("--explain is for one problem; solutions of many hold it all")
        batch = Batch(found, limits, strategy, tolerance, seed, in_flight, out, trace, resume)
        sys.exit(run_batch(router, batch))
    if out is not None:
        raise click.UsageError("--out and --resume are for files of many problems (docs/files.md)")
    one = Problem.of_text(found, task)
    _solve_one(router, one, limits, strategy, tolerance, seed, trace, as_json, explained, thoughts)


def _solve_one(
    router: Router,
    problem: Problem,
    budget: Budget,
    strategy: str,
    tolerance: float,
    seed: int | None,
    trace: Path | None,
    as_json: bool,
    explained: bool,
    thoughts: bool,
) -> None:
    # Refuses bad input before a model is opened.
    router.decide(problem, budget, strategy=strategy, tolerance=tolerance)
    with line_file(trace) as trace_file, opened(router), _progress() as listener:
        solution = router.solve(
            problem, budget, strategy=strategy, tolerance=tolerance, seed=seed, listener=listener
        )
        if trace_file is not None:
            write_line(trace_file, solution.trace_dict())
    if as_json:
        for note in solution.notes:
            click.echo(f"note: {note}", err=True)
        click.echo(json.dumps(solution.to_dict()))
    else:
        render.show(solution, budget, Console(), thoughts=thoughts)
        if explained:
            explain(solution.decision, Console())
    if solution.answer is None:
        cut = sum(candidate.finish == "length" for candidate in solution.candidates)
        click.echo(
            f"error: no answer in {counted(len(solution.candidates), 'solution')}"
            f" ({cut} cut at the limit of tokens)",
            err=True,
        )
        sys.exit(1)


@contextmanager
def _progress() -> Iterator[Listener | None]:
    """Show on a terminal how the search grows; elsewhere the search needs no listener."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    seen: set[int] = set()
    finished: set[int] = set()

    def listener(node: Node) -> None:
        seen.add(node.id)
        if node.status == "finished":
            finished.add(node.id)
        progress.update(
            task,
            description=f"{counted(len(finished), 'solution')} finished,"
            f" {counted(len(seen), 'step')} in the tree",
        )

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
    ) as progress:
        task = progress.add_task("searching")
        yield listener
