"""`router verifier`: train a verifier for any generator, and measure one."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from router.commands.common import Names, option, with_router
from router.core import Router
from router.models.errors import InputError
from router.models.extras import require
from router.models.types import Problem
from router.models.verifiers.prm import OWN, SELF_MEAN
from router.problem_files import read_graded
from router.words import counted

if TYPE_CHECKING:
    from router.models.base import Verifier, VerifierInfo
    from router.models.prompts import Prompt
    from router.models.tokens import ChainEncoder
    from router.verifier.data import SolutionPool
    from router.verifier.evaluation import VerifierReport
    from router.verifier.sources import Source
    from router.verifier.training import Reporter

FORMATS: Final = (*OWN, "qwen-prm")
STORE = "rollouts.sqlite"
FEATURES = "features"
SCORES = "scores.jsonl"

_directory = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def verifier() -> None:
    """Train and measure a verifier for any generator."""


_out = click.option("--out", type=_directory, required=True, help="Directory for all that is made.")
_from_rollouts = click.option(
    "--from-rollouts",
    type=_file,
    multiple=True,
    help="Use these solutions (a rollout store, or .jsonl[.gz]) and sample nothing; PROBLEMS, if"
    " given, says which of them. Repeat it to take several files together.",
)


@verifier.command()
@click.argument("problems", type=_file, required=False)
@_out
@_from_rollouts
@option("--samples", type=click.IntRange(min=2), default=8, help="Solutions for each problem.")
@option(
    "--rollouts",
    type=click.IntRange(min=0),
    default=0,
    help="Completions of every step prefix besides, for softer labels (Math-Shepherd).",
)
@option(
    "--format",
    "format_id",
    type=Names(FORMATS),
    default=SELF_MEAN,
    help="Where scores are read: `self-mean` on the generator's hidden states at each step's own"
    " last token and their mean over the solution so far; `self` without the mean; `qwen-prm` at a"
    " tag after each step, as published models do.",
)
@option("--layer", default="auto", metavar="auto|K", help="Decoder layer to read, counted from 1.")
@option(
    "--lora",
    type=click.IntRange(min=1),
    metavar="RANK",
    help="Fine-tune the backbone's last layers too, by LoRA of this rank, merged into the"
    " checkpoint; for --format qwen-prm.",
)
@option("--seed", type=int, default=0, help="Of folds and initial weights.")
@with_router
def train(
    problems: Path | None,
    out: Path,
    from_rollouts: tuple[Path, ...],
    samples: int,
    rollouts: int,
    format_id: str,
    layer: str,
    lora: int | None,
    seed: int,
    router: Router,
) -> None:
    """Train a verifier for the chosen generator on PROBLEMS (JSONL with gold answers).

    Problems whose gold answer looks wrong (no solution gives it, and most agree on another) are
    left out. An interrupted run goes on where it stopped when started again with the same --out.
    """
    from router.models.generators.load import choose_prompt, short_name
    from router.models.training.head import HeadSettings
    from router.models.training.lora import LoraSettings
    from router.models.weights.find import find_model
    from router.verifier.data import read_together
    from router.verifier.sampling import fill_store
    from router.verifier.training import Training, train_verifier

    if lora is not None:
        _check_lora(format_id)
    known = graded_problems(problems, from_rollouts)
    model = find_model(router.pair.model)
    layers = _layers(layer, model)
    encoder = _encoder(
        model,
        choose_prompt(router.pair.prompt, router.pair.model, router.pair.chat_template_kwargs),
    )
    with stage_progress() as report:
        if not from_rollouts:
            fill_store(router, encoder.prompt, known, samples, rollouts, out / STORE, report)
        pools = read_together(from_rollouts or [out / STORE], known, encoder)
        training = Training(
            model=model,
            name=short_name(router.pair.model),
            encoder=encoder,
            format=format_id,
            layers=layers,
            cache=out / FEATURES,
            settings=HeadSettings(seed=seed),
            lora=None if lora is None else LoraSettings(lora, seed=seed),
        )
        trained = train_verifier(pools, training, {"command": _command()}, report)
    trained.save(out, model)
    click.echo(f"trained on layer {trained.config.layer}, saved in {out}", err=True)
    _print(trained.held_out, "on problems that its parts never saw")
    _print_sources(trained.sources)


@verifier.command()
@click.argument("judge", metavar="VERIFIER")
@click.argument("problems", type=_file, required=False)
@_out
@_from_rollouts
@option("--samples", type=click.IntRange(min=2), default=16, help="Solutions for each problem.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
@with_router
def evaluate(
    judge: str,
    problems: Path | None,
    out: Path,
    from_rollouts: tuple[Path, ...],
    samples: int,
    as_json: bool,
    router: Router,
) -> None:
    """Measure a verifier on PROBLEMS that it was not trained on: all together, and per source.

    VERIFIER is the directory of a trained head, or any process reward model that --verifier takes
    (with --verifier-format where its weights do not tell). A problem's source is what its record
    says, else its id up to the first slash. Writes verifier.json, a page verifier.html and its
    pictures to --out. An interrupted run goes on where it stopped.
    """
    from router.models.generators.load import choose_prompt
    from router.models.verifiers.trained_head import HeadConfig, is_head
    from router.models.weights.find import find_model
    from router.report.page import check_drawable
    from router.verifier.data import data_digest, read_together
    from router.verifier.evaluation import measure
    from router.verifier.report import reads, render, save_pictures
    from router.verifier.sampling import fill_store
    from router.verifier.scoring import Scorer
    from router.verifier.sources import measure_sources, verdict

    check_drawable()
    known = graded_problems(problems, from_rollouts)
    model = find_model(router.pair.model)
    config = HeadConfig.load(Path(judge)) if is_head(Path(judge)) else None
    prompt = router.pair.prompt or (None if config is None else config.prompt)
    encoder = _encoder(model, choose_prompt(prompt, router.pair.model))
    scorer = None if config is None else Scorer.load(Path(judge), model)
    with stage_progress() as report:
        if not from_rollouts:
            fill_store(router, encoder.prompt, known, samples, 0, out / STORE, report)
        ours = None if scorer is None else scorer.name
        pools = read_together(from_rollouts or [out / STORE], known, encoder, ours)
        if scorer is not None and config is not None:
            name, way, how = scorer.name, config.aggregation, reads(config)
            scored = scorer.score(pools, encoder, out / FEATURES, report)
        else:
            info, scored = asyncio.run(_published(judge, router, pools, out / SCORES, report))
            name, way, how = info.name, info.aggregation, f"Format {info.format}."
    measured, sources = measure(scored), measure_sources(scored, way)
    record = {
        "command": _command(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": data_digest(pools),
        "verifier": name,
        "aggregation": way,
        "head": None if config is None else asdict(config),
        "verdict": verdict(measured, way),
        "measured": measured.to_dict(),
        "sources": {source.name: source.to_dict() for source in sources},
    }
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1)
    (out / "verifier.json").write_text(text + "\n", encoding="utf-8")
    (out / "verifier.html").write_text(render(measured, name, how, sources), encoding="utf-8")
    save_pictures(measured, out)
    if as_json:
        click.echo(text)
        return
    _print(measured, f"on {counted(measured.problems, 'problem')}")
    click.echo(f"all: {verdict(measured, way)}")
    _print_sources(sources)


async def _published(
    ref: str, router: Router, pools: Sequence[SolutionPool], cache: Path, report: Reporter
) -> tuple[VerifierInfo, Sequence[SolutionPool]]:
    """Scores by a whole model."""
    from router.models.verifiers.load import load_verifier
    from router.models.verifiers.load_served import load_served_verifier
    from router.verifier.scoring import score_with

    if router.pair.verifier_endpoints:
        judge: Verifier = await load_served_verifier(
            ref,
            router.pair.verifier_endpoints,
            key=router.pair.verifier_endpoint_key,
            format=router.pair.verifier_format,
        )
    else:
        judge = await load_verifier(
            ref, format=router.pair.verifier_format, engine_args=router.pair.verifier_args
        )
    try:
        return judge.info, await score_with(judge, pools, cache, report)
    finally:
        await judge.aclose()


@verifier.command()
@click.argument(
    "head", type=click.Path(path_type=Path, file_okay=False, exists=True), required=False
)
@click.option("--out", type=_directory, required=True, help="Directory to write; it must be new.")
@option("--model", help="Directory or hub id of its generator.", show_default="the embedded model")
def export(head: Path | None, out: Path, model: str | None) -> None:
    """Write the trained verifier in directory HEAD as a checkpoint that `vllm serve` takes.

    Without HEAD, it is the one that comes with `router` for the model. Prints how to serve it.
    """
    from router.models.verifiers.checkpoint import export_checkpoint
    from router.models.verifiers.served import SERVE_FLAGS
    from router.models.verifiers.trained_head import shipped_head
    from router.models.weights.embedded import DEFAULT
    from router.models.weights.find import find_model

    head = head or shipped_head(model or DEFAULT.name)
    if head is None:
        raise InputError(f"no verifier comes with `router` for {model}; name a HEAD")
    name = export_checkpoint(find_model(model), head, out).name
    click.echo(f"vllm serve {shlex.quote(str(out))} --served-model-name {name} {SERVE_FLAGS}")


def graded_problems(file: Path | None, rollouts: Sequence[Path]) -> dict[str, Problem]:
    """The problems of a file by id; none without one, where there are rollouts."""
    if file is None:
        if not rollouts:
            raise click.UsageError("give PROBLEMS to sample solutions of, or --from-rollouts")
        return {}
    return {problem.id: problem for problem in read_graded(file)}


def _check_lora(format_id: str) -> None:
    if format_id in OWN:
        raise InputError(
            f"--lora changes the backbone, and format {format_id!r} reads the generator's own"
            " states; give --format qwen-prm"
        )
    require("--lora", "train", "peft")


def _command() -> str:
    return shlex.join(["router", *sys.argv[1:]])


def _layers(text: str, model: Path) -> tuple[int, ...]:
    """The layers to try: `auto` spreads them over the middle of the model, where heads do best."""
    from router.models.training.features import decoder_layers

    depth = decoder_layers(model)
    if text == "auto":
        return tuple(sorted({max(1, round(depth * k / 12)) for k in (6, 7, 8, 9, 10)}))
    if not text.isdigit() or not 1 <= int(text) <= depth:
        raise InputError(f"--layer must be auto or a layer from 1 to {depth}, not {text!r}")
    return (int(text),)


@contextmanager
def stage_progress() -> Iterator[Reporter]:
    """A progress bar for each stage, on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bars: dict[str, Any] = {}
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:

        def report(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done)

        yield report


