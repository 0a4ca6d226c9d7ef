"""`router fit`: sample what decides, then build a bundle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from router.bundle import Bundle
from router.commands.common import Names, opened, option, with_router
from router.commands.sampling import parse_budgets, price_text, sampling_progress
from router.core import Router
from router.difficulty.levels import check_levels
from router.fitting.allocation import Allocation, Kind
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.cells import unequal
from router.fitting.configurations import DEFAULTS, configurations, fleet_defaults
from router.fitting.costs import measured_fleet
from router.fitting.distributed import LOCAL, ray_workers
from router.fitting.exchangeability import drifting
from router.fitting.measurements import LEVEL_SAMPLES
from router.fitting.sampler import IN_FLIGHT, Due, Sampler, missing, price
from router.fitting.workers import LocalWorker, Worker
from router.models.errors import InputError
from router.models.extras import require_fit
from router.models.types import Problem
from router.pairs import with_prices
from router.problem_files import read_graded
from router.rollouts.export import open_rollouts
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.budget import SLACK
from router.strategies.fleet import Fleet, cost_of
from router.table import CostUnit
from router.words import counted

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
    help="Fit this one, at every budget it fits; repeat it.  [default: those of votes, beam search"
    " and look-ahead that can run]",
)
@option("--levels", default="quantile:5", metavar="quantile:K|absolute", help="Of difficulty.")
@option("--merge-levels", is_flag=True, help="Join levels that have too few problems.")
@option(
    "--cost",
    type=Names(get_args(CostUnit)),
    default="generations",
    help="What budgets count; tokens and FLOPs in units of one plain sample's.",
)
@option(
    "--allocation",
    type=Names(get_args(Kind)),
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
@option(
    "--seed",
    type=int,
    help="Of sampling, where the engine takes seeds.  [default: 0; for endpoints none]",
)
@option(
    "--in-flight",
    type=click.IntRange(min=1),
    default=IN_FLIGHT,
    help="Generations at once, on each worker.",
)
@option(
    "--ray",
    metavar=f"ADDRESS|{LOCAL}",
    help="Sample on the Ray cluster there; `auto` finds this machine's, `local` makes one.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Ray workers, each with its own engine.  [default: one a GPU, or one a node]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the price, or the result, as JSON.")
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
    seed: int | None,
    in_flight: int,
    ray: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Find out which search pays, per level of difficulty and budget, on PROBLEMS.

    PROBLEMS is a JSONL file: {"id": …, "problem": …, "answer": …} a line. Every rollout is stored
    as it finishes: start an interrupted fit again and it goes on.
    """
    if out is None and not dry_run:
        raise click.UsageError("give --out, the directory of the new bundle")
    if workers is not None and ray is None:
        raise click.UsageError("--workers is for --ray")
    require_fit("a fit")
    known = None if problems is None else read_graded(problems)
    template = FitSettings(budgets, (), levels, merge_levels, cost, level_samples, seed or 0)
    if from_rollouts is not None:
        with open_rollouts(from_rollouts) as rollouts:
            verified = rollouts.origin.verifier is not None
            if router.pair.verifier is None:
                _check_unverified(rollouts)
            fleet = measured_fleet(rollouts)
            settings = _expanded(template, strategies, verified, fleet)
            bundle = fit_bundle(rollouts, settings, known)
        _finish(bundle, out, as_json)
        return
    if known is None:
        raise click.UsageError("give PROBLEMS to sample, or --from-rollouts")
    check_levels(levels, len(known), merge=merge_levels)
    verified = router.verifier is not None
    settings = _expanded(template, strategies, verified, router.fleet)
    path = store or Path(f"{out or problems}.rollouts.sqlite")
    if router.verifier is None and path.is_file():
        with RolloutStore.read(path) as rollouts:
            _check_unverified(rollouts)
    due = _price(path, known, settings, max_generations)
    if dry_run and as_json:
        click.echo(json.dumps(asdict(due) | {"at_most": allocation == "racing"}))
        return
    for line in _price_lines(due, allocation, router.sampling.max_tokens):
        click.echo(line, err=not dry_run)
    if dry_run:
        return

    async def sample(worker: Worker, in_flight: int) -> Bundle | None:
        origin = with_prices(worker.origin, router.pairs)
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
                # A server that dies of a seed (vLLM's CPU build) cannot be told from others.
                seed=None if router.pair.endpoints and seed is None else settings.seed,
            )
            await sampler.run(worker, tick=tick, in_flight=in_flight)
            # Of each size that fits, at what samples turned out to cost.
            fitting = _expanded(template, strategies, verified, measured_fleet(rollouts))
            every = dict.fromkeys([*settings.strategies, *fitting.strategies])
            final = replace(settings, strategies=tuple(every))
            return _bundle(rollouts, final, known, capped=sampler.capped)

    async def sample_on_ray(address: str) -> Bundle | None:
        async with ray_workers(address, workers, router.loader, router.sampling) as cluster:
            _out.print(f"{cluster.generator.model} on {cluster.count} Ray workers", style="dim")
            return await sample(cluster, in_flight * cluster.count)

    if ray is not None:
        _finish(asyncio.run(sample_on_ray(ray)), out, as_json)
        return
    with opened(router):
        fitted = router.run(lambda m: sample(LocalWorker(m, router.sampling), in_flight))
        _finish(fitted, out, as_json)


