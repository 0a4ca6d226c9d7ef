"""What decides `auto`: bundles that fit, that do not fit, and none at all; levels by a pilot."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.simulated import SEARCHES, simulated_store, state
from router import Budget, Router, cli
from router.bundle import Bundle
from router.choosing import ByTable, Fixed
from router.difficulty.base import UNOBSERVED, Evidence, Oracle
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations
from router.models.base import GeneratorInfo, VerifierInfo
from router.models.errors import InputError
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.types import AskedSampling, Prefill, Problem, Sampled, Sampling
from router.models.types import Chain as Solved
from router.records import Decision
from router.rollouts.store import RolloutStore
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.registry import parse_strategy
from router.table import Estimate

QUESTION = "What is 12 + 35 + 7?"
BUDGETS = (1, 2, 4, 8)
SETTINGS = FitSettings(BUDGETS, configurations(BUDGETS, SEARCHES, verifier=True), "quantile:3")


class Simulated(FakeGenerator):
    """Passes for the generator of the simulated rollouts."""

    @property
    def info(self) -> GeneratorInfo:
        return replace(super().info, model="simulated")

    async def prefill(self, problem: Problem) -> Prefill:
        kind = re.search(r"kind (\d)", problem.text)
        found = state(int(kind[1]) if kind else 1)
        return Prefill(np.array(found, np.float32), prompt_tokens=40, cached_tokens=10)


class SimulatedVerifier(FakeVerifier):
    """Passes for their verifier."""

    @property
    def info(self) -> VerifierInfo:
        return VerifierInfo("simulated", "fake", "last", parameters=500)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("routing") / "r.db"
    simulated_store(path, 120, SETTINGS.strategies)
    with RolloutStore.read(path) as store:
        return fit_bundle(store, SETTINGS)


@pytest.fixture(scope="module")
def directory(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundles") / "bundle"
    bundle.save(directory)
    return directory


@pytest.fixture
def shipped(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As if the bundle came with the embedded model, whose loader gives the simulated one."""

    async def load_generator(*args: object, **options: object) -> FakeGenerator:
        return Simulated()

    monkeypatch.setattr("router.models.generators.load.load_generator", load_generator)
    monkeypatch.setattr("router.opening.shipped_bundle", lambda model: directory)
    return directory


def simulated(bundle: Path | str | None) -> Router:
    return Router(generator=Simulated(), verifier=SimulatedVerifier(), bundle=bundle)


def test_a_bundle_that_is_named_decides(directory: Path, bundle: Bundle) -> None:
    with simulated(directory) as router:
        decided = router.decide(QUESTION, 8)
        solution = router.solve(QUESTION, 8, seed=0)
    levels = bundle.by_text.levels(Problem("p", QUESTION), UNOBSERVED)
    expected = bundle.table.choose(levels, 8)
    assert decided == solution.decision
    assert decided.strategy == expected.strategy
    assert decided.considered == expected.considered
    assert decided.expected_accuracy == expected.expected_accuracy
    assert decided.levels == pytest.approx(
        bundle.by_text.levels(Problem("p", QUESTION), UNOBSERVED)
    )
    assert "difficulty judged by its text" in decided.why
    assert solution.usage.generations <= 8


def test_a_token_cap_still_ends_what_a_bundle_decided(directory: Path) -> None:
    with simulated(directory) as router:
        solution = router.solve("What is 1234567 + 2345678?", Budget(8, tokens=60), seed=0)
    assert solution.ended == "tokens"
    assert (solution.usage.sampled_tokens or 0) <= 60


def test_a_tolerance_buys_a_cheaper_search(directory: Path) -> None:
    with simulated(directory) as router:
        cheap = router.solve(QUESTION, 8, tolerance=1.0)
        assert cheap.usage.generations == 1
        assert router.decide(QUESTION, 8, tolerance=1.0) == cheap.decision
        with pytest.raises(InputError, match="between 0 and 1, not -1"):
            router.solve(QUESTION, 8, tolerance=-1)
        with pytest.raises(InputError, match="a tolerance is for what a bundle decides"):
            router.solve(QUESTION, 8, tolerance=0.1, strategy="best_of_n")


def averaging(bundle: Path | None, **wanted: float) -> Router:
    router = simulated(bundle)
    router.average, router.target_accuracy = wanted.get("average"), wanted.get("accuracy")
    return router