def _encoder(model: Path, prompt: Prompt) -> ChainEncoder:
    from transformers import AutoTokenizer

    from router.models.tokens import ChainEncoder

    return ChainEncoder(AutoTokenizer.from_pretrained(model), prompt)


def _print_sources(sources: Sequence[Source]) -> None:
    for source in sources:
        click.echo(f"{source.name} ({counted(source.problems, 'problem')}): {source.verdict}")


def _print(report: VerifierReport, where: str) -> None:
    """The figures that matter, on stdout."""
    way = report.best_aggregation
    largest = report.sizes[-1]
    weighted = report.curve("weighted", way)
    rows = {
        "AUC, last step": report.auc["last"],
        "AUC inside problems, last step": report.within["last"],
        "AUC inside problems, all steps": report.step_within,
        "calibration error": report.calibration_error,
        "Brier score": report.brier,
        "pass@1": report.pass_at_1,
        f"majority@{largest}": report.curve("majority").accuracy[-1],
        f"weighted@{largest} ({way})": weighted.accuracy[-1],
        "  gain over majority": weighted.gain[-1],
        f"best@{largest} ({way})": report.curve("best", way).accuracy[-1],
        f"pass@{largest}": report.curve("oracle").accuracy[-1],
    }
    click.echo(f"measured {where}:")
    for name, figure in rows.items():
        click.echo(f"  {name:<32} {figure}")
