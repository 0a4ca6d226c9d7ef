"""P(level | text of a problem): what a bundle keeps to route new problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GroupKFold

from difficulty import features
from difficulty.estimator import DifficultyClassifier
from difficulty.levels import Floats, Ints
from difficulty.validation import Validation
from models.errors import InputError
from models.types import Problem

FOLDS = 10


@dataclass(frozen=True, slots=True)
class Contribution:
    """One feature of a problem: its value, and what it adds to the log-odds of a harder level."""

    feature: str
    value: float
    effect: float


@dataclass(frozen=True, slots=True)
class TextEstimator:
    """A classifier of the levels 1, 2, … over the features of a problem's text."""

    classifier: DifficultyClassifier

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        levels: Ints,
        pass_at_1: Floats,
        seed: int = 0,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """Learn from problems whose level is known; equal texts are one problem.

        levels: each of 1 to their number occurs, shape (problems,). pass_at_1: only measures the
            cross-validated predictions, for the provenance; shape (problems,).

        Raises:
            InputError: fewer than two different texts, or a level that no problem has.
        """
        groups = np.unique(texts, return_inverse=True)[1]
        if groups.max(initial=0) < 1:
            raise InputError("the difficulty estimator needs at least 2 different problems")
        if np.unique(levels).tolist() != list(range(1, int(levels.max()) + 1)):
            raise InputError(f"no problem has one of the levels 1 to {levels.max()}")
        classifier = DifficultyClassifier(random_state=seed)
        X = features.extract(texts)
        held_out = cross_validated(classifier, X, levels, groups, seed)
        validation = Validation.of(held_out, levels, pass_at_1)
        classifier.fit(X, levels, groups)
        classifier.provenance_ = {**(provenance or {}), "validation": validation.to_dict()}
        return cls(classifier)

    def level_probabilities(self, problem: Problem) -> Sequence[float]:
        """P(level | problem), level 1 first."""
        probabilities = self.classifier.predict_proba(features.extract([problem.text]))
        return tuple(probabilities[0].tolist())

    def contributions(self, text: str) -> tuple[Contribution, ...]:
        """What each feature adds to this prediction, the strongest first; without zeros."""
        X = features.extract([text])
        effects = self.classifier.contributions(X)[0, :-1]
        found = zip(features.NAMES, X[0].tolist(), effects.tolist(), strict=True)
        used = (Contribution(*one) for one in found if one[2])
        return tuple(sorted(used, key=lambda one: -abs(one.effect)))

    def save(self, directory: Path) -> None:
        """Write the classifier into a new directory."""
        directory.mkdir()
        self.classifier.save(directory)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: as `DifficultyClassifier.load`; or it uses other features than the text's,
                or its classes are no levels.
        """
        classifier = DifficultyClassifier.load(directory)
        if classifier.names_ != features.NAMES:
            raise InputError(f"{directory} uses other features than those of the text")
        if classifier.classes_.tolist() != list(range(1, len(classifier.classes_) + 1)):
            raise InputError(f"{directory} predicts {classifier.classes_.tolist()}, not levels")
        return cls(classifier)


def cross_validated(
    classifier: DifficultyClassifier, X: Floats, levels: Ints, groups: Ints, seed: int = 0
) -> Floats:
    """P(level) of each problem, by a clone that was fitted without it, shape (problems, levels).

    X: features, shape (problems, features). levels, groups: shape (problems,); rows of one group
    stay together.
    """
    probabilities = np.zeros((len(X), int(levels.max())))
    folds = GroupKFold(min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=seed)
    for train, held_out in folds.split(X, groups=groups):
        fitted = clone(classifier).fit(X[train], levels[train], groups[train])
        columns = fitted.classes_ - 1
        probabilities[np.ix_(held_out, columns)] = fitted.predict_proba(X[held_out])
    return probabilities
