from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.models.errors import BudgetExhausted, InputError
from router.models.usage import Usage
from router.strategies.budget import MAX_GENERATIONS, Budget, Generations, TokenPurse


def test_best_of_n_costs_n() -> None:
    ledger = Generations(8)
    ledger.charge(0, 8, whole=True)
    assert ledger.spent == 8


def test_a_beam_of_n_costs_n_however_deep() -> None:
    ledger = Generations(8)
    for depth in range(10):
        ledger.charge(depth, 8, whole=False)
    ledger.charge(10, 8, whole=True)
    assert ledger.spent == 8


def test_look_ahead_costs_n_times_k_plus_one() -> None:
    ledger = Generations(8)
    for depth in range(3):
        ledger.charge(depth, 2, whole=False)
        ledger.charge(depth, 2 * 3, whole=False)
    assert ledger.spent == 8


def test_a_pilot_sample_adds_to_every_depth() -> None:
    ledger = Generations(6)
    ledger.charge(0, 2, whole=True)
    ledger.charge(3, 4, whole=False)
    assert ledger.spent == 6
    with pytest.raises(BudgetExhausted):
        ledger.charge(3, 1, whole=False)


@given(
    limit=st.integers(1, 20),
    charges=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5), st.booleans())),
)
def test_the_limit_is_never_passed_and_a_refusal_charges_nothing(
    limit: int, charges: list[tuple[int, int, bool]]
) -> None:
    ledger = Generations(limit)
    for depth, count, whole in charges:
        before = ledger.spent
        try:
            ledger.charge(depth, count, whole=whole)
        except BudgetExhausted:
            assert ledger.spent == before
        assert before <= ledger.spent <= limit


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "8", MAX_GENERATIONS + 1])
def test_a_bad_budget_is_refused(bad: object) -> None:
    with pytest.raises(InputError):
        Budget(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_deadline_is_refused(bad: float) -> None:
    with pytest.raises(InputError):
        Budget(1, seconds=bad)


def test_what_is_unknown_stays_unknown_in_a_sum() -> None:
    total = Usage(sampled_tokens=3) + Usage(sampled_tokens=None, prompt_tokens=2)
    assert total.sampled_tokens is None
    assert total.prompt_tokens == 2
    assert Usage.from_dict(total.to_dict()) == total


async def test_the_purse_runs_calls_at_once_while_they_fit() -> None:
    purse = TokenPurse(100)
    order: list[str] = []

    async def call(name: str, want: int, use: int) -> None:
        async with purse.reserve(want) as reservation:
            order.append(f"{name} gets {reservation.tokens}")
            await asyncio.sleep(0.01)
            reservation.used = use

    await asyncio.gather(call("a", 50, 20), call("b", 50, 20), call("c", 50, 20))
    assert order == ["a gets 50", "b gets 50", "c gets 50"]
    async with purse.reserve(50) as last:
        assert last.tokens == 40
        last.used = 40
    with pytest.raises(BudgetExhausted) as refused:
        async with purse.reserve(1):
            pass
    assert refused.value.reason == "tokens"


async def test_a_failed_call_spends_all_that_it_reserved() -> None:
    purse = TokenPurse(10)
    with pytest.raises(RuntimeError):
        async with purse.reserve(10):
            raise RuntimeError
    with pytest.raises(BudgetExhausted):
        async with purse.reserve(1):
            pass
