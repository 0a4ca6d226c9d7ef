from __future__ import annotations

import numpy as np
import pytest

from router.difficulty.ordinal import ProportionalOdds


def test_known_odds_are_recovered() -> None:
    truth = ProportionalOdds(slope=2.0, thresholds=(-1.0, 1.5))
    rng = np.random.default_rng(0)
    scores = rng.normal(size=20_000)
    cumulative = truth.probabilities(scores).cumsum(axis=1)
    index = (rng.uniform(size=(len(scores), 1)) > cumulative).sum(axis=1)
    found = ProportionalOdds.fit(scores, index, 3)
    assert found.slope == pytest.approx(2.0, abs=0.1)
    assert found.thresholds == pytest.approx((-1.0, 1.5), abs=0.1)


def test_extreme_scores_give_certainty_not_overflow() -> None:
    odds = ProportionalOdds(slope=1.0, thresholds=(0.0, 1.0))
    found = odds.probabilities(np.array([-1e6, 1e6]))
    assert found.tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("scores", [np.zeros(9), np.repeat([-1.0, 0.0, 1.0], 3)])
def test_constant_and_separated_scores_stay_finite(scores: np.ndarray) -> None:  # type: ignore[type-arg]
    index = np.repeat([0, 1, 3], 3)  # and nobody at position 2
    found = ProportionalOdds.fit(scores, index, 4).probabilities(scores)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (found > 0).all()
    assert (found < 1).all()
