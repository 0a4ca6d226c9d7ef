"""Evaluation on simulated rollouts, where the best strategy of each level is known."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulated import ORIGIN, SEARCHES, WORLD, Simulation, state
from router.bundle import Bundle
from router.difficulty.base import UNOBSERVED
from router.difficulty.levels import Levels
from router.evaluation import comparison
from router.evaluation.evaluate import evaluate
from router.evaluation.outcomes import Columns
from router.evaluation.pilot import PilotReplay
from router.evaluation.records import Evaluation
from router.evaluation.spending import Spending, Worth, best_votes, vote_sizes, votes_of
from router.evaluation.statistics import hindsight
from router.evaluation.study import PILOT_DRAWS, Study
from router.evaluation.summary import (
    against_fixed,
    at_averages,
    differences,
    equal_at,
    headline,
    paired,
    sizes,
)
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations
from router.fitting.measurements import Measurements, measure
from router.intervals import Figure, resamples
from router.models.errors import InputError
from router.rollouts.runs import StoredPrefill
from router.rollouts.store import RolloutStore
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.fleet import ALONE, Terms, cost_of
from router.strategies.registry import parse_strategy

BUDGETS = (1, 2, 4, 8)
GRID = configurations(BUDGETS, SEARCHES, verifier=True)
LONGER = configurations([16], ["best_of_n"], verifier=True)
BEST = {1: "best_of_n", 2: "beam_search", 3: "dvts"}
"""What wins at each level at budgets 4 and 8, by construction."""


def simulated(problems: int, seed: int) -> Simulation:
    """Problems whose kind can be told by how many terms they have."""
    world = Simulation(problems, WORLD, seed)
    terms = (range(2, 6), range(7, 11), range(12, 16))
    rng = random.Random(seed)

    def text(kind: int) -> str:
        # A name makes it unlike all others; its letters are no feature.
        return (
            f"{''.join(rng.choices('abcdef', k=9))} = {' + '.join('7' * rng.choice(terms[kind]))}"
        )

    world.problems = [
        replace(problem, id=f"{seed}/{problem.id}", text=text(kind))
        for problem, kind in zip(world.problems, world.kind, strict=True)
    ]
    return world


def filled(path: Path, world: Simulation, strategies: tuple[Strategy, ...]) -> RolloutStore:
    with RolloutStore.create(path, ORIGIN) as store:
        world.fill(store, strategies, 8)
    return RolloutStore.read(path)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("fit") / "r.db"
    with filled(path, simulated(180, seed=1), GRID) as store:
        return fit_bundle(store, FitSettings(BUDGETS, GRID, levels="quantile:3"))


@pytest.fixture(scope="module")
def world() -> Simulation:
    return simulated(90, seed=2)


@pytest.fixture(scope="module")
def store(world: Simulation, tmp_path_factory: pytest.TempPathFactory) -> RolloutStore:
    return filled(tmp_path_factory.mktemp("dev") / "r.db", world, (*GRID, *LONGER))


@pytest.fixture(scope="module")
async def evaluation(bundle: Bundle, world: Simulation, store: RolloutStore) -> Evaluation:
    return await evaluate(Study.of(bundle, world.problems), store)


# -- what is known by construction ---------------------------------------------------------


@pytest.mark.parametrize("budget", [4, 8])
def test_the_table_finds_the_best_strategy_of_each_level(bundle: Bundle, budget: int) -> None:
    found = {level: bundle.table.best(level, budget).strategy.name for level in BEST}
    assert found == BEST


def test_the_estimator_separates_the_levels(bundle: Bundle, world: Simulation) -> None:
    likeliest = [int(np.argmax(bundle.by_text.levels(p, UNOBSERVED))) for p in world.problems]
    assert np.mean(likeliest == world.kind) > 0.95


def test_routing_gives_each_level_its_strategy_and_beats_every_fixed_one(
    evaluation: Evaluation,
) -> None:
    at = evaluation.curve("learned").at(8)
    assert at is not None
    names = {strategy.name for strategy in at.choices}
    assert names == set(BEST.values())
    gains = [g.gain for g in evaluation.gains if (g.policy, g.budget) == ("learned", 8)]
    assert len(gains) == 9
    assert all(gain.value > 0.05 and gain.low > -0.02 for gain in gains)
    assert "At no budget" in against_fixed(evaluation)
    assert differences(evaluation) == "Problems got different strategies at budgets 2, 4, 8."


def test_the_baseline_needs_more_for_equal_accuracy(evaluation: Evaluation) -> None:
    """By construction best-of-N never solves what DVTS does on hard problems."""
    equal = equal_at(evaluation, "learned", 8)
    assert [point.budget for point in evaluation.baseline_curve] == [1, 2, 4, 8]
    assert equal.samples.value is None
    assert equal.gain == equal.over_largest
    assert equal.gain.low > 0
    said = headline(evaluation)
    assert "best single vote does not reach that with N up to 8" in said
    assert "over 1.0x less compute." in said


def test_difficulty_is_measured_on_unseen_problems(evaluation: Evaluation) -> None:
    found = {one.policy: one for one in evaluation.difficulty}
    assert found["learned"].spearman.low > 0.8
    assert found["learned"].validation.problems == evaluation.problems == 90
    assert found["prefill"].spearman.low > 0.8
    assert 0.5 < found["pilot"].spearman.value < found["learned"].spearman.value


async def test_intervals_cover_the_truth(bundle: Bundle, tmp_path: Path) -> None:
    """Of many small evaluations, about 95 % of the intervals hold the value of a huge one."""
    alone = replace(bundle, pilot=None)

    async def measured(problems: int, seed: int) -> dict[str, Figure]:
        world = simulated(problems, seed)
        with filled(tmp_path / f"{seed}.db", world, GRID) as store:
            found = await evaluate(Study.of(alone, world.problems, [8]), store)
        points = {c.name: c.points[0].accuracy for c in found.curves}
        gains = {f"{g.policy} {g.strategy}": g.gain for g in found.gains}
        return {**points, **gains}

    truth = {name: figure.value for name, figure in (await measured(900, 100)).items()}
    expected = sum(kind.share * kind.searches["beam_search"] for kind in WORLD)
    assert truth["beam_search"] == pytest.approx(expected, abs=0.04)
    held = [
        figure.low <= truth[name] <= figure.high
        for seed in range(6)
        for name, figure in (await measured(60, 200 + seed)).items()
    ]
    assert len(held) > 130
    assert 0.88 < np.mean(held) <= 0.995


async def test_regret_tells_which_part_loses(
    bundle: Bundle, world: Simulation, store: RolloutStore, evaluation: Evaluation
) -> None:
    blind = replace(bundle, estimator=None, pilot=None)
    found = await evaluate(Study.of(blind, world.problems), store)
    for one in (*found.regret, *evaluation.regret):
        assert one.routing.value == pytest.approx(one.difficulty.value + one.table.value)
        assert one.table.value >= 0
        assert one.selection.value >= -1e-9
    lost = next(r for r in found.regret if (r.policy, r.budget) == ("learned", 8))
    kept = next(r for r in evaluation.regret if (r.policy, r.budget) == ("learned", 8))
    assert lost.difficulty.low > 0
    assert lost.difficulty.value > kept.difficulty.value + 0.05
    assert "no difficulty estimator" in " ".join(found.notes)
    assert "the same strategy" in differences(found)


# -- policies -------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 5, 16, 40])
def test_every_sample_is_in_a_pilot_about_equally_often(
    bundle: Bundle, world: Simulation, samples: int
) -> None:
    orders = Study.of(bundle, world.problems).orders(world.problems[0], samples)
    assert (np.sort(orders) == np.arange(samples)).all()
    first = np.bincount(orders[:, 0], minlength=samples)
    assert first.max() - first.min() <= 1


async def test_a_tolerance_gives_up_some_accuracy_for_cheaper_searches(
    bundle: Bundle, world: Simulation, store: RolloutStore, evaluation: Evaluation
) -> None:
    study = Study.of(replace(bundle, pilot=None), world.problems, tolerance=0.1)
    found = await evaluate(study, store)
    for name in ("learned", "prefill", "oracle"):
        cheap, best = found.curve(name).at(8), evaluation.curve(name).at(8)
        assert cheap is not None
        assert best is not None
        assert cheap.generations < best.generations
        assert cheap.accuracy.value > best.accuracy.value - 0.15
    assert "with a tolerance of 0.1, spending" in headline(found)
    assert sizes(found).startswith("Of the problems with a budget of 8: ")
    with pytest.raises(InputError, match="tolerance"):
        Study.of(bundle, world.problems, tolerance=2)


def test_every_point_says_what_was_really_spent(evaluation: Evaluation) -> None:
    for curve in evaluation.curves:
        for point in curve.points:
            assert point.generations <= point.budget
            assert point.tokens == pytest.approx(100 * point.generations)
            assert point.coverage.value >= point.accuracy.value - 1e-9
            assert sum(point.choices.values()) == pytest.approx(1)
    assert evaluation.provenance.rollouts.sampled == 0
    assert evaluation.provenance.rollouts.replayed > 90 * 24


def test_levels_add_up_to_the_whole(evaluation: Evaluation) -> None:
    point = evaluation.curve("beam_search").points[-1]
    means = [figure.value for figure in point.levels if figure is not None]
    assert np.average(means, weights=evaluation.level_sizes) == pytest.approx(point.accuracy.value)


async def test_a_pilot_that_only_votes_is_best_of_n(
    bundle: Bundle, world: Simulation, tmp_path: Path
) -> None:
    """With one strategy to choose, the pilot's samples are simply the first of its own."""
    only = bundle.table.model_copy(
        update={
            "cells": tuple(
                cell.model_copy(
                    update={
                        "entries": tuple(
                            e for e in cell.entries if e.strategy.family == "best_of_n"
                        )
                    }
                )
                for cell in bundle.table.cells
            )
        }
    )
    votes = configurations(BUDGETS, ["best_of_n"], verifier=True)
    with filled(tmp_path / "r.db", world, votes) as store:
        found = await evaluate(Study.of(replace(bundle, table=only), world.problems), store)
    pilot, vote = found.curve("pilot").points[-1], found.curve("best_of_n").points[-1]
    assert pilot.accuracy.value == pytest.approx(vote.accuracy.value)  # all eight samples vote
    assert (pilot.generations, pilot.tokens, pilot.flops) == pytest.approx(
        (vote.generations, vote.tokens, vote.flops)
    )
    assert differences(found) == "One strategy wins everywhere: every problem got weighted vote."


