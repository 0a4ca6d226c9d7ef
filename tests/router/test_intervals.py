from __future__ import annotations

import pytest

from router.intervals import wilson


def test_agrees_with_published_values() -> None:
    # Newcombe 1998, table I, method 3 (score interval without continuity correction).
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_nothing_is_known_without_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_stays_within_zero_and_one() -> None:
    assert wilson(5, 5)[1] == pytest.approx(1.0)
    assert wilson(5, 5)[1] <= 1.0
    assert 0.0 <= wilson(0, 5)[0] == pytest.approx(0.0)
