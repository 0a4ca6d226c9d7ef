"""The router on fakes: answers, notes, concurrency, cancellation, life cycle."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from router import Budget, Failure, Router, Solution
from router.models.errors import EngineError, InputError, RouterError
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Chain, FinishReason, Problem, Sampled, Sampling
from router.opening import Models
from router.strategies.trace import Node

QUESTION = "What is 12 + 35 + 7?"


@pytest.fixture
def router() -> Iterator[Router]:
    with Router(generator=FakeGenerator(), verifier=FakeVerifier()) as opened:
        yield opened


class NoSeeds(FakeGenerator):
    def __init__(self) -> None:
        super().__init__(seeds=False)


class SlowVerifier(FakeVerifier):
    def __init__(self) -> None:
        super().__init__(seconds=60)


def silent(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
    return "I cannot tell.", "stop"


def test_solves_with_a_weighted_vote_by_default(router: Router) -> None:
    solution = router.solve(QUESTION, budget=16, seed=0)
    assert solution.answer == "54"
    assert "\\boxed{54}" in solution.text
    assert str(solution.decision.strategy) == "best_of_n(n=16)"
    assert solution.selection == "weighted"
    assert solution.votes[0].weight is not None
    assert solution.usage.generations == 16
    assert solution.ended == "completed"
    assert solution.correct is None
    assert sum(vote.count for vote in solution.votes) == 16
    assert solution.votes[0].answer == "54"
    assert len(solution.candidates) == 16


def test_solves_with_a_majority_where_there_is_no_verifier() -> None:
    with Router(generator=FakeGenerator()) as router:
        solution = router.solve(QUESTION, budget=16, seed=0)
    assert solution.answer == "54"
    assert str(solution.decision.strategy) == "best_of_n(n=16, select=majority)"
    assert solution.selection == "majority"


@pytest.mark.parametrize(
    "strategy", ["best_of_n", "beam_search", "dvts", "lookahead(width=2)", "best_of_n(select=best)"]
)
def test_every_strategy_by_name(router: Router, strategy: str) -> None:
    solution = router.solve(QUESTION, budget=8, strategy=strategy, seed=1)
    assert solution.answer == "54"
    assert solution.usage.generations <= 8
    assert solution.votes[0].weight is not None
    assert all(candidate.scores for candidate in solution.candidates)


def test_gold_answer_is_compared_by_value(router: Router) -> None:
    assert router.solve(Problem("p", QUESTION, answer="54.0"), budget=16).correct is True
    assert router.solve(Problem("p", QUESTION, answer="55"), budget=16).correct is False


def test_same_seed_same_solution() -> None:
    question = "What is 12345 + 98765 + 55555?"
    solutions = []
    for seed in (1, 1, 2):
        with Router(generator=FakeGenerator()) as router:
            solutions.append(router.solve(question, budget=8, seed=seed))
    first, second, other = solutions
    assert first.candidates == second.candidates
    assert first.candidates != other.candidates


def test_seed_on_an_engine_without_seeds_goes_on_and_says_so() -> None:
    with Router(generator=NoSeeds()) as router:
        solution = router.solve(QUESTION, budget=4, seed=7)
    assert solution.answer == "54"
    assert "takes no seed" in solution.notes[0]


def test_no_answer_in_any_sample_invents_none() -> None:
    with Router(generator=FakeGenerator(silent)) as router:
        solution = router.solve(QUESTION, budget=4)
    assert solution.answer is None
    assert solution.votes == ()
    assert len(solution.candidates) == 4
    assert solution.text == "I cannot tell."


def test_limit_before_scores_falls_back_to_majority_and_says_so() -> None:
    with Router(generator=FakeGenerator(), verifier=SlowVerifier()) as router:
        budget = Budget(8, seconds=0.3)
        solution = router.solve(QUESTION, budget, strategy="best_of_n", seed=0)
    assert solution.ended == "deadline"
    assert solution.selection == "majority"
    assert solution.answer == "54"
    assert any("majority" in note for note in solution.notes)


def test_token_cap_is_named(router: Router) -> None:
    solution = router.solve(QUESTION, Budget(64, tokens=300))
    assert solution.ended == "tokens"
    assert solution.usage.sampled_tokens is not None
    assert solution.usage.sampled_tokens <= 300


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("baem_search", "did you mean 'beam_search'"),
        ("beam_search(wdith=4)", "did you mean 'width'"),
        ("beam_search(n=4", "cannot read strategy"),
        ("best_of_n(n=64)", "needs 64 generations, but the budget is 8"),
        ("best_of_n", "needs a verifier"),
    ],
)
def test_bad_strategy_is_refused_before_a_model_is_opened(strategy: str, message: str) -> None:
    router = Router("/nowhere/at/all")
    for call in (router.solve, router.decide):
        with pytest.raises(InputError, match=message):
            call(QUESTION, 8, strategy=strategy)
    with pytest.raises(InputError, match=message):
        router.solve_many([QUESTION], 8, strategy=strategy)
    router.close()


@pytest.mark.parametrize("problem", ["", " \n", Problem("p", " ")])
def test_empty_problem_is_refused(router: Router, problem: str | Problem) -> None:
    with pytest.raises(InputError, match="is empty"):
        router.solve(problem)


def test_decides_without_opening_a_model_in_five_milliseconds() -> None:
    router = Router("/nowhere/at/all")
    router.decide(QUESTION)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        decision = router.decide(QUESTION, 32)
        times.append(time.perf_counter() - start)
    assert str(decision.strategy) == "best_of_n(n=32, select=majority)"
    assert min(times) < 0.005
    router.close()


def test_listener_is_told_of_every_step(router: Router) -> None:
    seen: list[Node] = []
    solution = router.solve(QUESTION, budget=4, listener=seen.append)
    assert solution.trace is not None
    assert {node.id for node in seen} == {node.id for node in solution.trace.nodes}


# -- many problems, many callers --------------------------------------------------------------


def test_many_problems_run_at_once_and_come_as_they_finish() -> None:
    problems = [Problem("slow", "1111111 + 2222222 + 3333333 + 4444444 + 5?"), *fake_problems(8)]
    generator = FakeGenerator(seconds_per_token=0.002)
    with Router(generator=generator) as router:
        start = time.monotonic()
        router.solve(problems[0], budget=2)
        one = time.monotonic() - start
        start = time.monotonic()
        results = list(router.solve_many(problems, budget=2))
        assert time.monotonic() - start < 3 * one
    assert {r.problem_id for r in results} == {problem.id for problem in problems}
    assert results[0].problem_id != "slow"


def test_problems_in_flight_are_bounded() -> None:
    most = 0

    class Watching(FakeGenerator):
        async def sample(self, chain, n, sampling):  # type: ignore[no-untyped-def]
            nonlocal most
            most = max(most, self.running + 1)
            return await super().sample(chain, n, sampling)

    with Router(generator=Watching(seconds_per_token=0.0001)) as router:
        assert len(list(router.solve_many(fake_problems(12), budget=2, in_flight=3))) == 12
    assert most == 3


def test_one_failing_problem_ends_no_other() -> None:
    problems = fake_problems(4)
    problems[1] = Problem("long", "1 + 1 " * 10_000)
    with Router(generator=FakeGenerator()) as router:
        results = {r.problem_id: r for r in router.solve_many(problems, budget=2)}
    failure = results.pop("long")
    assert isinstance(failure, Failure)
    assert "context" in str(failure.error)
    assert len(results) == 3
    assert all(isinstance(result, Solution) for result in results.values())


class Panic(BaseException):
    """As Rust's, which no `except Exception` catches."""


