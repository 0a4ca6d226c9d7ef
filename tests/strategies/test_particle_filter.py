"""Resampling by the odds of a score."""

from __future__ import annotations

import random

import pytest

from router.strategies.particle_filter import resampled
from router.strategies.rebase import softmax


@pytest.mark.parametrize("total", [1, 3, 8, 17])
def test_each_is_drawn_within_one_of_its_expectation(total: int) -> None:
    rng = random.Random(total)
    for _ in range(200):
        weights = softmax([rng.uniform(-5, 5) for _ in range(rng.randint(1, 9))], 1.0)
        drawn = resampled(total, weights, rng.random())
        assert sum(drawn) == total
        assert all(abs(n - total * w) < 1 + 1e-9 for n, w in zip(drawn, weights, strict=True))


def test_it_is_right_on_average() -> None:
    starts = [(i + 0.5) / 1000 for i in range(1000)]
    weights = [0.07, 0.33, 0.6]
    mean = [
        sum(each) / 1000 for each in zip(*(resampled(5, weights, s) for s in starts), strict=True)
    ]
    assert mean == pytest.approx([5 * w for w in weights], abs=0.01)


@pytest.mark.parametrize("start", [0.0, 0.5, 0.999])
def test_sums_that_are_not_quite_1_still_hand_out_all(start: float) -> None:
    drawn = resampled(10, [0.1] * 10 + [0.0], start)
    assert sum(drawn) == 10
    assert drawn[-1] == 0
    assert resampled(3, [1.0, 0.0], start) == [3, 0]
    assert sum(resampled(7, [1 / 3 + 1e-12] * 3, start)) == 7
