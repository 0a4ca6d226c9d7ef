"""Average budgets, replayed on unseen problems: anytime votes and routing against fixed votes.

    python -m benchmarks.averages --out benchmarks/results/averages.json

Everything is fitted on `rollouts/fit.jsonl.gz`, and measured on `rollouts/evaluate.jsonl.gz`. A
policy may spend 16 generations on a problem and so many on average: one configuration for all, or
each problem its own by P(level) of its text, the average shared out over the file. Baselines are
best-of-N by a vote at their best single temperature for each N, chosen on the fit, and one greedy
sample at N = 1.
`times` is how many times as much the better baseline spends for the accuracy of the policy, and
`gain` the difference in accuracy at what the policy spent. Intervals (95 %) come from resampling
the problems of the fit (levels, estimates, choices and prices are made anew; the estimator of
difficulty is not) together with those of the evaluation.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.provenance import provenance
from router.averages import Mix
from router.difficulty.levels import fit_levels
from router.difficulty.text_estimator import TextEstimator
from router.fitting.cells import estimates
from router.fitting.measurements import BY_STRATEGY, Measurements, measure
from router.fitting.sampler import configurations
from router.models.errors import InputError
from router.models.types import Problem
from router.rollouts.export import open_rollouts
from router.strategies.base import Strategy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROLLOUTS: Final = Path(__file__).parent / "rollouts"
AVERAGES: Final = (2.0, 4.0, 8.0)
MOST: Final = 16
SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16)
GREEDY: Final = "best_of_n(n=1, select=majority, temperature=0)"
LEADS: Final = {"weighted": (0.25, 0.5, 1, 2), "majority": (1, 2, 3, 4)}
FLOORS: Final = {"weighted": (0, 0.02, 0.05), "majority": (0, 0.15, 0.25)}
SCHEDULES: Final = ("", 'temperatures="0.3:4", ', 'temperatures="0:1, 0.3:3", ')


def strategies() -> list[Strategy]:
    """Votes of every size at each temperature, and anytime ones at each cap."""
    fixed = [GREEDY]
    for select in ("weighted", "majority"):
        fixed += [f"best_of_n(select={select})", f"best_of_n(select={select}, temperature=0.3)"]
        fixed += [f"best_of_n(select={select}, {schedule[:-2]})" for schedule in SCHEDULES[1:]]
    found = dict.fromkeys(configurations(SIZES, fixed, verifier=True))
    anytime = [
        f"best_of_n(select={select}, {schedule}lead={lead}, give_up={floor})"
        for select in LEADS
        for schedule in SCHEDULES
        for lead in LEADS[select]
        for floor in FLOORS[select]
    ]
    found |= dict.fromkeys(configurations((4, 8, 16), anytime, verifier=True))
    return list(found)


def read(name: str, wanted: list[Strategy]) -> tuple[Measurements, list[Problem]]:
    """Measurements of the problems that every strategy's pools cover."""
    with open_rollouts(ROLLOUTS / f"{name}.jsonl.gz") as store:
        problems = {problem.id: problem for problem in store.problems()}
        counts = store.counts()
        cold = "best_of_n(n=1, temperature=0.3)"
        covered = [i for i in problems if counts[i, cold] and counts[i, "best_of_n"] >= MOST + 8]
        found = measure(store, wanted, covered)
    return found, [problems[i] for i in found.problems]


@dataclass(frozen=True)
class Fitted:
    """What a fit on some problems (with repeats) decides.

    accuracy, cost: of each configuration at each level, shape (levels, configurations).
    """

    accuracy: Floats
    cost: Floats

    @classmethod
    def of(cls, found: Measurements, level: Ints, count: int) -> Fitted:
        parts = [found.rows(level == number) for number in range(1, count + 1)]
        return cls(
            np.stack([estimates(part) for part in parts]), np.stack([part.cost for part in parts])
        )

    def mix(self, levels: Floats, kept: npt.NDArray[np.bool_]) -> Mix:
        return Mix(levels @ self.accuracy[:, kept], levels @ self.cost[:, kept])


def only(found: Measurements, kept: npt.NDArray[np.bool_]) -> Measurements:
    """Those strategies."""
    names = tuple(s for s, keep in zip(found.strategies, kept, strict=True) if keep)
    return replace(
        found, strategies=names, **{name: getattr(found, name)[:, kept] for name in BY_STRATEGY}
    )


def taken(found: Measurements, rows: Ints) -> Measurements:
    """Those rows, repeats too."""
    names = (*BY_STRATEGY, "sample_tokens", "sample_flops", "pass_at_1", "samples")
    arrays = {name: getattr(found, name)[rows] for name in names}
    return Measurements(
        problems=tuple(f"{i}" for i in rows),
        strategies=found.strategies,
        scores=tuple(found.scores[i] for i in rows),
        prefills=tuple(found.prefills[i] for i in rows),
        **arrays,
    )


