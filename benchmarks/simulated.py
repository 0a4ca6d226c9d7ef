"""Simulated rollouts whose best strategy is known by construction, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from router.fitting.measurements import LEVEL_SAMPLES
from router.fitting.sampler import missing
from router.fitting.workers import SearchJob
from router.models.base import GeneratorInfo, VerifierInfo
from router.models.types import Problem, Sampling
from router.models.usage import Usage
from router.rollouts.runs import Origin, Run, StoredCandidate, StoredPrefill
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Strategy

ORIGIN = Origin.of(
    GeneratorInfo("simulated", "fake", "plain", parameters=1_000),
    Sampling(),
    VerifierInfo("simulated", "fake", "last", parameters=500),
)
TOKENS = 100
LAYER = 1
WRONG = 12
"""Distinct wrong answers of a problem."""

OTHER_TEMPERATURE = 0.5
"""A sample at a temperature of a strategy's own is right so much less often."""


@dataclass(frozen=True)
class Kind:
    """A sort of problem.

    share: of all problems; pass_at_1: mean of a Beta distribution with `spread` as its a + b;
    searches: how often one run (for DVTS: one subtree) of a strategy family ends right.
    """

    share: float
    pass_at_1: float
    searches: Mapping[str, float] = field(default_factory=dict)
    spread: float = 60.0


SEARCHES = (
    "best_of_n(select=majority)",
    "best_of_n",
    "best_of_n(select=best)",
    "beam_search(width=2)",
    "beam_search(width=4)",
    "dvts(width=4)",
    "lookahead(width=4, k=1)",
    "best_of_n(n=1, select=majority, temperature=0)",
    "best_of_n(select=majority, temperature=0.3)",
    "best_of_n(temperature=0.3)",
)
"""Strategies of every kind that is simulated."""

WORLD = (
    Kind(0.34, 0.85, {"beam_search": 0.80, "dvts": 0.70, "lookahead": 0.60}),
    Kind(0.33, 0.40, {"beam_search": 0.97, "dvts": 0.40, "lookahead": 0.50}),
    Kind(0.33, 0.06, {"beam_search": 0.15, "dvts": 0.55, "lookahead": 0.10}),
)
"""At budgets 4 and 8: best-of-N wins on easy problems, beam search on medium, DVTS on hard."""

CLOSE = (
    Kind(0.34, 0.85, {"beam_search": 0.96, "dvts": 0.88, "lookahead": 0.94}),
    Kind(0.33, 0.40, {"beam_search": 0.80, "dvts": 0.55, "lookahead": 0.72}),
    Kind(0.33, 0.06, {"beam_search": 0.20, "dvts": 0.10, "lookahead": 0.16}),
)
"""No strategy is far behind: what racing must not get wrong, and cannot save much on."""


class Simulation:
    """Draws problems and the outcomes of any search on them."""

    def __init__(self, problems: int, kinds: Sequence[Kind] = WORLD, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shares = np.array([kind.share for kind in kinds])
        self.kind = np.repeat(np.arange(len(kinds)), np.diff(_cuts(shares, problems)))
        self.kinds = kinds
        self.pass_at_1 = np.array(
            [
                rng.beta(
                    kinds[k].pass_at_1 * kinds[k].spread, (1 - kinds[k].pass_at_1) * kinds[k].spread
                )
                for k in self.kind
            ]
        )
        self.problems = [
            Problem(f"sim/{i:05}", f"Simulated problem {i} of kind {k}", _answer(i, 0), f"kind {k}")
            for i, k in enumerate(self.kind)
        ]
        self._rng = rng
        self._rng_colder = np.random.default_rng([seed, 1])  # other draws stay as they were

    def chance(self, index: int, strategy: Strategy) -> float:
        """Chance that one unit of the strategy ends right on problem number `index`."""
        kind: Kind = self.kinds[self.kind[index]]
        sampled = float(self.pass_at_1[index])
        if strategy.temperature is not None:
            sampled *= OTHER_TEMPERATURE
        return kind.searches.get(strategy.name, sampled)

    def candidates(self, index: int, strategy: Strategy, count: int) -> tuple[StoredCandidate, ...]:
        rng = self._rng if strategy.temperature is None else self._rng_colder
        right = rng.random(count) < self.chance(index, strategy)
        answers = np.where(right, 0, rng.integers(1, WRONG + 1, count))
        scores = np.where(right, rng.beta(4, 2, count), rng.beta(2, 4, count))
        return tuple(
            StoredCandidate(
                steps=("A solution.",),
                finish="stop",
                answer=_answer(index, answer),
                correct=bool(answer == 0),
                tokens=TOKENS,
                scores=(round(float(score), 8),),
            )
            for answer, score in zip(answers, scores, strict=True)
        )

    def run(self, index: int, job: SearchJob) -> Run:
        """One search: for best-of-N `n` samples, for others one candidate that stands for all."""
        count = job.strategy.cost if job.configuration == SAMPLES else 1
        found = self.candidates(index, job.strategy, count)
        spent = usage(job.strategy.cost)
        return Run(job.problem.id, job.configuration, job.repeat, "completed", spent, found)

    def fill(self, store: RolloutStore, strategies: Sequence[Strategy], level_samples: int) -> None:
        """Store everything that a grid fit of these strategies would sample."""
        index = {problem.id: i for i, problem in enumerate(self.problems)}
        with store.transaction():
            store.add_problems(self.problems)
            for problem, kind in zip(self.problems, self.kind.tolist(), strict=False):
                store.add_prefill(problem.id, StoredPrefill(LAYER, state(kind)))
            for job in missing(self.problems, strategies, level_samples=level_samples):
                store.add(self.run(index[job.problem.id], job))


def state(kind: int) -> tuple[float, ...]:
    """Where a prompt of that kind leads the generator."""
    return tuple(float(k == kind) for k in range(len(WORLD)))


def usage(generations: int) -> Usage:
    return Usage(
        generations=generations,
        sampled_tokens=generations * TOKENS,
        prompt_tokens=TOKENS // 2,
        prompt_tokens_cached=0,
        verifier_tokens=generations * TOKENS,
        flops=0.0,
        seconds=0.1,
    )


def simulated_store(
    path: Path,
    problems: int,
    strategies: Sequence[Strategy],
    seed: int = 0,
    *,
    kinds: Sequence[Kind] = WORLD,
    level_samples: int = LEVEL_SAMPLES,
) -> Simulation:
    """A new store with simulated rollouts of every strategy."""
    simulation = Simulation(problems, kinds, seed)
    with RolloutStore.create(path, ORIGIN) as store:
        simulation.fill(store, strategies, level_samples)
    return simulation


def _answer(index: int, number: int) -> str:
    """Number 0 is right; its text differs by problem."""
    return str((index + number) % (WRONG + 1))


def _cuts(shares: np.ndarray, total: int) -> np.ndarray:
    ends = np.rint(np.cumsum(shares / shares.sum()) * total)
    return np.array([0, *ends], int)
