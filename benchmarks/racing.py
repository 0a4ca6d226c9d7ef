"""What racing saves against the whole grid, and how often it picks the same cell.

Replays fits from complete stores through the real sampler: simulated ones, and real ones that are
given (each must hold a whole grid).

    python -m benchmarks.racing benchmarks/results/racing.json [STORE …]
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulated import CLOSE, WORLD, Kind, simulated_store
from difficulty.levels import fit_levels
from models.fakes import FakeGenerator
from models.types import Sampling
from router.fitting.allocation import Allocation
from router.fitting.cells import build_table
from router.fitting.measurements import Measurements
from router.fitting.sampler import DEFAULTS, Job, Sampler, configurations
from router.rollouts.runs import Run
from router.rollouts.store import SAMPLES, RolloutStore
from router.table import Table
from strategies.base import Strategy

BUDGETS = (1, 2, 4, 8, 16)
STRATEGIES = configurations(BUDGETS, DEFAULTS, verifier=True)
WORLDS = {"strategies far apart": WORLD, "strategies close": CLOSE}
SIZES = (60, 120, 240)
SEEDS = 8
LEVELS = "quantile:3"
CONFIDENCES = (0.8, 0.95, 0.99)


class Replay(Sampler):
    """Takes each search from a complete store instead of a model."""

    def __init__(self, runs: Mapping[tuple[str, str, int], Run], *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self.runs = runs
        self.generations = 0

    async def _one(self, job: Job, models: Any) -> int:  # noqa: ARG002
        self.store.add(self.runs[job.problem.id, job.configuration, job.repeat])
        self.generations += job.strategy.cost
        return 0


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
    full: RolloutStore, strategies: Sequence[Strategy], allocation: Allocation, levels: str
) -> tuple[Measurements, int]:
    """Fit from `full` with this allocation; what was measured, and the search generations."""
    runs = {(run.problem, run.configuration, run.repeat): run for run in full.runs()}
    with (
        tempfile.TemporaryDirectory() as directory,
        RolloutStore.create(Path(directory) / "replay.sqlite", full.origin) as store,
    ):
        with store.transaction():
            store.add_problems(full.problems())
            for run in runs.values():
                if run.configuration == SAMPLES:
                    store.add(run)
        settings = {"levels": levels, "allocation": allocation, "merge": True}
        sampler = Replay(runs, store, full.problems(), strategies, **settings)
        asyncio.run(sampler.run(FakeGenerator(), None, Sampling()))
        return sampler.measured(), sampler.generations


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
    full: RolloutStore, strategies: Sequence[Strategy], levels: str, tallies: Mapping[float, Tally]
) -> None:
    """Add one store's comparison to the tally of each confidence."""
    found, whole = replay(full, strategies, Allocation.of("grid"), levels)
    edges = fit_levels(found.pass_at_1, levels, merge=True)
    grid = build_table(found, edges, BUDGETS, "generations")
    for confidence, tally in tallies.items():
        allocation = Allocation(first=Allocation.of("racing").first, confidence=confidence)
        raced, spent = replay(full, strategies, allocation, levels)
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
                measure_store(full, STRATEGIES, LEVELS, tallies)
    return _dicts(tallies)


def real(path: Path) -> dict[str, dict[str, float]]:
    tallies = {confidence: Tally() for confidence in CONFIDENCES}
    with RolloutStore.read(path) as full:
        measure_store(full, STRATEGIES, LEVELS, tallies)
    return _dicts(tallies)


def main(result: Path, stores: Sequence[Path]) -> None:
    record = {
        "budgets": BUDGETS,
        "strategies": DEFAULTS,
        "levels": LEVELS,
        "simulated": {
            name: {f"{size} problems": simulated(kinds, size) for size in SIZES}
            for name, kinds in WORLDS.items()
        },
        "real": {path.name: real(path) for path in stores},
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["simulated"]))


def _dicts(tallies: Mapping[float, Tally]) -> dict[str, dict[str, float]]:
    return {f"confidence {c}": tally.to_dict() for c, tally in tallies.items()}


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
