"""Samples the rollouts that a verifier is trained on, into a store, resumably."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path as FilePath

from router.core import Router
from router.models.base import Generator, GeneratorInfo
from router.models.errors import InputError
from router.models.generators.load import short_name
from router.models.prompts import Prompt
from router.models.types import Path, Problem, Sampled, Sampling
from router.models.usage import Usage
from router.opening import load_models
from router.rollouts.runs import Origin, Run, StoredCandidate
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.tasks import get_task, posed
from router.verifier.data import completions_name
from router.verifier.training import Reporter

IN_FLIGHT = 32
"""Calls to the generator at once; enough to keep an engine's own batch full."""


def fill_store(
    router: Router,
    prompt: Prompt,
    problems: Mapping[str, Problem],
    samples: int,
    completions: int,
    file: FilePath,
    report: Reporter,
) -> None:
    """Sample what the store in `file` lacks; opens no model where that is nothing.

    samples, completions: as `sample_pools` and `sample_completions` take them; 0 of the latter
        asks for none.
    """
    wanted = list(problems.values())
    named = GeneratorInfo(short_name(router.model), router.engine, prompt.id)
    if is_complete(file, Origin.of(named, router.sampling), wanted, samples, completions):
        return

    async def sample() -> None:
        models = await load_models(
            None,
            None,
            model=router.model,
            engine=router.engine,
            endpoints=router.endpoints,
            prompt=prompt.id,
            endpoint_key=router.endpoint_key,
            tokenizer=router.tokenizer,
        )
        generator = models.generator
        try:
            with RolloutStore.create(file, Origin.of(generator.info, router.sampling)) as store:
                await sample_pools(generator, wanted, samples, router.sampling, store, report)
                if completions:
                    await sample_completions(
                        generator, set(problems), completions, router.sampling, store, report
                    )
        finally:
            await generator.aclose()

    asyncio.run(sample())


def is_complete(
    file: FilePath, origin: Origin, problems: Sequence[Problem], samples: int, completions: int
) -> bool:
    """Whether a store of this origin needs no more sampling, so that no model need be opened.

    samples, completions: as `sample_pools` and `sample_completions` take them; 0 of the latter
        asks for none.
    """
    if not file.is_file():
        return False
    with RolloutStore.read(file) as store:
        try:
            store.origin.joined(origin)
        except InputError:
            return False
        stored = {problem.id: problem for problem in store.problems()}
        counts = store.counts()
        if any(
            stored.get(problem.id) != problem or counts[problem.id, SAMPLES] < samples
            for problem in problems
        ):
            return False
        ids = {problem.id for problem in problems}
        return not completions or not any(_uncompleted(store, ids))


async def sample_pools(
    generator: Generator,
    problems: Sequence[Problem],
    samples: int,
    sampling: Sampling,
    store: RolloutStore,
    report: Reporter,
) -> None:
    """Bring every problem's pool to `samples` solutions; each is stored as it is finished.

    problems: with gold answers.
    """
    store.add_problems(problems)
    counts = store.counts()
    missing = {
        problem.id: samples - counts[problem.id, SAMPLES]
        for problem in problems
        if counts[problem.id, SAMPLES] < samples
    }

    async def one(problem: Problem) -> None:
        path = Path(posed(problem))
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

    async def one(path: Path, name: str) -> None:
        left = replace(sampling, max_tokens=max(sampling.max_tokens - path.tokens, 1))
        sampled = await generator.sample(path, completions, left)
        found = await _graded(path, sampled)
        usage = _usage(sampled)
        store.add(Run(path.problem.id, name, 0, "completed", usage, tuple(found)))

    jobs = [one(path, name) for path, name in _uncompleted(store, problems)]
    await _all(jobs, "completing steps", report)


def _uncompleted(store: RolloutStore, problems: Set[str]) -> Iterator[tuple[Path, str]]:
    """Step prefixes that no stored run completes, and the name that such a run would have."""
    stored = {(run.problem, run.configuration) for run in store.runs()}
    for problem, candidates in store.samples():
        if problem.id not in problems:
            continue
        for index, candidate in enumerate(candidates):
            path = Path(posed(problem))
            for depth, step in enumerate(candidate.path(problem).steps[:-1], start=1):
                path = path.extend(step)
                name = completions_name(index, depth)
                if (problem.id, name) not in stored:
                    yield path, name


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
    task = get_task(path.problem.task)
    answer = await asyncio.to_thread(task.read, path.text, path.truncated)
    assert path.problem.answer is not None
    right = await task.correct(answer, path.problem.answer) is True
    return StoredCandidate.of(path, answer, right, None)


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
