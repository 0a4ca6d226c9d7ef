from __future__ import annotations

import numpy as np
import pytest

from router.difficulty.levels import Levels, fit_levels
from router.models.errors import InputError

SPREAD = np.linspace(0.0, 1.0, 41)


def test_quantile_levels_hold_equally_many_problems_easiest_first() -> None:
    levels = fit_levels(SPREAD[1:], "quantile:5")
    found = levels.of(SPREAD[1:])
    assert np.bincount(found).tolist() == [0, 8, 8, 8, 8, 8]
    assert found[-1] == 1
    assert found[0] == 5


def test_absolute_levels_have_the_published_thresholds() -> None:
    levels = fit_levels(SPREAD, "absolute")
    values = np.array([1.0, 0.5, 0.49, 0.1, 0.09, 0.0])
    assert levels.of(values).tolist() == [1, 1, 2, 2, 3, 3]
    assert levels.refit(values) == levels


def test_edges_of_a_fold_come_from_that_fold() -> None:
    levels = fit_levels(SPREAD, "quantile:2")
    assert levels.refit(SPREAD / 2).edges == (levels.edges[0] / 2,)


def test_problems_that_are_equal_stay_in_one_level() -> None:
    unsolved = np.concatenate([np.zeros(55), np.full(30, 0.25), np.full(15, 0.75)])
    levels = fit_levels(unsolved, "quantile:2")
    assert levels.edges == (0.125,)
    assert np.bincount(levels.of(unsolved)).tolist() == [0, 45, 55]


def test_levels_survive_json() -> None:
    for how in ("absolute", "quantile:4"):
        levels = fit_levels(SPREAD, how)
        assert Levels.from_dict(levels.to_dict()) == levels
    with pytest.raises(InputError, match="must fall"):
        Levels.from_dict({"edges": [0.1, 0.5], "shares": None})


def test_too_few_problems_are_refused_with_the_number_needed() -> None:
    with pytest.raises(InputError, match=r"needs at least 20 problems .* there are 12"):
        fit_levels(np.linspace(0, 1, 12), "quantile:5")


def test_levels_merge_only_when_told() -> None:
    unsolved = np.concatenate([np.zeros(30), np.linspace(0.1, 1.0, 30)])
    with pytest.raises(InputError, match=r"30 of 60 problems have pass@1 = 0.*--merge-levels"):
        fit_levels(unsolved, "quantile:5")
    merged = fit_levels(unsolved, "quantile:5", merge=True)
    sizes = np.bincount(merged.of(unsolved))[1:]
    assert sizes.tolist() == [12, 12, 6, 30]
    assert fit_levels(np.linspace(0, 1, 5), "quantile:5", merge=True).count == 1


@pytest.mark.parametrize(("value", "named"), [(1.0, "harder"), (0.0, "easier")])
def test_nothing_to_tell_apart_is_refused(value: float, named: str) -> None:
    with pytest.raises(InputError, match=f"add {named} problems"):
        fit_levels(np.full(50, value), "quantile:5", merge=True)


@pytest.mark.parametrize("how", ["quantile", "quantile:0", "quantile:x", "deciles", ""])
def test_unknown_levels_are_refused(how: str) -> None:
    with pytest.raises(InputError, match="quantile:K"):
        fit_levels(SPREAD, how)