def test_a_batch_costs_its_average_and_no_problem_more_than_its_budget(directory: Path) -> None:
    terms = ("12 + 35", "123456 + 654321 + 222222", "9 + 8 + 7 + 6", "31415 + 92653 + 58979")
    problems = [f"What is {sums} + {i}?" for i in range(10) for sums in terms]
    for average in (1.0, 2.0, 3.5):
        with averaging(directory, average=average) as router:
            spent = [one.decision.expected_cost for one in router.solve_many(problems, 8)]
        assert all(cost is not None and cost <= 8 for cost in spent)
        assert average - 8 / len(problems) <= np.mean(spent) <= average + 1e-6
    assert len(set(spent)) > 1  # some got more than others


def test_an_average_says_what_a_generation_must_add(directory: Path) -> None:
    decision = averaging(directory, average=2.0).decide(QUESTION, 8)
    assert "one generation more must add" in decision.why
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision
    less = averaging(directory, accuracy=0.2).decide(QUESTION, 8)
    assert less.expected_cost == 1.0


@pytest.mark.parametrize(
    ("wanted", "bundled", "said"),
    [
        ({"average": 0.5}, True, "an average of 0.5 is too little"),
        ({"accuracy": 1.5}, True, "an accuracy of 1.5 is out of reach"),
        ({"average": 2.0, "accuracy": 0.5}, True, "not both"),
        ({"average": 2.0}, False, "an average needs a bundle"),
        ({"accuracy": 0.5}, False, "a target accuracy needs a bundle"),
    ],
)
def test_averages_that_cannot_be_had_are_refused_before_a_model_is_opened(
    directory: Path, wanted: dict[str, float], bundled: bool, said: str
) -> None:
    router = averaging(directory if bundled else None, **wanted)
    with pytest.raises(InputError, match=said):
        router.solve(QUESTION, 8)
    assert router.opened is None


@pytest.mark.parametrize(
    "own", ["best_of_n(n=8, temperature=0.3)", 'best_of_n(n=8, temperatures="0.3:4")']
)
async def test_who_asks_for_a_temperature_gets_it(
    own: str, bundle: Bundle, directory: Path
) -> None:
    colder = only("best_of_n(n=8, temperature=0.3)", bundle, own)
    colder.save(directory.parent / "colder")
    with simulated(directory.parent / "colder") as router:
        assert str(router.decide(QUESTION, 8).strategy) == own
        asked = Sampling(temperature=0.6)
        decision = await router.adecide(QUESTION, 8, sampling=asked)
        assert "temperature" not in str(decision.strategy)
        solution = router.solve(QUESTION, 8, sampling=asked)
        assert solution.decision.strategy == decision.strategy


class Recording(Simulated):
    def __init__(self) -> None:
        super().__init__()
        self.samplings: set[Sampling] = set()

    async def sample(self, path: Solved, n: int, sampling: Sampling) -> Sampled:
        self.samplings.add(replace(sampling, until="end", seed=None))
        return await super().sample(path, n, sampling)


FITTED = Sampling(temperature=0.5, top_p=0.9, max_tokens=100, stop=("END",))


