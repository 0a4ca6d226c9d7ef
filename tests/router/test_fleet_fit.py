"""One table over two models whose right choice is known by construction, from fit to answer."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from router import Router
from router.bundle import Bundle
from router.cli import main
from router.difficulty.base import UNOBSERVED
from router.evaluation.evaluate import evaluate
from router.evaluation.records import Evaluation
from router.evaluation.study import Study
from router.fitting.allocation import Allocation
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations, fleet_defaults
from router.fitting.costs import measured_fleet, relative_costs
from router.fitting.measurements import measure
from router.fitting.sampler import Sampler
from router.fitting.workers import LocalWorker
from router.models.errors import InputError
from router.models.fakes import FakeGenerator, knowing
from router.models.types import Problem, Sampling
from router.models.usage import Price
from router.opening import Models
from router.pairs import Pair, with_prices
from router.report.bundle import render as page_of_bundle
from router.report.evaluation import render as page_of_evaluation
from router.rollouts.export import export_store, open_rollouts
from router.rollouts.join import join
from router.rollouts.store import RolloutStore
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.escalate import Escalate
from router.strategies.fleet import Member, Terms
from router.strategies.registry import parse_strategy
from router.table import Table
from router.verifier.sampling import sample_pools

EASY, MIDDLING, HOPELESS = 2, 4, 6
"""Terms of a sum."""

SMALL = {EASY: 0.95, MIDDLING: 0.5, HOPELESS: 0.0}
LARGE = {EASY: 0.97, MIDDLING: 0.97, HOPELESS: 0.0}
DIGITS = {EASY: 2, MIDDLING: 4, HOPELESS: 7}
COST = 3
LARGE_SAMPLES = "best_of_n(n=1, model=large)"
FLEET = {"small": Terms(1, False), "large": Terms(COST, False)}
TEXTS = ("best_of_n(select=majority)", *fleet_defaults(FLEET))


def problems(count: int, seed: int) -> list[Problem]:
    rng = random.Random(seed)
    found = []
    for index in range(count):
        count_of = (EASY, MIDDLING, HOPELESS)[index % 3]
        least = 10 ** (DIGITS[count_of] - 1)
        terms = [rng.randint(least, 10 * least - 1) for _ in range(count_of)]
        text = f"What is {' + '.join(map(str, terms))}?"
        found.append(Problem(f"{seed}/{index}", text, str(sum(terms))))
    return found


def pairs() -> dict[str, Pair]:
    chances = {"small": (SMALL, 1), "large": (LARGE, COST)}
    return {
        name: Pair(generator=FakeGenerator(knowing(own)), price=Price(0, price))
        for name, (own, price) in chances.items()
    }


def models() -> Models:
    small, large = (pair.generator for pair in pairs().values())
    assert small is not None
    assert large is not None
    return Models(small, None, name="small", others=(Member("large", large, None, COST),))


async def sample(path: Path, known: list[Problem], cap: int | None = None) -> FitSettings:
    worker = LocalWorker(models(), Sampling())
    with RolloutStore.create(path, with_prices(worker.origin, pairs())) as store:
        settings = FitSettings(
            (1, 4, 8),
            configurations((1, 4, 8), TEXTS, verifier=False, fleet=FLEET),
            levels="quantile:3",
        )
        store.add_problems(known)
        sampler = Sampler(
            store,
            known,
            settings.strategies,
            levels=settings.levels,
            allocation=Allocation.of("grid"),
            max_generations=cap,
        )
        await sampler.run(worker)
    return settings


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitSettings]:
    path = tmp_path_factory.mktemp("fleet") / "r.sqlite"
    return path, asyncio.run(sample(path, problems(48, 1)))


@pytest.fixture(scope="module")
def bundle(stored: tuple[Path, FitSettings]) -> Bundle:
    with RolloutStore.read(stored[0]) as store:
        return fit_bundle(store, stored[1])


@pytest.fixture(scope="module")
def directory(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundles") / "bundle"
    bundle.save(directory)
    return directory


# -- the table ----------------------------------------------------------------------------------


def test_a_sample_costs_what_was_measured(stored: tuple[Path, FitSettings]) -> None:
    with RolloutStore.read(stored[0]) as store:
        assert measured_fleet(store)["large"].cost == pytest.approx(COST, rel=0.02)


def test_the_table_names_its_models_and_is_read_back(bundle: Bundle, directory: Path) -> None:
    again = Bundle.load(directory)
    assert again.table == bundle.table
    assert again.origin == bundle.origin
    assert [one.name for one in again.table.members] == ["small", "large"]
    assert again.origin.others["large"].price == (0, COST)


def test_what_a_table_asks_fits_the_budget_at_its_cost(bundle: Bundle) -> None:
    record = bundle.table.to_dict()
    asks = "best_of_n(n=3, select=majority, model=large)"
    record["cells"][0]["entries"][0]["strategy"] = asks
    with pytest.raises(InputError, match="generations, over the cell's budget of 1"):
        Table.from_dict(record)
    record["cells"][0]["entries"][0]["strategy"] = asks.replace("large", "huge")
    with pytest.raises(InputError, match="no model 'huge'"):
        Table.from_dict(record)


@pytest.mark.parametrize(("level", "names"), [(1, {None}), (2, {"large"}), (3, {None})])
def test_each_level_gets_the_model_that_pays(
    bundle: Bundle, level: int, names: set[str | None]
) -> None:
    """Where one more generation must add five points."""
    one_hot = [float(number == level) for number in (1, 2, 3)]
    strategy = bundle.table.choose(one_hot, 8, price=0.05).strategy
    assert {stage.model for stage in strategy.stages} == names
    assert strategy.cost == 1  # where nothing helps, that is the cheapest


def test_escalation_is_priced_at_what_it_costs_on_average(bundle: Bundle) -> None:
    text = "escalate(first=best_of_n(n=2, select=majority), lead=1, then=best_of_n(n=1,"
    text += " select=majority, temperature=0, model=large))"
    strategy = parse_strategy(text)
    costs = []
    for level in (1, 2, 3):
        entries = bundle.table.cell(level, 8).entries
        costs += [e.cost.generations for e in entries if e.strategy == strategy]
    easy, middling, hopeless = costs
    # Two samples of the small one agree in p * p of the cases; the rest asks the large one.
    assert easy == pytest.approx(2 + COST * (1 - 0.95**2), abs=0.3)
    assert middling == pytest.approx(2 + COST * (1 - 0.5**2), abs=0.4)
    assert hopeless == pytest.approx(2 + COST, abs=0.2)


async def test_a_replayed_escalation_is_what_a_live_one_does(
    stored: tuple[Path, FitSettings],
) -> None:
    strategy = Escalate(
        BestOfN(3, "majority"), BestOfN(2, "majority", model="large"), lead=2, give_up=0.4
    )
    with RolloutStore.read(stored[0]) as store:
        found = measure(store, [strategy])
        every = store.problems()
    live = models()
    right, spent = [], []
    for problem in every * 8:
        outcome = await run_search(
            strategy, problem, live.generator, None, Budget(20), Sampling(),
            name=live.name, others=live.others,
        )  # fmt: skip
        votes = Counter(one.answer for one in outcome.candidates)
        most = [answer for answer, count in votes.items() if count == max(votes.values())]
        right.append((problem.answer in most) / len(most))
        spent.append(outcome.usage.generations)
    assert np.nanmean(found.accuracy) == pytest.approx(np.mean(right), abs=0.05)
    assert np.nanmean(found.generations) == pytest.approx(np.mean(spent), abs=0.35)


# -- from the table to the answer ---------------------------------------------------------------


def test_the_router_asks_the_model_that_pays(directory: Path) -> None:
    with Router(models=pairs(), bundle=directory, average=2.0) as router:
        found = [router.solve(problem, 8) for problem in problems(60, 9)]
    spent: dict[int, list[float]] = {EASY: [], MIDDLING: [], HOPELESS: []}
    large: Counter[int] = Counter()
    for solution, problem in zip(found, problems(60, 9), strict=True):
        terms = problem.text.count("+") + 1
        spent[terms].append(solution.usage.generations)
        large[terms] += "large" in solution.decision.models
        assert solution.usage.generations <= 8
    assert large[MIDDLING] > 15 > 5 > large[HOPELESS]
    assert np.mean(spent[MIDDLING]) > max(np.mean(spent[EASY]), np.mean(spent[HOPELESS]))
    assert np.mean([*spent[EASY], *spent[MIDDLING], *spent[HOPELESS]]) < 3


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "asks models small, large, and there is one, without a name: give --model small=…"),
        (("small",), "and there are small: give --model large=…, or another --bundle"),
        (("large", "small"), "counts in samples of small, so that is the --model to name first"),
    ],
)
def test_models_that_are_not_at_hand_are_named(
    directory: Path, names: tuple[str, ...], message: str
) -> None:
    own = pairs()
    if names:
        router = Router(models={name: own[name] for name in names}, bundle=directory)
    else:
        router = Router(models=own["small"], bundle=directory)
    with pytest.raises(InputError, match=message):
        router.solve("What is 1 + 1?")


def test_another_model_of_that_name_is_refused(directory: Path) -> None:
    class Other(FakeGenerator):
        @property
        def info(self):  # type: ignore[no-untyped-def]
            return replace(super().info, model="other")

    router = Router(models=pairs() | {"large": Pair(generator=Other())}, bundle=directory)
    with pytest.raises(InputError, match="fitted on another model large: model was 'fake'"):
        router.solve("What is 1 + 1?")


def test_a_fixed_strategy_is_charged_as_the_fit_has_measured(directory: Path) -> None:
    dearer = {name: replace(pair, price=None) for name, pair in pairs().items()}
    with Router(models=dearer, bundle=directory) as router:
        found = router.solve(
            "What is 1 + 1?", 8, strategy="best_of_n(select=majority, model=large)"
        )
    assert str(found.decision.strategy) == "best_of_n(n=2, select=majority, model=large)"
    assert found.usage.generations == pytest.approx(2 * COST, rel=0.02)


# -- rollouts -----------------------------------------------------------------------------------


async def test_a_killed_fit_goes_on_where_it_was(tmp_path: Path) -> None:
    path, known = tmp_path / "r.sqlite", problems(12, 3)
    await sample(path, known, cap=200)
    with RolloutStore.read(path) as store:
        before = list(store.runs())
    await sample(path, known)
    with RolloutStore.read(path) as store:
        after = list(store.runs())
        counts = store.counts()
    assert [run for run in after if run in before] == before
    assert len(before) < len(after)
    assert {n for (_, name), n in counts.items() if "large" in name and "=0" not in name} == {2}


async def test_rollouts_of_a_fleet_travel_whole(
    tmp_path: Path, bundle: Bundle, stored: tuple[Path, FitSettings]
) -> None:
    with RolloutStore.read(stored[0]) as store:
        export_store(store, tmp_path / "r.jsonl.gz")
    with open_rollouts(tmp_path / "r.jsonl.gz") as store, RolloutStore.read(stored[0]) as old:
        assert store.origin == bundle.origin
        assert store.counts() == old.counts()
        assert list(store.runs(LARGE_SAMPLES)) == list(old.runs(LARGE_SAMPLES))


async def test_stores_of_single_models_are_joined(tmp_path: Path) -> None:
    known, strategies = problems(12, 3), configurations((1, 4), ("best_of_n(select=majority)",
        "best_of_n(n=1, select=majority, temperature=0)"), verifier=False)  # fmt: skip
    for name, pair in pairs().items():
        assert pair.generator is not None
        worker = LocalWorker(Models(pair.generator, None), Sampling())
        with RolloutStore.create(tmp_path / f"{name}.sqlite", worker.origin) as store:
            store.add_problems(known)
            await Sampler(store, known, strategies, levels="quantile:2").run(worker)
    names = [f"{name}={tmp_path / name}.sqlite" for name in ("small", "large")]
    done = run("rollouts", "join", str(tmp_path / "both.sqlite"), *names)
    assert done.exit_code == 0, done.output
    with RolloutStore.read(tmp_path / "both.sqlite") as store:
        counts = store.counts()
        fleet = measured_fleet(store)
        found = measure(store, [BestOfN(4, "majority", model="large"), BestOfN(4, "majority")])
    assert {counts[p.id, LARGE_SAMPLES] for p in known} == {12}  # those of the level vote too
    assert fleet.keys() == {"small", "large"}
    assert not np.isnan(found.accuracy).any()
    assert run("rollouts", "join", str(tmp_path / "x.sqlite"), "small").exit_code == 2


async def test_what_was_sampled_at_another_temperature_keeps_it_when_joined(tmp_path: Path) -> None:
    known = problems(6, 3)
    found = {}
    for name, (settings, samples) in {
        "small": (Sampling(), 2),
        "warm": (Sampling(), 3),
        "cold": (Sampling(temperature=0.3), 4),
        "short": (Sampling(max_tokens=9), 1),
    }.items():
        generator = pairs()["small" if name == "small" else "large"].generator
        assert generator is not None
        worker = LocalWorker(Models(generator, None), settings)
        found[name] = tmp_path / f"{name}.sqlite"
        with RolloutStore.create(found[name], worker.origin) as store:
            await sample_pools(worker, known, samples, store, lambda *_: None)
    files = [("small", found["small"]), ("large", found["warm"]), ("large", found["cold"])]
    assert join(files, tmp_path / "both.sqlite") == 6 * (2 + 3 + 4)
    with RolloutStore.read(tmp_path / "both.sqlite") as store:
        counts = store.counts()
        assert store.origin.others["large"].temperature == store.origin.temperature
    cold = "best_of_n(n=1, temperature=0.3, model=large)"
    for problem in known:
        assert counts[problem.id, "best_of_n"] == 2
        assert counts[problem.id, LARGE_SAMPLES] == 3
        assert counts[problem.id, cold] == 4
    alone = [("small", found["small"]), ("small", found["cold"])]
    with pytest.raises(InputError, match="temperature"):
        join([*alone, ("large", found["short"])], tmp_path / "x.sqlite")
    assert not (tmp_path / "x.sqlite").exists()


@pytest.mark.parametrize(
    ("kinds", "cost"),
    [
        ((), 2),  # no samples yet: that of a token
        (("temperature=0.3, ",), 3.33),
        (("temperature=0.3, ", ""), 5.33),  # those at the fit's own temperature say so
        (("select=best, ",), 2),  # the same name with more to it is no plain sample
    ],
)
def test_samples_at_any_temperature_tell_what_a_model_costs(
    kinds: tuple[str, ...], cost: float
) -> None:
    both = with_prices(LocalWorker(models(), Sampling()).origin, pairs())
    large = replace(both.others["large"], parameters=2, price=None)
    origin = replace(both, parameters=1, price=None, others={"large": large})
    # Runs, candidates, sampled tokens and those of prompts, by configuration and problem.
    spent: dict[str, dict[str, tuple[float, ...]]] = {"best_of_n": {"p": (1, 8, 800, 50)}}
    for kind in kinds:
        sampled = 200 if kind else 350
        spent[f"best_of_n(n=1, {kind}model=large)"] = {"p": (4, 4, 4 * sampled, 200)}
    assert relative_costs(origin, spent)["large"].cost == cost


def test_a_store_of_the_first_alone_becomes_a_fleets(tmp_path: Path) -> None:
    both = with_prices(LocalWorker(models(), Sampling()).origin, pairs())
    alone = replace(both, name="", others={}, price=None)
    RolloutStore.create(tmp_path / "r.sqlite", alone).close()
    with RolloutStore.create(tmp_path / "r.sqlite", both) as store:
        assert store.origin == both
    other = replace(both, others={"large": replace(both.others["large"], model="x")})
    with pytest.raises(InputError, match="of model large: model was 'fake' and is now 'x'"):
        RolloutStore.create(tmp_path / "r.sqlite", other)


# -- evaluation ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    path = tmp_path_factory.mktemp("evaluation") / "r.sqlite"
    known = [problem for problem in problems(30, 2) if not bundle.fitted_on(problem)]
    asyncio.run(sample(path, known))
    with RolloutStore.read(path) as store:
        return asyncio.run(evaluate(Study.of(bundle, known), store))


def test_the_models_are_compared_at_equal_cost_by_level(evaluation: Evaluation) -> None:
    found = {(one.budget, one.level): one.models for one in evaluation.versus}
    assert found.keys() == {(b, level) for b in (1, 4, 8) for level in (None, 1, 2, 3)}
    assert [one.model for one in found[1, 2]] == ["small"]  # the large one costs 3
    small, large = found[4, 2]
    assert {stage.model for stage in large.strategy.stages} == {"large"}
    assert large.gain.value == pytest.approx(large.accuracy.value - small.accuracy.value)
    assert abs(found[8, 2][1].gain.value) < 0.15  # by then votes of the small one are as good
    assert found[8, 3][1].accuracy.value < 0.1
    assert Evaluation.from_dict(evaluation.to_dict()) == evaluation


def test_the_pages_show_the_fleet(evaluation: Evaluation, bundle: Bundle) -> None:
    assert "Compute or parameters?" in page_of_evaluation(evaluation)
    assert "small fake, large fake (3 a sample)" in page_of_bundle(bundle)


def test_escalation_is_evaluated_too(evaluation: Evaluation) -> None:
    names = [curve.name for curve in evaluation.curves]
    assert any(name.startswith("escalate") for name in names)
    assert evaluation.curve("oracle").at(8) is not None


# -- the command line ---------------------------------------------------------------------------


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def test_the_command_line_fits_shows_and_solves(tmp_path: Path) -> None:
    known = problems(24, 4)
    lines = [json.dumps({"id": p.id, "problem": p.text, "answer": p.answer}) for p in known]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    fakes = ("--engine", "fake", "--verifier", "fake", "--model", "small=a", "--model", "large=b")
    fleet = (*fakes, "--price", "small=1", "--price", "large=2")
    out = str(tmp_path / "b")
    fit = ("fit", str(tmp_path / "p.jsonl"), "--out", out, "--budgets", "1,4", *fleet)
    fit += ("--levels", "quantile:2", "--merge-levels", "--strategy", "best_of_n(model=large)")
    priced = run(*fit, "--strategy", "best_of_n", "--dry-run")
    # 8 + 4 samples of the first; of the large one, at twice its price, 2.
    assert "at most 336 generations (48 by large)" in priced.stdout
    done = run(*fit, "--strategy", "best_of_n")
    assert done.exit_code == 0, done.output
    shown = run("table", "show", out)
    assert "small fake, large fake (2 a sample)" in " ".join(shown.stdout.split())
    solved = run("solve", known[0].text, *fleet, "--bundle", out, "--budget", "4", "--explain")
    assert solved.exit_code == 0, solved.output
    assert "model=large" in solved.stdout
    alone = run("solve", known[0].text, "--engine", "fake", "--verifier", "fake", "--bundle", out)
    assert alone.exit_code == 2
    assert "give --model small=… --model large=…" in alone.stderr


def test_levels_are_those_of_the_first(bundle: Bundle) -> None:
    levels = [bundle.by_text.levels(problem, UNOBSERVED) for problem in problems(30, 7)]
    assert np.argmax(np.mean(levels[::3], axis=0)) == 0
