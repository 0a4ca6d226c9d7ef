from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from router.difficulty.estimator import RECORD, DifficultyClassifier
from router.difficulty.features import extract
from router.difficulty.text_estimator import TextEstimator
from router.models.errors import InputError
from router.models.types import Problem
from tests.difficulty.problems import made_up

HARD = f"What is {' + '.join(map(str, range(70, 180, 10)))}?"


@pytest.fixture(scope="module")
def fitted() -> TextEstimator:
    return TextEstimator.fit(*made_up(each=40))


def test_probabilities_rise_with_what_makes_problems_hard(fitted: TextEstimator) -> None:
    easy = fitted.levels(Problem("1", "What is 20 + 37?"))
    hard = fitted.levels(Problem("2", HARD))
    assert fitted.count == len(easy) == 3
    assert easy[0] > 0.7
    assert hard[2] > 0.7


def test_contributions_are_sorted_and_add_up(fitted: TextEstimator) -> None:
    found = fitted.contributions(HARD)
    effects = [one.effect for one in found]
    assert effects == sorted(effects, key=abs, reverse=True)
    assert sum(effects) > 0
    assert {one.feature: one.value for one in found}["numbers"] == 11


def test_validation_is_part_of_the_provenance(fitted: TextEstimator) -> None:
    validation = fitted.classifier.provenance_["validation"]
    assert validation["problems"] == 120
    assert validation["spearman"] > 0.85
    assert validation["log_loss"] < validation["prior_log_loss"] / 2


def test_copies_of_a_problem_do_not_validate_each_other() -> None:
    texts, levels, pass_at_1 = made_up(each=10)
    shuffled = np.random.default_rng(0).permutation(30)  # nothing to learn but by heart
    copies = TextEstimator.fit(texts * 8, np.tile(levels[shuffled], 8), np.tile(pass_at_1, 8))
    validation = copies.classifier.provenance_["validation"]
    assert validation["log_loss"] > 0.95 * validation["prior_log_loss"]


def test_saved_and_loaded_it_is_the_same(fitted: TextEstimator, tmp_path: Path) -> None:
    fitted.save(tmp_path / "difficulty")
    loaded = TextEstimator.load(tmp_path / "difficulty")
    problem = Problem("1", "What is 20 + 37 + 15 + 3?")
    assert loaded.levels(problem) == fitted.levels(problem)
    assert loaded.contributions(problem.text) == fitted.contributions(problem.text)


def test_other_features_or_classes_are_refused(tmp_path: Path) -> None:
    texts, levels, _ = made_up(each=10)
    DifficultyClassifier().fit(extract(texts), levels * 2).save(tmp_path)
    with pytest.raises(InputError, match=r"predicts \[2, 4, 6\], not levels"):
        TextEstimator.load(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    record["feature_names"][0] = "length"
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match="other features"):
        TextEstimator.load(tmp_path)


def test_what_cannot_be_learned_from_is_refused() -> None:
    texts, levels, pass_at_1 = made_up(each=5)
    with pytest.raises(InputError, match="4 different problems or more, not 1"):
        TextEstimator.fit(["same"] * 15, levels, pass_at_1)
    with pytest.raises(InputError, match="levels 1 to 3"):
        TextEstimator.fit(texts[:10], np.repeat([1, 3], 5), pass_at_1[:10])
