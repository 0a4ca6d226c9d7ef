"""Average budgets: the price that a mix of problems needs, and what holds it in a service."""

from __future__ import annotations

import math
import random
from functools import lru_cache

import numpy as np
import pytest

from router import Router
from router.averages import Controller, Mix
from router.choosing import ByTable, Fixed
from router.difficulty.base import Prior
from router.models.errors import InputError
from router.models.fakes import FakeGenerator
from router.strategies.best_of_n import BestOfN
from router.table import Cell, Cost, Entry, Estimate, Table

SIZES = (1, 2, 4, 8, 16)
CURVES = {
    1: (0.90, 0.94, 0.96, 0.97, 0.97),  # easy: one sample is nearly enough
    2: (0.30, 0.45, 0.60, 0.70, 0.75),  # middling: every sample pays
    3: (0.01, 0.01, 0.01, 0.01, 0.01),  # hopeless: none does
}


def _table() -> Table:
    def entries(level: int, budget: int) -> tuple[Entry, ...]:
        known = [
            Entry(
                strategy=BestOfN(n, "majority"),
                estimate=Estimate(accuracy=a, low=0, high=1, problems=50),
                cost=Cost(generations=n, tokens=None, flops=None),
            )
            for n, a in zip(SIZES, CURVES[level], strict=True)
            if n <= budget
        ]
        return tuple(known[::-1])

    return Table(
        cost="generations",
        levels=3,
        budgets=SIZES,
        generation=(Cost(generations=1, tokens=None, flops=None),) * 3,
        cells=tuple(
            Cell(level=lv, budget=b, entries=entries(lv, b), held_out=None)
            for lv in CURVES
            for b in SIZES
        ),
    )


TABLE = _table()
ALL = np.repeat(np.eye(3), 100, axis=0)


def test_each_level_gets_what_pays_there() -> None:
    mix = Mix.of(TABLE, ALL, 16)
    price = mix.price_of(4.0)
    spent = [TABLE.choose(one_hot, 16, price=price).expected_cost for one_hot in np.eye(3).tolist()]
    assert spent[2] == 1.0  # nothing helps the hopeless
    assert spent[0] in (1.0, 2.0)
    assert spent[1] == 8.0
    assert np.mean(spent) <= 4.0


@pytest.mark.parametrize("average", [1.0, 1.5, 2.0, 4.0, 6.0, 16.0])
def test_a_price_keeps_the_average_and_beats_one_size_for_all(average: float) -> None:
    mix = Mix.of(TABLE, ALL, 16)
    accuracy, cost = mix.at(mix.price_of(average))
    assert cost.mean() <= average + 1e-6
    means = np.mean(list(CURVES.values()), axis=0)
    fixed = [a for n, a in zip(SIZES, means, strict=True) if n <= average]
    assert accuracy.mean() >= fixed[-1] - 1e-9 or cost.mean() < SIZES[len(fixed) - 1]


@pytest.mark.parametrize("average", [1.5, 2.0, 3.3, 5.0])
def test_a_file_of_equal_problems_uses_its_average_up(average: float) -> None:
    """At one price all would step up at once; so some do."""
    mix = Mix.of(TABLE, np.tile([0.0, 1.0, 0.0], (200, 1)), 16)
    prices = mix.prices(average)
    spent = [mix.at(price)[1][i] for i, price in enumerate(prices)]
    assert average - 16 / 200 <= np.mean(spent) <= average + 1e-9


@pytest.mark.parametrize("wanted", [0.45, 0.5, 0.55, 0.576])
def test_a_target_accuracy_is_promised_as_cheaply_as_can_be(wanted: float) -> None:
    mix = Mix.of(TABLE, ALL, 16)
    price = mix.price_for(wanted)
    accuracy, cost = mix.at(price)
    assert accuracy.mean() >= wanted - 1e-9
    dearer, less = mix.at(price * (1 + 1e-4) + 1e-6)
    assert dearer.mean() < wanted or less.mean() == cost.mean() == 1.0


@pytest.mark.parametrize("average", [0.0, -1.0, 0.9, math.nan])
def test_an_average_below_the_cheapest_search_is_refused(average: float) -> None:
    with pytest.raises(InputError, match="too little: the cheapest search costs 1"):
        Mix.of(TABLE, ALL, 16).price_of(average)


@pytest.mark.parametrize("accuracy", [0.0, 0.9, 2.0, math.nan])
def test_an_accuracy_out_of_reach_is_refused(accuracy: float) -> None:
    with pytest.raises(InputError, match=r"out of reach: the table expects 0\.577 at most"):
        Mix.of(TABLE, ALL, 16).price_for(accuracy)


@pytest.mark.parametrize("at_once", [1, 100])
@pytest.mark.parametrize("first", [1e-5, 0.02, 1.0])
@pytest.mark.parametrize(
    ("average", "before", "after"),
    [
        (2.0, (0.8, 0.1, 0.1), (0.1, 0.8, 0.1)),
        (4.0, (0.1, 0.8, 0.1), (0.7, 0.2, 0.1)),
        (4.0, (0.5, 0.3, 0.2), (0.0, 1.0, 0.0)),
        (6.0, (0.3, 0.5, 0.2), (0.0, 0.6, 0.4)),
        (1.5, (0.0, 1.0, 0.0), (0.9, 0.1, 0.0)),
    ],
)
def test_the_controller_holds_the_mean_when_the_mix_changes(
    average: float,
    before: tuple[float, ...],
    after: tuple[float, ...],
    first: float,
    at_once: int,
) -> None:
    """From any price to begin with, however many are in flight; costs scatter about what is
    expected, as where votes stop."""
    rng = random.Random(0)
    control = Controller(average, first)
    spent, flying = [], []
    for number in range(1000):
        level = rng.choices((0, 1, 2), before if number < 500 else after)[0]
        expected = _cheapest(level, round(math.log(control.price), 2))
        control.decided(expected)
        flying.append((expected, max(1.0, expected * rng.choice((1.25, 0.75)))))
        if len(flying) == at_once:
            told, really = flying.pop(rng.randrange(at_once))
            spent.append(really)
            control.ended(really, told)
    assert control.in_flight == len(flying)
    assert np.mean(spent) == pytest.approx(average, rel=0.05)


@lru_cache
def _cheapest(level: int, price: float) -> float:
    decided = TABLE.choose(np.eye(3)[level].tolist(), 16, price=math.exp(price))
    assert decided.expected_cost is not None
    return decided.expected_cost


@pytest.mark.parametrize(
    ("average", "spent", "bound"), [(4.0, 1.0, 1e-5), (1.5, 16.0, 1.0), (2.0, 2.5, 1.0)]
)
def test_what_no_price_can_hold_is_neither_saved_up_nor_owed_for_ever(
    average: float, spent: float, bound: float
) -> None:
    control = Controller(average, 0.01)
    for _ in range(3000):
        control.ended(spent)
    assert control.price == pytest.approx(bound)
    assert control.mean == spent
    for _ in range(600):
        control.ended(16.0 if bound < 1 else 1.0)
    assert control.price > 0.01 if bound < 1 else control.price < 0.01


def test_an_average_goes_with_what_a_bundle_decides() -> None:
    by_table = ByTable(TABLE, Prior((1.0, 0.0, 0.0)), Prior((1.0, 0.0, 0.0)))
    for chooser in (by_table, Fixed(BestOfN(4))):
        router = Router(generator=FakeGenerator(), verifier=None, chooser=chooser, average=4.0)
        with pytest.raises(InputError, match="needs a bundle, and something else decides"):
            router.decide("1 + 1", 16)