async def test_what_cannot_be_scored_is_evaluated_without_its_vote(
    bundle: Bundle, world: Simulation, store: RolloutStore, evaluation: Evaluation, tmp_path: Path
) -> None:
    shutil.copy(store.path, tmp_path / "r.db")
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection, connection:
        connection.execute("UPDATE candidates SET scores = '[]' WHERE idx % 9 = 4")
    with RolloutStore.read(tmp_path / "r.db") as part:
        found = await evaluate(Study.of(bundle, world.problems), part)
    assert found.problems == evaluation.problems
    for policy in ("pilot", "best_of_n"):
        now, before = found.curve(policy).points[-1], evaluation.curve(policy).points[-1]
        assert now.accuracy.value == pytest.approx(before.accuracy.value, abs=0.1)
        assert now.accuracy.value != before.accuracy.value


def test_the_same_rollouts_give_the_same_evaluation(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path / "e.json")
    assert Evaluation.load(tmp_path / "e.json") == evaluation


def test_what_fits_a_budget_counts_what_samples_of_each_model_cost() -> None:
    strategies = (BestOfN(4), BestOfN(4, model="large"), BestOfN(1, model="large"))
    worth = Worth(Levels(()), np.ones(1), np.full((1, 3), 0.5), np.ones((1, 3)))
    fleet = {"small": Terms(1, True), "large": Terms(3, True)}
    assert worth.within(strategies, 4, fleet) == [0, 2]
    assert worth.within(strategies, 12, fleet) == [0, 1, 2]


