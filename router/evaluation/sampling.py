"""Samples what an evaluation lacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from router.evaluation.study import Study
from router.fitting.sampler import IN_FLIGHT, Due, Sampler, price
from router.fitting.shift import Ticker
from router.fitting.workers import Worker
from router.rollouts.store import RolloutStore

Progress = Callable[[Due], AbstractContextManager[Ticker]]
"""Shows one round of sampling, given its price."""


async def sample_missing(
    study: Study,
    store: RolloutStore,
    worker: Worker,
    progress: Progress,
    *,
    seed: int | None = 0,
    in_flight: int = IN_FLIGHT,
) -> int:
    """Sample until every policy and fixed strategy is measured; returns generations.

    First samples that lack scores get them; then what is known to be needed is sampled, then what
    the levels and pilots of that lead to.

    Raises:
        EngineError, VerifierError, NoCandidates: as `Sampler.run`; what finished is stored.
    """
    store.add_problems(study.problems)
    sampler = Sampler(store, study.problems, (), levels="absolute", seed=seed)
    before = _generations(store)
    await sampler.run_jobs([], worker, in_flight=in_flight)  # scores what never was
    while jobs := sampler.untried(study.jobs(store)):
        with progress(price(jobs, store.rates())) as tick:
            await sampler.run_jobs(jobs, worker, tick=tick, in_flight=in_flight)
    sampler.tell_failed()
    return _generations(store) - before


def _generations(store: RolloutStore) -> int:
    return sum(int(row[3] or 0) for row in store.spent())
