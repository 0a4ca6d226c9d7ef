"""Runs one strategy on one problem within a budget, and always says why it ended."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

from router.models.base import Generator, Verifier
from router.models.errors import BudgetExhausted, InputError, NoCandidates
from router.models.types import EndReason, Problem, Sampling
from router.strategies.base import Candidate, Strategy
from router.strategies.budget import Budget, Usage
from router.strategies.pilot import Pilot
from router.strategies.scoring import candidates
from router.strategies.search import Search
from router.strategies.tasks import get_task
from router.strategies.trace import Listener, Trace

log = logging.getLogger("router")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found.

    candidates: finished solutions with their answers extracted; at least one.
    ended: `completed`, or the limit that ended it first.
    """

    candidates: tuple[Candidate, ...]
    ended: EndReason
    usage: Usage
    trace: Trace


async def run_search(
    strategy: Strategy | Pilot,
    problem: Problem,
    generator: Generator,
    verifier: Verifier | None,
    budget: Budget,
    sampling: Sampling,
    *,
    seed: int | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Run `strategy` until it is done or a limit of `budget` ends it; what finished answers.

    Cancelling this coroutine cancels every call that the search has in flight.

    Raises:
        InputError: the strategy cannot fit the budget, or needs a verifier that is not there.
        NoCandidates: it ended without one finished solution.
        EngineError, VerifierError: a model failed.
    """
    check(strategy, budget, has_verifier=verifier is not None)
    search = Search(
        problem,
        generator,
        verifier,
        budget,
        sampling,
        seed=seed,
        listener=listener,
        score_samples=strategy.scores_samples,
        temperature=strategy.temperature,
    )
    try:
        found, ended = await _run(strategy, problem, search)
    finally:
        await search.aclose()
    if not found:
        raise NoCandidates(
            ended,
            f"problem {problem.id}: {strategy} ended ({ended}) before one solution was finished;"
            " raise the limit or take a smaller n",
        )
    read = get_task(problem.task).read
    answered = tuple(replace(c, answer=read(c.text, c.path.truncated)) for c in found)
    return Outcome(answered, ended, search.usage, search.trace)


def check(strategy: Strategy | Pilot, budget: Budget, *, has_verifier: bool) -> None:
    """Refuse what cannot run, before anything is spent.

    Raises:
        InputError: it costs more than the budget, or it needs a verifier and there is none.
    """
    if strategy.cost > budget.generations:
        raise InputError(
            f"{strategy} needs {strategy.cost} generations, but the budget is {budget.generations}"
        )
    if strategy.needs_verifier and not has_verifier:
        raise InputError(
            f"{strategy} needs a verifier and there is none: give one with --verifier,"
            " or take best_of_n(select=majority)"
        )


async def _run(
    strategy: Strategy | Pilot, problem: Problem, search: Search
) -> tuple[list[Candidate], EndReason]:
    timeout = asyncio.timeout(search.budget.seconds)
    try:
        async with timeout:
            try:
                found = await strategy.run(problem, search)
                return found, "tokens" if search.capped else "completed"
            except BaseExceptionGroup as errors:
                raise _cause(errors) from errors
    except TimeoutError:
        if not timeout.expired():
            raise
        # Nothing more may be awaited: scores that are not known yet stay unknown.
        return await candidates(search, search.finished, scored=False), "deadline"
    except BudgetExhausted as exhausted:
        log.info("problem %s: %s", problem.id, exhausted)
        scored = strategy.needs_verifier
        return await candidates(search, search.finished, scored=scored), exhausted.reason


def _cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a task group that says why: a failure before a mere end of budget."""
    leaves = list(_leaves(errors))
    return min(leaves, key=lambda error: isinstance(error, BudgetExhausted))


def _leaves(errors: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in errors.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