# -- statistics -----------------------------------------------------------------------------


LINE = [(n, "majority", None) for n in (1, 2, 4)]
"""Votes that solve a tenth of the problems for each generation."""


def _votes(
    votes: list[tuple[int, str, float | None]], accuracy: list[float]
) -> tuple[Measurements, Worth]:
    """Four problems on which these votes are so accurate, and a fit that expects as much."""
    strategies = [BestOfN(n, select, temperature=t) for n, select, t in votes]  # type: ignore[arg-type]
    spent = np.array([float(s.n) for s in strategies])
    each = np.tile(accuracy, (4, 1))
    found = Measurements(
        problems=tuple("abcd"),
        strategies=tuple(strategies),
        accuracy=each,
        error=0 * each,
        coverage=each,
        generations=np.tile(spent, (4, 1)),
        tokens=np.tile(10 * spent, (4, 1)),
        flops=np.full(each.shape, np.nan),
        sample_tokens=np.full(4, 10.0),
        sample_flops=np.full(4, np.nan),
        pass_at_1=np.full(4, 0.5),
        samples=np.full(4, 8),
        scores=(),
        prefills=(),
    )
    return found, Worth(Levels(()), np.ones(1), each[:1], spent[None])


@pytest.mark.parametrize(
    ("accuracy", "samples"),
    [(0.05, 0.5), (0.1, 1.0), (0.15, 1.5), (0.2, 2.0), (0.35, 3.5), (0.4, 4.0), (0.41, None)],
)
def test_the_baseline_is_followed_on_straight_lines_from_nothing(
    accuracy: float, samples: float | None
) -> None:
    """Below N = 1 too: half of one sample's accuracy is worth half a sample."""
    found, _ = _votes(LINE, [0.1, 0.2, 0.4])
    votes = np.tile([0, 1, 2], (51, 1))
    spending = Spending(found, resamples(4, 0)[:50], votes)
    own = {unit: np.full(4, value) for unit, value in (("accuracy", accuracy), ("flops", np.nan))}
    own |= {"generations": np.full(4, 2.0), "tokens": np.full(4, 20.0)}
    equal = spending.equal("learned", 4, own, 2.0)  # type: ignore[arg-type]
    assert equal.samples.value == (None if samples is None else pytest.approx(samples))
    for ratio in (equal.generations, equal.tokens):
        assert ratio is not None
        assert ratio.value == (None if samples is None else pytest.approx(samples / 2))
    assert equal.flops is None  # not known
    assert equal.gain.value == pytest.approx(accuracy - 0.2)
    assert equal.over_largest.value == pytest.approx(accuracy - 0.4)


