from __future__ import annotations

import numpy as np

from router.fitting.allocation import Allocation

RACE = Allocation.of("racing")
COSTS = np.array([4, 4, 8, 8])


def _outcomes(rates: list[float], problems: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((problems, len(rates))) < rates).astype(float)


def test_rounds_grow_and_end_with_every_problem() -> None:
    assert RACE.rounds(40) == [8, 12, 18, 27, 40]
    assert RACE.rounds(5) == [5]
    assert Allocation.of("grid").rounds(40) == [40]


def test_a_loser_is_eliminated_and_the_winner_never() -> None:
    outcomes = _outcomes([0.6, 0.1, 0.9, 0.1], 40)
    alive = RACE.survivors(outcomes, COSTS, np.ones(4, np.bool_))
    assert alive.tolist() == [True, False, True, False]


def test_a_dearer_configuration_eliminates_no_cheaper_one() -> None:
    """The cheaper one may still win where the dearer does not fit the budget."""
    outcomes = _outcomes([0.2, 0.2, 0.9, 0.9], 60)
    alive = RACE.survivors(outcomes, COSTS, np.ones(4, np.bool_))
    assert alive.all()


def test_a_grid_eliminates_nothing() -> None:
    outcomes = _outcomes([1.0, 0.0, 1.0, 0.0], 60)
    assert Allocation.of("grid").survivors(outcomes, COSTS, np.ones(4, np.bool_)).all()


def test_what_was_eliminated_stays_out_and_judges_nobody() -> None:
    outcomes = _outcomes([0.2, 1.0, 0.2, 0.2], 60)
    alive = np.array([True, False, True, True])
    assert RACE.survivors(outcomes, COSTS, alive).tolist() == alive.tolist()


def test_equal_or_unmeasured_configurations_are_not_judged() -> None:
    same = np.repeat(_outcomes([0.5], 20), 4, axis=1)
    assert RACE.survivors(same, COSTS, np.ones(4, np.bool_)).all()
    unknown = np.full((20, 4), np.nan)
    assert RACE.survivors(unknown, COSTS, np.ones(4, np.bool_)).all()


def test_equals_are_rarely_eliminated_over_a_whole_race() -> None:
    """Several looks at 5 % each; the winner of four equals must usually survive with company."""
    kept = []
    for seed in range(100):
        outcomes = _outcomes([0.5] * 4, 60, seed)
        alive = np.ones(4, np.bool_)
        for total in RACE.rounds(60):
            alive = RACE.survivors(outcomes[:total], np.full(4, 4), alive)
        assert alive.any()
        kept.append(alive.mean())
    assert np.mean(kept) > 0.5
