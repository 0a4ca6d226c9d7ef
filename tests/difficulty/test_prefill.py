from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from difficulty.prefill import PrefillFeatures
from models.errors import InputError, NotFinite

RNG = np.random.default_rng(0)
# Two directions carry nearly all variance.
HIDDEN = RNG.normal(size=(60, 2)) @ RNG.normal(size=(2, 32)) + RNG.normal(0, 1e-3, (60, 32))
LOG_PROBS = RNG.normal(size=60)


def test_projection_keeps_what_varies() -> None:
    fitted = PrefillFeatures.fit(HIDDEN, components=2)
    found = fitted.transform(LOG_PROBS, HIDDEN)
    assert fitted.names == ("prefill_logprob", "prefill_0", "prefill_1")
    assert found[:, 0] == pytest.approx(LOG_PROBS, abs=1e-6)
    assert np.cov(found[:, 1:].T) == pytest.approx(np.eye(2), abs=1e-3)
    back = found[:, 1:] * fitted.scale @ fitted.components + fitted.mean
    assert back == pytest.approx(HIDDEN, abs=0.01)


def test_components_are_no_more_than_problems_allow() -> None:
    assert len(PrefillFeatures.fit(HIDDEN[:4]).scale) == 3


def test_survives_a_file(tmp_path: Path) -> None:
    fitted = PrefillFeatures.fit(HIDDEN, components=3)
    fitted.save(tmp_path / "prefill.safetensors")
    loaded = PrefillFeatures.load(tmp_path / "prefill.safetensors")
    before, after = (f.transform(LOG_PROBS, HIDDEN) for f in (fitted, loaded))
    assert np.array_equal(before, after)


def test_broken_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    file = tmp_path / "prefill.safetensors"
    with pytest.raises(InputError, match="cannot read"):
        PrefillFeatures.load(file)
    file.write_bytes(b"no tensors")
    with pytest.raises(InputError, match="cannot read"):
        PrefillFeatures.load(file)
    save_file({"mean": np.zeros(3), "scale": np.ones(2), "components": np.ones((3, 2))}, file)
    with pytest.raises(InputError, match="no prefill features"):
        PrefillFeatures.load(file)


def test_bad_inputs_are_named() -> None:
    fitted = PrefillFeatures.fit(HIDDEN)
    with pytest.raises(InputError, match="32 dimensions, not 5"):
        fitted.transform(LOG_PROBS, HIDDEN[:, :5])
    with pytest.raises(NotFinite, match="log-probability of problem 1"):
        fitted.transform(np.array([0.0, np.nan]), HIDDEN[:2])
    with pytest.raises(NotFinite, match="hidden state of problem 0"):
        PrefillFeatures.fit(HIDDEN * np.inf)
    with pytest.raises(InputError, match="at least 2"):
        PrefillFeatures.fit(HIDDEN[:1])