@pytest.mark.parametrize(
    "fault", [KeyError("oops"), asyncio.CancelledError(), Panic("at the disco"), SystemExit(3)]
)
@pytest.mark.parametrize("strategy", ["best_of_n(n=4)", "beam_search(n=4)"])
def test_fault_in_the_code_ends_its_problem_alone(fault: BaseException, strategy: str) -> None:
    class Faulty(FakeGenerator):
        async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
            if chain.problem.id == "bad":
                raise fault
            return await super().sample(chain, n, sampling)

    problems = [*fake_problems(4), Problem("bad", QUESTION)]
    router = Router(generator=Faulty(), verifier=FakeVerifier())
    results: dict[str, Solution | Failure] = {}
    many = router.solve_many(problems, budget=4, strategy=strategy, in_flight=2)
    in_time(lambda: results.update((result.problem_id, result) for result in many))
    assert router.solve(QUESTION, 16, seed=0).answer == "54"
    router.close()
    failure = results.pop("bad")
    assert isinstance(failure, Failure)
    assert failure.error is fault or type(fault).__name__ in str(failure.error)
    assert len(results) == 4
    assert all(isinstance(result, Solution) for result in results.values())


def test_leaving_the_iterator_cancels_the_rest() -> None:
    generator = FakeGenerator(seconds_per_token=0.001)
    with Router(generator=generator) as router:
        results = router.solve_many(fake_problems(20), budget=1)
        next(results)
        results.close()  # type: ignore[attr-defined]
        until(lambda: generator.running == 0)


def test_a_router_that_cannot_open_raises_at_once_from_many() -> None:
    router = Router("/nowhere/at/all", engine="transformers")
    with pytest.raises(InputError, match="neither a directory nor a hub id"):
        list(router.solve_many([QUESTION]))
    router.close()


