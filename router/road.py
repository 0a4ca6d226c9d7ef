"""The road of one problem: observe, choose, search, settle.

Everything that spends goes through one open search, so one deadline, one budget and one usage hold
for all of it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from router.choosing import Chooser
from router.difficulty.base import Evidence, Needs
from router.models.types import Problem, Sampling
from router.opening import Models
from router.records import Decision, Finished, Solution
from router.strategies.base import Candidate
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.driver import limited, open_search, run_strategy
from router.strategies.scoring import step_values
from router.strategies.search import Search
from router.strategies.selection import select, voters
from router.strategies.tasks import check_task, get_task
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
    task = get_task(problem.task)
    async with open_search(
        problem,
        models.generator,
        models.verifier,
        budget,
        sampling,
        name=models.name,
        price=models.price,
        others=models.others,
        seed=seed,
        listener=listener,
    ) as search:
        evidence = await observe(chooser.needs, search)
        decision = await _choose(chooser, problem, evidence, budget)
        asked = models.asked_by(decision.strategy)
        decision = replace(decision, models=asked)
        if decided is not None:
            decided(decision)
        for stage in decision.strategy.stages:
            check_task(task, selects_by_score=stage.select != "majority", n=stage.n)
        found = await run_strategy(decision.strategy, search)
        followed = search.strategy or decision.strategy
        notes = []
        if search.greedy and followed.n > 1:
            notes.append("at temperature 0 all samples are equal, so one was drawn")
        infos = [m.generator.info for m in models.members if m.name in asked or not asked]
        unseeded = next((info.engine for info in infos if not info.seeds), None)
        if seed is not None and unseeded is not None:
            way = " (--endpoint-seeds says that the servers do)" if unseeded == "openai" else ""
            notes.append(
                f"the engine {unseeded!r} takes no seed here, so samples differ from run to"
                f" run{way}"
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
        read = await limited(search, search.read_prompt())
        return Evidence() if read is None else Evidence(state=read.state)
    count = needs.drawn(int(search.remaining))
    if not count:
        return Evidence()
    search.follow(BestOfN(count))
    drawn = await limited(search, search.sample(search.root, count, whole=True)) or []
    values = await limited(search, step_values(search, drawn, search.aggregation())) or []
    search.kept = drawn
    scores = tuple(value for value in values if math.isfinite(value))
    return Evidence(scores=scores, generations=count)


async def settle(
    found: Sequence[Candidate], decision: Decision, search: Search, notes: Sequence[str] = ()
) -> Solution:
    """Put equal answers together, and select one."""
    problem, told = search.root.problem, list(notes)
    strategy = search.strategy or decision.strategy  # of several stages the last one
    task, until = get_task(problem.task), search.deadline
    grouping = await task.group([candidate.answer for candidate in found], until)
    if grouping.unsure:
        told.append(f"{grouping.unsure} pairs of answers could not be compared in time")
    votes = voters(strategy.select, [candidate.scores is not None for candidate in found])
    told += votes.notes
    choice = select(
        [found[i] for i in votes.of],
        [grouping.representatives[i] for i in votes.of],
        votes.how,
        strategy.aggregate or search.usual_aggregation,
    )
    thoughts, text = choice.candidate.chain.apart
    gold = problem.answer
    right = None if gold is None else await task.correct(choice.answer, gold, until)
    for note in told:
        log.info("problem %s: %s", problem.id, note)
    return Solution(
        problem_id=problem.id,
        answer=choice.answer,
        text=text,
        decision=decision,
        usage=search.usage,
        ended=search.ended,
        selection=votes.how,
        votes=choice.votes,
        candidates=tuple(map(Finished.of, found)),
        correct=right,
        notes=tuple(told),
        thoughts=thoughts,
        trace=search.trace,
    )


async def _choose(
    chooser: Chooser, problem: Problem, evidence: Evidence, budget: Budget
) -> Decision:
    if len(problem.text) > _LONG_TEXT:
        return await asyncio.to_thread(chooser.choose, problem, evidence, budget)
    return chooser.choose(problem, evidence, budget)
