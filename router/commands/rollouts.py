"""`router rollouts`: a rollout store as one file, and back."""

from __future__ import annotations

from pathlib import Path

import click

from router.commands.common import option, with_router
from router.commands.verifier import graded_problems, stage_progress
from router.core import Router
from router.models.errors import InputError
from router.rollouts.export import export_store, import_store
from router.rollouts.join import join
from router.rollouts.lines import SUFFIXES
from router.rollouts.store import RolloutStore
from router.words import counted

_file = click.Path(path_type=Path, dir_okay=False)


@click.group()
def rollouts() -> None:
    """Sample solutions into a store, write a store to one file, and read it back."""


@rollouts.command()
@click.argument("problems", type=_file)
@click.argument("store", type=_file)
@option("--samples", type=click.IntRange(min=1), default=8, help="Solutions for each problem.")
@with_router
def sample(problems: Path, store: Path, samples: int, router: Router) -> None:
    """Sample solutions of PROBLEMS (JSONL with gold answers) into STORE, unscored.

    Each problem's solutions are stored as they finish, with their log-probabilities; start an
    interrupted run again and it goes on. What is sampled first is what stands first in PROBLEMS.
    """
    from router.models.generators.load import choose_prompt
    from router.verifier.sampling import fill_store

    known = graded_problems(problems, ())
    prompt = choose_prompt(router.pair.prompt, router.pair.model, router.pair.chat_template_kwargs)
    with stage_progress() as report:
        fill_store(router, prompt, known, samples, 0, store, report)


@rollouts.command()
@click.argument("store", type=_file)
@click.argument("file", type=_file)
@click.option(
    "--unscored",
    is_flag=True,
    help="Leave out all that a verifier had to do with, so that a fit with another one takes the"
    " solutions and scores them anew.",
)
def export(store: Path, file: Path, unscored: bool) -> None:
    """Write all of STORE, scores and token ids included, to FILE (.jsonl or .jsonl.gz).

    `router fit --from-rollouts` and `router verifier` read such a file like the store itself.
    """
    if file.suffix not in SUFFIXES:
        raise InputError(f"{file} must end in .jsonl or .jsonl.gz")
    with RolloutStore.read(store) as opened:
        count = export_store(opened, file, scored=not unscored)
    click.echo(f"wrote {counted(count, 'solution')} to {file}")


@rollouts.command("import")
@click.argument("file", type=_file)
@click.argument("store", type=_file)
def import_(file: Path, store: Path) -> None:
    """Add all of FILE to STORE, so that sampling can go on from there."""
    count = import_store(file, store)
    click.echo(f"added {counted(count, 'solution')} to {store}")


@rollouts.command("join")
@click.argument("store", type=_file)
@click.argument("stores", nargs=-1, required=True, metavar="NAME=STORE…")
def join_(store: Path, stores: tuple[str, ...]) -> None:
    """Join the stores of single models, or their exports, into STORE, for a fleet's fit.

    They are named in the fleet's order: `router rollouts join both.sqlite small=a.sqlite
    large=b.jsonl.gz`. Then `router fit --from-rollouts both.sqlite`. A model may have several, as
    where each was sampled at another temperature.
    """
    files: list[tuple[str, Path]] = []
    for text in stores:
        name, _, file = text.partition("=")
        if not file:
            raise InputError(f"{text!r}: write NAME=STORE")
        files.append((name, Path(file)))
    click.echo(f"joined {counted(join(files, store), 'solution')} in {store}")
