from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.simulated import SEARCHES, Simulation, simulated_store
from router.difficulty.levels import Levels, fit_levels
from router.fitting.cells import beaten, build_table, interval, unequal
from router.fitting.configurations import configurations
from router.fitting.measurements import Measurements, measure
from router.models.errors import InputError
from router.rollouts.store import RolloutStore
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.registry import parse_strategy
from router.table import Table

BUDGETS = (1, 2, 4, 8)
STRATEGIES = configurations(BUDGETS, SEARCHES, verifier=True)


@dataclass(frozen=True)
class Fitted:
    simulation: Simulation
    found: Measurements
    levels: Levels
    table: Table

    def truth(self, level: int, strategy: Strategy) -> float:
        """True success rate of one search over the problems that the fit put into a level."""
        members = self.levels.of(self.found.pass_at_1) == level
        index = {problem.id: i for i, problem in enumerate(self.simulation.problems)}
        chances = [self.simulation.chance(index[p], strategy) for p in self.found.problems]
        return float(np.array(chances)[members].mean())


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    path = tmp_path_factory.mktemp("table") / "r.db"
    simulation = simulated_store(path, 240, STRATEGIES)
    with RolloutStore.read(path) as store:
        found = measure(store, STRATEGIES)
    levels = fit_levels(found.pass_at_1, "quantile:3")
    return Fitted(simulation, found, levels, build_table(found, levels, BUDGETS, "generations"))


@pytest.fixture(scope="module")
def table(fitted: Fitted) -> Table:
    return fitted.table


def test_the_fitted_table_finds_the_strategy_that_is_best_by_construction(table: Table) -> None:
    winners = {level: table.best(level, 8).strategy.name for level in (1, 2, 3)}
    assert winners == {1: "best_of_n", 2: "beam_search", 3: "dvts"}


def test_intervals_of_the_table_cover_the_known_truth(fitted: Fitted) -> None:
    known = [
        "best_of_n(n=1)",
        "beam_search(n=4)",
        "beam_search(n=8)",
        "dvts(n=4)",
        "lookahead(n=4)",
    ]
    covered = []
    for level in (1, 2, 3):
        for entry in fitted.table.cell(level, 8).entries:
            if str(entry.strategy) in known:
                estimate = entry.estimate
                truth = fitted.truth(level, entry.strategy)
                covered.append(estimate.low <= truth <= estimate.high)
    assert len(covered) == 15
    assert np.mean(covered) >= 0.85  # of 95 % intervals; one fit is one draw


def test_the_level_is_decided_by_samples_of_its_own(fitted: Fitted) -> None:
    """Problems of the hardest level failed in the deciding samples; in others they need not."""
    hardest = fitted.levels.of(fitted.found.pass_at_1) == 3
    single = [str(s) for s in fitted.found.strategies].index("best_of_n(n=1)")
    fresh = fitted.found.accuracy[hardest, single].mean()
    truth = fitted.truth(3, BestOfN(1))
    decided = fitted.found.pass_at_1[hardest].mean()
    assert abs(fresh - truth) < 0.03
    assert decided < truth - 0.03


def test_held_out_accuracy_is_that_of_the_choice_not_of_its_luck(fitted: Fitted) -> None:
    for level in (1, 2, 3):
        cell = fitted.table.cell(level, 1)
        assert cell.held_out is not None
        assert cell.held_out.low <= fitted.truth(level, BestOfN(1)) <= cell.held_out.high


def test_every_cell_ranks_all_that_fits_its_budget(table: Table) -> None:
    for cell in table.cells:
        fitting = {s for s in STRATEGIES if s.cost <= cell.budget}
        assert {entry.strategy for entry in cell.entries} == fitting
        accuracies = [entry.estimate.accuracy for entry in cell.entries]
        assert accuracies == sorted(accuracies, reverse=True)


