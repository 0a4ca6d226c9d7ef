"""What an evaluation compares, and which searches it needs for that."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from router.bundle import Bundle
from router.choosing import ByTable
from router.difficulty.base import UNOBSERVED, Evidence, Oracle
from router.fitting.configurations import MAJORITY, configurations
from router.fitting.escalation import with_stages
from router.fitting.measurements import Measurements, measure
from router.fitting.sampler import missing
from router.fitting.workers import SearchJob
from router.models.errors import InputError
from router.models.types import Problem
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import SLACK, Budget
from router.strategies.fleet import Fleet, cost_of

PILOT_DRAWS = 16
"""Orders in which each problem's samples are drawn; each gives a pilot and what follows it."""

Picks = Mapping[str, Mapping[int, Sequence[tuple[Strategy, ...]]]]
"""By policy and budget: what each problem gets, once, or for the pilot once for each draw."""


@dataclass(frozen=True)
class Study:
    """One bundle on problems that it was not fitted on, at some of its budgets.

    fixed: strategies as text without `n`, each with what is run at the budgets that it fits.
    tolerance: accuracy that the routed policies may give up for a cheaper search.
    """

    bundle: Bundle
    problems: tuple[Problem, ...]
    budgets: tuple[int, ...]
    fixed: Mapping[str, Mapping[int, Strategy]] = field(default_factory=dict)
    seed: int = 0
    tolerance: float = 0.0

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        problems: Sequence[Problem],
        budgets: Sequence[int] = (),
        texts: Sequence[str] = (),
        seed: int = 0,
        tolerance: float = 0.0,
    ) -> Study:
        """Check what is asked for.

        budgets: all of the table's by default. texts: fixed strategies to compare with, beside
            best-of-N by a vote; all of the table's by default.

        Raises:
            InputError: a budget that the table does not have, a bad strategy, fewer than two
                problems, some that the bundle was fitted on, or a tolerance outside 0 to 1.
        """
        table = bundle.table
        budgets = sorted(set(budgets)) or list(table.budgets)
        unknown = [budget for budget in budgets if budget not in table.budgets]
        if unknown:
            raise InputError(
                f"the bundle was not fitted at budget {unknown[0]}; choose among"
                f" {', '.join(map(str, table.budgets))}, or refit with --budgets"
            )
        if len(problems) < 2:
            raise InputError(
                f"an evaluation needs two problems or more, and there is {len(problems)}"
            )
        seen = [problem.id for problem in problems if bundle.fitted_on(problem)]
        if seen:
            raise InputError(
                f"{len(seen)} of {len(problems)} problems were used to fit the bundle (first:"
                f" {seen[0]!r}), so they would flatter it; leave them out with --drop-overlap"
            )
        verified = bundle.origin.verifier is not None
        if texts:
            strategies = configurations(budgets, texts, verifier=verified, fleet=table.fleet)
        else:
            strategies = tuple(_in_table(bundle))
        votes = configurations(
            budgets, [VOTE, MAJORITY] if verified else [MAJORITY], verifier=verified
        )
        fixed = _by_family([*votes, *strategies], budgets, table.fleet)
        ByTable.of(bundle, "text", tolerance)  # refuses a bad tolerance before anything is sampled
        return cls(bundle, tuple(problems), tuple(budgets), fixed, seed, tolerance)

    @property
    def baseline(self) -> str:
        """What compute is compared with: the field's weighted best-of-N, if there are scores."""
        return VOTE if self.bundle.origin.verifier is not None else MAJORITY

    @property
    def level_samples(self) -> int:
        """Samples that tell true levels: as many as in the fit, whose edges they are held to."""
        return int(self.bundle.manifest["settings"]["level_samples"])

    # -- decisions ------------------------------------------------------------------------

    def choosers(self, found: Measurements | None) -> dict[str, ByTable]:
        """The routed policies, as far as they can decide before or after something is sampled."""
        choosers = {"learned": ByTable.of(self.bundle, "text", self.tolerance)}
        if found is None:
            return choosers
        if self.bundle.pilot is not None:
            choosers["pilot"] = ByTable.of(self.bundle, "pilot", self.tolerance)
        if self.reads_prompts(found):
            choosers["prefill"] = ByTable.of(self.bundle, "prefill", self.tolerance)
        levels = self.bundle.levels.of(found.pass_at_1).tolist()
        given = Oracle(dict(zip(found.problems, levels, strict=True)), self.bundle.levels.count)
        choosers["oracle"] = ByTable.at_true_levels(self.bundle, given, self.tolerance)
        return choosers

    def reads_prompts(self, found: Measurements) -> bool:
        """Whether it is known where the prompt of every problem led the generator."""
        prefill = self.bundle.prefill
        return prefill is not None and all(
            read is not None and read.layer == prefill.layer for read in found.prefills
        )

    def picks(
        self, problems: Sequence[Problem], found: Measurements | None = None
    ) -> dict[str, dict[int, list[tuple[Strategy, ...]]]]:
        """What every policy decides for these problems, which are those of `found` in order."""
        return {
            name: {
                budget: [
                    tuple(
                        chooser.choose(problem, evidence, Budget(budget)).strategy
                        for evidence in self._observed(chooser, problem, budget, row, found)
                    )
                    for row, problem in enumerate(problems)
                ]
                for budget in self.budgets
            }
            for name, chooser in self.choosers(found).items()
        }

    def _observed(
        self, chooser: ByTable, problem: Problem, budget: int, row: int, found: Measurements | None
    ) -> list[Evidence]:
        """What would have been observed of a problem, from what is stored; several draws of it."""
        read = None if found is None else found.prefills[row]
        if chooser.needs.layer is not None and read is not None:
            return [read.evidence()]
        size = chooser.needs.drawn(budget)
        if not size or found is None or len(found.scores[row]) < size:
            return [UNOBSERVED]
        pool = found.scores[row]
        drawn = [pool[order[:size]] for order in self.orders(problem, len(pool))]
        known = [tuple(scores[np.isfinite(scores)].tolist()) for scores in drawn]
        return [Evidence(scores=scores, generations=size) for scores in known]

    def orders(self, problem: Problem, samples: int) -> npt.NDArray[np.int64]:
        """The same orders of a problem's samples at every budget, (draws, samples).

        Rotations of one random order, so that every sample is among the first about equally often:
        independent orders gave a budget of 1 two points more than pass@1, by luck alone.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(problem.id.encode())])
        order = rng.permutation(samples)
        return np.stack([np.roll(order, -(i * samples // PILOT_DRAWS)) for i in range(PILOT_DRAWS)])

    # -- what is needed -------------------------------------------------------------------

    def needed(self, picks: Picks, row: int) -> list[Strategy]:
        """All that must be measured on the problem of that row."""
        chosen = {
            strategy
            for by_budget in picks.values()
            for decided in by_budget.values()
            for strategy in decided[row]
        }
        fixed = {s: None for by_budget in self.fixed.values() for s in by_budget.values()}
        return [*fixed, *sorted(chosen - fixed.keys(), key=str)]

    def measured(self, store: RolloutStore, *, curve: bool = False) -> Measurements | None:
        """What the store holds of problems with enough samples; None if it has no such problem.

        curve: best-of-N by a vote at every N too, up to the samples that every problem has.
        """
        counts = store.counts()
        held = {p.id: counts[p.id, SAMPLES] - self.level_samples for p in self.problems}
        held = {name: count for name, count in held.items() if count >= self.budgets[-1]}
        if not held:
            return None
        fixed = [s for by_budget in self.fixed.values() for s in by_budget.values()]
        votes = self.votes(min(held.values())) if curve else []
        every = with_stages([*_in_table(self.bundle), *fixed])
        strategies = list(dict.fromkeys([*every, *votes]))
        fleet = self.bundle.table.fleet
        return measure(store, strategies, held, level_samples=self.level_samples, fleet=fleet)

    def votes(self, largest: int) -> list[Strategy]:
        """Best-of-N by a vote at N = 1, 2, …; weighted ones first, where there are scores."""
        sizes = range(1, largest + 1)
        weighted: list[Strategy] = [BestOfN(n) for n in sizes]
        majority: list[Strategy] = [BestOfN(n, select="majority") for n in sizes]
        return [*weighted, *majority] if self.baseline == VOTE else majority

    def jobs(self, store: RolloutStore | None) -> list[SearchJob]:
        """The searches that are missing, as far as is known yet; none once nothing is.

        Levels and pilots need samples first, so what they lead to is known after those.
        """
        held = {} if store is None else store.held()
        found = None if store is None else self.measured(store)
        rows = {} if found is None else {name: i for i, name in enumerate(found.problems)}
        unknown = [problem for problem in self.problems if problem.id not in rows]
        known = sorted((p for p in self.problems if p.id in rows), key=lambda p: rows[p.id])
        jobs: list[SearchJob] = []
        for problems, measured in ((known, found), (unknown, None)):
            picks = self.picks(problems, measured)
            for row, problem in enumerate(problems):
                needed = self.needed(picks, row)
                jobs += missing([problem], needed, held, level_samples=self.level_samples)
        return jobs


VOTE = "best_of_n"
"""Weighted best-of-N."""


def _in_table(bundle: Bundle) -> list[Strategy]:
    """Every configuration of the table."""
    cells = bundle.table.cells
    return list(dict.fromkeys(entry.strategy for cell in cells for entry in cell.entries))


def _by_family(
    strategies: Iterable[Strategy], budgets: Sequence[int], fleet: Fleet
) -> dict[str, dict[int, Strategy]]:
    """At each budget the largest of a family that fits, where it is larger than before."""
    families: dict[str, list[Strategy]] = {}
    for strategy in strategies:
        families.setdefault(strategy.family, []).append(strategy)
    found: dict[str, dict[int, Strategy]] = {}
    for name, members in families.items():
        least = 0.0
        for budget in budgets:
            fitting = [s for s in members if least < cost_of(s, fleet) <= budget + SLACK]
            if fitting:
                largest = max(fitting, key=lambda s: cost_of(s, fleet))
                found.setdefault(name, {})[budget] = largest
                least = cost_of(largest, fleet)
    return found
