"""The classifier keeps scikit-learn's contract, and learns, calibrates, saves and refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from router.difficulty.estimator import MODEL, RECORD, DifficultyClassifier
from router.difficulty.features import NAMES, extract
from router.models.errors import InputError, NotFinite
from tests.difficulty.problems import made_up

Classifier = DifficultyClassifier


@parametrize_with_checks([DifficultyClassifier()])
def test_scikit_learn_contract(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def fitted() -> Classifier:
    texts, levels, _ = made_up(each=40)
    return DifficultyClassifier().fit(extract(texts), levels)


def noisy(rows: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Levels 1 to 3 that the first of five columns decides, but for much noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 5))
    return X, 1 + np.digitize(X[:, 0] + rng.normal(size=rows), [-0.5, 0.8])


def test_levels_of_new_problems_are_found(fitted: Classifier) -> None:
    texts, levels, _ = made_up(each=30, seed=1)
    assert (fitted.predict(extract(texts)) == levels).mean() > 0.95


def test_probabilities_are_calibrated_on_new_rows() -> None:
    X, y = noisy(400)
    new, truth = noisy(4000, seed=1)
    found = DifficultyClassifier().fit(X, y).predict_proba(new)
    assert found.sum(axis=1) == pytest.approx(1)
    for level in range(3):
        stated = found[:, level]
        for part in np.array_split(np.argsort(stated), 5):
            assert stated[part].mean() == pytest.approx((truth[part] == level + 1).mean(), abs=0.08)


def test_calibration_holds_back_where_features_say_nothing() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 30)), rng.permutation(np.repeat([1, 2, 3], 50))
    found = DifficultyClassifier().fit(X, y).predict_proba(rng.normal(size=(200, 30)))
    assert found == pytest.approx(1 / 3, abs=0.2)


def test_held_out_probabilities_do_not_see_their_own_group() -> None:
    # Each group has its own place and its own random level: only memory can predict them.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 15)
    y = rng.permutation(np.repeat([1, 2], 20))[groups]
    X = rng.normal(size=(40, 5))[groups]

    def accuracy(classifier: Classifier) -> float:
        chosen = classifier.classes_[classifier.held_out_proba_.argmax(axis=1)]
        return float((chosen == y).mean())

    eager = DifficultyClassifier(leaves=16, learning_rate=0.2)
    assert accuracy(clone(eager).fit(X, y)) > 0.9
    assert accuracy(clone(eager).fit(X, y, groups)) < 0.65


def test_one_level_is_certain() -> None:
    X, _ = noisy(20)
    only = DifficultyClassifier().fit(X, np.ones(20, int))
    assert only.predict_proba(X).tolist() == [[1.0]] * 20


def test_too_few_problems_are_refused_and_the_fewest_are_enough() -> None:
    X, _ = noisy(8)
    with pytest.raises(ValueError, match="4 groups or more are needed, not 3"):
        DifficultyClassifier().fit(X, [1, 2] * 4, groups=[0, 0, 0, 1, 1, 1, 2, 2])
    fewest = DifficultyClassifier().fit(X[:4], [1, 2, 2, 3])
    assert np.isfinite(fewest.predict_proba(X)).all()


def test_same_seed_same_trees() -> None:
    X, y = noisy(100)
    first, again, other = (
        DifficultyClassifier(random_state=seed).fit(X, y).predict_proba(X) for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_contributions_and_importances_name_what_decides() -> None:
    X, y = noisy(300)
    classifier = DifficultyClassifier().fit(X, y)
    assert classifier.feature_importances_.sum() == pytest.approx(1)
    assert classifier.feature_importances_.argmax() == 0
    hard, easy = classifier.contributions(np.array([[2.0, 0, 0, 0, 0], [-2.0, 0, 0, 0, 0]]))
    assert hard[0] > 0.5
    assert easy[0] < -0.5
    # Together they are the log-odds that the calibrator turns into probabilities.
    scores = classifier.contributions(X).sum(axis=1) / classifier.calibrator_.slope
    expected = classifier.calibrator_.probabilities(scores)
    assert classifier.predict_proba(X) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinite")])
def test_a_value_that_is_not_finite_is_named(fitted: Classifier, bad: float, word: str) -> None:
    X = extract(["What is 2 + 3?"] * 4)
    X[1, 4] = bad
    message = f"{NAMES[4]!r} of row 1 is {word}"
    with pytest.raises(NotFinite, match=message):
        fitted.predict(X)
    with pytest.raises(NotFinite, match=message):
        DifficultyClassifier().fit(X, [1, 1, 2, 2])


def test_saved_and_loaded_it_is_the_same(fitted: Classifier, tmp_path: Path) -> None:
    fitted.provenance_ = {"problems": 120}
    fitted.save(tmp_path)
    loaded = DifficultyClassifier.load(tmp_path)
    X = extract(made_up(each=5, seed=2)[0])
    assert np.array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert np.array_equal(loaded.contributions(X), fitted.contributions(X))
    assert loaded.predict(X).tolist() == fitted.predict(X).tolist()
    assert loaded.provenance_ == {"problems": 120}
    assert loaded.names_ == NAMES
    assert sorted(file.name for file in tmp_path.iterdir()) == [RECORD, MODEL]
    clone(loaded).fit(X, [1, 2, 3] * 5)


def edit(**changes: Any) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        file = directory / RECORD
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edit(schema_version=2), "schema_version 2, and this router reads 1"),
        (edit(feature_version=7), "feature_version 7, and this router reads 1"),
        (edit(classes=[1, 2]), "does not fit"),
        (edit(feature_names=["x"]), "does not fit"),
        (edit(calibrator={"slope": -1, "thresholds": [0, 1]}), "calibrator.slope"),
        (edit(calibrator={"slope": 1, "thresholds": [1, 0]}), "must rise"),
        (edit(parameters={"leafs": 3}), "holds no estimator"),
        (edit(surprise=1), "surprise"),
        (lambda d: (d / RECORD).write_text("{"), "no saved estimator"),
        (lambda d: (d / RECORD).write_text("[]"), "no saved estimator"),
        (lambda d: (d / RECORD).write_bytes(b"\xff"), "cannot read"),
        (lambda d: (d / RECORD).unlink(), "cannot read"),
        (lambda d: (d / MODEL).unlink(), "cannot read"),
        (lambda d: (d / MODEL).write_text("tree\n"), "is not the file"),
    ],
)
def test_broken_files_are_refused(
    fitted: Classifier, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    fitted.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as refusal:
        DifficultyClassifier.load(tmp_path)
    assert "fit the bundle again" in str(refusal.value)


def test_a_prediction_takes_under_five_milliseconds(fitted: Classifier) -> None:
    text = made_up(each=1)[0][0]
    fitted.predict_proba(extract([text]))
    started = time.process_time()
    for _ in range(20):
        fitted.predict_proba(extract([text]))
    assert (time.process_time() - started) / 20 < 5e-3
