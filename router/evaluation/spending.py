"""What policies spend and reach, beside the best single vote of each size.

The baseline is what anyone can have without a router: at each N the vote over samples (weighted or
majority, at one temperature; at N = 1 perhaps one greedy sample) that the *fit* expects most of. In
a fleet it may ask any one of the models, and N is what it costs, rounded up. Between two of these
lies a coin: whoever gives some problems the one and the others the other, blindly, gets what is on
the line between them, so the baseline is the upper hull of the votes.
Policies may spend a budget on each problem, or an average over all of them. Everything that a fit
decides is decided anew on each resample of its problems, where its rollouts are at hand: levels,
estimates, choices, prices, and the baseline too. So intervals cover another fit as well as other
problems; what they leave out is the estimator of difficulty, which stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from router.averages import Mix
from router.bundle import Bundle
from router.difficulty.levels import Levels
from router.evaluation.records import Bounded, Equal
from router.fitting.cells import estimates
from router.fitting.measurements import Measurements
from router.intervals import Figure
from router.models.errors import InputError
from router.strategies.base import Select, Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.fleet import Fleet, asked_by, cost_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Unit = Literal["accuracy", "generations", "tokens", "flops"]

UNITS: Final[tuple[Unit, ...]] = ("accuracy", "generations", "tokens", "flops")
VOTES: Final[dict[str, tuple[Select, ...]]] = {
    "vote": ("weighted", "majority"),
    "weighted vote": ("weighted",),
    "majority vote": ("majority",),
}
"""The baselines, by what they are called: the better vote of each size, and each alone."""

VOTE_OF: Final = "vote of "
"""A model's name follows: its own votes alone."""

FITS: Final = 200
"""Resamples of the fit, each with one of the problems that are evaluated."""

_SLACK: Final = 1e-9


@dataclass(frozen=True)
class Worth:
    """What a fit expects of strategies.

    levels: where it divides problems. prior: how common each level is, shape (levels,).
    accuracy, cost: of each strategy at each level, shape (levels, strategies); cost in generations.
    """

    levels: Levels
    prior: Floats
    accuracy: Floats
    cost: Floats

    @classmethod
    def of(cls, bundle: Bundle, strategies: Sequence[Strategy]) -> Worth:
        """What a bundle's table says; nothing of what it does not know at every level."""
        table = bundle.table
        known, accuracy, cost = table.curves(table.budgets[-1], "generations")
        shape = (table.levels, len(strategies))
        found = cls(bundle.levels, np.array(bundle.prior), np.full(shape, -np.inf), np.ones(shape))
        for column, strategy in enumerate(strategies):
            if strategy in known:
                found.accuracy[:, column] = accuracy[:, known.index(strategy)]
                found.cost[:, column] = cost[:, known.index(strategy)]
        return found

    def only(self, columns: npt.NDArray[np.bool_]) -> Worth:
        """Nothing is expected of other columns, so they are never chosen."""
        return replace(self, accuracy=np.where(columns, self.accuracy, -np.inf))

    def expected(self, column: int) -> float:
        """Accuracy over all levels; below 0 where it is not known at one of them."""
        accuracy = self.accuracy[:, column]
        return float(self.prior @ accuracy) if np.isfinite(accuracy).all() else -1.0

    def within(self, strategies: Sequence[Strategy], budget: int, fleet: Fleet) -> list[int]:
        """The columns that are known at every level, and cost no more than a budget at most.

        fleet: what samples of each model cost.
        """
        most = [cost_of(strategy, fleet) for strategy in strategies]
        return [c for c, m in enumerate(most) if m <= budget + _SLACK and self.expected(c) >= 0]

    def useful(self, columns: Sequence[int]) -> list[int]:
        """Those that no other equals or beats at every level for no more: whatever a price is, and
        whatever the levels, nothing else is chosen."""
        accuracy, cost = self.accuracy[:, columns].T, self.cost[:, columns].T
        better = (accuracy[:, None] >= accuracy).all(-1) & (cost[:, None] <= cost).all(-1)
        # Of equal ones the first stays.
        better &= ~better.T | np.tri(len(columns), k=-1, dtype=np.bool_).T
        beaten = np.asarray(better.any(axis=0))
        return [column for column, lost in zip(columns, beaten, strict=True) if not lost]

    @classmethod
    def refitted(cls, found: Measurements, levels: Levels) -> Worth:
        """What a fit on these problems would say.

        Raises:
            InputError: a level has no problem that was measured.
        """
        edges = levels.refit(found.pass_at_1)
        level = edges.of(found.pass_at_1)
        parts = [found.rows(level == number) for number in range(1, edges.count + 1)]
        prior = np.array([len(part.problems) for part in parts]) / len(found.problems)
        if not all(np.isfinite(part.accuracy).any() for part in parts):
            raise InputError("a level of the resample has no problem that was measured")
        accuracy = np.nan_to_num(estimates(parts), nan=-np.inf)
        return cls(edges, prior, accuracy, np.stack([part.cost for part in parts]))

    def at_budget(self, told: Floats, allowed: Sequence[int]) -> Ints:
        """The column of what each problem gets among those that cost no more than a budget.

        told: P(level) of each problem, shape (problems, levels).
        """
        return np.array(allowed)[self._mix(told, allowed).chosen(0.0)]

    def at_average(self, told: Floats, allowed: Sequence[int], average: float) -> Ints:
        """The same where all problems together may cost so much on average.

        Raises:
            InputError: nothing costs so little.
        """
        mix = self._mix(told, allowed)
        return np.array(allowed)[mix.chosen(np.array(mix.prices(average)))]

    def one_for_all(self, allowed: Sequence[int], average: float) -> int:
        """The column of the best single strategy that costs no more on average."""
        fitting = [c for c in allowed if self.prior @ self.cost[:, c] <= average + _SLACK]
        return max(fitting, key=self.expected)

    def _mix(self, told: Floats, allowed: Sequence[int]) -> Mix:
        columns = np.array(allowed)
        return Mix(told @ self.accuracy[:, columns], told @ self.cost[:, columns])