def test_the_choice_is_by_expected_accuracy_over_all_levels(table: Table) -> None:
    decision = table.choose([0.5, 0.1, 0.4], 8)
    expected = {
        considered.strategy: sum(
            share
            * next(
                e.estimate.accuracy
                for e in table.cell(level, 8).entries
                if e.strategy == considered.strategy
            )
            for level, share in enumerate([0.5, 0.1, 0.4], 1)
        )
        for considered in decision.considered
    }
    assert decision.strategy == max(expected, key=expected.__getitem__)
    assert decision.expected_accuracy == pytest.approx(expected[decision.strategy])
    assert decision.considered[0].strategy == decision.strategy
    # No single level would have chosen by the mixture's own probability.
    assert decision.levels == pytest.approx((0.5, 0.1, 0.4))


def test_between_fitted_budgets_the_largest_that_fits_is_used(table: Table) -> None:
    for level in range(3):
        one_hot = [float(i == level) for i in range(3)]
        assert table.choose(one_hot, 7).strategy == table.choose(one_hot, 4).strategy
        assert table.choose(one_hot, 1000).strategy == table.choose(one_hot, 8).strategy


def test_a_tolerance_takes_the_cheapest_that_is_nearly_as_good(table: Table) -> None:
    best = table.choose([1, 0, 0], 8)
    cheap = table.choose([1, 0, 0], 8, tolerance=0.1)
    assert best.expected_accuracy is not None
    assert cheap.expected_accuracy is not None
    assert cheap.expected_accuracy >= best.expected_accuracy - 0.1
    assert cheap.considered[0].cost < best.considered[0].cost
    assert "cheapest" in cheap.why
    assert "of the best expected accuracy" in cheap.why


def test_budgets_in_flops_charge_the_verifier(table: Table) -> None:
    by_generations = {str(row.strategy) for row in table.choose([1, 1, 1], 8).considered}
    by_flops = {str(row.strategy) for row in table.choose([1, 1, 1], 8, cost="flops").considered}
    assert "best_of_n(n=8)" in by_generations
    assert "best_of_n(n=8)" not in by_flops
    assert "best_of_n(n=8, select=majority)" in by_flops


@pytest.mark.parametrize("levels", [[1.0], [0.5, 0.5, -0.1], [0, 0, 0], [float("nan"), 1, 0]])
def test_no_probabilities_are_refused(table: Table, levels: list[float]) -> None:
    with pytest.raises(InputError, match="must be 3 probabilities"):
        table.choose(levels, 8)


def test_a_budget_below_the_table_is_refused(table: Table) -> None:
    record = table.to_dict()
    record["budgets"] = [4, 8]
    record["cells"] = [cell for cell in record["cells"] if cell["budget"] >= 4]
    with pytest.raises(InputError, match="begins at budget 4"):
        Table.from_dict(record).choose([1, 0, 0], 3)


def test_a_table_survives_json(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table.to_dict()))
    assert Table.load(path) == table


def _set(*keys: Any) -> Callable[[dict[str, Any]], None]:
    *path, last, value = keys

    def edit(record: Any) -> None:
        for key in path:
            record = record[key]
        record[last] = value

    return edit


ESTIMATE = ("cells", 3, "entries", 0, "estimate")


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (_set(*ESTIMATE, "accuracy", 1.5), r"cells\.3\.entries\.0\.estimate\.accuracy"),
        (_set(*ESTIMATE, "accuracy", float("nan")), r"cells\.3\.entries\.0\.estimate\.accuracy"),
        (_set(*ESTIMATE, "high", 0.0), r"cells\.3\.entries\.0\.estimate.*lies outside"),
        (_set("cells", 3, "entries", 0, "strategy", "beem(n=2)"), r"cells\.3.*unknown strategy"),
        (_set("cells", 0, "entries", 0, "strategy", "best_of_n"), r"cells\.0.*needs n"),
        (_set("cells", 0, "entries", 0, "cost", "generations", 5), r"cells\.0.*budget of 1"),
        (_set("cells", 0, "entries", []), r"cells\.0\.entries"),
        (_set("cells", 1, "level", 9), "no cell for level 1, budget 2"),
        (_set("budgets", [1, 4, 2, 8]), "budgets must rise"),
        (_set("budgets", [0, 2, 4, 8]), r"budgets\.0"),
        (_set("levels", 4), "4 levels"),
        (_set("extra", 1), "extra"),
        (_set("cost", "euros"), "cost"),
        (_set("schema_version", 2), "schema 2, and this version reads 1"),
    ],
)
def test_a_table_edited_into_nonsense_is_refused_with_the_path_of_the_field(
    table: Table, tmp_path: Path, edit: Callable[[dict[str, Any]], None], named: str
) -> None:
    record = json.loads(json.dumps(table.to_dict()))
    edit(record)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=named):
        Table.load(path)