def test_serves_threads_and_loops_at_once(router: Router) -> None:
    answers: list[str | None] = []

    def blocking() -> None:
        answers.append(router.solve(QUESTION, budget=16, seed=0).answer)

    async def awaiting() -> None:
        both = await asyncio.gather(*(router.asolve(QUESTION, 16, seed=0) for _ in range(2)))
        answers.extend(solution.answer for solution in both)

    threads = [
        threading.Thread(target=blocking),
        threading.Thread(target=lambda: asyncio.run(awaiting())),
        threading.Thread(target=lambda: asyncio.run(awaiting())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["54"] * 5


async def test_solve_works_inside_a_running_loop(router: Router) -> None:
    assert router.solve(QUESTION, budget=16, seed=0).answer == "54"


async def test_cancelling_asolve_stops_the_engines_work() -> None:
    generator = FakeGenerator(seconds_per_token=1.0)
    async with Router(generator=generator) as router:
        task = asyncio.create_task(router.asolve(QUESTION, budget=4))
        await asyncio.to_thread(until, lambda: generator.running > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(until, lambda: generator.running == 0)


async def test_cancelling_asolve_tells_what_was_spent() -> None:
    generator, spent = FakeGenerator(seconds_per_token=0.05), []

    async def solve(router: Router) -> None:
        try:
            await router.asolve(QUESTION, budget=4)
        except asyncio.CancelledError as error:
            spent.append(error.usage)  # type: ignore[attr-defined]
            raise

    async with Router(generator=generator) as router:
        task = asyncio.create_task(solve(router))
        await asyncio.to_thread(until, lambda: generator.running > 0)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert generator.running == 0
    assert spent[0].generations == 4
    assert spent[0].sampled_tokens == generator.sampled_tokens > 0


def test_closing_waits_for_no_thread() -> None:
    class Threaded(FakeGenerator):
        async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
            await asyncio.to_thread(over.wait, 60)
            raise AssertionError

    over = threading.Event()
    router = Router(generator=Threaded())
    with ThreadPoolExecutor(1) as other:
        solving = other.submit(router.solve, QUESTION, 1)
        time.sleep(0.3)
        started = time.monotonic()
        router.close()
        assert time.monotonic() - started < 10
        with pytest.raises(CancelledError):
            solving.result()
        over.set()


# -- life cycle -------------------------------------------------------------------------------


def test_constructor_opens_nothing_and_first_use_does(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = 0

    async def load(*args: object, **options: object) -> FakeGenerator:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.05)
        return FakeGenerator()

    monkeypatch.setattr("router.models.generators.load.load_generator", load)
    router = Router(verifier=None)
    assert loads == 0
    assert len(list(router.solve_many([QUESTION, QUESTION + "?"], 2))) == 2
    router.solve(QUESTION, 2)
    assert loads == 1
    router.close()


def test_failed_opening_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = 0

    async def load(*args: object, **options: object) -> FakeGenerator:
        nonlocal loads
        loads += 1
        if loads == 1:
            raise EngineError("server is starting")
        return FakeGenerator()

    monkeypatch.setattr("router.models.generators.load.load_generator", load)
    router = Router(verifier=None)
    with pytest.raises(EngineError, match="server is starting"):
        router.solve(QUESTION, 2)
    assert router.solve(QUESTION, 16, seed=0).answer == "54"
    router.close()


def test_close_releases_what_the_router_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closing(FakeGenerator):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    opened = Closing()

    async def load(*args: object, **options: object) -> FakeGenerator:
        return opened

    monkeypatch.setattr("router.models.generators.load.load_generator", load)
    with Router(verifier=None):
        assert not opened.closed
    assert opened.closed
    given = Closing()
    with Router(generator=given):
        pass
    assert not given.closed


def test_close_cancels_what_runs_and_ends_the_thread() -> None:
    before = set(threading.enumerate())
    generator = FakeGenerator(seconds_per_token=1.0)
    router = Router(generator=generator)
    caught: list[BaseException] = []

    def solve() -> None:
        try:
            router.solve(QUESTION, 2)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=solve)
    thread.start()
    until(lambda: generator.running > 0)
    router.close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(caught) == 1
    assert generator.running == 0
    assert set(threading.enumerate()) <= before
    with pytest.raises(RouterError, match="closed"):
        router.solve(QUESTION, 2)
    router.close()


def test_listener_that_waits_for_the_router_is_refused_not_hung(router: Router) -> None:
    def listener(node: Node) -> None:
        router.solve(QUESTION, 1)

    with pytest.raises(RuntimeError, match="listener"):
        router.solve(QUESTION, 2, listener=listener)


@pytest.mark.parametrize("call", ["close", "solve_many"])
def test_listener_that_closes_or_solves_many_is_refused_and_the_router_stays(call: str) -> None:
    router = Router(generator=FakeGenerator())

    def listener(node: Node) -> None:
        if call == "close":
            router.close()
        else:
            list(router.solve_many([QUESTION], 1))

    with pytest.raises(RuntimeError, match="a listener must not call the router"):
        in_time(lambda: router.solve(QUESTION, 2, listener=listener))
    assert router.solve(QUESTION, 16, seed=0).answer == "54"
    router.close()


def test_closing_from_the_routers_own_loop_is_refused() -> None:
    async def work(models: Models) -> None:
        await router.aclose()

    router = Router(generator=FakeGenerator())
    with pytest.raises(RuntimeError, match="must not call the router"):
        in_time(lambda: router.run(work))
    assert router.solve(QUESTION, 16, seed=0).answer == "54"
    router.close()


def in_time(call: Callable[[], object]) -> None:
    """In a thread, so that a call that hangs is a failure, and not a test that hangs."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it hangs"
    for error in caught:
        raise error


def until(condition, seconds: float = 10.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)
