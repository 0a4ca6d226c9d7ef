"""What an evaluation compares, and which searches it needs for that."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from router.bundle import Bundle
from router.fitting.measurements import Measurements, measure
from router.fitting.sampler import MAJORITY, configurations, missing
from router.fitting.workers import Job
from router.models.errors import InputError
from router.models.types import Problem
from router.policy import BundlePolicy, OraclePolicy, PilotPolicy, Policy, PrefillPolicy
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Strategy, parse_strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.registry import STRATEGIES

PILOT_DRAWS = 16
"""Orders in which each problem's samples are drawn; each gives a pilot and what follows it."""

Picks = Mapping[str, Mapping[int, Sequence[tuple[str, ...]]]]
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
            strategies = configurations(budgets, texts, verifier=verified)
        else:
            strategies = tuple(parse_strategy(text, STRATEGIES) for text in _in_table(bundle))
        votes = configurations(
            budgets, [VOTE, MAJORITY] if verified else [MAJORITY], verifier=verified
        )
        fixed = _by_family([*votes, *strategies], budgets)
        BundlePolicy(bundle, tolerance)  # refuses a bad tolerance before anything is sampled
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

    def policies(self, found: Measurements | None) -> dict[str, Policy]:
        """The routed policies, as far as they can decide before or after something is sampled."""
        policies: dict[str, Policy] = {"learned": BundlePolicy(self.bundle, self.tolerance)}
        if found is None:
            return policies
        if self.bundle.pilot is not None:
            policies["pilot"] = PilotPolicy(self.bundle, self.tolerance)
        if self.reads_prompts(found):
            policies["prefill"] = PrefillPolicy(self.bundle, self.tolerance)
        level = self.bundle.levels.of(found.pass_at_1).tolist()
        levels = dict(zip(found.problems, level, strict=True))
        return {**policies, "oracle": OraclePolicy(self.bundle, self.tolerance, levels=levels)}

    def reads_prompts(self, found: Measurements) -> bool:
        """Whether it is known where the prompt of every problem led the generator."""
        prefill = self.bundle.prefill
        return prefill is not None and all(
            read is not None and read.layer == prefill.layer for read in found.prefills
        )

    async def picks(
        self, problems: Sequence[Problem], found: Measurements | None = None
    ) -> dict[str, dict[int, list[tuple[str, ...]]]]:
        """What every policy decides for these problems, which are those of `found` in order."""
        return {
            name: {
                budget: [
                    await self._decided(policy, problem, budget, row, found)
                    for row, problem in enumerate(problems)
                ]
                for budget in self.budgets
            }
            for name, policy in self.policies(found).items()
        }

    async def _decided(
        self, policy: Policy, problem: Problem, budget: int, row: int, found: Measurements | None
    ) -> tuple[str, ...]:
        limits = Budget(budget)
        if policy.reads_prompt and found is not None:
            read = found.prefills[row]
            state = None if read is None else np.array(read.state, np.float32)
            return ((await policy.decide(problem, limits, state=state)).strategy,)
        size = policy.pilot(limits)
        if not size or found is None or len(found.scores[row]) < size:
            return ((await policy.decide(problem, limits)).strategy,)
        pool = found.scores[row]
        pilots = [pool[order[:size]].tolist() for order in self.orders(problem, len(pool))]
        return tuple([(await policy.decide(problem, limits, p)).strategy for p in pilots])

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
        texts = {
            text
            for by_budget in picks.values()
            for decided in by_budget.values()
            for text in decided[row]
        }
        fixed = {str(s): s for by_budget in self.fixed.values() for s in by_budget.values()}
        return [*fixed.values(), *(parse_strategy(t, STRATEGIES) for t in sorted(texts - {*fixed}))]

    def measured(self, store: RolloutStore, *, curve: bool = False) -> Measurements | None:
        """What the store holds of problems with enough samples; None if it has no such problem.

        curve: best-of-N by a vote at every N too, up to the samples that every problem has.
        """
        counts = store.counts()
        held = {p.id: counts[p.id, SAMPLES] - self.level_samples for p in self.problems}
        held = {name: count for name, count in held.items() if count >= self.budgets[-1]}
        if not held:
            return None
        strategies = {text: parse_strategy(text, STRATEGIES) for text in _in_table(self.bundle)}
        for by_budget in self.fixed.values():
            strategies |= {str(strategy): strategy for strategy in by_budget.values()}
        votes = self.votes(min(held.values())) if curve else []
        strategies |= {str(strategy): strategy for strategy in votes}
        return measure(store, list(strategies.values()), held, level_samples=self.level_samples)

    def votes(self, largest: int) -> list[Strategy]:
        """Best-of-N by a vote at N = 1, 2, …; weighted ones first, where there are scores."""
        sizes = range(1, largest + 1)
        weighted: list[Strategy] = [BestOfN(n) for n in sizes]
        majority: list[Strategy] = [BestOfN(n, select="majority") for n in sizes]
        return [*weighted, *majority] if self.baseline == VOTE else majority

    async def jobs(self, store: RolloutStore | None) -> list[Job]:
        """The searches that are missing, as far as is known yet; none once nothing is.

        Levels and pilots need samples first, so what they lead to is known after those.
        """
        held = {} if store is None else store.held()
        found = None if store is None else self.measured(store)
        rows = {} if found is None else {name: i for i, name in enumerate(found.problems)}
        unknown = [problem for problem in self.problems if problem.id not in rows]
        known = sorted((p for p in self.problems if p.id in rows), key=lambda p: rows[p.id])
        jobs: list[Job] = []
        for problems, measured in ((known, found), (unknown, None)):
            picks = await self.picks(problems, measured)
            for row, problem in enumerate(problems):
                needed = self.needed(picks, row)
                jobs += missing([problem], needed, held, level_samples=self.level_samples)
        return jobs


VOTE = "best_of_n"
"""Weighted best-of-N."""


def family(strategy: Strategy) -> str:
    """A strategy's text without `n`: what is the same at every budget."""
    return re.sub(r"n=\d+(, )?", "", str(strategy), count=1).replace("()", "")


def _in_table(bundle: Bundle) -> list[str]:
    """Every configuration of the table."""
    cells = bundle.table.cells
    return list(dict.fromkeys(entry.strategy for cell in cells for entry in cell.entries))


def _by_family(
    strategies: Iterable[Strategy], budgets: Sequence[int]
) -> dict[str, dict[int, Strategy]]:
    """At each budget the largest of a family that fits, where it is larger than before."""
    families: dict[str, list[Strategy]] = {}
    for strategy in strategies:
        families.setdefault(family(strategy), []).append(strategy)
    found: dict[str, dict[int, Strategy]] = {}
    for name, members in families.items():
        least = 0
        for budget in budgets:
            fitting = [s for s in members if least < s.cost <= budget]
            if fitting:
                largest = max(fitting, key=lambda s: s.cost)
                found.setdefault(name, {})[budget] = largest
                least = largest.cost
    return found
