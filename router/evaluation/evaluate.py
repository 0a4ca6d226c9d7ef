"""From rollouts to an evaluation: a function of the store, the bundle and the seed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from router.bundle import Bundle
from router.difficulty.base import UNOBSERVED
from router.difficulty.validation import Validation
from router.evaluation.comparison import Comparing, fitted_rollouts
from router.evaluation.fleet import versus
from router.evaluation.outcomes import Columns, Outcomes
from router.evaluation.pilot import PilotReplay
from router.evaluation.records import (
    Curve,
    Difficulty,
    Evaluation,
    Gain,
    Point,
    Provenance,
    Regret,
    Rollouts,
    Versus,
)
from router.evaluation.statistics import hindsight, point, spearman
from router.evaluation.study import Picks, Study
from router.fitting.measurements import Measurements
from router.intervals import mean_figure, resamples
from router.models.errors import InputError
from router.models.types import Problem
from router.provenance import commit, digest, package_version
from router.rollouts.store import RolloutStore
from router.strategies.fleet import cost_of

Floats = npt.NDArray[np.float64]

FEW = 30
"""Fewer problems than this make a bootstrap's intervals too narrow."""

Routed = dict[str, dict[int, Outcomes]]


@dataclass(frozen=True)
class _Case:
    """The problems that are fully measured, and what all statistics share.

    level: true level of each problem, shape (problems,). weights: of paired resamples.
    """

    study: Study
    problems: tuple[Problem, ...]
    found: Measurements
    picks: Picks
    weights: Floats

    @property
    def columns(self) -> Columns:
        return Columns(self.found)

    @property
    def level(self) -> npt.NDArray[np.int64]:
        return self.study.bundle.levels.of(self.found.pass_at_1)

    def point(self, budget: int, got: Outcomes) -> Point:
        return point(budget, got, self.level, self.study.bundle.levels.count, self.weights)


async def evaluate(
    study: Study,
    store: RolloutStore,
    *,
    fit: RolloutStore | None = None,
    source: Path | None = None,
    sampled: int = 0,
) -> Evaluation:
    """Measure every policy and fixed strategy on the problems that the store covers.

    fit: what the bundle was fitted on; intervals then cover another fit too.
    source: the file that was asked for, if the store was read from another.
    sampled: generations of the store that were sampled for this evaluation.

    Raises:
        InputError: the store comes from other models than the bundle, holds other problems under
            the same ids, or covers fewer than two of the problems; or `fit` is not what the bundle
            was fitted on.
    """
    check_origin(study.bundle, store)
    _check_problems(study.problems, store)
    case = await _case(study, store)
    routed = _routed(case, store)
    fixed = {
        name: {budget: case.columns.outcomes(s) for budget, s in by_budget.items()}
        for name, by_budget in study.fixed.items()
    }
    fitted = None if fit is None else fitted_rollouts(study.bundle, fit, case.found)
    comparing = Comparing(study, case.problems, case.found, case.weights)
    compared = comparing.compare(routed, fitted)
    votes = {
        name: {n: case.columns.outcomes(s) for n, s in by_size.items()}
        for name, by_size in compared.votes.items()
    }
    return Evaluation(
        problems=len(case.problems),
        left_out=len(study.problems) - len(case.problems),
        budgets=study.budgets,
        tolerance=study.tolerance,
        level_sizes=tuple(np.bincount(case.level - 1, minlength=study.bundle.levels.count)),
        pass_at_1=mean_figure(_pass_at_1(case), case.weights),
        baseline=next(iter(votes)),
        fits=compared.fits,
        curves=tuple(
            Curve(name=name, routed=group is routed, points=_points(case, by_budget))
            for group in (routed, votes, fixed)
            for name, by_budget in group.items()
        ),
        gains=_gains(case, routed, fixed),
        equal=compared.equal,
        pairs=compared.pairs,
        regret=_regret(case, routed),
        difficulty=_difficulty(case),
        versus=_versus(case),
        notes=_notes(case, compared.fits),
        provenance=_provenance(study, case, store, source or store.path, sampled),
    )