def votes_of(strategies: Sequence[Strategy], fleet: Fleet) -> dict[str, list[int]]:
    """The columns of votes over samples of one model at one temperature, by baseline.

    In a fleet also those of each model alone.
    """
    found = {
        name: [c for c, strategy in enumerate(strategies) if _is_vote(strategy, selects)]
        for name, selects in VOTES.items()
    }
    first = next(iter(fleet), "")
    for name in fleet:
        own = [c for c in found["vote"] if asked_by(strategies[c], first) == (name,)]
        found[VOTE_OF + name] = own
    return found


def _is_vote(strategy: Strategy, selects: Sequence[Select]) -> bool:
    return (
        isinstance(strategy, BestOfN)
        # Of one sample nothing is selected.
        and (strategy.select in selects or strategy.n == 1)
        and not (strategy.anytime or strategy.temperatures)
    )


def vote_sizes(
    strategies: Sequence[Strategy], worth: Worth, votes: Sequence[int], fleet: Fleet
) -> Ints:
    """The sizes of which the fit knows one of these votes."""
    known = {_size(strategies[c], fleet) for c in votes if worth.expected(c) >= 0}
    return np.array(sorted(known), np.int64)


def best_votes(
    strategies: Sequence[Strategy], worth: Worth, votes: Sequence[int], fleet: Fleet, sizes: Ints
) -> Ints:
    """At each size the column of the vote that the fit expects most of, shape (sizes,)."""
    of_size = [[c for c in votes if _size(strategies[c], fleet) == n] for n in sizes]
    return np.array([max(columns, key=worth.expected) for columns in of_size], np.int64)


def _size(strategy: Strategy, fleet: Fleet) -> int:
    return math.ceil(cost_of(strategy, fleet) - _SLACK)


def refits(fit: Measurements, levels: Levels, seed: int) -> Iterator[Worth]:
    """What the fit would have said of other problems, without end: its own, drawn with repeats."""
    rng = np.random.default_rng([seed, 1])
    while True:
        rows = rng.integers(0, len(fit.problems), len(fit.problems))
        try:
            yield Worth.refitted(fit.taken(rows), levels)
        except InputError:  # too few different problems for the levels
            continue


