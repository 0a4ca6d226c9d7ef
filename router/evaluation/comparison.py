"""Puts every policy beside the best single votes, at budgets and at averages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from router.bundle import Bundle
from router.difficulty.base import UNOBSERVED, Estimator
from router.evaluation.outcomes import Outcomes
from router.evaluation.records import Equal, LevelPair
from router.evaluation.spending import (
    FITS,
    UNITS,
    Spending,
    Unit,
    Worth,
    best_votes,
    refits,
    vote_sizes,
    votes_of,
)
from router.evaluation.study import Study
from router.fitting.measurements import Measurements, measure
from router.intervals import mean_figure
from router.models.errors import InputError
from router.models.types import Problem
from router.rollouts.store import RolloutStore
from router.strategies.base import Strategy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Told = Callable[[Worth], Floats]
"""P(level) of each problem, by the levels of one fit; shape (problems, levels)."""

ONE_FOR_ALL = "fixed"
"""The policy that gives every problem the one strategy that is best at an average."""


@dataclass(frozen=True)
class Comparison:
    """What comes of it.

    votes: the baselines, by name and size. fits: resamples of the fit among those of the problems.
    """

    equal: tuple[Equal, ...]
    pairs: tuple[LevelPair, ...]
    votes: Mapping[str, Mapping[int, Strategy]]
    fits: int


def fitted_rollouts(bundle: Bundle, store: RolloutStore, found: Measurements) -> Measurements:
    """What a bundle was fitted on, measured for the strategies that an evaluation has measured.

    Raises:
        InputError: the store is not, or does not hold all of, what the bundle was fitted on.
    """
    ids = {problem.id for problem in store.problems() if bundle.fitted_on(problem)}
    count = bundle.manifest["data"]["problems"]
    samples = bundle.manifest["settings"]["level_samples"]
    fit = measure(store, found.strategies, ids, level_samples=samples) if ids else None
    if fit is None or len(fit.problems) != count:
        held = 0 if fit is None else len(fit.problems)
        raise InputError(
            f"{store.path} holds {held} of the {count} problems that the bundle was fitted on;"
            " give the rollouts that it was made of, or none"
        )
    return fit


@dataclass(frozen=True)
class Comparing:
    """The problems as they were measured, and what all comparisons share.

    weights: of paired resamples of the problems, shape (resamples, problems).
    """

    study: Study
    problems: Sequence[Problem]
    found: Measurements
    weights: Floats

    def compare(
        self, routed: Mapping[str, Mapping[int, Outcomes]], fit: Measurements | None
    ) -> Comparison:
        """routed: outcomes of each policy, by budget. fit: what the bundle was fitted on."""
        strategies, fleet, bundle = self.found.strategies, self.found.fleet, self.study.bundle
        whole = np.asarray(~np.isnan(self.found.accuracy).any(axis=0))
        table = Worth.of(bundle, strategies).only(whole)
        offered = np.asarray(np.isfinite(table.accuracy).all(axis=0))
        worths, weights = [table], self.weights
        if fit is not None:
            others = (worth.only(whole) for worth in refits(fit, bundle.levels, self.study.seed))
            worths, weights = [table, *islice(others, FITS)], self.weights[:FITS]
        votes = {}
        for name, offered_votes in votes_of(strategies, fleet).items():
            sizes = vote_sizes(strategies, table, offered_votes, fleet)
            if len(sizes):
                best = [best_votes(strategies, w, offered_votes, fleet, sizes) for w in worths]
                votes[name] = sizes, np.stack(best)
        if not votes:
            raise InputError(
                "the bundle's table holds no vote over samples that these rollouts cover, so there"
                " is nothing to compare with; fit it with best_of_n too"
            )
        sizes, columns = next(iter(votes.values()))
        rows = 1 + len(weights)
        baseline = np.broadcast_to(columns, (rows, len(sizes)))
        spending = Spending(self.found, weights, baseline)
        worths = [worth.only(offered) for worth in worths]
        at_budgets = self._at_budgets(spending, routed, worths)
        at_averages = self._at_averages(spending, list(routed), worths)
        return Comparison(
            (*at_budgets, *at_averages),
            self._pairs(worths[0]),
            {
                name: {int(n): strategies[c] for n, c in zip(sizes, columns[0], strict=True)}
                for name, (sizes, columns) in votes.items()
            },
            len(worths) - 1,
        )

    def _at_budgets(
        self,
        spending: Spending,
        routed: Mapping[str, Mapping[int, Outcomes]],
        worths: Sequence[Worth],
    ) -> list[Equal]:
        found = []
        # A refit chooses by accuracy and generations.
        plain = not self.study.tolerance and self.study.bundle.table.cost == "generations"
        for policy, by_budget in routed.items():
            told = self._told(policy)
            for budget, got in by_budget.items():
                own: dict[Unit, Floats] = {unit: getattr(got, unit) for unit in UNITS}
                if plain and told is not None and len(worths) > 1:
                    chosen = [
                        worth.at_budget(told(worth), self._within(worth, budget))
                        for worth in worths[1:]
                    ]
                    drawn = spending.own(np.stack(chosen))
                    own = {unit: np.concatenate([own[unit][None], drawn[unit]]) for unit in UNITS}
                found.append(spending.equal(policy, budget, own))
        return found

    def _at_averages(
        self, spending: Spending, policies: Sequence[str], worths: Sequence[Worth]
    ) -> list[Equal]:
        """Of every policy whose decision costs nothing, and of one strategy for all."""
        most = self.study.budgets[-1]
        within = [worth.useful(self._within(worth, most)) for worth in worths]
        found = []
        for policy in (*policies, ONE_FOR_ALL):
            told = self._told(policy)
            if told is None and policy != ONE_FOR_ALL:
                continue
            for average in averages(self.study.budgets):
                try:
                    columns = [
                        self._columns(worth, told, allowed, average)
                        for worth, allowed in zip(worths, within, strict=True)
                    ]
                except InputError:  # a table whose cheapest search costs more
                    continue
                own = spending.own(np.stack(columns) if len(columns) > 1 else columns[0])
                found.append(spending.equal(policy, most, own, average))
        return found

    def _columns(
        self, worth: Worth, told: Told | None, within: Sequence[int], average: float
    ) -> Ints:
        """What each problem gets at an average."""
        if told is not None:
            return worth.at_average(told(worth), within, average)
        return np.full(len(self.problems), worth.one_for_all(within, average))

    def _within(self, worth: Worth, budget: int) -> list[int]:
        return worth.within(self.found.strategies, budget, self.found.fleet)

    def _told(self, policy: str) -> Told | None:
        """How a policy tells difficulty; None where that costs samples, or it does not."""
        bundle, found = self.study.bundle, self.found
        if policy == "oracle":
            return lambda worth: np.eye(len(worth.prior))[worth.levels.of(found.pass_at_1) - 1]
        if policy == "learned":
            return self._by(bundle.by_text)
        if policy == "prefill" and bundle.prefill is not None:
            return self._by(bundle.prefill)
        return None

    def _by(self, estimator: Estimator) -> Told:
        read = [UNOBSERVED if p is None else p.evidence() for p in self.found.prefills]
        both = zip(self.problems, read, strict=True)
        told = np.array([estimator.levels(problem, evidence) for problem, evidence in both])
        return lambda _: told

    def _pairs(self, worth: Worth) -> tuple[LevelPair, ...]:
        """Where a level's choice differs from the one for all, and what that is worth there."""
        level, count = worth.levels.of(self.found.pass_at_1), len(worth.prior)
        found = []
        for budget in self.study.budgets:
            within = self._within(worth, budget)
            for_all = int(worth.at_budget(worth.prior[None], within)[0])
            for number, chosen in enumerate(worth.at_budget(np.eye(count), within), 1):
                at = level == number
                if chosen == for_all or not at.any():
                    continue
                gain = self.found.accuracy[:, chosen] - self.found.accuracy[:, for_all]
                found.append(
                    LevelPair(
                        level=number,
                        budget=budget,
                        chosen=self.found.strategies[chosen],
                        for_all=self.found.strategies[for_all],
                        problems=int(at.sum()),
                        gain=mean_figure(np.where(at, gain, np.nan), self.weights),
                    )
                )
        return tuple(found)


def averages(budgets: Sequence[int]) -> list[float]:
    """The averages that are looked at: each budget but the largest, and half as much again."""
    return sorted({part * budget for budget in budgets[:-1] for part in (1.0, 1.5)})
