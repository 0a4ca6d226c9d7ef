"""Samples the rollouts that a verifier is trained on, into a store, resumably."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import ClassVar

from router.core import Router
from router.fitting.sampler import Sampler, missing
from router.fitting.workers import LocalWorker, SearchJob, Worker
from router.models.base import GeneratorInfo
from router.models.errors import InputError
from router.models.generators.load import short_name
from router.models.prompts import Prompt
from router.models.types import Problem, Step
from router.opening import load_models
from router.rollouts.runs import Origin
from router.rollouts.store import RolloutStore
from router.strategies.base import Candidate, Strategy
from router.strategies.scoring import candidates
from router.strategies.search import Search
from router.verifier.data import completions_name
from router.verifier.training import Reporter


@dataclass(frozen=True)
class Completions(Strategy):
    """N independent whole solutions that begin with given steps."""

    name: ClassVar[str] = "completions"

    given: tuple[Step, ...] = ()

    @property
    def needs_verifier(self) -> bool:
        return False

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:  # noqa: ARG002
        chains = await search.sample(search.root.extend(*self.given), self.n, whole=True)
        return await candidates(search, chains, scored=False)


def fill_store(
    router: Router,
    prompt: Prompt,
    problems: Mapping[str, Problem],
    samples: int,
    completions: int,
    file: Path,
    report: Reporter,
) -> None:
    """Sample what the store in `file` lacks; opens no model where that is nothing.

    samples, completions: as `sample_pools` and `sample_completions` take them; 0 of the latter
        asks for none.
    """
    wanted = list(problems.values())
    named = GeneratorInfo(short_name(router.pair.model), router.pair.engine, prompt.id)
    if is_complete(file, Origin.of(named, router.sampling), wanted, samples, completions):
        return

    async def sample() -> None:
        pair = replace(router.pair, prompt=prompt.id, verifier=None, verifier_endpoints=())
        models = await load_models({"": pair})
        worker = LocalWorker(models, router.sampling)
        try:
            with RolloutStore.create(file, Origin.of(worker.generator, worker.sampling)) as store:
                await sample_pools(worker, wanted, samples, store, report)
                if completions:
                    await sample_completions(worker, wanted, completions, store, report)
        finally:
            await models.aclose()

    asyncio.run(sample())


def is_complete(
    file: Path, origin: Origin, problems: Sequence[Problem], samples: int, completions: int
) -> bool:
    """Whether a store of this origin needs no more sampling, so that no model need be opened.

    origin: its engine and the generator's size do not matter.
    """
    if not file.is_file():
        return False
    with RolloutStore.read(file) as store:
        try:
            store.origin.joined(origin)
        except InputError:
            return False
        stored = {problem.id: problem for problem in store.problems()}
        if any(stored.get(problem.id) != problem for problem in problems):
            return False
        if missing(problems, (), store.held(), level_samples=samples):
            return False
        ids = {problem.id for problem in problems}
        return not completions or not any(_uncompleted(store, ids, completions))


async def sample_pools(
    worker: Worker,
    problems: Sequence[Problem],
    samples: int,
    store: RolloutStore,
    report: Reporter,
) -> None:
    """Bring every problem's pool to `samples` solutions; each is stored as it is finished.

    problems: with gold answers.

    Raises:
        EngineError: as `Sampler.run`.
    """
    store.add_problems(problems)
    jobs = missing(problems, (), store.held(), level_samples=samples)
    await _all(worker, problems, jobs, store, "sampling solutions", report)


async def sample_completions(
    worker: Worker,
    problems: Sequence[Problem],
    completions: int,
    store: RolloutStore,
    report: Reporter,
) -> None:
    """Complete every step prefix of the stored solutions of these problems.

    Whole solutions need none. Each prefix gets `completions` of them.
    These are the rollouts of Math-Shepherd (arXiv 2312.08935, sec. 3.3.2). Prefixes that are
    stored already are skipped.

    Raises:
        EngineError: as `Sampler.run`.
    """
    jobs = list(_uncompleted(store, {problem.id for problem in problems}, completions))
    await _all(worker, problems, jobs, store, "completing steps", report)


def _uncompleted(store: RolloutStore, problems: Set[str], completions: int) -> Iterator[SearchJob]:
    """Searches that complete each step prefix that no stored run completes."""
    held = store.held()
    for problem, pool in store.samples():
        if problem.id not in problems:
            continue
        for index, candidate in enumerate(pool):
            steps = candidate.chain(problem).steps
            for depth in range(1, len(steps)):
                name = completions_name(index, depth)
                if (problem.id, name) not in held:
                    strategy = Completions(completions, "majority", given=steps[:depth])
                    yield SearchJob(problem, name, strategy, 0)


async def _all(
    worker: Worker,
    problems: Sequence[Problem],
    jobs: Sequence[SearchJob],
    store: RolloutStore,
    what: str,
    report: Reporter,
) -> None:
    done = count(1)
    sampler = Sampler(store, problems, (), levels="absolute", seed=None)
    await sampler.run_jobs(jobs, worker, tick=lambda _: report(what, next(done), len(jobs)))
    sampler.tell_failed()