class Spending:
    """Compares what policies spend and reach with a baseline, on the problems and on resamples.

    found: of the problems that are evaluated. weights: how often each resample draws each of them,
        shape (resamples, problems). votes: columns of the baseline, the cheapest first, on the
        problems as they are (first) and on each resample, shape (1 + resamples, sizes).
    """

    def __init__(self, found: Measurements, weights: Floats, votes: Ints) -> None:
        self._found = found
        count = len(found.problems)
        self.weights = np.concatenate([np.full((1, count), 1 / count), weights / count])
        self._curves = {unit: self._curve(getattr(found, unit), votes) for unit in UNITS}
        self._rising = _hull(self._curves["generations"], self._curves["accuracy"])

    def equal(
        self, policy: str, budget: int, own: dict[Unit, Floats], average: float | None = None
    ) -> Equal:
        """own: what the policy reaches and spends on each problem, shape (problems,) or
        (1 + resamples, problems)."""
        means = {unit: (self.weights * own[unit]).sum(axis=1) for unit in UNITS}
        samples, segment, part = self._crossing(means["accuracy"])
        at_equal_cost = np.array(
            [
                np.interp(spent, costs, curve)
                for spent, costs, curve in zip(
                    means["generations"], self._curves["generations"], self._rising, strict=True
                )
            ]
        )
        ratios = {
            unit: self._ratio(means[unit], self._curves[unit], samples, segment, part)
            for unit in UNITS[1:]
        }
        assert ratios["generations"] is not None
        return Equal(
            policy=policy,
            budget=budget,
            average=average,
            accuracy=_figure(means["accuracy"]),
            spent=float(means["generations"][0]),
            samples=_bounded(samples),
            generations=ratios["generations"],
            tokens=ratios["tokens"],
            flops=ratios["flops"],
            gain=_figure(means["accuracy"] - at_equal_cost),
            over_largest=_figure(means["accuracy"] - self._curves["accuracy"][:, -1]),
        )

    def own(self, columns: Ints) -> dict[Unit, Floats]:
        """What strategies reach and spend. columns: shape (problems,) or (…, problems)."""
        rows = np.arange(len(self._found.problems))
        return {unit: getattr(self._found, unit)[rows, columns] for unit in UNITS}

    def _curve(self, values: Floats, votes: Ints) -> Floats:
        means = np.take_along_axis(self.weights @ values, votes, axis=1)
        return np.concatenate([np.zeros((len(means), 1)), means], axis=1)

    def _crossing(self, targets: Floats) -> tuple[Floats, Ints, Floats]:
        """Where the baseline first reaches these accuracies: at how many generations, on straight
        lines from nothing at none; the size before that, and how far it lies towards the next.
        Infinite where it never does."""
        reached = self._rising >= targets[:, None] - _SLACK
        rows = np.arange(len(reached))
        after = np.maximum(reached.argmax(axis=1), 1)
        low, high = self._rising[rows, after - 1], self._rising[rows, after]
        part = np.clip((targets - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
        samples = _between(self._curves["generations"], after - 1, part)
        return np.where(reached.any(axis=1), samples, np.inf), after - 1, part

    def _ratio(
        self, own: Floats, costs: Floats, samples: Floats, before: Ints, part: Floats
    ) -> Bounded | None:
        """How many times as much the baseline spends there; None if a cost is not known."""
        if np.isnan(own).any() or np.isnan(costs).any():
            return None
        spent = _between(costs, before, part)
        return _bounded(np.where(np.isinf(samples), np.inf, spent / own))


def _hull(costs: Floats, accuracy: Floats) -> Floats:
    """The most that is had at each cost by one of these, or by mixing two of them.

    costs, accuracy: shape (rows, sizes); costs rise.
    """
    hull = np.maximum.accumulate(accuracy, axis=1)
    for low, high in combinations(range(costs.shape[1]), 2):
        inside = slice(low, high + 1)
        start, end = costs[:, [low]], costs[:, [high]]
        part = (costs[:, inside] - start) / (end - start)
        mixed = accuracy[:, [low]] * (1 - part) + accuracy[:, [high]] * part
        hull[:, inside] = np.maximum(hull[:, inside], mixed)
    return hull


def _between(values: Floats, before: Ints, part: Floats) -> Floats:
    """In each row the value that lies that far between one column and the next."""
    rows = np.arange(len(values))
    low: Floats = values[rows, before]
    between: Floats = low + part * (values[rows, before + 1] - low)
    return between


def _figure(values: Floats) -> Figure:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Figure(float(values[0]), float(low), float(high))


def _bounded(values: Floats) -> Bounded:
    # Without interpolation: infinities must not mix with numbers.
    low, high = np.quantile(values[1:], (0.025, 0.975), method="nearest")
    return Bounded(value=_finite(values[0]), low=_finite(low), high=_finite(high))


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
