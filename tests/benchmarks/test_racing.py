"""The benchmark of racing, on a small simulated fit."""

from __future__ import annotations

from pathlib import Path

from benchmarks.racing import Tally, measure_store
from benchmarks.simulated import WORLD, simulated_store
from router.fitting.configurations import configurations
from router.rollouts.store import RolloutStore


def test_a_race_costs_no_more_than_the_grid_and_its_cells_are_compared(tmp_path: Path) -> None:
    strategies = configurations((1, 2, 4, 8, 16), ["best_of_n", "beam_search"], verifier=True)
    simulated_store(tmp_path / "full.sqlite", 40, strategies, 0, kinds=WORLD)
    tallies = {0.5: Tally(), 1.0: Tally()}
    with RolloutStore.read(tmp_path / "full.sqlite") as full:
        measure_store(full, full.problems(), strategies, tallies)
    eager, cautious = tallies[0.5].to_dict(), tallies[1.0].to_dict()
    assert cautious["search_generations_saved"] == 0
    assert cautious["cells_with_the_same_winner"] == 1
    assert 0 < eager["search_generations_saved"] < 1
