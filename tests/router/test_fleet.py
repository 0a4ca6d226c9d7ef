"""Several models under one budget, on fakes: what is asked, charged, told and refused."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router import Budget, Router
from router.cli import main
from router.models.errors import EngineError, InputError
from router.models.fakes import FakeGenerator, FakeVerifier, Script, slipping_sum
from router.models.types import Chain, FinishReason, Sampling
from router.models.usage import Price, Usage
from router.pairs import Pair, relative_costs
from router.records import Solution
from router.strategies.best_of_n import BestOfN
from router.strategies.escalate import Escalate
from router.strategies.fleet import Terms, cost_of
from router.strategies.registry import parse_strategy

QUESTION = "What is 123 + 4567 + 888?"
SUM = "5578"
FLEET = {"small": Terms(1, True), "large": Terms(3.07, True)}
"""Terms that do not divide a budget."""


def says(answer: str) -> Script:
    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        return f"The answer is \\boxed{{{answer}}}.", "stop"

    return script


def pair(
    script: Script | None = None, *, price: float = 1, judged: bool = True, **options: Any
) -> Pair:
    judge = FakeVerifier() if judged else None
    generator = FakeGenerator(script, **options)
    return Pair(generator=generator, verifier=judge, price=Price(price, price))


def fleet(**options: Any) -> Router:
    """A small model that is always wrong, and a large one that never is."""
    pairs = {"small": pair(says("7")), "large": pair(slipping_sum(0), price=3)}
    return Router(models=pairs, **options)


def solve(text: str, budget: int | Budget = 16, router: Router | None = None) -> Solution:
    with router or fleet() as opened:
        return opened.solve(QUESTION, budget, strategy=text, seed=1)


# -- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "whole", "most"),
    [
        ("best_of_n(model=large)", "best_of_n(n=5, model=large)", 15.35),
        ("best_of_n(model=small)", "best_of_n(n=16)", 16),
        ("beam_search(model=large, width=2)", "beam_search(n=4, model=large, width=2)", 12.28),
        (
            "escalate(first=best_of_n(n=2), then=best_of_n(model=large), lead=1)",
            "escalate(first=best_of_n(n=2), then=best_of_n(n=4, model=large), lead=1)",
            14.28,
        ),
        (
            "escalate(lead=1.5, then=best_of_n(n=3, model=small), give_up=.1,"
            " first=best_of_n(model=large, n=1))",
            "escalate(first=best_of_n(n=1, model=large), then=best_of_n(n=3), lead=1.5,"
            " give_up=0.1)",
            6.07,
        ),
    ],
)
def test_the_text_of_a_strategy_names_its_model_and_fits_it_to_the_budget(
    text: str, whole: str, most: float
) -> None:
    strategy = parse_strategy(text, 16, FLEET)
    assert str(strategy) == whole
    assert parse_strategy(str(strategy)) == strategy
    assert cost_of(strategy, FLEET) == pytest.approx(most)


def test_a_model_stands_in_fields_and_words() -> None:
    text = "escalate(first=best_of_n(n=2), then=best_of_n(n=4, model=large), lead=1)"
    strategy = parse_strategy(text)
    told = json.loads(json.dumps(strategy.to_dict()))
    assert (told["first"]["model"], told["then"]["model"], told["lead"]) == (None, "large", 1)
    assert told["words"] == (
        "weighted vote of 2; unless that leads by 1, weighted vote of 4 on large"
    )


def test_names_that_are_no_words_are_quoted() -> None:
    for name in ("qwen-0.5b", "in", "x.y"):
        strategy = BestOfN(2, model=name)
        assert parse_strategy(str(strategy)) == strategy
        assert f'model="{name}"' in str(strategy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best_of_n(model=huge)", "no model 'huge': there are small, large"),
        ("best_of_n(n=1, model=huge)", "no model 'huge': there are small, large"),
        ('best_of_n(n=2, model="a b")', "no name of a model"),
        ("best_of_n(n=6, model=large)", "needs 18.42 generations, but the budget is 16"),
        ("escalate(first=best_of_n(n=2), lead=1)", "escalate needs then"),
        ("escalate(first=best_of_n(n=2), then=best_of_n(n=2))", "escalate needs lead"),
        ("escalate(first=best_of_n(n=2), then=4, lead=1)", "then must be a strategy"),
        ("escalate(first=dvts(n=4), then=best_of_n(n=2), lead=1)", "first must be a vote"),
        ("escalate(first=best_of_n(n=2), then=best_of_n(n=2), lead=-1)", "lead must lie between"),
        ("escalate(first=best_of_n(n=2), then=best_of_n(n=2), lead=None)", "lead must be a number"),
        (
            "escalate(first=best_of_n(n=16), then=best_of_n(model=large), lead=1)",
            "a sample of large costs 3.07 generations, but the budget is 0",
        ),
    ],
)
def test_what_no_fleet_can_run_is_refused(text: str, message: str) -> None:
    router = fleet()
    router.__dict__["fleet"] = FLEET
    with pytest.raises(InputError, match=message):
        router.decide(QUESTION, 16, strategy=text)


def test_a_single_model_knows_no_names() -> None:
    with pytest.raises(InputError, match="there is one model, without a name; give it with"):
        Router(generator=FakeGenerator()).decide(QUESTION, strategy="best_of_n(n=1, model=large)")


# -- asking -------------------------------------------------------------------------------------


def test_the_first_model_is_asked_unless_a_strategy_names_another() -> None:
    first, other = solve("best_of_n(n=3)"), solve("best_of_n(n=3, model=large)")
    assert (first.answer, other.answer) == ("7", SUM)
    assert (first.decision.models, other.decision.models) == (("small",), ("large",))
    assert {candidate.model for candidate in other.candidates} == {"large"}
    assert (first.usage.generations, other.usage.generations) == (3, 9)


def test_usage_tells_what_each_model_did_and_adds_up() -> None:
    usage = solve("escalate(first=best_of_n(n=2), then=best_of_n(n=4, model=large), lead=9)").usage
    assert usage.generations == 2 + 4 * 3
    assert {name: own.generations for name, own in usage.models.items()} == {"small": 2, "large": 4}
    for name in ("sampled_tokens", "prompt_tokens", "verifier_tokens", "flops", "money"):
        each = [getattr(own, name) for own in usage.models.values()]
        assert all(each)
        assert sum(each) == getattr(usage, name)
    assert Usage.from_dict(json.loads(json.dumps(usage.to_dict()))) == usage
    assert (usage + usage).models["large"].generations == 8


@pytest.mark.parametrize(
    ("lead", "give_up", "asked"),
    [(1.5, None, 0), (1.8, None, 4), (0, None, 0), (9, 1.0, 0), (9, 0.5, 4)],
)
def test_the_second_is_asked_where_the_first_does_not_convince(
    lead: float, give_up: float | None, asked: int
) -> None:
    strategy = Escalate(BestOfN(2), BestOfN(4, model="large"), lead, give_up)
    with fleet() as router:
        found = router.solve(QUESTION, 16, strategy=strategy)
    assert found.usage.models["large"].generations == asked
    assert found.answer == (SUM if asked else "7")  # two votes of 0.85 each
    assert {one.model for one in found.candidates} == {"large" if asked else "small"}
    assert found.decision.models == ("small", "large")


def test_money_is_of_tokens_read_and_sampled_and_unknown_without_a_price() -> None:
    text = "escalate(first=best_of_n(n=2), then=best_of_n(n=4, model=large), lead=9)"
    prices = {"small": Price(0.1, 0.4), "large": Price(2, 3)}
    pairs = {name: replace(pair(says("7")), price=price) for name, price in prices.items()}
    usage = solve(text, 99, Router(models=pairs)).usage
    for name, price in prices.items():
        own = usage.models[name]
        assert own.prompt_tokens is not None
        assert own.sampled_tokens is not None
        paid = price.prompt * own.prompt_tokens + price.sampled * own.sampled_tokens
        assert own.money == pytest.approx(paid / 1e6)
    alone = Pair(generator=FakeGenerator(says("7")), verifier=None)
    assert solve("best_of_n(n=2, select=majority)", router=Router(models=alone)).usage.money is None
    old = {name: value for name, value in usage.to_dict().items() if name != "money"}
    assert Usage.from_dict(old).money is None  # of a record made before it was counted


def test_each_stage_selects_in_its_own_way() -> None:
    pairs = {"small": pair(says("7")), "large": pair(judged=False, price=3)}
    text = "escalate(first=best_of_n(n=2), then=best_of_n(n=3, model=large, select={}), lead=9)"
    assert solve(text.format("majority"), router=Router(models=pairs)).selection == "majority"
    with pytest.raises(InputError, match="give one with --verifier large=…"):
        solve(text.format("weighted"), router=Router(models=pairs))


def test_one_tree_holds_all_models() -> None:
    found = solve("escalate(first=best_of_n(n=2), then=best_of_n(n=2, model=large), lead=9)")
    nodes = found.trace_dict()["nodes"]
    assert [node["parent"] for node in nodes].count(None) == 1
    assert "model" not in nodes[0]
    assert [n["model"] for n in nodes if n["status"] == "finished"] == ["small"] * 2 + ["large"] * 2


def test_a_deadline_holds_for_all_and_the_last_that_finished_answers() -> None:
    pairs = {"small": pair(says("7")), "large": pair(says(SUM), seconds_per_token=60)}
    text = "escalate(first=best_of_n(n=2), then=best_of_n(n=2, model=large), lead=9)"
    found = solve(text, Budget(8, seconds=1), Router(models=pairs))
    assert found.ended == "deadline"
    assert {one.model for one in found.candidates} == {"small"}


def test_a_failing_second_fails_the_search_and_tells_what_was_spent() -> None:
    pairs = {"small": pair(says("7")), "large": pair(fail_after=0, price=3)}
    text = "escalate(first=best_of_n(n=2), then=best_of_n(n=2, model=large), lead=9)"
    with pytest.raises(EngineError) as caught:
        solve(text, router=Router(models=pairs))
    usage: Usage = caught.value.usage  # type: ignore[attr-defined]
    assert usage.models["small"].generations == 2
    assert usage.models["small"].money


def test_cancelling_stops_whichever_model_runs() -> None:
    slow = FakeGenerator(seconds_per_token=1.0)
    models = {"small": pair(), "large": Pair(generator=slow, price=Price(1, 1))}

    async def leave() -> None:
        async with Router(models=models) as router:
            text = "best_of_n(n=4, model=large, select=majority)"
            task = asyncio.create_task(router.asolve(QUESTION, 4, strategy=text))
            while not slow.running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert slow.running == 0

    asyncio.run(leave())


def test_thoughts_of_one_model_are_not_expected_of_the_other() -> None:
    seen: list[tuple[str, str]] = []

    class Spy(FakeGenerator):
        async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Any:
            seen.append((chain.problem.model, chain.problem.text))
            return await super().sample(chain, n, sampling)

    spies = {name: Pair(generator=Spy(), price=Price(1, 1)) for name in ("a", "b")}
    solve("best_of_n(n=1, model=b, select=majority)", router=Router(models=spies))
    assert seen == [("b", QUESTION)]


# -- costs --------------------------------------------------------------------------------------


def test_a_sample_costs_what_its_tokens_do_in_money_or_in_flops(tiny_checkpoint: Path) -> None:
    priced = {name: Pair(price=Price(0, sampled)) for name, sampled in (("a", 0.2), ("b", 0.5))}
    assert relative_costs(priced) == {"a": 1, "b": 2.5}
    here = str(tiny_checkpoint)
    assert relative_costs({"a": Pair(here), "b": Pair(here)}) == {"a": 1, "b": 1.0}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"a": Pair(price=Price(1, 1)), "b": Pair()}, "a have a price and b none"),
        (
            {"a": Pair(endpoints=["u"]), "b": Pair(endpoints=["v"])},
            "what a sample of a costs is not known",
        ),
    ],
)
def test_a_cost_that_is_not_known_is_not_guessed(pairs: dict[str, Pair], message: str) -> None:
    with pytest.raises(InputError, match=message):
        relative_costs(pairs)


@pytest.mark.parametrize("models", [{}, {"a b": Pair()}, {"": Pair()}])
def test_a_fleet_needs_models_and_names(models: dict[str, Pair]) -> None:
    with pytest.raises(InputError, match=r"models holds no model|no name of a model"):
        Router(models=models)
    with pytest.raises(InputError, match="one model, or several"):
        Router("x", models={"a": Pair()})


# -- the command line ---------------------------------------------------------------------------

FAKES = ("--engine", "fake", "--verifier", "fake", "--model", "small=a", "--model", "large=b")
PRICES = ("--price", "small=0.1", "--price", "large=0.1/0.3")


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, list(args), env=env)


def test_the_command_line_solves_with_a_fleet_and_shows_it() -> None:
    text = "escalate(first=best_of_n(n=2), then=best_of_n(model=large), lead=9)"
    done = run("solve", QUESTION, *FAKES, *PRICES, "--strategy", text, "--seed", "1")
    assert done.exit_code == 0, done.output
    assert "14 of 16 generations (small 2 samples, large 4 samples)" in " ".join(
        done.stdout.split()
    )
    assert "at these prices" in done.stdout
    assert "large: fake on fake, prompt plain, verifier fake, 3 a sample" in done.stderr


def test_the_environment_may_name_several_models() -> None:
    text = "best_of_n(n=1, model=large, select=majority)"
    args = ("solve", QUESTION, "--engine", "fake", *PRICES, "--strategy", text, "--json")
    done = run(*args, env={"ROUTER_MODEL": "small=dir/a b  large=dir/c"})
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["decision"]["models"] == ["large"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--model", "a", "--model", "b"), "several models have names"),
        ((*FAKES, "--model", "c"), "--model c has no name"),
        ((*FAKES, "--price", "lrge=1"), "did you mean 'large'?"),
        ((*FAKES, "--price", "large=cheap"), "money for a million tokens"),
        ((*FAKES, "--price", "large=-1", "--price", "small=1"), "over 0, not -1"),
        ((*FAKES, "--verifier", "huge=none"), "there is no model 'huge'"),
        (("--engine", "fake", "--price", "1"), "--price is for several models"),
    ],
)
def test_options_that_name_no_model_are_refused(args: tuple[str, ...], message: str) -> None:
    done = run("solve", QUESTION, *args)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_file_of_many_problems_goes_on_with_the_same_fleet_only(tmp_path: Path) -> None:
    problems, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    problems.write_text("".join(f'{{"id": "{i}", "problem": "{i} + 1?"}}\n' for i in range(3)))
    args = ("solve", "-f", str(problems), "--out", str(out), "--budget", "4", *FAKES)
    assert run(*args, *PRICES).exit_code == 0
    assert run(*args, *PRICES, "--resume").exit_code == 0
    refused = run(*args, "--price", "small=0.1", "--price", "large=0.2", "--resume")
    assert refused.exit_code == 2
    assert "model large was" in refused.stderr