def check_origin(bundle: Bundle, store: RolloutStore) -> None:
    """Make sure that a store's rollouts come from the models that the bundle was fitted on.

    Raises:
        InputError: another generator, prompt, verifier or sampling.
    """
    try:
        bundle.origin.joined(store.origin)
    except InputError as error:
        raise InputError(
            f"{store.path} holds rollouts of other models than the bundle's: {error}; give"
            " another --store or --from-rollouts"
        ) from None


def _check_problems(problems: Sequence[Problem], store: RolloutStore) -> None:
    stored = {problem.id: (problem.text, problem.answer) for problem in store.problems()}
    for problem in problems:
        if stored.get(problem.id, (problem.text, problem.answer)) != (problem.text, problem.answer):
            raise InputError(
                f"problem {problem.id!r} is in {store.path} with another text or answer; rename"
                " it, or give another store"
            )


async def _case(study: Study, store: RolloutStore) -> _Case:
    """What is measured, without problems of which something that is needed is not."""
    found = study.measured(store, curve=True)
    if found is None:
        raise InputError(
            f"{store.path} holds {study.level_samples + study.budgets[-1]} samples of none of the"
            f" {len(study.problems)} problems; sample them without --from-rollouts"
        )
    known = {problem.id: problem for problem in study.problems}
    problems = [known[name] for name in found.problems]
    picks = study.picks(problems, found)
    columns = Columns(found)
    complete = np.array(
        [
            not np.isnan(
                found.accuracy[row, [columns.index[s] for s in study.needed(picks, row)]]
            ).any()
            for row in range(len(problems))
        ]
    )
    kept = np.flatnonzero(complete)
    if len(kept) < 2:
        raise InputError(
            f"{store.path} covers {len(kept)} of the {len(study.problems)} problems, and an"
            " evaluation needs two or more: sample what is missing without --from-rollouts, or"
            " compare with fewer strategies (--strategy)"
        )
    return _Case(
        study,
        tuple(problems[row] for row in kept),
        found.rows(complete),
        {
            name: {budget: [decided[row] for row in kept] for budget, decided in by_budget.items()}
            for name, by_budget in picks.items()
        },
        resamples(len(kept), study.seed),
    )


def _routed(case: _Case, store: RolloutStore) -> Routed:
    columns = case.columns
    routed: Routed = {}
    for name, by_budget in case.picks.items():
        if name == "pilot":
            replay = PilotReplay(case.study, store, case.problems, columns)
            routed[name] = {b: replay.outcomes(b, decided) for b, decided in by_budget.items()}
        else:
            routed[name] = {
                budget: columns.outcomes([one for (one,) in decided])
                for budget, decided in by_budget.items()
            }
    return routed


def _points(case: _Case, by_budget: dict[int, Outcomes]) -> tuple[Point, ...]:
    return tuple(case.point(budget, got) for budget, got in by_budget.items())


def _gains(case: _Case, routed: Routed, fixed: Routed) -> tuple[Gain, ...]:
    return tuple(
        Gain(
            policy=policy,
            strategy=strategy,
            budget=budget,
            gain=mean_figure(routed[policy][budget].accuracy - got.accuracy, case.weights),
        )
        for policy in routed
        for strategy, by_budget in fixed.items()
        for budget, got in by_budget.items()
    )


def _regret(case: _Case, routed: Routed) -> tuple[Regret, ...]:
    costs = np.array([cost_of(s, case.found.fleet) for s in case.found.strategies])
    found = []
    for budget in case.study.budgets:
        best = hindsight(case.found.accuracy[:, costs <= budget], case.level)
        oracle = routed["oracle"][budget].accuracy
        for policy, by_budget in routed.items():
            got = by_budget[budget]
            parts = {
                "selection": got.coverage - got.accuracy,
                "difficulty": oracle - got.accuracy,
                "table": best - oracle,
                "routing": best - got.accuracy,
            }
            figures = {name: mean_figure(each, case.weights) for name, each in parts.items()}
            found.append(Regret(policy=policy, budget=budget, **figures))
    return tuple(found)


