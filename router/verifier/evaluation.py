"""Measures a verifier on scored solutions: ranking, calibration, best-of-N curves.

Every figure comes with a 95 % interval from a bootstrap over problems; differences are paired.
Curves are expectations over all subsets of N solutions (`router.fitting.estimates`), so each point
uses the whole pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from router.fitting.estimates import Pool, expected_accuracy, pass_at_k
from router.fitting.pools import Answered, pool_of
from router.intervals import RESAMPLES, Figure, mean_figure, resamples
from router.models.base import Aggregation
from router.models.errors import InputError
from router.models.training.metrics import (
    ReliabilityBin,
    auc,
    expected_calibration_error,
    reliability,
)
from router.strategies.base import Select
from router.strategies.selection import aggregate
from router.strategies.tasks import get_task
from router.verifier.data import SolutionPool

Floats = npt.NDArray[np.float64]

POSITIONS = 5


@dataclass(frozen=True, slots=True)
class SelectionCurve:
    """Accuracy of one way to select, for each N; and what it gains over majority (paired)."""

    select: str
    aggregation: Aggregation | None
    accuracy: tuple[Figure, ...]
    gain: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class VerifierReport:
    """All that was measured.

    auc, within: by aggregation, over all solutions and inside problems. step_auc, step_within:
    over single steps, labelled with their solution's outcome. by_position: AUC inside problems of
    the steps in each fifth of their solutions, first fifth first. sizes: N of the curves.
    Solutions that the verifier cannot take have no scores: they count for N and do not vote.
    """

    problems: int
    mixed_problems: int
    solutions: int
    steps: int
    pass_at_1: Figure
    auc: dict[str, Figure]
    within: dict[str, Figure]
    step_auc: Figure
    step_within: Figure
    by_position: tuple[Figure, ...]
    calibration_error: Figure
    brier: Figure
    reliability: tuple[ReliabilityBin, ...]
    sizes: tuple[int, ...]
    curves: tuple[SelectionCurve, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def curve(self, select: str, aggregation: Aggregation | None = None) -> SelectionCurve:
        """The curve of that selection.

        Raises:
            KeyError: it was not measured.
        """
        for curve in self.curves:
            if (curve.select, curve.aggregation) == (select, aggregation):
                return curve
        raise KeyError((select, aggregation))

    @property
    def best_aggregation(self) -> Aggregation:
        """The one whose weighted vote over the whole pool is right most often; ties: the first."""
        ways: tuple[Aggregation, ...] = get_args(Aggregation)
        return max(ways, key=lambda way: self.curve("weighted", way).accuracy[-1].value)


def can_measure(pools: Sequence[SolutionPool]) -> bool:
    """Whether there is anything to resample and to tell apart."""
    return len(pools) > 1 and any(
        len({c.correct for c in pool.candidates if c.scores}) == 2 for pool in pools
    )


def measure(pools: Sequence[SolutionPool], seed: int = 0) -> VerifierReport:
    """Measure the scores on the candidates of `pools`; pure, a few seconds for 3,000 solutions.

    Raises:
        InputError: fewer than two problems, or no problem has right and wrong solutions.
    """
    if not can_measure(pools):
        raise InputError(
            f"cannot measure a verifier on {len(pools)} problems of which "
            f"{sum(pool.mixed for pool in pools)} have both right and wrong solutions"
        )
    weights = resamples(len(pools), seed)
    solutions = _Scores.of_solutions(pools)
    steps = _Scores.of_steps(pools)
    finals = solutions["last"]
    sizes = tuple(range(1, min(len(pool.candidates) for pool in pools) + 1))
    return VerifierReport(
        problems=len(pools),
        mixed_problems=sum(pool.mixed for pool in pools),
        solutions=len(finals.right),
        steps=len(steps.right),
        pass_at_1=mean_figure(_pass_at(pools, (1,))[:, 0], weights),
        auc={way: _resampled(scores, _auc, seed) for way, scores in solutions.items()},
        within={way: scores.within(weights) for way, scores in solutions.items()},
        step_auc=_resampled(steps, _auc, seed),
        step_within=steps.within(weights),
        by_position=tuple(steps.at(fifth).within(weights) for fifth in range(POSITIONS)),
        calibration_error=_resampled(finals, _calibration_error, seed),
        brier=_resampled(finals, _brier, seed),
        reliability=reliability(finals.values, finals.right.astype(float)),
        sizes=sizes,
        curves=_curves(pools, sizes, weights),
    )


@dataclass(frozen=True, slots=True)
class _Scores:
    """Scores of solutions or steps; `problem` is the index of theirs, `fifth` their position."""

    values: Floats
    right: npt.NDArray[np.bool_]
    problem: npt.NDArray[np.int64]
    fifth: npt.NDArray[np.int64]
    problems: int

    @classmethod
    def of_solutions(cls, pools: Sequence[SolutionPool]) -> dict[str, _Scores]:
        ways: tuple[Aggregation, ...] = get_args(Aggregation)
        return {
            way: cls._of(
                [
                    (aggregate(c.scores, way), c.correct, index, 0)
                    for index, pool in enumerate(pools)
                    for c in pool.candidates
                    if c.scores
                ],
                len(pools),
            )
            for way in ways
        }

    @classmethod
    def of_steps(cls, pools: Sequence[SolutionPool]) -> _Scores:
        rows = []
        for index, pool in enumerate(pools):
            for candidate in pool.candidates:
                scores = candidate.scores or ()
                for step, score in enumerate(scores):
                    fifth = POSITIONS * step // max(len(scores) - 1, 1)
                    rows.append((score, candidate.correct, index, min(fifth, POSITIONS - 1)))
        return cls._of(rows, len(pools))

    @classmethod
    def _of(cls, rows: Sequence[tuple[float, bool, int, int]], problems: int) -> _Scores:
        values, right, problem, fifth = (np.array(column) for column in zip(*rows, strict=True))
        return cls(values, right, problem, fifth, problems)

    def at(self, fifth: int) -> _Scores:
        return self._where(self.fifth == fifth)

    def _where(self, chosen: npt.NDArray[Any]) -> _Scores:
        return _Scores(
            self.values[chosen],
            self.right[chosen],
            self.problem[chosen],
            self.fifth[chosen],
            self.problems,
        )

    def within(self, weights: Floats) -> Figure:
        """Mean AUC inside problems; problems without both kinds do not count."""
        each = np.full(self.problems, np.nan)
        for index in np.unique(self.problem):
            inside = self.problem == index
            each[index] = auc(self.values[inside], self.right[inside])
        return mean_figure(each, weights)

    def resample(self, rng: np.random.Generator) -> _Scores:
        """Problems drawn with replacement, each with all its rows."""
        rows = np.split(
            np.argsort(self.problem, kind="stable"),
            np.cumsum(np.bincount(self.problem, minlength=self.problems))[:-1],
        )
        drawn = rng.integers(self.problems, size=self.problems)
        return self._where(np.concatenate([rows[index] for index in drawn]))


def _auc(scores: _Scores) -> float:
    return auc(scores.values, scores.right)


def _calibration_error(scores: _Scores) -> float:
    return expected_calibration_error(reliability(scores.values, scores.right.astype(float)))


def _brier(scores: _Scores) -> float:
    """Mean square of score less outcome (Brier 1950)."""
    return float(np.mean((scores.values - scores.right) ** 2))


def _resampled(scores: _Scores, statistic: Callable[[_Scores], float], seed: int) -> Figure:
    """A statistic that is no mean over problems: recomputed on every resample."""
    rng = np.random.default_rng(seed)
    drawn = [statistic(scores.resample(rng)) for _ in range(RESAMPLES // 10)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Figure(statistic(scores), float(low), float(high))


def _curves(
    pools: Sequence[SolutionPool], sizes: Sequence[int], weights: Floats
) -> tuple[SelectionCurve, ...]:
    def expected(select: Select, way: Aggregation | None) -> Floats:
        estimates = [_estimate_pool(pool, way) for pool in pools]
        return expected_accuracy(estimates, sizes, select, scored=way is not None).accuracy

    # The baseline is what needs no verifier.
    majority = expected("majority", None)

    def curve(select: str, way: Aggregation | None, each: Floats) -> SelectionCurve:
        return SelectionCurve(
            select,
            way,
            tuple(mean_figure(column, weights) for column in each.T),
            tuple(mean_figure(column, weights) for column in (each - majority).T),
        )

    ways: tuple[Aggregation, ...] = get_args(Aggregation)
    scored = [
        curve(select, way, expected(select, way))
        for select in get_args(Select)
        if select != "majority"
        for way in ways
    ]
    oracle = curve("oracle", None, _pass_at(pools, sizes))
    return (curve("majority", None, majority), *scored, oracle)


def _pass_at(pools: Sequence[SolutionPool], sizes: Sequence[int]) -> Floats:
    """pass@k of each problem, shape (problems, sizes)."""
    return np.array(
        [
            [
                pass_at_k(len(pool.candidates), sum(c.correct for c in pool.candidates), size)
                for size in sizes
            ]
            for pool in pools
        ]
    )


def _estimate_pool(pool: SolutionPool, way: Aggregation | None) -> Pool:
    """The pool as `router.fitting.estimates` wants it; way: None for a vote without scores."""
    answered = [
        Answered(index, c.answer, c.correct, {way: aggregate(c.scores, way)})
        if way and c.scores
        else Answered(index, c.answer, c.correct, None)
        for index, c in enumerate(pool.candidates)
    ]
    return pool_of(get_task(pool.problem.task), answered, len(pool.candidates), way)
