"""Opens a search, and runs work in it to its end or to the first limit of the budget."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from router.models.base import Generator, Verifier
from router.models.errors import BudgetExhausted, NoCandidates, RouterError
from router.models.types import Chain, EndReason, Problem, Sampling
from router.models.usage import Price, Usage
from router.strategies.base import Candidate, Strategy
from router.strategies.budget import Budget
from router.strategies.fleet import Member
from router.strategies.scoring import candidates
from router.strategies.search import Search
from router.strategies.tasks import get_task, posed
from router.strategies.trace import Listener, Trace

T = TypeVar("T")

log = logging.getLogger("router")


@asynccontextmanager
async def open_search(
    problem: Problem,
    generator: Generator,
    verifier: Verifier | None,
    budget: Budget,
    sampling: Sampling,
    *,
    name: str = "",
    price: Price | None = None,
    others: Sequence[Member] = (),
    seed: int | None = None,
    listener: Listener | None = None,
) -> AsyncIterator[Search]:
    """One problem's search; its deadline runs from here.

    At the end all that it has in flight is cancelled. An error that leaves the block carries what
    was spent, as `usage`.

    budget: charged before anything is sampled. sampling: temperature, top_p, stop strings and the
    limit on tokens of one solution. name, price: of the first model, where a fleet has several, and
    others: the further ones. seed: makes every call on a generator that takes seeds reproducible.
    listener: told of every node as the tree grows.
    """
    search = Search(
        posed(problem),
        generator,
        verifier,
        budget,
        sampling,
        name=name,
        price=price,
        others=others,
        seed=seed,
        listener=listener,
    )
    try:
        try:
            yield search
        finally:
            await search.stop()
    except (RouterError, asyncio.CancelledError) as error:
        error.usage = search.usage  # type: ignore[union-attr]
        raise


async def limited(search: Search, work: Awaitable[T]) -> T | None:
    """What `work` gives; None if a limit of the budget ends it first, which `search.ended` names.

    Raises:
        Whatever the work raises; of a task group's errors, the one that says why.
    """
    left = None if search.deadline is None else search.deadline - time.monotonic()
    timeout = asyncio.timeout(left)
    try:
        async with timeout:
            try:
                return await work
            except BaseExceptionGroup as errors:
                raise _cause(errors) from errors
    except TimeoutError:
        if not timeout.expired():
            raise
        search.end("deadline")
    except BudgetExhausted as exhausted:
        log.info("problem %s: %s", search.root.problem.id, exhausted)
        search.end(exhausted.reason)
    return None


async def run_strategy(strategy: Strategy, search: Search) -> list[Candidate]:
    """Every finished solution with its answer: what the strategy found, and observed samples too.

    Where a limit ended the search, before or after this call, what its last model has finished by
    then answers, scored as far as time allows.

    Raises:
        InputError: it cannot fit the budget, or needs a verifier that is not there.
        NoCandidates: the search ended without one finished solution.
        EngineError, VerifierError: a model failed.
    """
    search.follow(strategy)
    found: list[Candidate] | None = None
    if not search.limit_reached:
        found = await limited(search, strategy.run(search.root.problem, search))
    if found is not None:
        found = found + await candidates(search, search.kept, scored=False)
    else:
        chains = _answering(strategy, search)
        if search.strategy is not None and search.strategy.needs_verifier:
            found = await limited(search, candidates(search, chains, scored=True))
        if found is None:
            found = await candidates(search, chains, scored=False)
    await search.stop()
    if not found:
        raise NoCandidates(
            search.ended,
            f"problem {search.root.problem.id}: {strategy} ended ({search.ended}) before one"
            " solution was finished; raise the limit or take a smaller n",
        )
    read = get_task(search.root.problem.task).read
    return [replace(c, answer=read(c.chain.marked, c.chain.truncated)) for c in found]


def _answering(strategy: Strategy, search: Search) -> list[Chain]:
    """What the last stage with a finished solution has finished; it is followed from here on."""
    for stage in reversed(strategy.stages):
        search.follow(stage)
        chains = [c for c in search.finished if c.problem.model == search.root.problem.model]
        if chains:
            return chains
    return search.finished


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one strategy found in a search of its own.

    candidates: finished solutions with their answers; at least one.
    ended: `completed`, or the limit that ended it first.
    """

    candidates: tuple[Candidate, ...]
    ended: EndReason
    usage: Usage
    trace: Trace


async def run_search(
    strategy: Strategy,
    problem: Problem,
    generator: Generator,
    verifier: Verifier | None,
    budget: Budget,
    sampling: Sampling,
    *,
    name: str = "",
    others: Sequence[Member] = (),
    seed: int | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Run one strategy in a search of its own, as `run_strategy` does.

    Cancelling this coroutine cancels every call that the search has in flight.
    """
    async with open_search(
        problem,
        generator,
        verifier,
        budget,
        sampling,
        name=name,
        others=others,
        seed=seed,
        listener=listener,
    ) as search:
        found = await run_strategy(strategy, search)
        return Outcome(tuple(found), search.ended, search.usage, search.trace)


def _cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of a task group that says why: a failure before a mere end of budget."""
    return min(_leaves(errors), key=lambda error: isinstance(error, BudgetExhausted))


def _leaves(errors: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in errors.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
