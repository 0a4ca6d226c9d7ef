"""`router model`: get models, and show what is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from router.models.errors import ModelError
from router.models.weights.embedded import EMBEDDED, embedded_model
from router.models.weights.fetch import sha256
from router.models.weights.find import find_model, weight_files


@click.group()
def model() -> None:
    """Get models, and show what is here."""


_ref = click.argument("ref", required=False)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@model.command()
@_ref
@_as_json
def pull(ref: str | None, as_json: bool) -> None:
    """Fetch REF unless it is here; print where it is.

    REF is the name of an embedded model (`router model list`) or a hub id; without it, the default
    model.
    """
    _print(_summary(ref, find_model(ref)), as_json)


@model.command()
@_ref
@_as_json
def show(ref: str | None, as_json: bool) -> None:
    """Print path, size, digests and licence of REF, which must be here."""
    directory = find_model(ref, download=False)
    files = {file.name: sha256(file) for file in weight_files(directory)}
    _print(_summary(ref, directory) | {"sha256": files}, as_json)


@model.command(name="list")
@_as_json
def list_models(as_json: bool) -> None:
    """Print the models that `router` can get by itself, the default one first."""
    summaries = [_summary(name, _here(name)) for name in EMBEDDED]
    if as_json:
        click.echo(json.dumps(summaries))
        return
    for number, summary in enumerate(summaries):
        if number:
            click.echo()
        _print(summary, as_json=False)


def _here(ref: str) -> Path | None:
    try:
        return find_model(ref, download=False)
    except ModelError:
        return None


def _summary(ref: str | None, directory: Path | None) -> dict[str, Any]:
    """What the three commands print. Null is what we do not know, or a model that is not here."""
    embedded = embedded_model(ref)
    source = embedded.source if embedded else None
    return {
        "name": embedded.name if embedded else ref,
        "path": str(directory) if directory else None,
        "size": sum(file.stat().st_size for file in directory.iterdir()) if directory else None,
        "licence": embedded.licence if embedded else None,
        "source": {
            "repo": source.repo,
            "file": source.name,
            "size": source.size,
            "sha256": source.sha256,
        }
        if source
        else None,
    }


def _print(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(summary))
        return
    for key, value in summary.items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        for name, entry in pairs:
            shown = f"{entry:,} bytes" if isinstance(entry, int) else entry
            click.echo(f"{f'{key} {name}':<16} {'-' if shown is None else shown}")
