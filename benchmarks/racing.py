"""What racing saves against the whole grid, and how often it picks the same cell.

Replays fits from complete rollouts through the real sampler: simulated ones, and real ones that are
given (a store, or what was exported from one). Of real rollouts, those problems count that every
search was run on, in several orders; searches that were run on few problems are left out.

    python -m benchmarks.racing benchmarks/results/racing.json [--rollouts STORE]…
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.provenance import provenance
from benchmarks.simulated import CLOSE, WORLD, Kind, simulated_store
from router.difficulty.levels import fit_levels
from router.fitting.allocation import Allocation
from router.fitting.cells import build_table
from router.fitting.configurations import DEFAULTS, configurations
from router.fitting.measurements import Measurements
from router.fitting.sampler import Sampler, missing
from router.fitting.workers import SearchJob, Worker
from router.models.errors import InputError
from router.models.types import Problem
from router.rollouts.export import open_rollouts
from router.rollouts.runs import Run
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.table import Table

BUDGETS = (1, 2, 4, 8, 16)
STRATEGIES = configurations(BUDGETS, DEFAULTS, verifier=True)
WORLDS = {"strategies far apart": WORLD, "strategies close": CLOSE}
SIZES = (60, 120, 240)
SEEDS = 8
LEVELS = "quantile:3"
CONFIDENCES = (0.8, 0.95, 0.99)
LEAST = 60
"""Problems that a search must have been run on to be replayed."""


class Replay:
    """A worker that takes each search from complete rollouts instead of a model."""

    generator = verifier = None
    reads_prompts = False

    def __init__(self, runs: Mapping[tuple[str, str, int], Run]) -> None:
        self.runs = runs
        self.generations = 0

    async def search(self, job: SearchJob, seed: int | None) -> Run:  # noqa: ARG002
        self.generations += job.strategy.cost
        return self.runs[job.problem.id, job.configuration, job.repeat]


@dataclass
class Tally:
    """Sums over fits."""

    saved: list[float] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, float]:
        return {
            "fits": len(self.saved),
            "search_generations_saved": round(float(np.mean(self.saved)), 3),
            "cells_with_the_same_winner": round(float(np.mean(self.same)), 3),
            "mean_accuracy_lost_in_a_cell": round(float(np.mean(self.lost)), 4),
            "largest_mean_loss_of_a_fit": round(float(np.max(self.lost)), 4),
        }


def replay(
    full: RolloutStore,
    problems: Sequence[Problem],
    strategies: Sequence[Strategy],
    allocation: Allocation,
) -> tuple[Measurements, int]:
    """Fit from `full` with this allocation; what was measured, and the search generations."""
    ids = {problem.id for problem in problems}
    runs = {(r.problem, r.configuration, r.repeat): r for r in full.runs() if r.problem in ids}
    with (
        tempfile.TemporaryDirectory() as directory,
        RolloutStore.create(Path(directory) / "replay.sqlite", full.origin) as store,
    ):
        with store.transaction():
            store.add_problems(problems)
            for run in runs.values():
                if run.configuration == SAMPLES:
                    store.add(run)
        sampler = Sampler(
            store, problems, strategies, levels=LEVELS, allocation=allocation, merge=True
        )
        worker = Replay(runs)
        # Scores are there already, and no prompt is read.
        asyncio.run(sampler.run(cast(Worker, worker)))
        return sampler.measured(), worker.generations


def compare(grid: Table, raced: Table) -> tuple[float, float]:
    """Share of cells with the same winner, and mean accuracy lost by the grid's own estimates."""
    same, lost = [], []
    for cell in grid.cells:
        best = grid.best(cell.level, cell.budget)
        picked = raced.best(cell.level, cell.budget).strategy
        estimate = next(e.estimate for e in cell.entries if e.strategy == picked)
        same.append(picked == best.strategy)
        lost.append(best.estimate.accuracy - estimate.accuracy)
    return float(np.mean(same)), float(np.mean(lost))


def measure_store(
    full: RolloutStore,
    problems: Sequence[Problem],
    strategies: Sequence[Strategy],
    tallies: Mapping[float, Tally],
) -> None:
    """Add one store's comparison to the tally of each confidence."""
    found, whole = replay(full, problems, strategies, Allocation.of("grid"))
    edges = fit_levels(found.pass_at_1, LEVELS, merge=True)
    grid = build_table(found, edges, BUDGETS, "generations")
    for confidence, tally in tallies.items():
        allocation = Allocation(first=Allocation.of("racing").first, confidence=confidence)
        raced, spent = replay(full, problems, strategies, allocation)
        same, lost = compare(grid, build_table(raced, edges, BUDGETS, "generations"))
        tally.saved.append(1 - spent / whole)
        tally.same.append(same)
        tally.lost.append(lost)


def simulated(kinds: Sequence[Kind], size: int) -> dict[str, dict[str, float]]:
    tallies = {confidence: Tally() for confidence in CONFIDENCES}
    for seed in range(SEEDS):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "full.sqlite"
            simulated_store(path, size, STRATEGIES, seed, kinds=kinds)
            with RolloutStore.read(path) as full:
                measure_store(full, full.problems(), STRATEGIES, tallies)
    return _dicts(tallies)


def real(path: Path) -> dict[str, Any]:
    tallies = {confidence: Tally() for confidence in CONFIDENCES}
    with open_rollouts(path) as full:
        problems, strategies = complete(full)
        for seed in range(SEEDS):  # which problems a race begins with is chance
            order = np.random.default_rng(seed).permutation(len(problems))
            measure_store(full, [problems[i] for i in order], strategies, tallies)
    return {"problems": len(problems), "strategies": list(map(str, strategies)), **_dicts(tallies)}


def complete(full: RolloutStore) -> tuple[list[Problem], list[Strategy]]:
    """The problems that all these strategies were run on, as a grid needs.

    Raises:
        InputError: no strategy but best-of-N, which never races.
    """
    every, stored = full.problems(), full.held()
    problems, strategies = every, []
    for strategy in STRATEGIES:
        lacking = {job.problem.id for job in missing(every, [strategy], stored)}
        if len(every) - len(lacking) >= LEAST:
            strategies.append(strategy)
            problems = [problem for problem in problems if problem.id not in lacking]
    if all(isinstance(strategy, BestOfN) for strategy in strategies):
        raise InputError(f"{full.path} holds no search on {LEAST} of its problems")
    return problems, strategies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("--rollouts", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    record = {
        **provenance(),
        "budgets": BUDGETS,
        "strategies": DEFAULTS,
        "levels": LEVELS,
        "simulated": {
            name: {f"{size} problems": simulated(kinds, size) for size in SIZES}
            for name, kinds in WORLDS.items()
        },
        "real": {path.name: real(path) for path in arguments.rollouts},
    }
    arguments.result.parent.mkdir(parents=True, exist_ok=True)
    arguments.result.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({"simulated": record["simulated"], "real": record["real"]}))


def _dicts(tallies: Mapping[float, Tally]) -> dict[str, dict[str, float]]:
    return {f"confidence {c}": tally.to_dict() for c, tally in tallies.items()}


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
