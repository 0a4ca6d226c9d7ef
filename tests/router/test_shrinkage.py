from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from router.fitting.shrinkage import borrowed, errors, shrunken


def test_shrinkage_is_strong_for_few_problems_and_weak_for_many() -> None:
    rng = np.random.default_rng(0)
    few = (rng.random((6, 5)) < 0.5).astype(float)
    many = (rng.random((6000, 5)) < np.linspace(0.3, 0.7, 5)).astype(float)
    costs = np.full(5, 8)
    raw, kept = few.mean(axis=0), shrunken(few, costs)
    assert np.ptp(kept) < 0.5 * np.ptp(raw)
    np.testing.assert_allclose(shrunken(many, costs), many.mean(axis=0), atol=0.005)


def test_strategies_of_another_family_do_not_pull() -> None:
    rng = np.random.default_rng(0)
    x = (rng.random((30, 4)) < [0.2, 0.25, 0.8, 0.85]).astype(float)
    together = shrunken(x, np.array([1, 1, 8, 8]), np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(together[:2], shrunken(x[:, :2], np.array([1, 1])), atol=0.01)


def test_luck_at_one_size_is_shrunk_toward_the_trend_along_n() -> None:
    rng = np.random.default_rng(3)
    trend = np.array([0.3, 0.4, 0.5, 0.6, 0.7])
    x = np.clip(trend + rng.normal(0, 0.05, (20, 5)), 0, 1)
    x[:, 2] = (rng.random(20) < 0.75).astype(float)  # one noisy size, far above its neighbours
    kept = shrunken(x, 2.0 ** np.arange(5))
    assert abs(kept[2] - 0.5) < 0.6 * abs(x[:, 2].mean() - 0.5)
    np.testing.assert_allclose(kept[[0, 1, 3, 4]], trend[[0, 1, 3, 4]], atol=0.04)


def test_a_temperature_of_one_lucky_sample_is_shrunk_toward_the_others() -> None:
    """Three temperatures that are equal in truth; of one, a single sample on each problem."""
    kept, raw = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        chance = rng.beta(1, 2, 40)
        pools = np.column_stack([rng.binomial(16, chance) / 16 for _ in range(2)])
        x = np.column_stack([rng.random(40) < chance, pools])
        found = shrunken(x, np.ones(3), np.arange(3))
        kept.append(found[0] - found[1:].mean())
        raw.append(x[:, 0].mean() - x[:, 1:].mean())
    assert np.std(kept) < 0.6 * np.std(raw)


@pytest.mark.parametrize("copies", [2, 3, 7])
def test_equal_strategies_count_once(copies: int) -> None:
    rng = np.random.default_rng(0)
    x = (rng.random((24, 3)) < [0.6, 0.25, 0.4]).astype(float)
    costs, family = np.array([1, 1, 2]), np.array([0, 1, 1])
    alone = shrunken(x, costs, family)
    more = np.column_stack([x, *[x[:, 1]] * copies])
    again = shrunken(more, np.append(costs, [1] * copies), np.append(family, [1] * copies))
    np.testing.assert_allclose(again[:3], alone)
    np.testing.assert_allclose(again[3:], alone[1])


def test_an_eliminated_strategy_is_not_favoured_by_easy_problems() -> None:
    """Measured only on the easy ones, on which it is worse than the others."""
    rng = np.random.default_rng(1)
    easy, hard = rng.random((20, 2)) < 0.9, rng.random((180, 2)) < 0.3
    x = np.concatenate([easy, hard]).astype(float)
    third = np.full(200, np.nan)
    third[:20] = rng.random(20) < 0.5
    assert np.nanmean(third) > x.mean()
    estimate = shrunken(np.column_stack([x, third]), np.full(3, 4))
    assert estimate[2] < estimate[:2].min()


def test_what_was_never_measured_stays_unknown() -> None:
    x = np.column_stack([np.ones(8), np.full(8, np.nan)])
    assert np.isnan(shrunken(x, np.array([1, 1]))).tolist() == [False, True]


# -- between levels ---------------------------------------------------------------------------


def _levels(
    truth: npt.NDArray[np.float64], problems: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Measured accuracy of each strategy at each level, and the variance of that."""
    drawn = [(rng.random((problems, truth.shape[1])) < row).astype(float) for row in truth]
    return np.stack([x.mean(axis=0) for x in drawn]), np.stack([errors(x) for x in drawn])


COSTS = np.full((5, 6), 4.0)


def test_what_is_alike_at_all_levels_is_told_better_together() -> None:
    """One of six is better by 10 points everywhere; 40 problems a level."""
    truth = np.linspace(0.8, 0.1, 5)[:, None] + np.array([0.1, 0, 0, 0, 0, 0])
    alone, together = [], []
    for seed in range(60):
        accuracy, error = _levels(truth, 40, np.random.default_rng(seed))
        alone.append((accuracy.argmax(axis=1) == 0).mean())
        together.append((borrowed(accuracy, error, COSTS).argmax(axis=1) == 0).mean())
    assert np.mean(alone) < 0.75
    assert np.mean(together) > np.mean(alone) + 0.1


def test_a_level_of_many_problems_keeps_its_own() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.4, 0.6, (5, 6))
    accuracy, error = _levels(truth, 20_000, rng)
    np.testing.assert_allclose(borrowed(accuracy, error, COSTS), accuracy, atol=0.01)


def test_where_levels_are_seen_to_differ_they_borrow_little() -> None:
    """Each level has a winner of its own, by 40 points."""
    truth = np.full((5, 6), 0.3)
    truth[np.arange(5), np.arange(5)] = 0.7
    accuracy, error = _levels(truth, 40, np.random.default_rng(0))
    found = borrowed(accuracy, error, COSTS)
    assert found.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(found, accuracy, atol=0.1)


def test_larger_searches_may_be_worth_more_at_one_level_than_at_the_next() -> None:
    """Levels keep their own line along cost: one where N is worth much, one where nothing helps."""
    costs = np.tile(2.0 ** np.arange(6), (2, 1))
    accuracy = np.stack([np.linspace(0.2, 0.7, 6), np.full(6, 0.1)])
    found = borrowed(accuracy, np.full((2, 6), 0.01), costs)
    np.testing.assert_allclose(found, accuracy, atol=1e-9)


def test_a_level_where_larger_searches_stop_helping_keeps_its_curve() -> None:
    """Else an easy level, which has little left to solve, is promised what N gives the others."""
    size = np.arange(6.0)
    accuracy = np.stack([0.8 + 0.06 * size - 0.005 * size**2, 0.2 + 0.02 * size + 0.01 * size**2])
    found = borrowed(accuracy, np.full((2, 6), 0.01), np.tile(2.0**size, (2, 1)))
    np.testing.assert_allclose(found, accuracy, atol=1e-9)


def test_one_level_alone_and_what_is_not_known_stay_as_they_are() -> None:
    accuracy = np.array([[0.5, 0.6, np.nan], [0.2, np.nan, np.nan]])
    error = np.where(np.isnan(accuracy), np.nan, 0.01)
    found = borrowed(accuracy, error, np.where(np.isnan(accuracy), np.nan, 4.0))
    assert np.isnan(found).tolist() == np.isnan(accuracy).tolist()
    np.testing.assert_allclose(borrowed(accuracy[:1], error[:1], COSTS[:1, :3]), accuracy[:1])
