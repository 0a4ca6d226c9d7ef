"""Every strategy keeps the same promises, whatever the models do."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import ClassVar

import pytest

from router.difficulty.base import Needs
from router.models.errors import EngineError, NoCandidates, VerifierError
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems, numbers
from router.models.types import EndReason, FinishReason, Path, Problem, Sampled, Sampling
from router.road import observe
from router.strategies.base import Strategy
from router.strategies.budget import Budget
from router.strategies.driver import Outcome, open_search, run_strategy
from router.strategies.registry import parse_strategy

CONFIGURATIONS = [
    "best_of_n(n=8, select=majority)",
    "best_of_n(n=8, select=best)",
    "best_of_n(n=1)",
    "best_of_n(n=4, temperature=0.3)",
    "beam_search(n=8)",
    "beam_search(n=8, width=2, depth=3)",
    "beam_search(n=4, width=1, aggregate=min)",
    "dvts(n=8, width=4)",
    "dvts(n=8, temperature=1.2)",
    "dvts(n=8, width=2, depth=2, aggregate=mean)",
    "lookahead(n=4, k=1)",
    "lookahead(n=4, width=2, k=3, aggregate=prod)",
]
AFTER_A_PILOT = [
    "best_of_n(n=8)",
    "best_of_n(n=6, temperature=0.3)",
    "beam_search(n=8)",
    "dvts(n=4, width=2)",
]
PROBLEM = Problem("p", "What is 17 + 25 + 38 + 4?", "84")


@dataclass(frozen=True)
class Piloted:
    """Two samples that are observed first, and the strategy that follows."""

    strategy: Strategy
    needs_verifier: ClassVar[bool] = True

    @property
    def n(self) -> int:
        return self.strategy.n + (0 if self.strategy.takes_samples else 2)

    @property
    def cost(self) -> int:
        return self.strategy.cost + (0 if self.strategy.takes_samples else 2)


Case = Strategy | Piloted


@pytest.fixture(params=[*CONFIGURATIONS, *(f"pilot, then {text}" for text in AFTER_A_PILOT)])
def strategy(request: pytest.FixtureRequest) -> Case:
    text = request.param.removeprefix("pilot, then ")
    parsed = parse_strategy(text)
    return parsed if text == request.param else Piloted(parsed)


async def run(
    strategy: Case,
    generator: FakeGenerator | None = None,
    verifier: FakeVerifier | None = None,
    *,
    problem: Problem = PROBLEM,
    budget: Budget | None = None,
    max_tokens: int = 2048,
    seed: int | None = 7,
) -> Outcome:
    async with open_search(
        problem,
        generator or FakeGenerator(),
        verifier or FakeVerifier(noise=0.1),
        budget or Budget(strategy.cost),
        Sampling(max_tokens=max_tokens),
        seed=seed,
    ) as search:
        if isinstance(strategy, Piloted):
            await observe(Needs(samples=2), search)
            strategy = strategy.strategy
        found = await run_strategy(strategy, search)
        return Outcome(tuple(found), search.ended, search.usage, search.trace)


async def end_of(
    strategy: Case, generator: FakeGenerator, budget: Budget
) -> tuple[EndReason, Outcome | None]:
    try:
        outcome = await run(strategy, generator, budget=budget)
    except NoCandidates as error:
        return error.ended, None
    return outcome.ended, outcome


def says(text: str, finish: FinishReason = "step") -> FakeGenerator:
    def script(path: Path, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        return text, finish

    return FakeGenerator(script)


async def test_it_answers_and_every_candidate_is_finished(strategy: Case) -> None:
    outcome = await run(strategy)
    assert outcome.ended == "completed"
    assert 1 <= len(outcome.candidates) <= strategy.n
    assert all(c.path.finished for c in outcome.candidates)
    assert all(c.answer is not None for c in outcome.candidates)


async def test_scores_cover_every_step_where_it_needs_a_verifier(strategy: Case) -> None:
    outcome = await run(strategy)
    for candidate in outcome.candidates:
        if strategy.needs_verifier:
            assert candidate.scores is not None
            assert len(candidate.scores) == candidate.path.depth


async def test_it_never_spends_more_than_its_budget(strategy: Case) -> None:
    for problem in fake_problems(20, seed=3):
        outcome = await run(strategy, problem=problem)
        assert 0 < outcome.usage.generations <= strategy.cost


async def test_it_is_deterministic_under_a_seed(strategy: Case) -> None:
    trees = [(await run(strategy, seed=seed)).trace.to_list() for seed in (7, 7, *range(8, 16))]
    assert trees[0] == trees[1]
    assert any(tree != trees[0] for tree in trees), "the seed changes nothing"


async def test_usage_counts_what_the_models_counted(strategy: Case) -> None:
    generator, verifier = FakeGenerator(), FakeVerifier()
    outcome = await run(strategy, generator, verifier)
    assert outcome.usage.sampled_tokens == generator.sampled_tokens
    assert outcome.usage.verifier_tokens == verifier.scored_tokens


async def test_no_step_is_scored_twice(strategy: Case) -> None:
    verifier = FakeVerifier()
    outcome = await run(strategy, verifier=verifier)
    steps = [node for node in outcome.trace.nodes if node.parent is not None]
    total = sum(node.path.step.tokens or 0 for node in steps if node.path.step)
    assert verifier.scored_tokens <= total


async def test_a_token_cap_holds_exactly_and_is_named(strategy: Case) -> None:
    for cap in (1, 40, 150):
        generator = FakeGenerator()
        ended, outcome = await end_of(strategy, generator, Budget(strategy.cost, tokens=cap))
        assert generator.sampled_tokens <= cap
        assert ended in ("tokens", "completed")
        if ended == "completed":
            assert outcome is not None
            assert not any(c.path.truncated for c in outcome.candidates)


async def test_a_deadline_ends_it_and_what_is_finished_answers(strategy: Case) -> None:
    slow = FakeGenerator(seconds_per_token=0.02)
    started = asyncio.get_running_loop().time()
    ended, _ = await end_of(strategy, slow, Budget(strategy.cost, seconds=0.3))
    assert ended == "deadline"
    assert asyncio.get_running_loop().time() - started < 1.0
    assert slow.running == 0


async def test_cancelling_it_stops_the_engine(strategy: Case) -> None:
    slow = FakeGenerator(seconds_per_token=1.0)
    task = asyncio.ensure_future(run(strategy, slow))
    await asyncio.sleep(0.05)
    assert slow.running > 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.running == 0


async def test_empty_steps_end_at_the_depth_limit(strategy: Case) -> None:
    outcome = await run(strategy, says("", "stop"))
    assert [c.answer for c in outcome.candidates] == [None] * len(outcome.candidates)


async def test_a_solution_that_never_ends_is_cut(strategy: Case) -> None:
    outcome = await run(strategy, says("on and on\n\n"), max_tokens=100)
    assert all(c.path.truncated for c in outcome.candidates)
    assert all(c.path.tokens <= 101 for c in outcome.candidates)


async def test_duplicate_continuations_each_count(strategy: Case) -> None:
    outcome = await run(strategy, says("\\boxed{4}", "stop"))
    assert len(outcome.candidates) == strategy.n
    assert {c.answer for c in outcome.candidates} == {"4"}


async def test_unparsable_solutions_invent_no_answer(strategy: Case) -> None:
    outcome = await run(strategy, says("no idea", "stop"))
    assert {c.answer for c in outcome.candidates} == {None}


async def test_a_failing_generator_raises_its_own_error(strategy: Case) -> None:
    with pytest.raises(EngineError, match="fake generator fails"):
        await run(strategy, FakeGenerator(fail_after=0))


async def test_a_generator_failing_midway_raises_its_own_error(strategy: Case) -> None:
    needed = FakeGenerator()
    await run(strategy, needed)
    if needed.calls > 1:
        with pytest.raises(EngineError, match="fake generator fails"):
            await run(strategy, FakeGenerator(fail_after=needed.calls - 1))


async def test_a_generator_that_returns_too_few_is_an_error(strategy: Case) -> None:
    class Short(FakeGenerator):
        async def sample(self, path: Path, n: int, sampling: Sampling) -> Sampled:
            return Sampled((), 1)

    with pytest.raises(EngineError, match="asked for"):
        await run(strategy, Short())


async def test_equal_scores_still_answer(strategy: Case) -> None:
    outcome = await run(strategy, verifier=FakeVerifier(constant=0.5))
    assert outcome.candidates


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5])
async def test_a_score_that_is_no_probability_is_an_error(strategy: Case, value: float) -> None:
    if not strategy.needs_verifier:
        return
    with pytest.raises(VerifierError, match="not a probability"):
        await run(strategy, verifier=FakeVerifier(constant=value))


async def test_the_trace_holds_the_whole_tree(strategy: Case) -> None:
    outcome = await run(strategy)
    nodes = outcome.trace.to_list()
    assert nodes[0]["parent"] is None
    assert all(node["parent"] < node["id"] for node in nodes[1:])
    finished = [node for node in nodes if node["status"] == "finished"]
    assert len(finished) == len(outcome.candidates)
    inner = {node["parent"] for node in nodes}
    leaves = [node for node in nodes if node["id"] not in inner]
    assert all(node["status"] in ("finished", "pruned", "lookahead") for node in leaves)


def test_the_fake_answers_are_the_sums() -> None:
    for problem in fake_problems(50):
        assert str(sum(numbers(problem))) == problem.answer
