"""What every strategy promises, whatever the models do."""

from __future__ import annotations

import asyncio
import json
import pickle
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import pytest

from router.difficulty.base import Needs
from router.models.errors import (
    EngineError,
    InputError,
    NoCandidates,
    PromptTooLong,
    Unscorable,
    VerifierError,
)
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Chain, EndReason, FinishReason, Problem, Sampled, Sampling, Scored
from router.models.usage import Usage
from router.road import observe
from router.strategies.base import Strategy
from router.strategies.budget import Budget
from router.strategies.driver import Outcome, open_search, run_strategy
from router.strategies.registry import call_parts, inner_strategies
from router.testing.running import Suite, on_loop

PROBLEM = Problem("p", "What is 17 + 25 + 38 + 4?", "84")
_OBSERVED = Needs(samples=2)


@dataclass(frozen=True)
class Case:
    """A strategy, after samples were observed or not. extra: generations of these, not its own."""

    strategy: Strategy
    observed: bool

    @property
    def extra(self) -> int:
        if not self.observed or self.strategy.takes_samples:
            return 0
        return _OBSERVED.drawn(self.strategy.cost + _OBSERVED.samples)

    @property
    def n(self) -> int:
        return self.strategy.n + self.extra

    @property
    def cost(self) -> int:
        return self.strategy.cost + self.extra

    @property
    def needs_verifier(self) -> bool:
        return self.observed or self.strategy.needs_verifier

    def __str__(self) -> str:
        return f"observed, then {self.strategy}" if self.observed else str(self.strategy)


