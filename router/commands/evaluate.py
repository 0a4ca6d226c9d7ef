"""`router evaluate`: the routed policy against every fixed strategy, on unseen problems."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid

from router.bundle import Bundle
from router.choosing import check_models
from router.commands.common import bundle_to_show, opened, option, tolerance_option, with_router
from router.commands.render import print_grid
from router.commands.sampling import parse_budgets, price_text, sampling_progress
from router.core import Router
from router.evaluation.comparison import ONE_FOR_ALL
from router.evaluation.evaluate import check_origin
from router.evaluation.evaluate import evaluate as measure
from router.evaluation.records import Evaluation
from router.evaluation.sampling import sample_missing
from router.evaluation.study import Study
from router.evaluation.summary import (
    against_fixed,
    at_averages,
    averaged,
    baseline_label,
    differences,
    equal_at,
    headline,
    label,
    losses,
    paired,
    percent,
    points,
    replayed,
    sizes,
    times,
)
from router.fitting.sampler import IN_FLIGHT, Due, price
from router.fitting.shift import Ticker
from router.fitting.workers import LocalWorker
from router.models.errors import InputError
from router.models.extras import require_fit
from router.models.types import Problem
from router.opening import Models
from router.pairs import with_prices
from router.problem_files import read_graded
from router.rollouts.export import open_rollouts
from router.rollouts.store import RolloutStore
from router.words import counted

_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("problems", type=_file)
@option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Bundle that is measured.",
    show_default="the one that comes with `router` for the default model",
)
@click.option("--out", type=_file, help="Write the evaluation there, as JSON.")
@option("--budgets", callback=parse_budgets, help="Some of the bundle's.  [default: all]")
@option(
    "--strategy",
    "strategies",
    multiple=True,
    metavar="NAME(…)",
    help="Compare with this fixed strategy at every budget it fits; repeat it. Others are then"
    " sampled only where a policy picks them.  [default: all of the bundle's]",
)
@click.option(
    "--from-rollouts",
    type=_file,
    help="Sample nothing: measure what this store, or what was exported from one, covers.",
)
@click.option(
    "--fit-rollouts",
    type=_file,
    help="Rollouts that the bundle was fitted on: intervals then cover another fit too.",
)
@option(
    "--store",
    type=_file,
    help="Where rollouts are kept.  [default: PROBLEMS with .rollouts.sqlite]",
)
@click.option("--dry-run", is_flag=True, help="Print the price and stop.")
@click.option("--drop-overlap", is_flag=True, help="Leave out problems that the bundle has seen.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole evaluation as JSON.")
@tolerance_option
@option("--seed", type=int, help="Of sampling, where the engine takes seeds, and of resamples.")
@option("--in-flight", type=click.IntRange(min=1), default=IN_FLIGHT, help="Generations at once.")
@with_router
def evaluate(
    router: Router,
    problems: Path,
    bundle: Path | None,
    out: Path | None,
    budgets: tuple[int, ...],
    strategies: tuple[str, ...],
    from_rollouts: Path | None,
    fit_rollouts: Path | None,
    store: Path | None,
    dry_run: bool,
    drop_overlap: bool,
    as_json: bool,
    tolerance: float,
    seed: int | None,
    in_flight: int,
) -> None:
    """Measure the routed policy on unseen problems.

    PROBLEMS is a JSONL file: {"id": …, "problem": …, "answer": …} a line. Rollouts that are stored
    are replayed; what is missing is sampled and stored as it finishes, so an interrupted
    evaluation goes on when it is started again.
    """
    require_fit("an evaluation")
    directory = bundle_to_show(bundle)
    loaded = Bundle.load(directory)
    known = _unseen(loaded, read_graded(problems), drop=drop_overlap)
    study = Study.of(loaded, known, budgets, strategies, seed or 0, tolerance)
    if from_rollouts is not None:
        with open_rollouts(from_rollouts) as rollouts, _opened(fit_rollouts) as fit:
            found = asyncio.run(measure(study, rollouts, fit=fit, source=from_rollouts))
        _finish(found, out, as_json)
        return
    if loaded.table.members:
        router.bundle = directory  # samples cost what they did in the fit
        loaded.check_known(router.verifier is not None, router.fleet)
    path = store or Path(f"{problems}.rollouts.sqlite")
    due = _price(study, path)
    then = ", and then what levels and pilots lead to" if due.generations else ""
    click.echo(f"to sample: {price_text(due)}{then}", err=not dry_run)
    if dry_run:
        return

    async def work(models: Models) -> Evaluation:
        sampling = router.asked.over(loaded.origin.sampling)
        worker = LocalWorker(models, sampling)
        check_models(loaded, models)
        origin = with_prices(worker.origin, router.pairs)
        with RolloutStore.create(path, origin) as rollouts:
            check_origin(loaded, rollouts)
            # A server that dies of a seed (vLLM's CPU build) cannot be told from others.
            sent = None if router.pair.endpoints and seed is None else study.seed
            sampled = await sample_missing(
                study, rollouts, worker, _round, seed=sent, in_flight=in_flight
            )
            with _opened(fit_rollouts) as fit:
                return await measure(study, rollouts, fit=fit, sampled=sampled)

    with opened(router):
        _finish(router.run(work), out, as_json)


def _opened(path: Path | None) -> AbstractContextManager[RolloutStore | None]:
    return nullcontext() if path is None else open_rollouts(path)


def _unseen(bundle: Bundle, problems: tuple[Problem, ...], *, drop: bool) -> tuple[Problem, ...]:
    if not drop:
        return problems
    unseen = tuple(problem for problem in problems if not bundle.fitted_on(problem))
    if not unseen:
        raise InputError(
            f"the bundle was fitted on all {len(problems)} problems; evaluate it on others"
        )
    if len(unseen) < len(problems):
        count = len(problems) - len(unseen)
        click.echo(f"left out {counted(count, 'problem')} that the bundle was fitted on", err=True)
    return unseen


def _price(study: Study, path: Path) -> Due:
    """What is known to be missing; needs no model."""
    if not path.is_file():
        return price(study.jobs(None))
    with RolloutStore.read(path) as rollouts:
        check_origin(study.bundle, rollouts)
        return price(study.jobs(rollouts), rollouts.rates())


@contextmanager
def _round(due: Due) -> Iterator[Ticker]:
    with sampling_progress(due.generations) as tick:
        yield tick


# -- what people see ------------------------------------------------------------------------


def _finish(evaluation: Evaluation, out: Path | None, as_json: bool) -> None:
    if out is not None:
        evaluation.save(out)
    if as_json:
        click.echo(json.dumps(evaluation.to_dict()))
        return
    console = Console(highlight=False)
    print_grid(_accuracies(evaluation), console)
    print_grid(_compute(evaluation), console)
    print_grid(_averages(evaluation), console)
    if evaluation.versus:
        print_grid(_versus(evaluation), console)
    for sentence in (
        headline(evaluation),
        against_fixed(evaluation),
        averaged(evaluation),
        differences(evaluation),
        paired(evaluation),
        *([sizes(evaluation)] if evaluation.tolerance else []),
        losses(evaluation),
        *evaluation.notes,
    ):
        console.print(sentence, markup=False)
    console.print(replayed(evaluation), style="dim", markup=False)


def _accuracies(evaluation: Evaluation) -> Grid:
    grid = Grid(
        title=f"{evaluation.provenance.model}, {evaluation.problems} unseen problems,"
        f" pass@1 {percent(evaluation.pass_at_1)}",
        caption="problems solved, with paired 95 % bootstrap interval",
        box=SIMPLE_HEAD,
    )
    grid.add_column("", min_width=len("best-of-N, "))
    for budget in evaluation.budgets:
        grid.add_column(f"N = {budget}", justify="right", min_width=len("(28–40)"))
    best = {b: max(_values(evaluation, b), default=0.0) for b in evaluation.budgets}
    for curve in evaluation.curves:
        cells = []
        for budget in evaluation.budgets:
            point = curve.at(budget)
            text = (
                "" if point is None else percent(point.accuracy).replace("\N{NO-BREAK SPACE}%", "")
            )
            top = point is not None and point.accuracy.value >= best[budget] - 1e-9
            cells.append(f"[bold]{text}[/]" if top else text)
        ends = curve.name == evaluation.policies[-1]
        grid.add_row(label(evaluation, curve.name), *cells, end_section=ends)
    return grid


def _values(evaluation: Evaluation, budget: int) -> list[float]:
    found = [curve.at(budget) for curve in evaluation.curves]
    return [point.accuracy.value for point in found if point is not None]


def _compute(evaluation: Evaluation) -> Grid:
    """What each policy spends, and what the baseline spends for the same accuracy."""
    grid = Grid(
        title=f"spent by each policy, and by {baseline_label(evaluation)} for equal accuracy",
        caption="equal N: what it needs. x: how many times as much that is.",
        box=SIMPLE_HEAD,
    )
    for heading in ("", "N", "spent", "tokens", "FLOPs", "equal N", "x (interval)"):
        grid.add_column(heading, justify="right" if heading else "left")
    largest = evaluation.baseline_curve[-1].budget
    points = [(p, point) for p in evaluation.policies for point in evaluation.curve(p).points]
    for policy, point in points:
        equal = equal_at(evaluation, policy, point.budget)
        needs = equal.samples.value
        grid.add_row(
            policy,
            str(point.budget),
            f"{point.generations:.1f}",
            "not known" if point.tokens is None else f"{point.tokens:,.0f}",
            "not known" if point.flops is None else f"{point.flops:.2g}",
            f">{largest}" if needs is None else f"{needs:.1f}",
            times(evaluation, equal, "generations"),
            end_section=point.budget == evaluation.budgets[-1],
        )
    return grid


def _averages(evaluation: Evaluation) -> Grid:
    """What averages reach, beside what the baseline does at equal cost."""
    grid = Grid(
        title=f"at an average budget, beside the {baseline_label(evaluation)}",
        caption="points: more than it at equal cost. x: how many times as much it has to spend.",
        box=SIMPLE_HEAD,
    )
    for heading in ("", "average", "spent", "solved", "points", "x (interval)"):
        grid.add_column(heading, justify="right" if heading else "left")
    for policy in (*evaluation.policies, ONE_FOR_ALL):
        found = at_averages(evaluation, policy)
        for equal in found:
            grid.add_row(
                policy,
                f"{equal.average:g}",
                f"{equal.spent:.1f}",
                f"{100 * equal.accuracy.value:.1f}",
                points(equal.gain),
                times(evaluation, equal, "generations"),
                end_section=equal is found[-1],
            )
    return grid


def _versus(evaluation: Evaluation) -> Grid:
    """Each model of a fleet alone, with its best search, at equal cost."""
    grid = Grid(
        title="each model alone with its best search, at equal cost: compute or parameters?",
        caption="chosen on the fit; gain over the first in points, paired 95 % interval",
        box=SIMPLE_HEAD,
    )
    for heading in ("N", "level", "model", "search", "solved", "gain"):
        grid.add_column(heading, justify="right" if heading in ("N", "gain") else "left")
    for one in evaluation.versus:
        for row, alone in enumerate(one.models):
            grid.add_row(
                "" if row else str(one.budget),
                "" if row else "all" if one.level is None else str(one.level),
                alone.model,
                alone.strategy.in_words(),
                percent(alone.accuracy),
                points(alone.gain) if row else "",
                end_section=row + 1 == len(one.models),
            )
    return grid
