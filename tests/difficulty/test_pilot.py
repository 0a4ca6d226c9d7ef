from __future__ import annotations

import json

import numpy as np
import pytest

from router.difficulty.levels import Floats, Ints
from router.difficulty.pilot import PilotLevels
from router.models.errors import InputError, NotFinite


def scored(problems: int, samples: int = 16, seed: int = 0) -> tuple[list[Floats], Ints]:
    """Noisy verifier scores around a mean that falls with the level."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(1, 4, problems)
    mean = np.array([0.8, 0.5, 0.2])[levels - 1]
    scores = np.clip(mean[:, None] + rng.normal(0, 0.3, (problems, samples)), 0, 1)
    return list(scores), levels


@pytest.fixture(scope="module")
def fitted() -> PilotLevels:
    return PilotLevels.fit(*scored(150), count=3)


def test_level_falls_as_the_score_rises(fitted: PilotLevels) -> None:
    assert fitted.predict(np.array([0.9, 0.5, 0.1]), 8).tolist() == [1, 2, 3]
    expected = fitted.probabilities(np.linspace(0, 1, 11), 8) @ np.arange(1, 4)
    assert (np.diff(expected) < 0).all()


def test_more_samples_say_more(fitted: PilotLevels) -> None:
    scores, levels = scored(400, seed=1)
    losses = []
    for samples in (1, 2, 4, 8):
        means = np.array([problem[:samples].mean() for problem in scores])
        stated = fitted.probabilities(means, samples)
        # Calibrated at every size: as often right as stated.
        right = (stated.argmax(axis=1) + 1 == levels).mean()
        assert stated.max(axis=1).mean() == pytest.approx(right, abs=0.08)
        losses.append(-np.log(stated[np.arange(len(levels)), levels - 1]).mean())
    assert losses == sorted(losses, reverse=True)


def test_the_largest_fitted_size_that_fits_is_used(fitted: PilotLevels) -> None:
    means = np.array([0.3, 0.7])
    assert np.array_equal(fitted.probabilities(means, 7), fitted.probabilities(means, 4))
    assert np.array_equal(fitted.probabilities(means, 99), fitted.probabilities(means, 8))


def test_sizes_that_no_problem_has_are_left_out() -> None:
    scores, levels = scored(30, samples=3)
    fitted = PilotLevels.fit(scores, levels, 3)
    assert list(fitted.odds) == [1, 2]
    with pytest.raises(InputError, match="4 scored samples"):
        PilotLevels.fit(scores, levels, 3, sizes=[4])
    with pytest.raises(InputError, match="2 samples or more, not 1"):
        PilotLevels.fit(scores, levels, 3, sizes=[2]).probabilities(np.array([0.5]), 1)


def test_survives_json(fitted: PilotLevels) -> None:
    assert PilotLevels.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    for broken in ({}, {"odds": {"x": {}}}, {"odds": {"1": {"slope": 0, "thresholds": []}}}):
        with pytest.raises(InputError, match="broken pilot levels"):
            PilotLevels.from_dict(broken)


def test_scores_that_are_no_probabilities_are_refused(fitted: PilotLevels) -> None:
    with pytest.raises(NotFinite):
        fitted.probabilities(np.array([np.nan]), 4)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        PilotLevels.fit([np.array([0.5, 1.5])], np.array([1]), 1)