def test_a_baseline_that_falls_does_not_make_less_accuracy_cost_more() -> None:
    found, _ = _votes(LINE, [0.3, 0.2, 0.4])
    votes = np.tile([0, 1, 2], (51, 1))
    spending = Spending(found, resamples(4, 0)[:50], votes)
    equal = spending.equal("learned", 4, spending.own(np.full(4, 1)))
    assert equal.samples.value == pytest.approx(2 / 3)
    # Two generations on average are had by a coin, too: between one, and four.
    assert equal.gain.value == pytest.approx(0.2 - (0.3 + 0.1 / 3))


def test_the_baseline_is_the_vote_that_the_fit_thinks_best_at_each_size() -> None:
    """Whatever the evaluation says; greedy stands at N = 1, and searches that stop at none."""
    kinds = [
        (1, "majority", 0.0),
        (1, "weighted", None),
        (2, "weighted", None),
        (2, "majority", 0.3),
        (4, "majority", None),
        (4, "weighted", 0.3),
        (4, "best", None),
    ]
    found, worth = _votes(kinds, [0.5] * 7)
    thought = replace(worth, accuracy=np.array([[0.3, 0.2, 0.2, 0.25, 0.4, 0.3, 0.9]]))
    chosen = {}
    for name, votes in votes_of(found.strategies, ALONE).items():
        sizes = vote_sizes(found.strategies, thought, votes, ALONE)
        chosen[name] = best_votes(found.strategies, thought, votes, ALONE, sizes).tolist()
    assert chosen == {"vote": [0, 3, 4], "weighted vote": [0, 2, 5], "majority vote": [0, 3, 4]}


def test_in_a_fleet_the_baseline_asks_whichever_model_is_best_for_the_cost() -> None:
    """A sample of the large one costs 2.6, so that it stands beside three of the first."""
    found, _ = _votes(LINE, [0.1, 0.2, 0.3])
    strategies = [BestOfN(n, "majority", model=m) for n in (1, 2, 4) for m in (None, "large")]
    fleet = {"small": Terms(1, False), "large": Terms(2.6, False)}
    costs = np.array([cost_of(strategy, fleet) for strategy in strategies])
    right = np.array([0.1, 0.3, 0.15, 0.4, 0.2, 0.5])
    worth = Worth(Levels(()), np.ones(1), right[None], costs[None])
    votes = votes_of(strategies, fleet)
    assert votes["vote of small"] == [0, 2, 4]
    assert votes["vote of large"] == [1, 3, 5]
    sizes = vote_sizes(strategies, worth, votes["vote"], fleet)
    assert sizes.tolist() == [1, 2, 3, 4, 6, 11]
    columns = best_votes(strategies, worth, votes["vote"], fleet, sizes)
    assert [costs[c] for c in columns] == pytest.approx([1, 2, 2.6, 4, 5.2, 10.4])
    each = np.tile(right, (4, 1))
    found = replace(
        found, strategies=tuple(strategies), accuracy=each, generations=np.tile(costs, (4, 1)),
        tokens=each, flops=each,
    )  # fmt: skip
    spending = Spending(found, resamples(4, 0)[:50], np.tile(columns, (51, 1)))
    own = {**spending.own(np.full(4, 0)), "accuracy": np.full(4, 0.3)}
    equal = spending.equal("learned", 4, own)
    assert equal.samples.value == pytest.approx(2.6)  # the first's four reach 0.2
    # One generation on average is worth more in the large one: for a problem in 2.6.
    assert equal.gain.value == pytest.approx(0.3 - 0.3 / 2.6)


