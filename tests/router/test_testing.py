"""The public suites find what is wrong with a part: for each promise, somebody who breaks it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest

from router import (
    Candidate,
    Chain,
    EngineError,
    InputError,
    Prefill,
    Problem,
    PromptTooLong,
    Sampled,
    Sampling,
    Scored,
    Search,
    Strategy,
    Unscorable,
    VerifierError,
    candidates,
)
from router.models.fakes import FakeGenerator, FakeVerifier
from router.testing import GeneratorConformance, StrategyConformance, VerifierConformance
from router.testing.running import ModelSuite, Suite
from router.testing.strategies import Case


def fails(suite: Suite, test: str, *args: Any) -> None:
    """One test of a suite must fail."""
    try:
        with pytest.raises((Exception, pytest.fail.Exception)):
            getattr(suite, test)(*args)
    finally:
        suite.teardown_class()


# -- strategies ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole(Strategy):
    """A good one, to be broken."""

    name = "whole"

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        paths = await search.sample(search.root, self.n, whole=True)
        return await candidates(search, paths, scored=True)


class Greedy(Whole):
    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        return await super().run(problem, search) + await super().run(problem, search)


class Copying(Whole):
    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        return 2 * await super().run(problem, search)


class Unscored(Whole):
    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        return [Candidate(c.chain) for c in await super().run(problem, search)]


class Deaf(Whole):
    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        try:
            return await super().run(problem, search)
        except Exception:
            return []


class Brittle(Whole):
    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        paths = await search.sample(search.root, self.n, whole=True)
        return [Candidate(path, await search.score(path)) for path in paths]


class Unfinished(Whole):
    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        return await candidates(search, await search.sample(search.root, self.n), scored=True)


class Untidy(Whole):
    """Leaves what it does not follow as if it went on."""

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        first, *_ = await search.sample(search.root, self.n)
        if first.finished:
            return await candidates(search, [first], scored=True)
        return await candidates(search, await search.sample(first, 1, whole=True), scored=True)


class Random(Whole):
    draws = count()  # no seed comes twice

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        search._seed = next(self.draws)
        return await super().run(problem, search)


class Lasting(Whole):
    """Keeps the engine busy when it is cancelled."""

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        generator = search._of(search.root).generator
        work = asyncio.ensure_future(generator.sample(search.root, 1, Sampling()))
        await asyncio.sleep(0)
        return await asyncio.shield(work) and await super().run(problem, search)


@dataclass(frozen=True)
class Worded(Whole):
    """Its text does not lead back to it."""

    words: str = "two words"


class Unfitting(Whole):
    @classmethod
    def within(cls, budget: int, params: dict[str, Any]) -> Strategy:
        return cls(n=budget + 1, **params)


class Parted(Whole):
    def parts(self) -> tuple[Strategy, int]:
        return self, 2


@pytest.mark.parametrize(
    ("cls", "test"),
    [
        (Greedy, "test_it_answers_and_every_candidate_is_finished"),
        (Copying, "test_it_answers_and_every_candidate_is_finished"),
        (Unfinished, "test_it_answers_and_every_candidate_is_finished"),
        (Unscored, "test_scores_cover_every_step_where_it_needs_a_verifier"),
        (Deaf, "test_a_failing_generator_raises_its_own_error"),
        (Untidy, "test_the_trace_holds_the_whole_tree"),
        (Random, "test_it_is_deterministic_under_a_seed"),
        (Lasting, "test_cancelling_it_stops_the_engine"),
    ],
)
def test_a_strategy_that_breaks_a_promise_is_found(cls: type[Whole], test: str) -> None:
    case = Case(cls(n=4), observed=False)
    fails(StrategyConformance(), test, case)
    getattr(StrategyConformance(), test)(replace(case, strategy=Whole(n=4)))


def test_a_strategy_that_lets_one_bad_path_end_it_is_found() -> None:
    test = "test_paths_that_cannot_be_scored_cost_themselves"
    fails(StrategyConformance(), test, Case(Brittle(n=4), observed=False), 0.3)
    getattr(StrategyConformance(), test)(Case(Whole(n=4), observed=False), 0.3)


@pytest.mark.parametrize(
    ("strategy", "test"),
    [
        (Worded(n=4, words='a "quoted" word'), "test_its_text_is_read_back"),
        (Unfitting(n=4), "test_it_fits_itself_to_a_budget"),
        (Parted(n=4), "test_its_parts_make_up_the_whole"),
    ],
)
def test_a_strategy_that_misdescribes_itself_is_found(strategy: Strategy, test: str) -> None:
    fails(StrategyConformance(), test, strategy)
    getattr(StrategyConformance(), test)(Whole(n=4))


def test_a_suite_without_strategies_says_so() -> None:
    metafunc: Any = None
    with pytest.raises(pytest.fail.Exception, match="must name what it tests"):
        StrategyConformance().pytest_generate_tests(metafunc)


# -- generators ------------------------------------------------------------------------------------


class Few(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        return await super().sample(path, max(1, n - 1), sampling)


class Monotone(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        sampled = await super().sample(path, 1, sampling)
        return replace(sampled, continuations=n * sampled.continuations)


class Unlimited(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        return await super().sample(path, n, replace(sampling, max_tokens=999))


class Unstoppable(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        return await super().sample(path, n, replace(sampling, stop=()))


class Stepless(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        return await super().sample(path, n, replace(sampling, until="end"))


class Endless(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        return await super().sample(path, n, replace(sampling, until="step"))


class Unseeded(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        return await super().sample(path, n, replace(sampling, seed=None))


class Miscounting(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        sampled = await super().sample(path, n, sampling)
        return replace(
            sampled, continuations=tuple(replace(c, tokens=1) for c in sampled.continuations)
        )


class Uncancellable(FakeGenerator):
    def __init__(self, seconds_per_token: float) -> None:
        super().__init__(seconds_per_token=50 * seconds_per_token)

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        return await asyncio.shield(asyncio.ensure_future(super().sample(path, n, sampling)))


class Forgiving(FakeGenerator):
    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        try:
            return await super().sample(path, n, sampling)
        except PromptTooLong as error:
            raise EngineError("failed") from error


class Mixing(FakeGenerator):
    """Answers every call that runs at once as the last of them."""

    last: Chain

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        self.last = path
        await asyncio.sleep(0)
        return await super().sample(self.last, n, sampling)


class Flat(FakeGenerator):
    async def prefill(self, problem: Problem) -> Prefill:
        return replace(read := await super().prefill(problem), state=read.state[None])


class Opened(GeneratorConformance):
    kind = FakeGenerator

    async def open(self) -> FakeGenerator:
        return self.kind(seconds_per_token=0.001)

    def running(self) -> int:
        assert isinstance(self.model, FakeGenerator)
        return self.model.running


@pytest.mark.parametrize(
    ("cls", "test"),
    [
        (Few, "test_a_call_gives_n_continuations"),
        (Endless, "test_a_call_gives_n_continuations"),
        (Miscounting, "test_a_call_gives_n_continuations"),
        (Monotone, "test_continuations_of_one_call_are_independent"),
        (Stepless, "test_a_step_at_a_time_grows_a_path"),
        (Unlimited, "test_a_limit_of_tokens_is_kept"),
        (Unstoppable, "test_a_stop_string_ends_the_text_before_it"),
        (Unseeded, "test_a_seed_is_kept_or_refused"),
        (Mixing, "test_many_calls_at_once_get_their_own_answers"),
        (Uncancellable, "test_cancelling_a_call_stops_its_work"),
        (Forgiving, "test_a_prompt_too_long_is_refused_and_hurts_no_other"),
        (Flat, "test_its_state_after_a_prompt_is_a_vector"),
    ],
)
def test_a_generator_that_breaks_a_promise_is_found(cls: type[FakeGenerator], test: str) -> None:
    broken = type("Broken", (Opened,), {"kind": cls})
    fails(broken(), test)


def test_prompts_that_are_written_anew_are_found() -> None:
    class Rendered(Opened):
        def prompt_ids(self, path: Chain) -> list[int]:
            return list(f"{path.problem.text}{path.depth}{path.text}".encode())

    class Continued(Opened):
        def prompt_ids(self, path: Chain) -> list[int]:
            return list(f"{path.problem.text}{path.text}".encode())

    test = "test_a_longer_paths_prompt_continues_its_parents"
    fails(Rendered(), test)
    getattr(Continued(), test)()
    Continued.teardown_class()


def test_seeds_that_are_taken_in_silence_are_found() -> None:
    class Silent(FakeGenerator):
        async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
            return await super().sample(path, n, replace(sampling, seed=None))

    class Suite(GeneratorConformance):
        async def open(self) -> FakeGenerator:
            return Silent(seeds=False)

    fails(Suite(), "test_a_seed_is_kept_or_refused")


# -- verifiers -------------------------------------------------------------------------------------


class Forgetful(FakeVerifier):
    async def score(self, path: Chain, known: int = 0) -> Scored:
        return await super().score(path)


class Lost(FakeVerifier):
    async def score(self, path: Chain, known: int = 0) -> Scored:
        scored = await super().score(path, known)
        return replace(scored, values=tuple(1.1 for _ in scored.values))


class Foreseeing(FakeVerifier):
    async def score(self, path: Chain, known: int = 0) -> Scored:
        scored = await super().score(path, known)
        return replace(scored, values=tuple(1 / (1 + path.depth) for _ in scored.values))


class Blaming(FakeVerifier):
    async def score(self, path: Chain, known: int = 0) -> Scored:
        if len(path.text) > 10_000:
            raise VerifierError("too long")
        return await super().score(path, known)


class Refusing(FakeVerifier):
    async def score(self, path: Chain, known: int = 0) -> Scored:
        if len(path.text) > 10_000:
            raise Unscorable("too long")
        return await super().score(path, known)


class Mixed(FakeVerifier):
    """Answers every call that runs at once as the last of them."""

    last: Chain

    async def score(self, path: Chain, known: int = 0) -> Scored:
        self.last = path
        await asyncio.sleep(0)
        return await super().score(self.last, known)


class Entangled(FakeVerifier):
    """Waits for the same work in every call that runs at once."""

    work: asyncio.Future[None] | None = None

    async def score(self, path: Chain, known: int = 0) -> Scored:
        if self.work is None or self.work.done():
            self.work = asyncio.ensure_future(asyncio.sleep(0.01))
        await self.work
        return await super().score(path, known)


class Judged(VerifierConformance):
    kind = FakeVerifier

    async def open(self) -> FakeVerifier:
        return self.kind(noise=0.1)


LONG = ("1 + 1 = 2 and " * 20_000 + "\n\n", "\\boxed{2}")


@pytest.mark.parametrize(
    ("cls", "test", "args"),
    [
        (Lost, "test_each_step_gets_a_probability", ()),
        (Forgetful, "test_steps_that_are_known_are_left_out", ()),
        (Foreseeing, "test_a_step_is_judged_by_what_is_before_it", ()),
        (Mixed, "test_many_calls_at_once_get_their_own_answers", ()),
        (Blaming, "test_an_odd_path_is_scored_or_its_own_fault", (LONG,)),
        (Entangled, "test_a_cancelled_call_hurts_no_other", ()),
    ],
)
def test_a_verifier_that_breaks_a_promise_is_found(
    cls: type[FakeVerifier], test: str, args: tuple[Any, ...]
) -> None:
    broken = type("Broken", (Judged,), {"kind": cls})
    fails(broken(), test, *args)


def test_a_path_that_cannot_be_scored_is_no_fault_of_the_verifier() -> None:
    suite = type("Suite", (Judged,), {"kind": Refusing})()
    suite.test_an_odd_path_is_scored_or_its_own_fault(LONG)
    suite.teardown_class()


# -- running ---------------------------------------------------------------------------------------


def test_a_model_is_opened_once_and_closed() -> None:
    told = []

    class Telling(FakeVerifier):
        async def aclose(self) -> None:
            told.append("closed")

    class Suite(VerifierConformance):
        async def open(self) -> FakeVerifier:
            told.append("opened")
            return Telling()

    Suite().test_it_says_what_it_is()
    Suite().test_each_step_gets_a_probability()
    Suite.teardown_class()
    assert told == ["opened", "closed"]


def test_a_suite_that_opens_nothing_says_what_to_write() -> None:
    with pytest.raises(NotImplementedError, match=r"must define `async def open\(self\)`"):
        ModelSuite[FakeVerifier]().run(ModelSuite[FakeVerifier]().prepare())
    ModelSuite.teardown_class()


def test_what_hangs_fails() -> None:
    class Hanging(FakeVerifier):
        async def score(self, path: Chain, known: int = 0) -> Scored:
            await asyncio.sleep(3600)
            raise InputError("never")

    class Suite(Judged):
        kind = Hanging
        patience = 0.1

    with pytest.raises(TimeoutError):
        Suite().test_each_step_gets_a_probability()
    Suite.teardown_class()
