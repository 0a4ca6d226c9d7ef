"""One problem, from the decision to the solution."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from router.models.base import Generator, Prefiller, Verifier
from router.models.errors import EngineError
from router.models.types import Problem, Sampling
from router.policy import Policy
from router.records import Decision, Finished, Solution
from router.strategies.base import Candidate, Select, Strategy, parse_strategy
from router.strategies.budget import Budget, Usage
from router.strategies.driver import run_search
from router.strategies.pilot import Pilot
from router.strategies.registry import STRATEGIES
from router.strategies.selection import select
from router.strategies.tasks import get_task
from router.strategies.trace import Listener

log = logging.getLogger("router")


async def solve(
    problem: Problem,
    policy: Policy,
    generator: Generator,
    verifier: Verifier | None,
    budget: Budget,
    sampling: Sampling,
    *,
    decision: Decision | None = None,
    seed: int | None = None,
    listener: Listener | None = None,
) -> Solution:
    """Run the strategy that the policy chooses, and turn what it found into one answer.

    decision: what the policy said before, if it was asked.

    Raises:
        As `strategies.driver.run_search`, and as `policy.decide`.
    """
    notes = []
    if seed is not None and not generator.info.seeds:
        notes.append(
            f"the engine {generator.info.engine!r} takes no seed here, so samples differ"
            " from run to run"
        )
    spent = Usage()
    if policy.reads_prompt:
        decision, spent = await _read_prompt(problem, policy, generator, budget)
    elif decision is None:
        decision = await policy.decide(problem, budget)
    strategy = parse_strategy(decision.strategy, STRATEGIES)

    async def choose(scores: Sequence[float]) -> Strategy:
        nonlocal decision, strategy
        decision = await policy.decide(problem, budget, scores)
        strategy = parse_strategy(decision.strategy, STRATEGIES)
        return strategy

    samples = policy.pilot(budget)
    plan = Pilot(samples, choose) if samples else strategy
    outcome = await run_search(
        plan, problem, generator, verifier, budget, sampling, seed=seed, listener=listener
    )
    how: Select = strategy.select
    if how != "majority" and any(c.scores is None for c in outcome.candidates):
        notes.append(f"the search ended before every score was known, so majority, not {how}")
        how = "majority"
    task = get_task(problem.task)
    grouping = await task.group([c.answer for c in outcome.candidates])
    aggregation = strategy.aggregate or (verifier.info.aggregation if verifier else "last")
    choice = select(outcome.candidates, grouping.representatives, how, aggregation)
    right = None if problem.answer is None else await task.correct(choice.answer, problem.answer)
    for note in notes:
        log.info("problem %s: %s", problem.id, note)
    return Solution(
        problem_id=problem.id,
        answer=choice.answer,
        text=choice.candidate.text,
        decision=decision,
        usage=spent + outcome.usage,
        ended=outcome.ended,
        selection=how,
        votes=choice.votes,
        candidates=tuple(_finished(candidate) for candidate in outcome.candidates),
        correct=right,
        notes=tuple(notes),
        trace=outcome.trace,
    )


async def _read_prompt(
    problem: Problem, policy: Policy, generator: Generator, budget: Budget
) -> tuple[Decision, Usage]:
    """What is decided once the generator has read the problem, and what that cost."""
    if not isinstance(generator, Prefiller):
        raise EngineError(f"the engine {generator.info.engine!r} hands out no states")
    started = time.monotonic()
    read = await generator.prefill(problem)
    parameters = generator.info.parameters
    computed = read.prompt_tokens - read.cached_tokens
    spent = Usage(
        prompt_tokens=read.prompt_tokens,
        prompt_tokens_cached=read.cached_tokens,
        flops=None if parameters is None else 2.0 * parameters * computed,
        seconds=time.monotonic() - started,
    )
    return await policy.decide(problem, budget, state=read.state), spent


def _finished(candidate: Candidate) -> Finished:
    path = candidate.path
    assert path.step is not None
    counts = [step.tokens for step in path.steps]
    tokens = None if None in counts else path.tokens
    return Finished(candidate.answer, candidate.scores, tokens, path.step.finish, path.text)
