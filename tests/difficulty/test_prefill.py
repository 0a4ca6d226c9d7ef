from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from router.difficulty.base import Evidence
from router.difficulty.prefill import PrefillEstimator, Projection
from router.models.errors import InputError, NotFinite
from router.models.types import Problem

PROBLEM = Problem("p", "1 + 1?")
RNG = np.random.default_rng(0)
# Two directions carry nearly all variance.
HIDDEN = RNG.normal(size=(60, 2)) @ RNG.normal(size=(2, 32)) + RNG.normal(0, 1e-3, (60, 32))
STATES = HIDDEN.astype(np.float32)
# How hard a problem is lies along the first direction.
HARDNESS = (HIDDEN @ np.linalg.svd(HIDDEN)[2][0]).argsort().argsort()
LEVELS = 1 + HARDNESS // 20
PASS_AT_1 = 1 - HARDNESS / 60


def test_projection_keeps_what_varies() -> None:
    fitted = Projection.fit(HIDDEN, components=2)
    found = fitted.transform(HIDDEN)
    assert fitted.names == ("prefill_0", "prefill_1")
    assert np.cov(found.T) == pytest.approx(np.eye(2), abs=1e-3)
    back = found * fitted.scale @ fitted.components + fitted.mean
    assert back == pytest.approx(HIDDEN, abs=0.01)


def test_components_are_no_more_than_problems_allow() -> None:
    assert len(Projection.fit(HIDDEN[:4]).scale) == 3


@pytest.mark.parametrize(("problems", "components"), [(40, 8), (240, 20), (600, 32)])
def test_fewer_problems_give_fewer_components(problems: int, components: int) -> None:
    states = np.random.default_rng(0).normal(size=(problems, 64))
    assert len(Projection.fit(states).scale) == components


def test_states_tell_levels_and_the_estimator_survives_files(tmp_path: Path) -> None:
    fitted = PrefillEstimator.fit(STATES, LEVELS, PASS_AT_1, layer=7)
    assert fitted.classifier.provenance_["validation"]["spearman"] > 0.6
    fitted.save(tmp_path / "prefill")
    loaded = PrefillEstimator.load(tmp_path / "prefill")
    assert (loaded.layer, loaded.count) == (7, 3)
    for row in (0, 30):
        found = loaded.levels(PROBLEM, Evidence(state=STATES[row]))
        assert found == fitted.levels(PROBLEM, Evidence(state=STATES[row]))
        assert sum(found) == pytest.approx(1)


def test_a_fit_needs_some_problems() -> None:
    with pytest.raises(InputError, match="needs 4 different problems"):
        PrefillEstimator.fit(STATES[:3], LEVELS[:3], PASS_AT_1[:3], layer=1)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "projection.safetensors"
    with pytest.raises(InputError, match="cannot read"):
        PrefillEstimator.load(tmp_path)
    file.write_bytes(b"no tensors")
    with pytest.raises(InputError, match="cannot read"):
        PrefillEstimator.load(tmp_path)
    tensors = {"layer": np.ones(1, int), "mean": np.zeros(3), "scale": np.ones(2)}
    save_file({**tensors, "components": np.ones((3, 2))}, file)
    with pytest.raises(InputError, match="no prefill features"):
        PrefillEstimator.load(tmp_path)
    PrefillEstimator.fit(STATES, LEVELS, PASS_AT_1, layer=7).classifier.save(tmp_path)
    save_file({**tensors, "components": np.ones((2, 3))}, file)
    with pytest.raises(InputError, match="other features"):
        PrefillEstimator.load(tmp_path)


def test_bad_inputs_are_named() -> None:
    fitted = Projection.fit(HIDDEN)
    with pytest.raises(InputError, match="32 dimensions, not 5"):
        fitted.transform(HIDDEN[:, :5])
    with pytest.raises(NotFinite, match="hidden state of problem 0"):
        Projection.fit(HIDDEN * np.inf)
    with pytest.raises(InputError, match="at least 2"):
        Projection.fit(HIDDEN[:1])