def _expanded(
    settings: FitSettings, texts: tuple[str, ...], verified: bool, fleet: Fleet
) -> FitSettings:
    """With every strategy at every budget; without texts, all defaults that can run.

    Raises:
        InputError: as `configurations`, or nothing costs as little as the first budget.
    """
    if not texts:
        usual = (*DEFAULTS, *fleet_defaults(fleet))
        texts = tuple(text for text in usual if _fits(text, settings.budgets, verified, fleet))
    strategies = configurations(settings.budgets, texts, verifier=verified, fleet=fleet)
    if min(cost_of(strategy, fleet) for strategy in strategies) > settings.budgets[0] + SLACK:
        raise InputError(
            f"no strategy costs at most {settings.budgets[0]}, the first of the budgets: leave that"
            " out, or add a smaller --strategy, as best_of_n"
        )
    return replace(settings, strategies=strategies)


def _fits(text: str, budgets: tuple[int, ...], verified: bool, fleet: Fleet) -> bool:
    """Whether a default can run, and has anything to offer at these budgets."""
    try:
        configurations(sorted(set(budgets)), [text], verifier=verified, fleet=fleet)
    except InputError:
        return False
    return True


def _check_unverified(rollouts: RolloutStore) -> None:
    """Refuse a fit without a verifier on rollouts that one has scored.

    Its bundle would bear the verifier's name, though it had none.
    """
    name = rollouts.origin.verifier
    if name is not None:
        raise InputError(
            f"{rollouts.path} holds rollouts scored by verifier {name!r}, and this fit has none:"
            " give that with --verifier, or sample without one into another --store"
        )


def _price(
    path: Path, problems: tuple[Problem, ...], settings: FitSettings, most: int | None
) -> Due:
    """What is left to sample; needs no model.

    Raises:
        InputError: no whole sample would tell how hard a problem is.
    """
    stored: dict[tuple[str, str], Collection[int]] = {}
    rates: tuple[float | None, float | None] = (None, None)
    if path.is_file():
        with RolloutStore.read(path) as rollouts:
            stored, rates = rollouts.held(), rollouts.rates()
    jobs = missing(problems, settings.strategies, stored, level_samples=settings.level_samples)
    if SAMPLES not in {*(job.configuration for job in jobs), *(name for _, name in stored)}:
        raise InputError(
            "no whole sample would tell how hard a problem is: leave --level-samples above 0, or"
            " add a --strategy of samples, as best_of_n"
        )
    return price(jobs, rates, most)


def _price_lines(due: Due, allocation: Kind, max_tokens: int) -> Iterator[str]:
    """What sampling costs, and how to know more of it."""
    yield f"to sample: {'at most ' if allocation == 'racing' else ''}{price_text(due)}"
    if due.tokens is None and due.generations:
        yield (
            f"(no pace is known yet: at most {due.generations * max_tokens:,} tokens. For the"
            " hours, sample a little with --max-generations 200, which is kept, and ask again)"
        )


def _bundle(
    rollouts: RolloutStore, settings: FitSettings, problems: tuple[Problem, ...], *, capped: bool
) -> Bundle | None:
    """The bundle of what is sampled; None where a cap has left too little for one."""
    if capped:
        click.echo("stopped at --max-generations; start the same fit again to go on", err=True)
    try:
        return fit_bundle(rollouts, settings, problems)
    except InputError as error:
        if not capped:
            raise
        click.echo(f"too little is sampled for a bundle: {error}", err=True)
        return None


def _finish(bundle: Bundle | None, out: Path | None, as_json: bool) -> None:
    if out is None or bundle is None:
        if as_json:
            click.echo(json.dumps({"bundle": None}))
        return
    bundle.save(out)
    data = bundle.manifest["data"]
    for told in [*drifting(data["pools"]), *unequal(bundle.table)]:
        click.echo(f"warning: {told}", err=True)
    result: dict[str, Any] = {
        "bundle": str(out),
        "cells": len(bundle.table.cells),
        "problems": data["problems"],
        "samples": data["samples"],
    }
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(
        f"fitted {counted(result['cells'], 'cell')} on {counted(result['problems'], 'problem')} and"
        f" {counted(result['samples'], 'sample')}; saved in {out}"
    )