class StrategyConformance(Suite):
    """Puts strategies through a search on fakes that are well, slow, short, mad, or down.

    strategies: configurations of yours; each class of them at a few sizes is best. They are
        defined in a module (not in a function), as whatever travels to another process is.
    """

    strategies: ClassVar[Sequence[Strategy]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for each strategy, and where it searches, after observed samples too."""
        if not self.strategies:
            pytest.fail(f"{type(self).__name__} must name what it tests: `strategies = (…,)`")
        if "strategy" in metafunc.fixturenames:
            metafunc.parametrize("strategy", self.strategies, ids=str)
        if "case" in metafunc.fixturenames:
            cases = [Case(one, observed) for observed in (False, True) for one in self.strategies]
            metafunc.parametrize("case", cases, ids=str)

    async def search(
        self,
        case: Case,
        generator: FakeGenerator | None = None,
        verifier: FakeVerifier | None = None,
        *,
        problem: Problem = PROBLEM,
        budget: Budget | None = None,
        max_tokens: int = 2048,
        seed: int | None = 7,
    ) -> Outcome:
        """One search, as the road makes it."""
        async with open_search(
            problem,
            generator or FakeGenerator(),
            verifier or FakeVerifier(noise=0.1),
            budget or Budget(case.cost),
            Sampling(max_tokens=max_tokens),
            seed=seed,
        ) as search:
            if case.observed:
                await observe(_OBSERVED, search)
            found = await run_strategy(case.strategy, search)
            return Outcome(tuple(found), search.ended, search.usage, search.trace)

    async def end_of(
        self, case: Case, generator: FakeGenerator, budget: Budget
    ) -> tuple[EndReason, Outcome | None]:
        """Why a search ended, and what it found if anything."""
        try:
            outcome = await self.search(case, generator, budget=budget)
        except NoCandidates as error:
            ended, spent = error.ended, error.usage
        else:
            return outcome.ended, outcome
        assert isinstance(spent, Usage)
        return ended, None

    # -- what it is -----------------------------------------------------------------------

    def test_it_is_a_value_that_travels(self, strategy: Strategy) -> None:
        copy = pickle.loads(pickle.dumps(strategy))
        assert copy == strategy
        assert hash(copy) == hash(strategy)
        assert json.loads(json.dumps(strategy.to_dict()))["name"] == strategy.name

    def test_its_text_is_read_back(self, strategy: Strategy) -> None:
        name, parameters = call_parts(str(strategy))
        parameters |= inner_strategies(type(strategy), parameters)
        assert name == strategy.name
        assert type(strategy)(**parameters) == strategy

    def test_it_fits_itself_to_a_budget(self, strategy: Strategy) -> None:
        given = [f for f in fields(strategy) if f.init]
        own = {f.name: getattr(strategy, f.name) for f in given}
        changed = {f.name for f in given if own[f.name] != f.default} - {"n"}
        parameters = {name: own[name] for name in changed}
        for budget in (1, 2, 3, 7, 16, 64):
            try:
                fitted = strategy.within(budget, parameters)
            except InputError:
                continue
            assert fitted.cost <= budget
        assert strategy.within(strategy.cost, parameters).n >= strategy.n

    def test_its_parts_make_up_the_whole(self, strategy: Strategy) -> None:
        assert sum(part.cost * count for part, count in strategy.parts()) == strategy.cost

    @on_loop
    async def test_a_budget_or_verifier_that_it_lacks_is_refused_for_free(
        self, strategy: Strategy
    ) -> None:
        case, generator = Case(strategy, observed=False), FakeGenerator()
        if strategy.cost > 1:
            with pytest.raises(InputError, match="generations"):
                await self.search(case, generator, budget=Budget(strategy.cost - 1))
        if strategy.needs_verifier:
            with pytest.raises(InputError, match="needs a verifier"):
                async with open_search(
                    PROBLEM, generator, None, Budget(strategy.cost), Sampling()
                ) as search:
                    await run_strategy(strategy, search)
        assert generator.calls == 0

    # -- on models that are well ------------------------------------------------------------

    @on_loop
    async def test_it_answers_and_every_candidate_is_finished(self, case: Case) -> None:
        outcome = await self.search(case)
        assert outcome.ended == "completed"
        assert outcome.candidates
        assert all(c.chain.finished for c in outcome.candidates)
        assert all(c.answer is not None for c in outcome.candidates)
        assert len({id(c.chain) for c in outcome.candidates}) == len(outcome.candidates)

    @on_loop
    async def test_scores_cover_every_step_where_it_needs_a_verifier(self, case: Case) -> None:
        outcome = await self.search(case)
        for candidate in outcome.candidates:
            if case.strategy.needs_verifier:
                assert candidate.scores is not None
                assert len(candidate.scores) == candidate.chain.depth

    @on_loop
    async def test_it_never_spends_more_than_its_budget(self, case: Case) -> None:
        for problem in fake_problems(20, seed=3):
            outcome = await self.search(case, problem=problem)
            assert 0 < outcome.usage.generations <= case.cost

    @on_loop
    async def test_it_is_deterministic_under_a_seed(self, case: Case) -> None:
        seeds = (7, 7, *range(8, 16))
        trees = [(await self.search(case, seed=seed)).trace.to_list() for seed in seeds]
        assert trees[0] == trees[1]
        assert any(tree != trees[0] for tree in trees), "the seed changes nothing"

    @on_loop
    async def test_usage_counts_what_the_models_counted(self, case: Case) -> None:
        generator, verifier = FakeGenerator(), FakeVerifier()
        outcome = await self.search(case, generator, verifier)
        assert outcome.usage.sampled_tokens == generator.sampled_tokens
        assert outcome.usage.verifier_tokens == verifier.scored_tokens

    @on_loop
    async def test_no_step_is_scored_twice(self, case: Case) -> None:
        verifier = FakeVerifier()
        outcome = await self.search(case, verifier=verifier)
        steps = [node for node in outcome.trace.nodes if node.parent is not None]
        total = sum(node.chain.step.tokens or 0 for node in steps if node.chain.step)
        assert verifier.scored_tokens <= total

    @on_loop
    async def test_the_trace_holds_the_whole_tree(self, case: Case) -> None:
        outcome = await self.search(case)
        nodes = outcome.trace.to_list()
        assert nodes[0]["parent"] is None
        assert all(node["parent"] < node["id"] for node in nodes[1:])
        finished = [node for node in nodes if node["status"] == "finished"]
        assert len(finished) >= len(outcome.candidates)
        inner = {node["parent"] for node in nodes}
        leaves = [node for node in nodes if node["id"] not in inner]
        assert all(node["status"] in ("finished", "pruned", "lookahead") for node in leaves)

    # -- at a limit -------------------------------------------------------------------------

    @on_loop
    async def test_a_token_cap_holds_exactly_and_is_named(self, case: Case) -> None:
        for cap in (1, 40, 150):
            generator = FakeGenerator()
            ended, outcome = await self.end_of(case, generator, Budget(case.cost, tokens=cap))
            assert generator.sampled_tokens <= cap
            assert ended in ("tokens", "completed")
            if ended == "completed":
                assert outcome is not None
                assert not any(c.chain.truncated for c in outcome.candidates)

    @on_loop
    async def test_a_deadline_ends_it_and_what_is_finished_answers(self, case: Case) -> None:
        slow = FakeGenerator(seconds_per_token=0.02)
        started = asyncio.get_running_loop().time()
        ended, _ = await self.end_of(case, slow, Budget(case.cost, seconds=0.1))
        assert ended == "deadline"
        assert asyncio.get_running_loop().time() - started < 1.0
        assert slow.running == 0

    @on_loop
    async def test_cancelling_it_stops_the_engine(self, case: Case) -> None:
        slow = FakeGenerator(seconds_per_token=1.0)
        task = asyncio.ensure_future(self.search(case, slow))
        await asyncio.sleep(0.05)
        assert slow.running > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert slow.running == 0

    # -- on models that write nonsense --------------------------------------------------------

    @on_loop
    async def test_empty_solutions_give_no_answer(self, case: Case) -> None:
        outcome = await self.search(case, says("", "stop"))
        assert outcome.candidates
        assert [c.answer for c in outcome.candidates] == [None] * len(outcome.candidates)

    @on_loop
    async def test_empty_steps_on_the_way_are_steps(self, case: Case) -> None:
        outcome = await self.search(case, says("\\boxed{4}", "stop", empty=3))
        assert {(c.answer, c.chain.depth) for c in outcome.candidates} == {("4", 4)}

    @on_loop
    async def test_a_solution_that_never_ends_is_cut(self, case: Case) -> None:
        outcome = await self.search(case, says("on and on\n\n"), max_tokens=100)
        assert outcome.candidates
        assert all(c.chain.truncated for c in outcome.candidates)
        assert all(c.chain.tokens <= 101 for c in outcome.candidates)

    @on_loop
    async def test_duplicate_continuations_are_candidates_each(self, case: Case) -> None:
        outcome = await self.search(case, says("\\boxed{4}", "stop"))
        assert {c.answer for c in outcome.candidates} == {"4"}

    @on_loop
    async def test_unparsable_solutions_invent_no_answer(self, case: Case) -> None:
        outcome = await self.search(case, says("no idea", "stop"))
        assert {c.answer for c in outcome.candidates} == {None}

    # -- on models that fail --------------------------------------------------------------------

    @on_loop
    async def test_a_failing_generator_raises_its_own_error(self, case: Case) -> None:
        with pytest.raises(EngineError, match="fake generator fails") as failed:
            await self.search(case, FakeGenerator(fail_after=0))
        assert failed.value.usage is not None

    @on_loop
    async def test_a_generator_failing_midway_raises_its_own_error(self, case: Case) -> None:
        needed = FakeGenerator()
        await self.search(case, needed)
        if needed.calls > 1:
            with pytest.raises(EngineError, match="fake generator fails") as failed:
                await self.search(case, FakeGenerator(fail_after=needed.calls - 1))
            assert failed.value.usage is not None
            assert failed.value.usage.sampled_tokens

    @on_loop
    async def test_nothing_runs_on_once_it_has_failed(self, case: Case) -> None:
        needed = FakeGenerator()
        await self.search(case, needed)
        for calls in range(1, needed.calls):
            failing = FakeGenerator(seconds_per_token=1e-4, fail_after=calls)
            with pytest.raises(EngineError, match="fake generator fails"):
                await self.search(case, failing)
            assert failing.running == 0

    @on_loop
    async def test_a_generator_that_returns_too_few_is_an_error(self, case: Case) -> None:
        class Short(FakeGenerator):
            async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:  # noqa: ARG002
                return Sampled((), 1)

        with pytest.raises(EngineError, match="asked for"):
            await self.search(case, Short())

    @on_loop
    async def test_a_problem_too_long_is_the_callers_fault(self, case: Case) -> None:
        with pytest.raises(PromptTooLong):
            await self.search(case, FakeGenerator(context=10))

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    @on_loop
    async def test_equal_scores_still_answer(self, case: Case, value: float) -> None:
        outcome = await self.search(case, verifier=FakeVerifier(constant=value))
        assert outcome.candidates

    @pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5])
    @on_loop
    async def test_a_score_that_is_no_probability_is_an_error(
        self, case: Case, value: float
    ) -> None:
        if not case.needs_verifier:
            return
        with pytest.raises(VerifierError, match="not a probability"):
            await self.search(case, verifier=FakeVerifier(constant=value))

    @pytest.mark.parametrize("share", [0.3, 1.0])
    @on_loop
    async def test_paths_that_cannot_be_scored_cost_themselves(
        self, case: Case, share: float
    ) -> None:
        for seed in range(5):
            outcome = await self.search(case, verifier=Picky(share), seed=seed)
            assert outcome.ended == "completed"
            assert outcome.candidates
            assert all(c.chain.finished for c in outcome.candidates)

    @on_loop
    async def test_a_verifier_that_is_down_is_an_error(self, case: Case) -> None:
        if not case.needs_verifier:
            return
        with pytest.raises(VerifierError, match="down") as failed:
            await self.search(case, verifier=Down())
        assert failed.value.usage is not None
        assert failed.value.usage.sampled_tokens


def says(text: str, finish: FinishReason = "step", empty: int = 0) -> FakeGenerator:
    """A generator of which every step is this text, after so many empty ones."""

    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:  # noqa: ARG001
        return ("", "step") if chain.depth < empty else (text, finish)

    return FakeGenerator(script)


class Picky(FakeVerifier):
    """Cannot take a share of the chains, told by their text."""

    def __init__(self, share: float) -> None:
        super().__init__(noise=0.1)
        self._share = share

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        if random.Random(chain.text).random() < self._share:
            raise Unscorable(f"a chain of {chain.depth} steps")
        return await super().score(chain, known)


class Down(FakeVerifier):
    """Always fails."""

    async def score(self, chain: Chain, known: int = 0) -> Scored:  # noqa: ARG002
        raise VerifierError("the verifier is down")
