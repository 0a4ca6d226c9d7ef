"""`router rollouts`: a rollout store as one file, and back."""

from __future__ import annotations

from pathlib import Path

import click

from models.errors import InputError
from router.rollouts.export import export_store, import_store
from router.rollouts.lines import SUFFIXES
from router.rollouts.store import RolloutStore

_file = click.Path(path_type=Path, dir_okay=False)


@click.group()
def rollouts() -> None:
    """Write stored rollouts to one file, to commit or to send, and read them back."""


@rollouts.command()
@click.argument("store", type=_file)
@click.argument("file", type=_file)
def export(store: Path, file: Path) -> None:
    """Write all of STORE, scores and token ids included, to FILE (.jsonl or .jsonl.gz).

    `router fit --from-rollouts` and `router verifier` read such a file like the store itself.
    """
    if file.suffix not in SUFFIXES:
        raise InputError(f"{file} must end in .jsonl or .jsonl.gz")
    with RolloutStore.read(store) as opened:
        count = export_store(opened, file)
    click.echo(f"wrote {count:,} solutions to {file}")


@rollouts.command("import")
@click.argument("file", type=_file)
@click.argument("store", type=_file)
def import_(file: Path, store: Path) -> None:
    """Add all of FILE to STORE, so that sampling can go on from there."""
    count = import_store(file, store)
    click.echo(f"added {count:,} solutions to {store}")