async def test_the_fit_is_resampled_with_the_problems(
    bundle: Bundle,
    world: Simulation,
    store: RolloutStore,
    evaluation: Evaluation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another fit might have chosen otherwise, so intervals are no narrower for it."""
    monkeypatch.setattr(comparison, "FITS", 30)
    again = simulated(180, seed=1)
    with filled(tmp_path / "fit.db", again, GRID) as fit:
        study = Study.of(replace(bundle, pilot=None), world.problems, [1, 8])
        found = await evaluate(study, store, fit=fit)
        assert (found.fits, evaluation.fits) == (30, 0)
        wide, narrow = equal_at(found, "learned", 8).gain, equal_at(evaluation, "learned", 8).gain
        assert wide.value == narrow.value
        assert wide.high - wide.low > 0.8 * (narrow.high - narrow.low)
        assert "and another fit (30 resamples of both)" in found.notes[0]
        with pytest.raises(InputError, match="of the 180 problems that the bundle was fitted on"):
            await evaluate(Study.of(bundle, world.problems, [8]), store, fit=store)


def test_averages_are_kept_and_more_buys_more(evaluation: Evaluation) -> None:
    for policy in ("learned", "prefill", "oracle", "fixed"):
        found = at_averages(evaluation, policy)
        assert [equal.average for equal in found] == [1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
        for equal in found:
            assert equal.average is not None
            assert equal.spent <= equal.average + 1e-6
        assert found[-1].accuracy.value > found[0].accuracy.value
    routed, fixed = (at_averages(evaluation, name)[-1] for name in ("learned", "fixed"))
    assert routed.gain.value > fixed.gain.value + 0.05
    assert not at_averages(evaluation, "pilot")  # its samples are what it costs


def test_what_depends_on_the_level_is_tested_in_pairs_on_other_problems(
    evaluation: Evaluation,
) -> None:
    """At 8 each level has its own winner by construction, and at 1 there is none."""
    at = {(pair.level, pair.budget): pair for pair in evaluation.pairs}
    apart = [pair for pair in at.values() if pair.budget == 8]
    assert len(apart) == 2  # one level's winner is the one for all
    assert all(pair.gain.value > 0 and pair.chosen.name == BEST[pair.level] for pair in apart)
    assert any(pair.gain.low > 0 for pair in apart)
    assert not any(pair.gain.low > 0 for pair in at.values() if pair.budget == 1)
    assert "Beyond 95 %, in pairs, that is better at level" in paired(evaluation)


def test_hindsight_ignores_what_was_not_measured_everywhere() -> None:
    accuracy = np.array([[0.0, 1.0, 0.5], [0.0, np.nan, 0.5], [1.0, 0.0, 0.5]])
    assert hindsight(accuracy, np.array([1, 1, 2])).tolist() == [0.5, 0.5, 1.0]


# -- bad input ------------------------------------------------------------------------------


def test_a_study_that_would_mislead_is_refused(bundle: Bundle, world: Simulation) -> None:
    fitted = simulated(180, seed=1).problems
    with pytest.raises(InputError, match=r"3 of 93 problems were used to fit.*--drop-overlap"):
        Study.of(bundle, [*world.problems, *fitted[:3]])
    with pytest.raises(InputError, match="was not fitted at budget 3; choose among 1, 2, 4, 8"):
        Study.of(bundle, world.problems, [3, 8])
    with pytest.raises(InputError, match="two problems or more, and there is 1"):
        Study.of(bundle, world.problems[:1])
    with pytest.raises(InputError, match="did you mean 'beam_search'"):
        Study.of(bundle, world.problems, [8], ["beam_serch"])


async def test_rollouts_of_another_model_are_refused(
    bundle: Bundle, world: Simulation, tmp_path: Path
) -> None:
    other = replace(ORIGIN, model="other")
    with RolloutStore.create(tmp_path / "r.db", other) as store:
        store.add_problems(world.problems)
        with pytest.raises(InputError, match="model was 'simulated' and is now 'other'"):
            await evaluate(Study.of(bundle, world.problems), store)


async def test_other_problems_under_the_same_ids_are_refused(
    bundle: Bundle, world: Simulation, store: RolloutStore
) -> None:
    changed = [replace(world.problems[0], answer="-1"), *world.problems[1:]]
    with pytest.raises(InputError, match=r"'2/sim/00000' is in .* with another text or answer"):
        await evaluate(Study.of(bundle, changed), store)


async def test_routing_by_the_prefill_needs_its_states(
    bundle: Bundle, world: Simulation, evaluation: Evaluation, tmp_path: Path
) -> None:
    assert "prefill" in evaluation.policies
    with filled(tmp_path / "r.db", world, GRID):
        pass
    with RolloutStore.create(tmp_path / "r.db", ORIGIN) as store:
        store.add_prefill(world.problems[0].id, StoredPrefill(2, state(0)))  # of another layer
        found = await evaluate(Study.of(replace(bundle, pilot=None), world.problems), store)
    assert "prefill" not in found.policies
    assert "routing by the prefill is left out" in " ".join(found.notes)


async def test_what_the_rollouts_do_not_cover_is_left_out_and_said(
    bundle: Bundle, world: Simulation, tmp_path: Path
) -> None:
    part = simulated(90, seed=2)
    part.problems = part.problems[:20]
    with filled(tmp_path / "r.db", part, GRID) as store:
        found = await evaluate(Study.of(bundle, world.problems), store)
    assert (found.problems, found.left_out) == (20, 70)
    assert "70 of 90 problems are left out" in " ".join(found.notes)
    assert "only 20 problems" in " ".join(found.notes)
    votes = configurations(BUDGETS, ["best_of_n"], verifier=True)
    for strategies, refused in (
        (votes, "covers 0 of the 90 problems"),
        (votes[:1], "holds 16 samples of none of the 90 problems"),
    ):
        with (
            filled(tmp_path / f"{len(strategies)}.db", world, strategies) as store,
            pytest.raises(InputError, match=refused),
        ):
            await evaluate(Study.of(bundle, world.problems), store)


def test_a_file_that_is_no_evaluation_is_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    record = evaluation.to_dict()
    with pytest.raises(InputError, match=r"schema 1.*evaluate again"):
        Evaluation.from_dict({**record, "schema_version": 1})
    with pytest.raises(InputError, match="problems: Input should be greater"):
        Evaluation.from_dict({**record, "problems": 1})
    with pytest.raises(InputError, match="cannot read evaluation"):
        Evaluation.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "generations"),
    [
        ("best_of_n(n=8)", 8),
        ("best_of_n(n=1)", 2),  # the other pilot sample votes too
        ("best_of_n(n=8, temperature=0.3)", 10),
        # Four at another temperature, and of the other four two were observed.
        ('best_of_n(n=8, temperatures="0.3:4")', 8),
        ('best_of_n(n=5, temperatures="0.3:4")', 6),
        ("best_of_n(n=8, select=majority, lead=8)", 8),
        ("best_of_n(n=8, select=majority, lead=0)", 2),  # over after the first wave
        ('best_of_n(n=8, select=majority, temperatures="0.3:4", lead=0)', 4),
        ("best_of_n(n=8, select=majority, worth=0)", 8),
        ("best_of_n(n=8, select=majority, worth=0.16)", 2),
        ("best_of_n(n=8, select=majority, worth=1)", 2),  # one, beside the other of the pilot
        ("dvts(n=8)", 10),
    ],
)
def test_a_pilots_samples_are_the_searchs_own_and_counted_once(
    bundle: Bundle, tmp_path: Path, text: str, generations: int
) -> None:
    world = simulated(3, seed=3)
    strategies = tuple(map(parse_strategy, (text, "best_of_n(n=8)", "dvts(n=8)")))
    with filled(tmp_path / "r.db", world, strategies) as store:
        study = Study.of(bundle, world.problems, [8])
        found = measure(store, strategies)
        replay = PilotReplay(study, store, world.problems, Columns(found))
        got = replay.outcomes(8, [(strategies[0],) * PILOT_DRAWS] * 3)
    assert got.generations.tolist() == [generations] * 3
    assert got.tokens == pytest.approx(100 * got.generations)