def once(fit: Measurements, test: Measurements, told: Floats, count: int) -> dict[str, float]:
    """Every figure, of one fit and one evaluation. told: P(level) of the tested problems."""
    names = [str(strategy) for strategy in fit.strategies]
    index = {name: i for i, name in enumerate(names)}
    level = fit_levels(fit.pass_at_1, f"quantile:{count}").of(fit.pass_at_1)
    by_level, flat = Fitted.of(fit, level, count), Fitted.of(fit, np.ones_like(level), 1)
    every = np.ones(len(names), np.bool_)
    plain = np.array(["lead" not in n and "temperatures" not in n for n in names])
    own = fit.accuracy.mean(axis=0)
    # Baselines: at each N the temperature that is best on the fit.
    curves: dict[str, list[float]] = {}
    for select in ("weighted", "majority"):
        curve = []
        for n in SIZES:
            short = "" if select == "weighted" else f", select={select}"
            rivals = [f"best_of_n(n={n}{short}{t})" for t in ("", ", temperature=0.3")]
            rivals += [GREEDY] if n == 1 else []
            known = [index[name] for name in rivals if name in index]
            curve.append(float(test.accuracy[:, max(known, key=lambda i: own[i])].mean()))
        curves[select] = curve
    found: dict[str, float] = {"greedy": float(test.accuracy[:, index[GREEDY]].mean())}
    best = np.maximum(curves["weighted"], curves["majority"])
    for name, curve in curves.items():
        found |= {f"{name}@{n}": value for n, value in zip(SIZES, curve, strict=True)}
    spent_on_fit = fit.cost
    policies = {"one for all": every, "routed, fixed votes": plain, "routed, anytime": every}
    for name, kept in policies.items():
        for average in AVERAGES:
            if name == "one for all":
                fits = np.where(spent_on_fit <= average, flat.accuracy[0], -1.0)
                columns = np.full(len(test.problems), fits.argmax())
            else:
                worth = by_level.mix(told, kept)
                prices = np.array(worth.prices(average))[:, None]
                value = (worth.accuracy - prices * worth.cost).round(9)
                among = np.where(value == value.max(axis=1, keepdims=True), worth.cost, np.inf)
                columns = np.flatnonzero(kept)[among.argmin(axis=1)]
            rows = np.arange(len(columns))
            accuracy = float(test.accuracy[rows, columns].mean())
            spent = float(test.generations[rows, columns].mean())
            key = f"{name} at {average:g}"
            found[f"{key}: accuracy"], found[f"{key}: spent"] = accuracy, spent
            found[f"{key}: gain"] = accuracy - float(np.interp(spent, SIZES, best))
            found[f"{key}: times"] = crossing(accuracy, best) / spent
    return found


def crossing(accuracy: float, curve: Floats) -> float:
    """The N at which the curve reaches an accuracy; below N = 1 on the line from nothing at 0."""
    sizes, values = [0, *SIZES], np.maximum.accumulate([0.0, *curve])
    if accuracy > values[-1]:
        return float("inf")
    at = int(np.argmax(values >= accuracy))
    low, high = values[at - 1], values[at]
    part = (accuracy - low) / (high - low) if high > low else 1.0
    return float(sizes[at - 1] + part * (sizes[at] - sizes[at - 1]))


def measured(resamples: int, seed: int, count: int = 3) -> dict[str, Any]:
    """All figures with their intervals."""
    wanted = strategies()
    fit, fitted = read("fit", wanted)
    test, tested = read("evaluate", wanted)
    # What has a sample too few on some problem is left out: at 0.3 there are 8 on those unseen.
    both = np.concatenate([fit.accuracy, test.accuracy])
    whole = np.asarray(~np.isnan(both).any(axis=0))
    fit, test = only(fit, whole), only(test, whole)
    level = fit_levels(fit.pass_at_1, f"quantile:{count}").of(fit.pass_at_1)
    estimator = TextEstimator.fit([p.text for p in fitted], level, fit.pass_at_1, seed)
    told = np.array([estimator.levels(problem) for problem in tested])
    rng = np.random.default_rng(seed)
    point = once(fit, test, told, count)
    drawn: list[dict[str, float]] = []
    while len(drawn) < resamples:
        a = rng.integers(0, len(fitted), len(fitted))
        b = rng.integers(0, len(tested), len(tested))
        try:
            drawn.append(once(taken(fit, a), taken(test, b), told[b], count))
        except InputError:  # too few different problems for the levels
            continue
    return {
        "provenance": provenance(),
        "fit_problems": len(fitted),
        "problems": len(tested),
        "configurations": len(fit.strategies),
        "resamples": resamples,
        "figures": {
            name: [_number(v) for v in (value, *_bounds([d[name] for d in drawn]))]
            for name, value in point.items()
        },
    }


def _bounds(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975), method="nearest")
    return float(low), float(high)


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    result = measured(given.resamples, given.seed)
    for name, (value, low, high) in result["figures"].items():
        print(f"{name:45} {value} ({low} to {high})")
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
