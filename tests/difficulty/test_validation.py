from __future__ import annotations

import numpy as np
import pytest

from router.difficulty.validation import Validation


def test_perfect_predictions() -> None:
    levels = np.repeat([1, 2], 20)
    found = Validation.of(np.eye(2)[levels - 1], levels, 1.0 / levels)
    assert found.spearman == pytest.approx(1)
    assert found.log_loss == pytest.approx(0)
    assert found.prior_log_loss == pytest.approx(np.log(2))
    assert found.calibration_error == pytest.approx(0)


def test_overconfidence_is_measured() -> None:
    levels = np.tile([1, 2], 500)
    stated = np.tile([0.9, 0.1], (1000, 1))  # half of them right
    found = Validation.of(stated, levels, levels / 2)
    assert found.calibration_error == pytest.approx(0.4, abs=0.01)
    assert found.spearman == 0
    assert sum(one.count for one in found.reliability) == 2000
    assert found.to_dict()["reliability"][0]["stated"] == pytest.approx(0.1)
