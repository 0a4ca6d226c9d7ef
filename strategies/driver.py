"""Runs one strategy in an open search, to its end or to the first limit of the budget."""

from __future__ import annotations

from dataclasses import dataclass, replace

from router.models.base import Generator, Verifier
from router.models.errors import NoCandidates
from router.models.types import EndReason, Problem, Sampling
from router.models.usage import Usage
from router.strategies.base import Candidate, Strategy
from router.strategies.budget import Budget
from router.strategies.scoring import candidates
from router.strategies.search import Search, open_search
from router.strategies.tasks import get_task
from router.strategies.trace import Listener, Trace


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
    seed: int | None = None,
    listener: Listener | None = None,
) -> Outcome:
    """Run one strategy in a search of its own, as `run_strategy` does.

    Cancelling this coroutine cancels every call that the search has in flight.
    """
    async with open_search(
        problem, generator, verifier, budget, sampling, seed=seed, listener=listener
    ) as search:
        found = await run_strategy(strategy, search)
        return Outcome(tuple(found), search.ended, search.usage, search.trace)


async def run_strategy(strategy: Strategy, search: Search) -> list[Candidate]:
    """Every finished solution with its answer: what the strategy found, and observed samples too.

    Where a limit ended the search, before or after this call, what is finished by then answers,
    scored as far as time allows.

    Raises:
        InputError: it cannot fit the budget, or needs a verifier that is not there.
        NoCandidates: the search ended without one finished solution.
        EngineError, VerifierError: a model failed.
    """
    search.follow(strategy)
    found: list[Candidate] | None = None
    if not search.limit_reached:
        found = await search.limited(strategy.run(search.root.problem, search))
    if found is not None:
        found = found + await candidates(search, search.kept, scored=False)
    elif strategy.needs_verifier:
        found = await search.limited(candidates(search, search.finished, scored=True))
    if found is None:
        found = await candidates(search, search.finished, scored=False)
    await search.stop()
    if not found:
        raise NoCandidates(
            search.ended,
            f"problem {search.root.problem.id}: {strategy} ended ({search.ended}) before one"
            " solution was finished; raise the limit or take a smaller n",
        )
    read = get_task(search.root.problem.task).read
    return [replace(c, answer=read(c.text, c.path.truncated)) for c in found]
