"""What runs the searches of a fit: models in this process, or elsewhere (`distributed`)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Protocol

from router.models.base import GeneratorInfo, Prefiller, VerifierInfo, state_layer
from router.models.errors import InputError, Unscorable
from router.models.types import Problem, Sampling, Scored
from router.models.usage import Usage
from router.opening import Models
from router.rollouts.runs import Origin, Run, StoredCandidate, StoredPrefill
from router.strategies.base import Strategy
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.registry import call_parts
from router.strategies.tasks import get_task, posed


@dataclass(frozen=True, slots=True)
class SearchJob:
    """One search that a store lacks; `repeat` numbers the searches of its kind."""

    problem: Problem
    configuration: str
    strategy: Strategy
    repeat: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What no other search that is stored, or is to be, has."""
        return self.problem.id, self.configuration, self.repeat


def model_of(configuration: str) -> str | None:
    """The model that a stored configuration asks; None is the first."""
    model: str | None = call_parts(configuration)[1].get("model")
    return model


class Worker(Protocol):
    """Runs searches and grades what they find. Safe to call many times at once.

    Raises, from every call: EngineError or VerifierError, if a model failed.
    """

    @property
    def generator(self) -> GeneratorInfo: ...

    @property
    def verifier(self) -> VerifierInfo | None: ...

    @property
    def origin(self) -> Origin:
        """Of what it finds, with all models of a fleet."""
        ...

    @property
    def reads_prompts(self) -> bool:
        """Whether the generator hands out states."""
        ...

    async def prefill(self, problem: Problem) -> StoredPrefill:
        """Where the problem's prompt leads the generator.

        Raises:
            PromptTooLong: the problem does not fit the model.
        """
        ...

    async def search(self, job: SearchJob, seed: int | None) -> Run:
        """Run one search; the seed reaches only engines that take one.

        Raises:
            PromptTooLong: its problem does not fit the model.
            NoCandidates: it ended without one finished solution.
        """
        ...

    async def score(self, run: Run, problem: Problem) -> Run:
        """The same run with the scores that its candidates lack, as far as they can be scored.

        Raises:
            InputError: there is no verifier.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalWorker:
    """Searches with models that are open in this process."""

    models: Models
    sampling: Sampling

    @property
    def generator(self) -> GeneratorInfo:
        return self.models.generator.info

    @property
    def verifier(self) -> VerifierInfo | None:
        return None if self.models.verifier is None else self.models.verifier.info

    @property
    def origin(self) -> Origin:
        first, *others = (
            Origin.of(
                one.generator.info,
                self.sampling,
                None if one.verifier is None else one.verifier.info,
                one.name,
            )
            for one in self.models.members
        )
        return replace(first, others={one.name: one for one in others})

    @property
    def reads_prompts(self) -> bool:
        return state_layer(self.models.generator) is not None

    async def prefill(self, problem: Problem) -> StoredPrefill:
        generator = self.models.generator
        assert isinstance(generator, Prefiller)
        assert generator.state_layer is not None
        read = await generator.prefill(posed(problem))
        return StoredPrefill(generator.state_layer, tuple(read.state.tolist()))

    async def search(self, job: SearchJob, seed: int | None) -> Run:
        outcome = await run_search(
            job.strategy,
            job.problem,
            self.models.generator,
            self.models.verifier,
            Budget(job.strategy.cost),
            self.sampling,
            name=self.models.name,
            # A run counts its own generations; what they cost is measured once all are there.
            others=[replace(one, cost=1) for one in self.models.others],
            seed=seed,
        )
        task, gold = get_task(job.problem.task), job.problem.answer or ""
        candidates = [
            StoredCandidate.of(
                c.chain, c.answer, await task.correct(c.answer, gold) is True, c.scores
            )
            for c in outcome.candidates
        ]
        if job.strategy.needs_verifier:  # so what has no scores cannot be scored
            candidates = [replace(c, scores=c.scores or ()) for c in candidates]
        return Run(
            job.problem.id,
            job.configuration,
            job.repeat,
            outcome.ended,
            replace(outcome.usage, models={}),
            tuple(candidates),
        )

    async def score(self, run: Run, problem: Problem) -> Run:
        model = model_of(run.configuration)
        member = next(one for one in self.models.members if model in (None, one.name))
        verifier = member.verifier
        if verifier is None:
            raise InputError("there is no verifier to score with; give one with --verifier")
        asked = replace(posed(problem), model=member.name)
        candidates, usage = [], run.usage
        for candidate in run.candidates:
            if candidate.scores is None:
                started = time.monotonic()
                try:
                    scored = await verifier.score(candidate.chain(asked))
                except Unscorable:
                    scored = Scored((), 0)
                seconds = time.monotonic() - started
                candidate = replace(candidate, scores=scored.values)
                usage += Usage.of_scoring(scored, seconds, verifier.info.parameters)
            candidates.append(candidate)
        return replace(run, candidates=tuple(candidates), usage=usage)
