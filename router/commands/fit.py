"""`router fit`: sample what decides, then build a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from difficulty.levels import check_levels
from models.errors import InputError
from models.types import Problem
from router.bundle import Bundle
from router.commands.common import opened, option, with_router
from router.commands.sampling import parse_budgets, price_text, read_graded, sampling_progress
from router.core import Router
from router.fitting.allocation import Allocation, Kind
from router.fitting.build import Settings, fit_bundle
from router.fitting.measurements import LEVEL_SAMPLES
from router.fitting.sampler import (
    DEFAULTS,
    IN_FLIGHT,
    MAJORITY,
    Price,
    Sampler,
    configurations,
    missing,
    price,
)
from router.opening import Models
from router.rollouts.export import open_rollouts
from router.rollouts.runs import Origin
from router.rollouts.store import RolloutStore
from router.table import CostUnit

_out = Console(stderr=True, highlight=False)


@click.command()
@click.argument("problems", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Directory of the new bundle."
)
@option("--budgets", default="1,2,4,8,16", callback=parse_budgets, help="In generations, rising.")
@option(
    "--strategy",
    "strategies",
    multiple=True,
    metavar="NAME(…)",
    help="Fit this one, at every budget it fits; repeat it.  [default: all that can run]",
)
@option("--levels", default="quantile:5", metavar="quantile:K|absolute", help="Of difficulty.")
@option("--merge-levels", is_flag=True, help="Join levels that have too few problems.")
@option(
    "--cost",
    type=click.Choice(get_args(CostUnit)),
    default="generations",
    help="What budgets count; tokens and FLOPs in units of one plain sample's.",
)
@option(
    "--allocation",
    type=click.Choice(get_args(Kind)),
    default="racing",
    help="`racing` stops what cannot win at a level any more; `grid` samples everything.",
)
@option(
    "--level-samples",
    type=click.IntRange(min=0),
    default=LEVEL_SAMPLES,
    help="Samples of each problem that decide its level and nothing else, so that level and"
    " accuracy are measured independently.",
)
@option("--max-generations", type=click.IntRange(min=1), help="Sample no more than this now.")
@click.option("--dry-run", is_flag=True, help="Print the price and stop.")
@click.option(
    "--from-rollouts",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Sample nothing: build the bundle from this store, or from what was exported from one"
    " (PROBLEMS may then be left out).",
)
@option(
    "--store",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where rollouts are kept.  [default: OUT with .rollouts.sqlite]",
)
@option("--seed", type=int, default=0, help="Of sampling, where the engine takes seeds.")
@option("--in-flight", type=click.IntRange(min=1), default=IN_FLIGHT, help="Searches at once.")
@with_router
def fit(
    router: Router,
    problems: Path | None,
    out: Path | None,
    budgets: tuple[int, ...],
    strategies: tuple[str, ...],
    levels: str,
    merge_levels: bool,
    cost: CostUnit,
    allocation: Kind,
    level_samples: int,
    max_generations: int | None,
    dry_run: bool,
    from_rollouts: Path | None,
    store: Path | None,
    seed: int,
    in_flight: int,
) -> None:
    """Find out which search pays, per level of difficulty and budget, on PROBLEMS.

    PROBLEMS is a JSONL file: {"id": …, "problem": …, "answer": …} a line. Every rollout is stored
    as it finishes: start an interrupted fit again and it goes on.
    """
    if out is None and not dry_run:
        raise click.UsageError("give --out, the directory of the new bundle")
    known = None if problems is None else read_graded(problems)
    template = Settings(budgets, (), levels, merge_levels, cost, level_samples, seed)
    if from_rollouts is not None:
        with open_rollouts(from_rollouts) as rollouts:
            verified = rollouts.origin.verifier is not None
            bundle = fit_bundle(rollouts, _expanded(template, strategies, verified), known)
        _finish(bundle, out)
        return
    if known is None:
        raise click.UsageError("give PROBLEMS to sample, or --from-rollouts")
    check_levels(levels, len(known), merge=merge_levels)
    settings = _expanded(template, strategies, router.verifier is not None)
    path = store or Path(f"{out or problems}.rollouts.sqlite")
    due = _price(path, known, settings, max_generations)
    most = "at most " if allocation == "racing" else ""
    click.echo(f"to sample: {most}{price_text(due)}")
    if dry_run:
        return

    async def sample(models: Models) -> Bundle:
        verifier = None if models.verifier is None else models.verifier.info
        origin = Origin.of(models.generator.info, router.sampling, verifier)
        with (
            RolloutStore.create(path, origin) as rollouts,
            sampling_progress(due.generations) as tick,
        ):
            rollouts.add_problems(known)
            sampler = Sampler(
                rollouts,
                known,
                settings.strategies,
                levels=levels,
                merge=merge_levels,
                level_samples=level_samples,
                allocation=Allocation.of(allocation),
                max_generations=max_generations,
                seed=seed,
            )
            await sampler.run(
                models.generator, models.verifier, router.sampling, tick=tick, in_flight=in_flight
            )
            if sampler.capped:
                _out.print("stopped at --max-generations; start the same fit again to go on")
            return fit_bundle(rollouts, settings, known)

    with opened(router):
        _finish(router.run(sample), out)


def _expanded(settings: Settings, texts: tuple[str, ...], verified: bool) -> Settings:
    """With every strategy at every budget; without texts, all defaults that can run."""
    if not texts:
        texts = DEFAULTS if verified else (MAJORITY,)
        texts = tuple(text for text in texts if _fits(text, settings.budgets))
    strategies = configurations(settings.budgets, texts, verifier=verified)
    return replace(settings, strategies=strategies)


def _fits(text: str, budgets: tuple[int, ...]) -> bool:
    """Whether a default has anything to offer at these budgets."""
    try:
        configurations(sorted(set(budgets)), [text], verifier=True)
    except InputError:
        return False
    return True


def _price(
    path: Path, problems: tuple[Problem, ...], settings: Settings, most: int | None
) -> Price:
    """What is left to sample; needs no model."""
    if not path.is_file():
        jobs = missing(problems, settings.strategies, level_samples=settings.level_samples)
        return price(jobs, max_generations=most)
    with RolloutStore.read(path) as rollouts:
        stored = rollouts.counts()
        jobs = missing(problems, settings.strategies, stored, level_samples=settings.level_samples)
        return price(jobs, rollouts.rates(), most)


def _finish(bundle: Bundle, out: Path | None) -> None:
    if out is None:
        return
    bundle.save(out)
    data = bundle.manifest["data"]
    click.echo(
        f"fitted {len(bundle.table.cells)} cells on {data['problems']} problems and"
        f" {data['samples']:,} samples; saved in {out}"
    )
