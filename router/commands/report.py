"""`router report`: a bundle or an evaluation as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from router.models.errors import InputError
from router.report.page import check_drawable


@click.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="BUNDLE|EVALUATION")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The HTML file."
)
def report(source: Path, out: Path) -> None:
    """Draw a bundle or an evaluation as one HTML page.

    BUNDLE is a directory that `router fit` made, EVALUATION a JSON file that `router evaluate`
    wrote. The page needs no other file and no network.
    """
    check_drawable()
    text = _bundle_page(source) if source.is_dir() else _evaluation_page(source)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None
    click.echo(f"wrote {out}, {len(text) / 1024:.0f} KiB")


def _bundle_page(directory: Path) -> str:
    from router.bundle import Bundle
    from router.report.bundle import render

    return render(Bundle.load(directory))


def _evaluation_page(file: Path) -> str:
    from router.evaluation.records import Evaluation
    from router.report.evaluation import render

    return render(Evaluation.load(file))
