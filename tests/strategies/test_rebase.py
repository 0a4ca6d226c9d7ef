"""Reward balanced search: how continuations are handed out, and what a search does with it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.models.errors import InputError
from router.models.fakes import FakeGenerator
from router.models.types import Chain, FinishReason, Sampling
from router.strategies.rebase import balanced
from router.strategies.registry import parse_strategy
from tests.strategies.test_strategies import by_depth, digits, search, value

SCORES = st.lists(
    st.integers(0, 1000).map(lambda k: k / 1000) | st.just(-math.inf), min_size=1, max_size=64
)


@given(st.integers(0, 512), SCORES, st.sampled_from([1e-9, 0.1, 1.0, 1e6]))
def test_shares_add_up_and_a_better_path_gets_no_less(
    total: int, values: list[float], temperature: float
) -> None:
    shares = balanced(total, values, temperature)
    assert sum(shares) == total
    assert min(shares) >= 0
    best_first = sorted(range(len(values)), key=lambda i: -values[i])  # stable: the first of equals
    given_out = [shares[i] for i in best_first]
    assert given_out == sorted(given_out, reverse=True)
    ours = [s for s, v in zip(shares, values, strict=True) if v == max(values)]
    assert max(ours) - min(ours) <= 1, "equal chains, unequal shares"


@pytest.mark.parametrize(
    ("total", "values", "temperature", "expected"),
    [
        (8, [0.5, 0.5, 0.5, 0.5], 0.1, [2, 2, 2, 2]),
        (6, [0.5, 0.5, 0.5, 0.5], 0.1, [2, 2, 1, 1]),
        (4, [0.9, 0.8], 0.1, [3, 1]),  # e : 1, so 2.92 and 1.08
        (16, [0.9, 0.8, 0.7], 0.1, [11, 4, 1]),  # 10.64, 3.92, 1.44
        (8, [0.2, 0.9, 0.1], 1e-6, [0, 8, 0]),
        (4, [0.9, 0.1, -math.inf], 1e6, [2, 2, 0]),
        (3, [-math.inf, -math.inf], 0.1, [2, 1]),
    ],
)
def test_shares_are_a_softmax_rounded_to_the_sum(
    total: int, values: list[float], temperature: float, expected: list[int]
) -> None:
    assert balanced(total, values, temperature) == expected


async def test_paths_get_children_by_their_share() -> None:
    outcome = await search("rebase(n=16, balance=0.2)", digits(4))
    for depth in (1, 2, 3):
        level = by_depth(outcome, depth)
        assert len(level) == 16
        children = [chain.parent for chain in by_depth(outcome, depth + 1)]
        shares = balanced(16, [value(chain) / 10 for chain in level], 0.2)
        assert [children.count(chain) for chain in level] == shares
        assert 0 in shares, "the case shows nothing of pruning"
    assert len(outcome.candidates) == 16
    assert outcome.usage.generations == 16
    pruned = [node.chain for node in outcome.trace.nodes if node.status == "pruned"]
    assert pruned
    assert not {node.chain.parent for node in outcome.trace.nodes} & set(pruned)


async def test_finished_paths_leave_the_beam_and_its_budget() -> None:
    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        ends = chain.depth == 0 and rng.random() < 0.5
        return f"{rng.randrange(1, 10)}\n\n", "stop" if ends or chain.depth == 2 else "step"

    outcome = await search("rebase(n=16)", FakeGenerator(script))
    early = [c for c in outcome.candidates if c.chain.depth == 1]
    assert 0 < len(early) < 16
    assert len(by_depth(outcome, 2)) == 16 - len(early)
    assert len(outcome.candidates) == 16


async def test_the_last_round_samples_to_the_end() -> None:
    outcome = await search("rebase(n=4, depth=2)", digits(6))
    assert {c.chain.depth for c in outcome.candidates} == {6}
    assert outcome.usage.generations == 4


@pytest.mark.parametrize("balance", ["0", "-0.1", "1e999", "hot", "True"])
def test_a_balance_that_is_no_temperature_is_refused(balance: str) -> None:
    with pytest.raises(InputError, match="balance must be a number above 0"):
        parse_strategy(f"rebase(n=4, balance={balance})")
