"""P(level | text of a problem): what a bundle keeps to route new problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from router.difficulty import features
from router.difficulty.base import NOTHING, UNOBSERVED, Evidence, Needs
from router.difficulty.estimator import FEWEST, DifficultyClassifier
from router.difficulty.levels import Floats, Ints
from router.difficulty.validation import Validation
from router.models.errors import InputError
from router.models.types import Problem


@dataclass(frozen=True, slots=True)
class Contribution:
    """One feature of a problem: its value, and what it adds to the log-odds of a harder level."""

    feature: str
    value: float
    effect: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    ) -> Self:
        """Learn from problems whose level is known; equal texts are one problem.

        levels: each of 1 to their number occurs, shape (problems,). pass_at_1: only measures
            cross-validated predictions, for the provenance; shape (problems,).

        Raises:
            InputError: fewer than `FEWEST` different texts, or a level that no problem has.
        """
        numbers: dict[str, int] = {}
        groups = np.array([numbers.setdefault(text, len(numbers)) for text in texts])
        if len(numbers) < FEWEST:
            raise InputError(
                f"the difficulty estimator needs {FEWEST} different problems or more,"
                f" not {len(numbers)}"
            )
        if np.unique(levels).tolist() != list(range(1, int(levels.max()) + 1)):
            raise InputError(f"no problem has one of the levels 1 to {levels.max()}")
        classifier = DifficultyClassifier(random_state=seed)
        classifier.fit(features.extract(texts), levels, groups)
        validation = Validation.of(classifier.held_out_proba_, levels, pass_at_1)
        classifier.provenance_ = {"validation": validation.to_dict()}
        return cls(classifier)

    @property
    def count(self) -> int:
        """How many levels there are."""
        return len(self.classifier.classes_)

    @property
    def needs(self) -> Needs:
        return NOTHING

    def known(self, evidence: Evidence) -> str:  # noqa: ARG002
        return "its text"

    def levels(self, problem: Problem, evidence: Evidence = UNOBSERVED) -> tuple[float, ...]:  # noqa: ARG002
        """P(level | text of the problem), level 1 first."""
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
