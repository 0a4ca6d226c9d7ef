"""From measurements to cells: estimates, intervals, and held-out choices."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from router.difficulty.levels import Levels
from router.fitting.allocation import Allocation
from router.fitting.measurements import Measurements
from router.fitting.shrinkage import borrowed, errors, shrunken
from router.models.errors import InputError
from router.strategies.base import Strategy
from router.strategies.budget import SLACK
from router.strategies.escalate import Escalate
from router.strategies.fleet import cost_of
from router.table import Cell, Cost, CostUnit, Entry, Estimate, FittedModel, Table

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_BEHIND = 1e-6  # what lost, or is not told to win, ranks behind its rival
_DOUBT = 0.05  # one-sided, that a verifier's vote beats a plain one


def beaten(accuracy: Floats, costs: Floats) -> Bools:
    """Strategies that one which costs no more beats on the problems that both were given.

    By a paired t-test, as the race eliminates them (`fitting.allocation`): so a loser of the race
    is always among them, whatever the few problems that it was given say of it alone. Those that
    were given all problems cannot be losers, and are compared by their estimates.

    Returns: shape (strategies,).
    """
    allocation = Allocation.of("racing")
    found = np.zeros(len(costs), np.bool_)
    counts = (~np.isnan(accuracy)).sum(axis=0)
    for column in np.flatnonzero(counts < counts.max()):
        for rival in np.flatnonzero(costs <= costs[column]):
            pair = [rival, column]
            if rival != column and not found[column]:
                kept = allocation.survivors(accuracy[:, pair], costs[pair], np.ones(2, np.bool_))
                found[column] = not kept[1]
    return found


def unproven(found: Measurements) -> dict[int, int]:
    """Columns of votes by score that are not told to beat a plain one, each with the plain one's.

    A verifier that ranks nothing still looks best in some cell, by the luck of its few problems. So
    one verdict holds for a search, temperature and selection, over all problems and sizes: a paired
    t-test, as in a race. Votes that stop are under it and have no part in it, since by scores and
    by counts one rule spends differently.
    """
    column = {strategy: number for number, strategy in enumerate(found.strategies)}
    rivals: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for strategy, own in column.items():
        if len(strategy.stages) > 1:  # whose votes are each their own
            continue
        plain = column.get(replace(strategy, select="majority", aggregate=None))
        if plain is not None and plain != own:
            vote = f"{_family(strategy)} {strategy.select} {strategy.aggregate}"
            rivals[vote][own] = plain
    doubted: dict[int, int] = {}
    for pairs in rivals.values():
        fixed = {o: p for o, p in pairs.items() if found.strategies[o].stopping is None}
        gain = found.accuracy[:, list(fixed)] - found.accuracy[:, list(fixed.values())]
        if fixed and not _gains(gain):
            doubted |= pairs
    return doubted


def _gains(difference: Floats) -> bool:
    """Whether the mean is told to be over 0; shape (problems, sizes), NaN where not measured."""
    from scipy.stats import ttest_1samp

    known = difference[~np.isnan(difference).all(axis=1)]
    if len(known) < 2:
        return False
    # Differences without spread make SciPy warn; no difference at all gives NaN: no gain.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        p = ttest_1samp(np.nanmean(known, axis=1), 0.0, alternative="greater").pvalue
    return bool(p < _DOUBT)


def interval(accuracy: float, problems: int) -> Estimate:
    """Jeffreys interval (95 %) of a mean of `problems` values in [0, 1].

    It treats each value as 0 or 1. Expected accuracies vary less, so it is on the safe side.
    """
    from scipy.stats import beta

    right = accuracy * problems
    low, high = beta.ppf([0.025, 0.975], right + 0.5, problems - right + 0.5)
    return Estimate(
        accuracy=accuracy,
        low=min(float(low), accuracy),
        high=max(float(high), accuracy),
        problems=problems,
    )


def build_table(
    found: Measurements,
    levels: Levels,
    budgets: Sequence[int],
    cost: CostUnit,
    members: Sequence[FittedModel] = (),
) -> Table:
    """The table of these measurements; each cell reports its choice on held-out problems.

    members: the models of a fleet.
    """
    table = _table(found, levels.of(found.pass_at_1), levels.count, budgets, cost, members)
    held_out = _held_out(found, levels, budgets, cost, members)
    cells = tuple(
        cell.model_copy(update={"held_out": held_out.get((cell.level, cell.budget))})
        for cell in table.cells
    )
    return table.model_copy(update={"cells": cells})


def unequal(table: Table) -> list[str]:
    """A sentence, where some winner was measured on fewer problems than what it was compared with.

    Estimates are of differences on the same problems; those that lack it may be of another kind.
    """
    found = {}
    for cell in table.cells:
        own = table.best(cell.level, cell.budget).estimate.problems
        most = max(entry.estimate.problems for entry in cell.entries)
        if own < most:
            found[cell.budget, cell.level] = own, most
    if not found:
        return []
    (budget, level), (own, most) = min(found.items(), key=lambda cell: cell[1][0] / cell[1][1])
    return [
        f"what wins in {len(found)} of {len(table.cells)} cells was measured on fewer problems than"
        f" what it was compared with, as at level {level}, budget {budget}: {own} of {most};"
        " sample more of the others, or leave that budget out"
    ]


def _table(
    found: Measurements,
    level: Ints,
    count: int,
    budgets: Sequence[int],
    cost: CostUnit,
    members: Sequence[FittedModel],
) -> Table:
    numbers = range(1, count + 1)
    doubted = unproven(found)
    parts = [found.rows(level == number) for number in numbers]
    entries = {
        number: _entries(part, accuracy, doubted)
        for number, part, accuracy in zip(numbers, parts, estimates(parts), strict=True)
    }
    return Table(
        cost=cost,
        levels=count,
        budgets=tuple(budgets),
        generation=tuple(
            _cost(1, found.sample_tokens[level == number], found.sample_flops[level == number])
            for number in numbers
        ),
        cells=tuple(
            Cell(
                level=number,
                budget=budget,
                entries=_fitting(entries[number], number, budget),
                held_out=None,
            )
            for number in numbers
            for budget in budgets
        ),
        members=tuple(members),
    )


def _fitting(entries: Sequence[tuple[Entry, float]], level: int, budget: int) -> tuple[Entry, ...]:
    """entries: each with the most that it may cost."""
    fitting = tuple(entry for entry, most in entries if most <= budget + SLACK)
    if not fitting:
        raise InputError(
            f"no strategy was measured at level {level} within budget {budget}; sample more"
            " problems or more samples a problem, or leave the budget out"
        )
    return fitting


def estimates(parts: Sequence[Measurements]) -> Floats:
    """What accuracy to expect of each strategy on problems like these.

    parts: the problems of each level.

    Returns:
        shape (levels, strategies), NaN where a strategy was not measured.
    """
    strategies = parts[0].strategies
    family, kind = (
        np.unique([told(strategy) for strategy in strategies], return_inverse=True)[1]
        for told in (_family, _kind)
    )
    costs = np.stack([part.cost for part in parts])
    accuracy = np.stack([shrunken(part.accuracy, part.cost, family, kind) for part in parts])
    accuracy = borrowed(accuracy, np.stack([errors(part.accuracy) for part in parts]), costs)
    lost = [beaten(part.accuracy, part.cost) for part in parts]
    return np.stack(list(map(_without_losers, accuracy, costs, lost)))


def _entries(
    found: Measurements, accuracy: Floats, doubted: Mapping[int, int]
) -> list[tuple[Entry, float]]:
    """Every strategy measured on these problems, with the most that it may cost, best first.

    Of equals the cheaper is first. accuracy: what to expect of each, shape (strategies,).
    doubted: columns that rank behind another, as `unproven` tells.
    """
    costs, accuracy = found.cost, accuracy.copy()
    for own, plain in doubted.items():
        accuracy[own] = np.fmin(accuracy[own], np.fmax(0.0, accuracy[plain] - _BEHIND))
    counts = (~np.isnan(found.accuracy)).sum(axis=0)
    entries = [
        Entry.model_construct(  # not validated here: the whole table is, once it is complete
            strategy=strategy,
            estimate=interval(float(accuracy[column]), int(counts[column])),
            cost=_cost(float(costs[column]), found.tokens[:, column], found.flops[:, column]),
        )
        for column, strategy in enumerate(found.strategies)
        if counts[column]
    ]
    entries.sort(key=lambda e: (-round(e.estimate.accuracy, 9), e.cost.generations))
    return [(entry, cost_of(entry.strategy, found.fleet)) for entry in entries]


def _family(strategy: Strategy) -> str:
    """The same search at the same temperature, whatever its size and selection."""
    if isinstance(strategy, Escalate):
        stages = " ".join(_family(one) for one in (strategy.first, strategy.then))
        return f"{strategy.name} {strategy.lead} {strategy.give_up} {stages}"
    temperatures = getattr(strategy, "temperatures", None)
    return f"{_kind(strategy)} {strategy.temperature} {temperatures}"


def _kind(strategy: Strategy) -> str:
    """The same search of the same models."""
    return f"{strategy.name} {[stage.model for stage in strategy.stages]}"


def _without_losers(accuracy: Floats, costs: Floats, lost: Bools) -> Floats:
    """Losers are no better than the best of what costs no more and did not lose."""
    kept = accuracy.copy()
    for column in np.flatnonzero(lost):
        rivals = accuracy[~lost & (costs <= costs[column])]
        if np.isfinite(rivals).any():
            kept[column] = min(kept[column], max(0.0, np.nanmax(rivals) - _BEHIND))
    return kept


def _cost(generations: float, tokens: Floats, flops: Floats) -> Cost:
    def mean(values: Floats) -> float | None:
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else None

    return Cost(generations=generations, tokens=mean(tokens), flops=mean(flops))


def _held_out(
    found: Measurements,
    levels: Levels,
    budgets: Sequence[int],
    cost: CostUnit,
    members: Sequence[FittedModel],
) -> dict[tuple[int, int], Estimate]:
    """Two-fold cross-validation inside each level: one fold picks, the other measures.

    Level edges are those of the picking fold, so that nothing of a measured problem went into
    the decision on it.
    """
    outcomes: dict[tuple[int, int], list[float]] = {}
    column = {strategy: i for i, strategy in enumerate(found.strategies)}
    fold = _folds(found, levels)
    for number in (0, 1):
        picking, measuring = found.rows(fold == number), found.rows(fold != number)
        edges = levels.refit(picking.pass_at_1)
        picked, measured = edges.of(picking.pass_at_1), edges.of(measuring.pass_at_1)
        if len(np.unique(picked)) < levels.count:
            continue
        try:
            table = _table(picking, picked, levels.count, budgets, cost, members)
        except InputError:  # this half alone cannot pick everywhere
            continue
        for cell in table.cells:
            choice = column[table.best(cell.level, cell.budget).strategy]
            values = measuring.accuracy[measured == cell.level, choice]
            outcomes.setdefault((cell.level, cell.budget), []).extend(values[~np.isnan(values)])
    return {
        key: interval(float(np.mean(values)), len(values))
        for key, values in outcomes.items()
        if values
    }


def _folds(found: Measurements, levels: Levels) -> Ints:
    """Fold 0 or 1 of each problem: every other one of its level, in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(found.problems))
    fold = np.zeros(len(found.problems), dtype=np.int64)
    level = levels.of(found.pass_at_1)
    for number in range(1, levels.count + 1):
        members = order[level[order] == number]
        fold[members[1::2]] = 1
    return fold