def test_a_dropped_cell_or_a_broken_file_is_refused(table: Table, tmp_path: Path) -> None:
    record = table.to_dict()
    del record["cells"][5]
    with pytest.raises(InputError, match="no cell for level 2, budget 2"):
        Table.from_dict(record)
    path = tmp_path / "table.json"
    path.write_text("{")
    with pytest.raises(InputError, match="cannot read table"):
        Table.load(path)


def _found(x: np.ndarray, texts: list[str]) -> Measurements:
    """Accuracies by problem and strategy, as if they had been measured."""
    strategies = tuple(parse_strategy(text) for text in texts)
    spent = np.where(np.isnan(x), np.nan, [float(s.cost) for s in strategies])
    one, none = np.ones(len(x)), np.zeros_like(x)
    return Measurements(
        problems=tuple(f"p{i}" for i in range(len(x))),
        strategies=strategies,
        accuracy=x,
        error=none,
        coverage=x,
        generations=spent,
        tokens=10 * spent,
        flops=10 * spent,
        sample_tokens=10 * one,
        sample_flops=10 * one,
        pass_at_1=np.linspace(0, 1, len(x)),
        samples=np.ones(len(x), np.int64),
        scores=(np.ones(1),) * len(x),
        prefills=(None,) * len(x),
    )


# -- estimates --------------------------------------------------------------------------------


@pytest.mark.parametrize("costs", [(4, 5), (5, 5), (5, 20), (1, 20)])
def test_losers_of_the_race_win_nowhere(costs: tuple[int, int]) -> None:
    """Given 12 easy problems, on each of which the cheaper one is better by 30 points."""
    rng = np.random.default_rng(0)
    cheap = np.concatenate([np.full(12, 0.95), np.full(48, 0.3)]) + rng.normal(0, 0.02, 60)
    loser = np.full(60, np.nan)
    loser[:12] = cheap[:12] - 0.3 + rng.normal(0, 0.02, 12)
    x = np.column_stack([cheap, loser])
    assert np.nanmean(loser) > cheap.mean()
    assert beaten(x, np.array(costs)).tolist() == [False, True]
    found = _found(x, [f"best_of_n(n={costs[0]})", f"beam_search(n={costs[1]}, width=1)"])
    table = build_table(found, fit_levels(found.pass_at_1, "quantile:1"), [20], "generations")
    assert str(table.best(1, 20).strategy) == f"best_of_n(n={costs[0]})"


@pytest.mark.parametrize("measured", [60, 40])
def test_a_winner_that_was_measured_on_fewer_problems_is_told(measured: int) -> None:
    x = np.full((60, 2), 0.3)
    x[:measured, 1] = 0.8
    x[measured:, 1] = np.nan
    found = _found(x, ["best_of_n(n=4)", "best_of_n(n=8)"])
    table = build_table(found, fit_levels(found.pass_at_1, "quantile:1"), [4, 8], "generations")
    assert table.best(1, 8).strategy.n == 8
    if measured == 60:
        assert unequal(table) == []
    else:
        [told] = unequal(table)
        assert "1 of 2 cells" in told
        assert "level 1, budget 8: 40 of 60" in told


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for truth in (0.1, 0.5, 0.9):
        for _ in range(200):
            estimate = interval(float((rng.random(30) < truth).mean()), 30)
            covered.append(estimate.low <= truth <= estimate.high)
    assert 0.92 <= np.mean(covered) <= 0.99
