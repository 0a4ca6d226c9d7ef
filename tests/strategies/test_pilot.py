"""A pilot is charged to the search's own budget, and its samples are used again."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from router.models.errors import InputError
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.types import FinishReason, Path, Problem, Sampling
from router.strategies.base import Strategy, parse_strategy
from router.strategies.budget import Budget
from router.strategies.driver import Outcome, run_search
from router.strategies.pilot import Pilot
from router.strategies.registry import STRATEGIES

PROBLEM = Problem("p", "What is 123 + 456 + 789?")


class Spy:
    """Chooses what it was told to, and keeps the scores that it saw."""

    def __init__(self, text: str) -> None:
        self.strategy = parse_strategy(text, STRATEGIES)
        self.scores: list[float] = []

    async def __call__(self, scores: Sequence[float]) -> Strategy:
        self.scores = list(scores)
        return self.strategy


async def pilot(
    text: str, budget: int | Budget, samples: int = 4, generator: FakeGenerator | None = None
) -> tuple[Outcome, Spy]:
    spy = Spy(text)
    outcome = await run_search(
        Pilot(samples, spy),
        PROBLEM,
        generator or FakeGenerator(),
        FakeVerifier(),
        budget if isinstance(budget, Budget) else Budget(budget),
        Sampling(),
        seed=0,
    )
    return outcome, spy


@pytest.mark.parametrize("select", ["majority", "best", "weighted"])
async def test_best_of_n_takes_the_pilot_as_its_first_samples(select: str) -> None:
    generator = FakeGenerator()
    outcome, spy = await pilot(f"best_of_n(n=16, select={select})", 16, generator=generator)
    assert len(spy.scores) == 4
    assert len(outcome.candidates) == 16
    assert outcome.usage.generations == 16
    assert outcome.usage.sampled_tokens == generator.sampled_tokens
    assert generator.sampled_tokens == sum(c.path.tokens for c in outcome.candidates)
    assert outcome.ended == "completed"
    finals = [c.scores[-1] for c in outcome.candidates[:4] if c.scores]
    assert finals == spy.scores


@pytest.mark.parametrize(
    "text",
    [
        "beam_search(n=12)",
        "dvts(n=12)",
        "lookahead(n=4, k=2)",
        "best_of_n(n=12, temperature=0.3)",
        "beam_search(n=12, depth=1)",
    ],
)
async def test_the_pilot_votes_beside_the_candidates_of_other_searches(text: str) -> None:
    outcome, _ = await pilot(text, 16)
    alone = await run_search(
        parse_strategy(text, STRATEGIES),
        PROBLEM,
        FakeGenerator(),
        FakeVerifier(),
        Budget(12),
        Sampling(),
        seed=0,
    )
    assert 4 < outcome.usage.generations <= 16
    assert alone.usage.generations + 4 >= outcome.usage.generations
    pilots = [c for c in outcome.candidates[-4:] if c.path.depth == 3]
    assert len(pilots) == 4
    assert all(c.scores and c.answer for c in outcome.candidates)
    paths = [c.path for c in outcome.candidates]
    assert len({id(path) for path in paths}) == len(paths)
    assert outcome.trace.dropped == 0
    assert {id(node.path) for node in outcome.trace.nodes} >= {id(path) for path in paths}


async def test_samples_that_a_smaller_strategy_does_not_take_vote_all_the_same() -> None:
    outcome, _ = await pilot("best_of_n(n=2)", 16)
    assert outcome.usage.generations == 4
    assert len(outcome.candidates) == 4


async def test_a_search_that_would_overspend_ends_with_what_is_finished() -> None:
    outcome, _ = await pilot("beam_search(n=16)", 16)
    assert outcome.ended == "generations"
    assert outcome.usage.generations <= 16
    assert len(outcome.candidates) >= 4


async def test_a_majority_after_a_pilot_scores_no_further_sample() -> None:
    weighted, _ = await pilot("best_of_n(n=16)", 16)
    majority, _ = await pilot("best_of_n(n=16, select=majority)", 16)
    pilot_only, _ = await pilot("best_of_n(n=4)", 16)
    assert majority.usage.verifier_tokens == pilot_only.usage.verifier_tokens
    assert (majority.usage.verifier_tokens or 0) < (weighted.usage.verifier_tokens or 0)


async def test_a_token_cap_that_ends_the_pilot_leaves_what_is_finished() -> None:
    outcome, spy = await pilot("best_of_n(n=16)", Budget(16, tokens=200), 8)
    assert outcome.ended == "tokens"
    assert spy.scores == []
    assert (outcome.usage.sampled_tokens or 0) <= 200
    assert all(c.scores for c in outcome.candidates)


async def test_a_deadline_in_the_pilot_leaves_what_is_finished() -> None:
    def slow(path: Path, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        return ("x" if rng.random() < 0.5 else "x" * 10_000), "stop"

    generator = FakeGenerator(slow, seconds_per_token=0.001)
    outcome, spy = await pilot("best_of_n(n=16)", Budget(16, seconds=0.5), 8, generator)
    assert outcome.ended == "deadline"
    assert spy.scores == []
    assert 0 < len(outcome.candidates) < 8


async def test_a_pilot_over_the_budget_or_without_a_verifier_is_refused() -> None:
    with pytest.raises(InputError, match="a pilot of 4 samples needs 4 generations"):
        await pilot("best_of_n(n=2)", 2)
    with pytest.raises(InputError, match="a pilot of 4 samples needs a verifier"):
        await run_search(
            Pilot(4, Spy("best_of_n(n=4)")), PROBLEM, FakeGenerator(), None, Budget(8), Sampling()
        )
