"""Samples the rollouts that a verifier is trained on, into a store, resumably."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence, Set
from dataclasses import replace

from models.base import Generator
from models.errors import InputError
from models.types import Path, Problem, Sampled, Sampling
from router.rollouts.runs import Run, StoredCandidate
from router.rollouts.store import SAMPLES, RolloutStore
from router.verifier.data import completions_name
from router.verifier.training import Reporter
from strategies.answers import correct, extract
from strategies.budget import Usage

IN_FLIGHT = 32
"""Calls to the generator at once; enough to keep an engine's own batch full."""


async def sample_pools(
    generator: Generator,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    store: RolloutStore,
    report: Reporter,
) -> None:
    """Bring every problem's pool to `samples` solutions; each is stored as it is finished.

    Raises:
        InputError: a problem without a gold answer.
    """
    for problem in problems:
        if problem.answer is None:
            raise InputError(
                f"problem {problem.id!r} has no gold answer, so its solutions cannot be graded; "
                "give each record a field 'answer'"
            )
    store.add_problems(problems)
    counts = store.counts()
    missing = {
        problem.id: samples - counts[problem.id, SAMPLES]
        for problem in problems
        if counts[problem.id, SAMPLES] < samples
    }

    async def one(problem: Problem) -> None:
        path = Path(problem)
        sampled = await generator.sample(path, missing[problem.id], sampling)
        store.add_samples(problem.id, await _graded(path, sampled), _usage(sampled))

    jobs = [one(problem) for problem in problems if problem.id in missing]
    await _all(jobs, "sampling solutions", report)


async def sample_completions(
    generator: Generator,
    problems: Set[str],
    completions: int,
    sampling: Sampling,
    store: RolloutStore,
    report: Reporter,
) -> None:
    """Complete every step prefix of the stored solutions of these problems, by their ids.

    Whole solutions need none. Each prefix gets `completions` of them.
    These are the rollouts of Math-Shepherd (arXiv 2312.08935, sec. 3.3.2). Prefixes that are
    stored already are skipped.
    """
    stored = {(run.problem, run.configuration) for run in store.runs()}

    async def one(path: Path, name: str) -> None:
        left = replace(sampling, max_tokens=max(sampling.max_tokens - path.tokens, 1))
        sampled = await generator.sample(path, completions, left)
        found = await _graded(path, sampled)
        usage = _usage(sampled)
        store.add(Run(path.problem.id, name, 0, "completed", usage, tuple(found)))

    jobs = []
    for problem, candidates in store.samples():
        if problem.id not in problems:
            continue
        for index, candidate in enumerate(candidates):
            path = Path(problem)
            for depth, step in enumerate(candidate.path(problem).steps[:-1], start=1):
                path = path.extend(step)
                name = completions_name(index, depth)
                if (problem.id, name) not in stored:
                    jobs.append(one(path, name))
    await _all(jobs, "completing steps", report)


async def _all(jobs: Sequence[Awaitable[None]], what: str, report: Reporter) -> None:
    """Run all jobs, a limited number at once; the first failure cancels the rest."""
    room = asyncio.Semaphore(IN_FLIGHT)
    done = 0

    async def limited(job: Awaitable[None]) -> None:
        nonlocal done
        async with room:
            await job
        done += 1
        report(what, done, len(jobs))

    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(limited(job))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _graded(path: Path, sampled: Sampled) -> list[StoredCandidate]:
    return [await _grade(path.extend(*c.steps)) for c in sampled.continuations]


async def _grade(path: Path) -> StoredCandidate:
    answer = await asyncio.to_thread(extract, path.text, path.truncated)
    assert path.problem.answer is not None
    return StoredCandidate.of(path, answer, await correct(answer, path.problem.answer), None)


def _usage(sampled: Sampled) -> Usage:
    return Usage(
        generations=len(sampled.continuations),
        sampled_tokens=_sum(c.tokens for c in sampled.continuations),
        prompt_tokens=sampled.prompt_tokens,
        prompt_tokens_cached=sampled.cached_tokens,
        flops=None,
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)