@pytest.fixture
def colder(bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle that was fitted at other settings than any default."""
    told = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 100, "stop": ("END",)}
    origin = replace(bundle.origin, **told)  # type: ignore[arg-type]
    manifest = {**bundle.manifest, "origin": origin.to_dict()}
    winner = only("best_of_n(n=4)", bundle)
    replace(winner, origin=origin, manifest=manifest).save(tmp_path / "colder")
    return tmp_path / "colder"


@pytest.mark.parametrize(
    ("asked", "used", "noted"),
    [
        (None, FITTED, None),
        (FITTED, FITTED, None),
        (AskedSampling(top_p=0.9), FITTED, None),
        (
            AskedSampling(temperature=0.8),
            replace(FITTED, temperature=0.8),
            "this samples at temperature 0.8, not 0.5",
        ),
        (
            AskedSampling(max_tokens=50, stop=()),
            replace(FITTED, max_tokens=50, stop=()),
            "this samples at max_tokens 50, not 100, stop (), not ('END',)",
        ),
    ],
)
def test_a_bundle_is_used_as_it_was_fitted_or_the_decision_says_how_not(
    colder: Path, asked: Sampling | AskedSampling | None, used: Sampling, noted: str | None
) -> None:
    generator = Recording()
    with Router(
        generator=generator, verifier=SimulatedVerifier(), bundle=colder, sampling=asked
    ) as router:
        assert router.sampling == used
        decision = router.solve(QUESTION, 4).decision
        assert generator.samplings == {used}
        assert router.decide(QUESTION, 4) == decision
        fixed = router.solve(QUESTION, 2, strategy="best_of_n")  # no bundle is asked
    assert (decision.expected_accuracy is None) == (noted is not None)
    assert ("this samples at" in decision.why) == (noted is not None)
    assert noted is None or noted in decision.why
    assert "this samples at" not in fixed.decision.why


def test_a_chooser_of_ones_own_is_used_as_it_was_fitted_too(colder: Path) -> None:
    chooser = ByTable.of(Bundle.load(colder))
    generator = Recording()
    with Router(generator=generator, verifier=SimulatedVerifier(), chooser=chooser) as router:
        assert router.solve(QUESTION, 4).decision.expected_accuracy is not None
        assert generator.samplings == {FITTED}
        assert "temperature 0.8, not 0.5" in router.decide(QUESTION, 4, sampling=Sampling()).why


def test_what_one_call_asks_for_is_noted_too(colder: Path) -> None:
    with Router(generator=Recording(), verifier=SimulatedVerifier(), bundle=colder) as router:
        found = router.solve(QUESTION, 4, sampling=replace(FITTED, max_tokens=99))
        assert found.decision.expected_accuracy is None
        assert "max_tokens 99, not 100" in found.decision.why
        usual = router.sampling_with("best_of_n")
    assert usual == Router(bundle=None).sampling


def only(winner: str, bundle: Bundle, named: str = "") -> Bundle:
    """The bundle with a strategy that is always right, and perhaps is another one."""
    sure = {
        "estimate": Estimate(accuracy=1.0, low=1.0, high=1.0, problems=9),
        "strategy": parse_strategy(named or winner),
    }
    cells = tuple(
        cell.model_copy(
            update={
                "entries": tuple(
                    e.model_copy(update=sure) if str(e.strategy) == winner else e
                    for e in cell.entries
                )
            }
        )
        for cell in bundle.table.cells
    )
    return replace(bundle, table=bundle.table.model_copy(update={"cells": cells}))


def test_a_named_bundle_of_other_models_is_refused(directory: Path) -> None:
    with (
        Router(generator=FakeGenerator(), verifier=FakeVerifier(), bundle=directory) as router,
        pytest.raises(InputError, match=r"model was 'simulated' and is now 'fake'.*router fit"),
    ):
        router.solve(QUESTION, 8)


def test_a_named_bundle_is_refused_before_a_model_is_opened(directory: Path) -> None:
    router = Router("/nowhere/at/all", bundle=directory)
    with pytest.raises(InputError, match="there is none; give it with --verifier"):
        router.decide(QUESTION, 8)
    router = Router("/nowhere/at/all", bundle="/no/bundle")
    with pytest.raises(InputError, match="/no/bundle is no bundle"):
        router.solve_many([QUESTION], 8)
    router.close()


def test_a_budget_below_the_first_of_the_table_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    cells = tuple(cell for cell in bundle.table.cells if cell.budget > 1)
    table = bundle.table.model_copy(update={"budgets": (2, 4, 8), "cells": cells})
    replace(bundle, table=table).save(tmp_path / "b")
    with simulated(tmp_path / "b") as router, pytest.raises(InputError, match="begins at budget 2"):
        router.decide(QUESTION, 1)


def test_the_shipped_bundle_decides_where_it_fits(shipped: Path) -> None:
    with Router(verifier=SimulatedVerifier()) as router:
        assert router.solve(QUESTION, 8).decision.considered


def test_the_shipped_bundle_is_left_out_where_it_does_not_fit(shipped: Path) -> None:
    with Router(verifier=FakeVerifier()) as router:
        decision = router.solve(QUESTION, 8).decision
    assert str(decision.strategy) == "best_of_n(n=8)"
    assert "the shipped bundle is left out" in decision.why
    assert "verifier was 'simulated' and is now 'fake'" in decision.why
    router = Router(verifier=None)
    decision = router.decide(QUESTION, 8)
    assert str(decision.strategy) == "best_of_n(n=8, select=majority)"
    assert "there is none" in decision.why
    router.close()


@pytest.mark.parametrize(
    "options",
    [
        {"bundle": None},
        {"engine": "fake"},
        {"model": "/somewhere/else"},
        {"endpoints": ("http://127.0.0.1:1",)},
        {"generator": FakeGenerator()},
    ],
)
def test_the_shipped_bundle_is_for_the_model_it_was_fitted_on(
    options: dict[str, object], shipped: Path
) -> None:
    router = Router(verifier=SimulatedVerifier(), **options)  # type: ignore[arg-type]
    assert "no bundle is fitted for this model" in router.decide(QUESTION, 8).why
    router.close()


@pytest.mark.parametrize(("difficulty", "tolerance"), [("pilot", 0.0), ("text", 0.1)])
def test_what_only_a_bundle_can_do_is_refused_without_one(
    difficulty: str, tolerance: float
) -> None:
    router = Router(generator=FakeGenerator(), difficulty=difficulty)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a bundle, and no bundle is fitted"):
        router.decide(QUESTION, 8, tolerance=tolerance)
    router.close()


def test_unknown_ways_to_tell_difficulty_are_refused(directory: Path) -> None:
    router = Router(bundle=directory, difficulty="guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="text, prefill, pilot, not 'guess'"):
        router.decide(QUESTION, 8)
    router.close()


# -- policies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "samples"), [(1, 1), (2, 1), (8, 2), (16, 4), (32, 8), (64, 8)])
def test_a_pilot_is_a_quarter_of_the_budget(bundle: Bundle, budget: int, samples: int) -> None:
    assert ByTable.of(bundle, "pilot").needs.drawn(budget) == samples
    assert ByTable.of(bundle).needs.drawn(budget) == 0


def test_low_scores_of_a_pilot_mean_a_hard_problem(bundle: Bundle) -> None:
    chooser = ByTable.of(bundle, "pilot")
    problem, budget = Problem("p", QUESTION), Budget(8)
    easy = chooser.choose(problem, Evidence(scores=(0.9, 0.8)), budget)
    hard = chooser.choose(problem, Evidence(scores=(0.1, 0.2)), budget)
    assert easy.levels is not None
    assert hard.levels is not None
    assert easy.levels[0] > 0.5 > hard.levels[0]
    assert hard.levels[-1] > 0.5 > easy.levels[-1]
    assert "mean score of a pilot, 0.85 over 2 samples" in easy.why
    before = chooser.choose(problem, UNOBSERVED, budget)
    assert before.levels == pytest.approx(bundle.prior)


def test_a_pilot_leaves_less_to_searches_that_cannot_use_it(bundle: Bundle) -> None:
    evidence = Evidence(scores=(0.5, 0.5))
    decision = ByTable.of(bundle, "pilot").choose(Problem("p", QUESTION), evidence, Budget(8))
    costs = {str(considered.strategy): considered.cost for considered in decision.considered}
    assert costs["best_of_n(n=8)"] == 8
    assert costs["beam_search(n=4)"] == 6
    assert "beam_search(n=8)" not in costs
    assert max(costs.values()) <= 8


def test_true_levels_are_one_row_of_the_table(bundle: Bundle) -> None:
    oracle = Oracle({"easy": 1, "hard": 3}, bundle.levels.count)
    chooser = ByTable.at_true_levels(bundle, oracle)
    for name, level in oracle.given.items():
        decision = chooser.choose(Problem(name, QUESTION), UNOBSERVED, Budget(8))
        assert decision.strategy == bundle.table.best(level, 8).strategy
        assert decision.levels is not None
        assert decision.levels[level - 1] == 1
    with pytest.raises(InputError, match="level of problem 'other' is not given"):
        chooser.choose(Problem("other", QUESTION), UNOBSERVED, Budget(8))


def test_the_state_after_reading_a_problem_tells_its_level(bundle: Bundle) -> None:
    chooser = ByTable.of(bundle, "prefill")
    for kind in range(3):
        read = Evidence(state=np.array(state(kind), np.float32))
        decision = chooser.choose(Problem("p", QUESTION), read, Budget(8))
        assert decision.levels is not None
        assert int(np.argmax(decision.levels)) == kind
        assert decision.why.endswith("judged by the generator's state after reading it")
    before = chooser.choose(Problem("p", QUESTION), UNOBSERVED, Budget(8))
    assert before.why.endswith("judged by its text")


def test_a_prompt_is_read_before_the_search_and_paid_for(directory: Path) -> None:
    easy, hard = (Problem(f"{k}", f"Is 1 + 2 of kind {k}?") for k in (0, 2))
    router = simulated(directory)
    router.difficulty = "prefill"
    with router:
        found = router.solve(hard, 8, seed=0)
        assert router.solve(easy, 8, seed=0).decision.strategy != found.decision.strategy
        # Whoever streams is told of the decision that counts, before the search.
        told: list[Decision] = []
        late = asyncio.run(router.asolve(hard, 8, seed=0, decided=told.append))
    assert late.decision == found.decision
    assert told == [late.decision]
    again = Fixed(found.decision.strategy)
    with Router(generator=Simulated(), verifier=SimulatedVerifier(), chooser=again) as alone:
        search = alone.solve(hard, 8, seed=0).usage
    assert found.usage.prompt_tokens == (search.prompt_tokens or 0) + 40
    assert found.usage.flops == pytest.approx((search.flops or 0) + 2 * 1_000 * 30)


def test_a_generator_without_such_states_is_refused(directory: Path, bundle: Bundle) -> None:
    class Blind(Simulated):
        @property
        def state_layer(self) -> int | None:
            return None

    router = Router(generator=Blind(), verifier=SimulatedVerifier(), bundle=directory)
    router.difficulty = "prefill"
    with router, pytest.raises(InputError, match=r"states of layer 1, .*'fake' hands out none"):
        router.solve(QUESTION, 8)
    with pytest.raises(InputError, match="its generator handed out no states"):
        ByTable.of(replace(bundle, prefill=None), "prefill")


def test_a_bundle_without_scores_has_no_pilot(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="none of its samples was scored"):
        ByTable.of(replace(bundle, pilot=None), "pilot")


@pytest.mark.parametrize("budget", [1, 2, 8])
def test_a_search_with_a_pilot_stays_in_its_budget(directory: Path, budget: int) -> None:
    router = simulated(directory)
    router.difficulty = "pilot"
    with router:
        solution = router.solve("What is 12345 + 23456 + 34567?", budget, seed=0)
    assert "mean score of a pilot" in solution.decision.why
    assert solution.usage.generations <= budget
    assert len(solution.candidates) >= ByTable.of(Bundle.load(directory), "pilot").needs.drawn(
        budget
    )
    assert all(candidate.scores for candidate in solution.candidates)


def test_a_token_cap_within_the_pilot_leaves_the_decision_before_it(directory: Path) -> None:
    router = simulated(directory)
    router.difficulty = "pilot"
    with router:
        solution = router.solve("What is 1234567 + 2345678?", Budget(8, tokens=50), seed=0)
    assert solution.ended == "tokens"
    assert "how common each level is" in solution.decision.why


# -- the command line -------------------------------------------------------------------------


@pytest.fixture
def fake(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options of `router solve` that take the bundle and the models it was fitted on."""
    monkeypatch.setattr("router.models.fakes.FakeGenerator", Simulated)
    monkeypatch.setattr("router.models.fakes.FakeVerifier", SimulatedVerifier)
    return ("--engine", "fake", "--verifier", "fake", "--bundle", str(directory), "--seed", "0")


def run(*args: str) -> Result:
    done = CliRunner().invoke(cli.main, args)
    assert "Traceback" not in done.stderr
    return done


def test_explain_shows_levels_what_was_weighed_and_why(fake: tuple[str, ...]) -> None:
    done = run("solve", QUESTION, *fake, "--budget", "8", "--explain")
    assert done.exit_code == 0, done.stderr
    told = done.stdout[done.stdout.index("How hard") :]
    assert "easiest" in told
    assert "hardest" in told
    (winner,) = [line.split() for line in told.splitlines() if line.startswith(">")]
    solution = json.loads(run("solve", QUESTION, *fake, "--budget", "8", "--json").stdout)
    decision = solution["decision"]
    assert " ".join(winner[1:-5]) == decision["strategy"]
    assert winner[-5] == f"{decision['expected_accuracy']:.1%}"
    assert decision["considered"][1]["strategy"] in told
    assert f"{len(decision['considered']) - 12} more" in told
    assert "best expected accuracy of" in told
    assert "points ahead of" in told


def test_without_a_bundle_there_is_little_to_explain() -> None:
    done = run("solve", QUESTION, "--engine", "fake", "--explain")
    assert done.stdout.splitlines()[-1].startswith("no bundle is fitted for this model")
    assert "What was weighed" not in done.stdout


def test_a_pilot_is_spent_and_told(fake: tuple[str, ...]) -> None:
    done = run("solve", QUESTION, *fake, "--budget", "8", "--difficulty", "pilot", "--json")
    solution = json.loads(done.stdout)
    assert "of a pilot" in solution["decision"]["why"]
    assert solution["usage"]["generations"] <= 8


def test_many_problems_are_routed_one_by_one(fake: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    texts = (f"Simulated problem 100 of kind {kind}: 1 + 2?" for kind in (0, 2))
    file.write_text("".join(json.dumps({"problem": text}) + "\n" for text in texts))
    done = run("solve", "--file", str(file), *fake, "--budget", "8")
    easy, hard = sorted(map(json.loads, done.stdout.splitlines()), key=lambda s: s["problem_id"])
    assert easy["decision"]["levels"][0] > hard["decision"]["levels"][0]
    cheap = run("solve", "--file", str(file), *fake, "--budget", "8", "--tolerance", "1")
    assert "spent 2 generations" in cheap.stderr
    refused = run("solve", "--file", str(file), *fake, "--explain")
    assert refused.exit_code == 2
    assert "--explain is for one problem" in refused.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--bundle", "nowhere"], "nowhere is no bundle"),
        (["--verifier", "none"], "there is none; give it with --verifier"),
        (["--tolerance", "2"], "tolerance must lie between 0 and 1, not 2.0"),
        (["--difficulty", "guess"], "'guess' is not one of"),
        (["--bundle", "none", "--tolerance", "0.1"], "a tolerance needs a bundle"),
        (["--bundle", "none", "--difficulty", "pilot"], "difficulty by pilot needs a bundle"),
        (["--strategy", "best_of_n", "--tolerance", "0.1"], "this is decided already"),
    ],
)
def test_bad_routing_is_one_line(fake: tuple[str, ...], args: list[str], message: str) -> None:
    done = run("solve", QUESTION, *fake, *args)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_table_and_difficulty_show_the_shipped_bundle(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.commands.common.shipped_bundle", lambda model: directory)
    assert "DVTS of 8" in run("table", "show").stdout
    assert "level 1" in run("difficulty", QUESTION).stdout
    monkeypatch.setattr("router.commands.common.shipped_bundle", lambda model: None)
    for args in (["table", "show"], ["difficulty", QUESTION]):
        done = run(*args)
        assert done.exit_code == 2
        assert "no bundle comes with this version" in done.stderr


def test_the_table_says_plainly_whether_one_search_wins(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "b")
    shown = run("table", "show", str(tmp_path / "b")).stdout
    told = " ".join(shown.split())
    assert "levels have winners of their own at budgets 2, 4, 8; whether on others" in told
    assert "DVTS of 8" in shown  # no name is broken over lines at 80 columns

    def plain_vote(strategy: Strategy) -> bool:
        return strategy == BestOfN(n=strategy.cost, select="majority")

    cells = tuple(
        cell.model_copy(
            update={"entries": tuple(e for e in cell.entries if plain_vote(e.strategy))}
        )
        for cell in bundle.table.cells
    )
    table = bundle.table.model_copy(update={"cells": cells})
    replace(bundle, table=table).save(tmp_path / "b")
    shown = run("table", "show", str(tmp_path / "b")).stdout
    assert "One search wins everywhere, at every level and budget: majority vote." in shown


def test_the_table_shows_curves_and_what_an_average_buys(directory: Path) -> None:
    """In 80 columns: more generations never buy less, and averages are kept."""
    lines = run("table", "show", str(directory)).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    curves = [line.split() for line in lines if line.strip().endswith(("█", "▇", "▆", "▅", "▄"))]
    assert len(curves) == 3
    for _, *reached, _ in curves:
        assert list(map(int, reached)) == sorted(map(int, reached))
    at = next(i for i, line in enumerate(lines) if line.startswith("average"))
    bought = [lines[i].replace("%", "").split() for i in range(at + 2, at + 5)]
    for average, solved, for_all, _, *spent in bought:
        assert float(solved) >= float(for_all) - 0.05
        assert min(map(float, spent)) <= float(average) + 0.05
    assert float(bought[0][1]) < float(bought[2][1])
