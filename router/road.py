"""The road of one problem: observe, choose, search, settle.

Everything that spends goes through one open search, so one deadline, one budget and one usage hold
for all of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final

from router.choosing import Chooser
from router.difficulty.base import Evidence, Needs
from router.models.types import Problem, Sampling
from router.opening import Models
from router.records import Decision, Finished, Solution
from router.strategies.answers import correct, group
from router.strategies.base import Candidate
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.driver import run_strategy
from router.strategies.scoring import step_values
from router.strategies.search import Search, open_search
from router.strategies.selection import select, voters
from router.strategies.trace import Listener

log = logging.getLogger("router")

_LONG_TEXT: Final = 4_000
"""Characters; features of longer texts take more than about 20 ms, so not on an event loop."""


async def solve(
    problem: Problem,
    models: Models,
    chooser: Chooser,
    budget: Budget,
    sampling: Sampling,
    *,
    seed: int | None = None,
    listener: Listener | None = None,
    decided: Callable[[Decision], None] | None = None,
) -> Solution:
    """Search for the answer to one problem.

    listener: told of every node of the search. decided: told of the decision once it is made.

    Raises:
        InputError: nothing fits the budget, or a verifier is needed and there is none.
        NoCandidates: the search ended without one finished solution.
        EngineError, VerifierError: a model failed.
        Each carries what was spent until then.
    """
    async with open_search(
        problem,
        models.generator,
        models.verifier,
        budget,
        sampling,
        seed=seed,
        listener=listener,
    ) as search:
        evidence = await observe(chooser.needs, search)
        decision = await _choose(chooser, problem, evidence, budget)
        if decided is not None:
            decided(decision)
        found = await run_strategy(decision.strategy, search)
        notes = []
        if seed is not None and not models.generator.info.seeds:
            notes.append(
                f"the engine {models.generator.info.engine!r} takes no seed here, so samples"
                " differ from run to run"
            )
        return await settle(found, decision, search, notes)


async def observe(needs: Needs, search: Search) -> Evidence:
    """What is to be known before the decision; empty where a limit of the budget comes first.

    Observed samples are the search's own: a strategy that samples whole solutions gets them first,
    and what none takes votes beside its candidates.

    Raises:
        InputError: scores are needed and there is no verifier.
        PromptTooLong, EngineError, VerifierError: as `Search.read_prompt`, `sample` and `score`.
    """
    if needs.layer is not None:
        read = await search.limited(search.read_prompt())
        return Evidence() if read is None else Evidence(state=read.state)
    count = needs.drawn(search.remaining)
    if not count:
        return Evidence()
    search.follow(BestOfN(count))
    drawn = await search.limited(search.sample(search.root, count, whole=True)) or []
    values = await search.limited(step_values(search, drawn, search.aggregation())) or []
    search.kept = drawn
    scores = tuple(value for value in values if math.isfinite(value))
    return Evidence(scores=scores, generations=search.usage.generations)


async def settle(
    found: Sequence[Candidate], decision: Decision, search: Search, notes: Sequence[str] = ()
) -> Solution:
    """Put equal answers together, and select one."""
    problem, strategy, told = search.root.problem, decision.strategy, list(notes)
    groups = await group([candidate.answer for candidate in found])
    how, voting = voters(strategy.select, [c.scores is not None for c in found])
    lacking = sum(candidate.scores is None for candidate in found)
    if how != strategy.select:
        told.append(
            f"{lacking} of {len(found)} solutions have no scores, so a majority, not"
            f" {strategy.select}"
        )
    elif len(voting) < len(found):
        told.append(f"{lacking} solutions have no scores, so they do not vote")
    aggregation = strategy.aggregate or search.usual_aggregation
    choice = select([found[i] for i in voting], [groups[i] for i in voting], how, aggregation)
    right = None if problem.answer is None else await correct(choice.answer, problem.answer)
    for note in told:
        log.info("problem %s: %s", problem.id, note)
    return Solution(
        problem_id=problem.id,
        answer=choice.answer,
        text=choice.candidate.text,
        decision=decision,
        usage=search.usage,
        ended=search.ended,
        selection=how,
        votes=choice.votes,
        candidates=tuple(map(Finished.of, found)),
        correct=right,
        notes=tuple(told),
        trace=search.trace,
    )


async def _choose(
    chooser: Chooser, problem: Problem, evidence: Evidence, budget: Budget
) -> Decision:
    if len(problem.text) > _LONG_TEXT:
        return await asyncio.to_thread(chooser.choose, problem, evidence, budget)
    return chooser.choose(problem, evidence, budget)