def _versus(case: _Case) -> tuple[Versus, ...]:
    bundle = case.study.bundle
    if not bundle.table.members:
        return ()
    return versus(bundle, case.study.budgets, case.columns, case.level, case.weights)


def _difficulty(case: _Case) -> tuple[Difficulty, ...]:
    """Of the policies that predict levels, against levels that they did not see."""
    bundle, pass_at_1 = case.study.bundle, _pass_at_1(case)
    stated = {"learned": np.array([bundle.by_text.levels(p, UNOBSERVED) for p in case.problems])}
    if bundle.pilot is not None:
        known = [scores[np.isfinite(scores)] for scores in case.found.scores]
        size = min(8, min(map(len, known)))
        means = np.array([scores[:size].mean() for scores in known])
        stated["pilot"] = bundle.pilot.probabilities(means, size)
    if bundle.prefill is not None and case.study.reads_prompts(case.found):
        read = [p.evidence() for p in case.found.prefills if p is not None]
        both = zip(case.problems, read, strict=True)
        stated["prefill"] = np.array([bundle.prefill.levels(p, e) for p, e in both])
    return tuple(
        Difficulty(
            policy=policy,
            spearman=spearman(levels @ np.arange(levels.shape[1]), pass_at_1, case.weights[:500]),
            validation=Validation.of(levels, case.level, pass_at_1),
        )
        for policy, levels in stated.items()
    )


def _pass_at_1(case: _Case) -> Floats:
    """Over all samples of each problem, those that decide its level included."""
    others = case.columns.outcomes(case.study.votes(1)[0]).accuracy
    share = case.study.level_samples / case.found.samples
    return np.asarray(share * case.found.pass_at_1 + (1 - share) * others, np.float64)


def _notes(case: _Case, fits: int) -> tuple[str, ...]:
    covered = f"and another fit ({fits} resamples of both)" if fits else "but not another fit"
    notes = [f"Intervals of what routing gains over votes cover other problems, {covered}."]
    if len(case.problems) < FEW:
        notes.append(
            f"There are only {len(case.problems)} problems, so the intervals are too narrow."
        )
    left_out = len(case.study.problems) - len(case.problems)
    if left_out:
        notes.append(
            f"{left_out} of {len(case.study.problems)} problems are left out: the rollouts do not"
            " cover them."
        )
    if case.study.bundle.estimator is None:
        notes.append("The bundle has no difficulty estimator: every problem counts as average.")
    if case.study.bundle.prefill is not None and not case.study.reads_prompts(case.found):
        notes.append(
            "The rollouts do not say where each prompt led the generator, so routing by the prefill"
            " is left out."
        )
    if case.study.bundle.pilot is None:
        notes.append("The bundle cannot tell difficulty by a pilot: no sample of it was scored.")
    return tuple(notes)


def _provenance(
    study: Study, case: _Case, store: RolloutStore, source: Path, sampled: int
) -> Provenance:
    bundle = study.bundle
    data = sorted((p.id, p.text, p.answer) for p in case.problems)
    spent = _generations(store, {problem.id for problem in case.problems})
    return Provenance(
        command=shlex.join(["router", *sys.argv[1:]]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        package_version=package_version(),
        commit=commit(),
        seed=study.seed,
        bundle=digest([bundle.manifest, bundle.table.to_dict()]),
        bundle_problems=int(bundle.manifest["data"]["problems"]),
        problems=digest(data),
        rollouts=Rollouts(store=str(source), replayed=max(0, spent - sampled), sampled=sampled),
        model=bundle.origin.model,
        verifier=bundle.origin.verifier,
    )


def _generations(store: RolloutStore, problems: set[str]) -> int:
    return sum(int(row[3] or 0) for row in store.spent() if row[0] in problems)
