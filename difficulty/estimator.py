"""The learned estimator of difficulty: problems' features in, probabilities of levels out.

Gradient boosting regresses the position of the level among the sorted levels, and a
proportional-odds model, fitted on out-of-fold scores, turns that into calibrated probabilities.
Against multiclass boosting with a fitted temperature this ordinal form has the better log-loss at
the few hundred problems of a fit (benchmarks/difficulty_estimator.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import lightgbm
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupKFold
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from router.difficulty import features
from router.difficulty.levels import Floats
from router.difficulty.ordinal import ProportionalOdds
from router.models.errors import InputError, NotFinite

SCHEMA: Final = 1
RECORD: Final = "estimator.json"
MODEL: Final = "estimator.txt"
FEWEST: Final = 4
"""Problems that a fit needs; LightGBM cannot draw bags from less than two."""

Array = npt.NDArray[Any]


class _Saved(BaseModel):
    """The estimator's JSON file; the trees lie beside it, as LightGBM text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int
    feature_version: int
    feature_names: tuple[str, ...]
    classes: tuple[int, ...] | tuple[str, ...]
    calibrator: ProportionalOdds
    parameters: dict[str, Any]
    model_sha256: str
    provenance: dict[str, Any]


class DifficultyClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier of ordered classes, by the scikit-learn API.

    The classes are ordered as numpy sorts them: levels, 1 the easiest.

    Args:
        trees, leaves, learning_rate: of the boosting. The trees are small, and split at random
            thresholds, as problems are hundreds or a thousand (benchmarks/difficulty_size.py).
        leaf_size: fewest problems of a leaf.
        folds: of the cross-validation that calibrates.
        feature_names: of the columns of X; None if they are `difficulty.features.NAMES`, or
            numbered where there are more or fewer.
        random_state: of trees and folds.

    Attributes:
        classes_: sorted labels. booster_: the trees. calibrator_: from score to probabilities.
        held_out_proba_: P(class) of each training row, by trees and a calibrator that were fitted
            without its group; shape (rows, classes). Not saved.
        provenance_: what it was fitted on, JSON-able; for the caller to fill, saved with it.
    """

    def __init__(
        self,
        *,
        trees: int = 300,
        leaves: int = 8,
        learning_rate: float = 0.06,
        leaf_size: int = 10,
        folds: int = 5,
        feature_names: Sequence[str] | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.trees = trees
        self.leaves = leaves
        self.learning_rate = learning_rate
        self.leaf_size = leaf_size
        self.folds = folds
        self.feature_names = feature_names
        self.random_state = random_state

    def fit(self, X: Array, y: Array, groups: Array | None = None) -> Self:
        """Learn from problems with known levels.

        X: features, shape (rows, features). y: labels, shape (rows,). groups: the problem of each
        row, where one has several; calibration never splits it. Shape (rows,).

        Raises:
            NotFinite: a feature is NaN or infinite.
            ValueError: shapes do not fit together, or there are fewer than `FEWEST` groups.
        """
        X, y = validate_data(self, X, y, ensure_all_finite=False, ensure_min_samples=FEWEST)
        check_classification_targets(y)
        self._check_finite(X)
        self.classes_, index = np.unique(y, return_inverse=True)
        target = index / max(len(self.classes_) - 1, 1)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))

        groups = np.arange(len(X)) if groups is None else np.asarray(groups)
        different = len(np.unique(groups))
        if different < FEWEST:
            raise ValueError(f"{FEWEST} groups or more are needed, not {different}")
        folds = GroupKFold(min(self.folds, different), shuffle=True, random_state=seed)
        parts = list(folds.split(X, groups=groups))
        scores = np.empty(len(X))
        for train, held_out in parts:
            booster = self._boost(X[train], target[train], seed)
            scores[held_out] = booster.predict(X[held_out], raw_score=True)
        count = len(self.classes_)
        self.held_out_proba_ = np.empty((len(X), count))
        for train, held_out in parts:
            calibrator = ProportionalOdds.fit(scores[train], index[train], count)
            self.held_out_proba_[held_out] = calibrator.probabilities(scores[held_out])
        self.calibrator_ = ProportionalOdds.fit(scores, index, count)
        self.booster_ = self._boost(X, target, seed)
        self.provenance_: dict[str, Any] = {}
        return self

    def _boost(self, X: Array, target: Floats, seed: int) -> lightgbm.Booster:
        parameters = {
            "objective": "cross_entropy",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.leaf_size,
            "lambda_l2": 1.0,
            "extra_trees": True,
            "feature_fraction": 0.3,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "feature_pre_filter": False,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        return lightgbm.train(parameters, lightgbm.Dataset(X, target), self.trees)

    def predict_proba(self, X: Array) -> Floats:
        """Calibrated P(class), shape (rows, classes), in the order of `classes_`."""
        X = self._checked(X)
        scores = self.booster_.predict(X, raw_score=True, num_threads=1)
        return self.calibrator_.probabilities(scores)

    def predict(self, X: Array) -> Array:
        """The most probable class, shape (rows,)."""
        probabilities = self.predict_proba(X)
        chosen: Array = self.classes_[probabilities.argmax(axis=1)]
        return chosen

    def contributions(self, X: Array) -> Floats:
        """What each feature adds to the log-odds of a harder level, shape (rows, features + 1).

        Shapley values of the trees (Lundberg et al. 2020); the last column is the average problem.
        """
        X = self._checked(X)
        values = self.booster_.predict(X, pred_contrib=True, num_threads=1)
        return np.asarray(values) * self.calibrator_.slope

    @property
    def feature_importances_(self) -> Floats:
        """Share of each feature in the loss that the trees removed, shape (features,)."""
        check_is_fitted(self)
        gains = self.booster_.feature_importance("gain")
        return np.asarray(gains / max(gains.sum(), 1e-12))

    @property
    def names_(self) -> tuple[str, ...]:
        """Names of the features."""
        if self.feature_names is not None:
            return tuple(self.feature_names)
        if self.n_features_in_ == len(features.NAMES):
            return features.NAMES
        return tuple(f"x{i}" for i in range(self.n_features_in_))

    def _checked(self, X: Array) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite=False)
        self._check_finite(X)
        return X

    def _check_finite(self, X: Array) -> None:
        bad = np.argwhere(~np.isfinite(X))
        if len(bad):
            row, column = bad[0]
            value = "NaN" if np.isnan(X[row, column]) else "infinite"
            raise NotFinite(f"feature {self.names_[column]!r} of row {row} is {value}")

    def save(self, directory: Path) -> None:
        """Write the trees as LightGBM text, everything else as JSON, into an existing directory."""
        check_is_fitted(self)
        text = self.booster_.model_to_string()
        parameters = self.get_params()
        del parameters["feature_names"]
        saved = _Saved(
            schema_version=SCHEMA,
            feature_version=features.VERSION,
            feature_names=self.names_,
            classes=self.classes_.tolist(),
            calibrator=self.calibrator_,
            parameters=parameters,
            model_sha256=_digest(text),
            provenance=self.provenance_,
        )
        (directory / MODEL).write_text(text, encoding="utf-8")
        (directory / RECORD).write_text(saved.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: a file is missing or broken, or was written for another version of the
                schema or of the features.
        """
        record, trees = directory / RECORD, directory / MODEL
        saved = _parse(record, _read(record))
        text = _read(trees)
        if _digest(text) != saved.model_sha256:
            raise InputError(f"{trees} is not the file that {record} belongs to; {_REFIT}")
        try:
            loaded = cls(feature_names=saved.feature_names, **saved.parameters)
            loaded.booster_ = lightgbm.Booster(model_str=text)
        except (TypeError, lightgbm.basic.LightGBMError) as error:
            raise InputError(f"{directory} holds no estimator ({error}); {_REFIT}") from error
        loaded.n_features_in_ = len(saved.feature_names)
        loaded.classes_ = np.array(saved.classes)
        loaded.calibrator_ = saved.calibrator
        loaded.provenance_ = saved.provenance
        if (
            loaded.booster_.num_feature() != loaded.n_features_in_
            or len(saved.calibrator.thresholds) != len(saved.classes) - 1
        ):
            raise InputError(f"{record} does not fit its trees, or itself; {_REFIT}")
        return loaded


_REFIT: Final = "fit the bundle again"


def _parse(file: Path, text: str) -> _Saved:
    try:
        content = json.loads(text)
        for key, known in (("schema_version", SCHEMA), ("feature_version", features.VERSION)):
            if content[key] != known:
                raise InputError(
                    f"{file} has {key} {content[key]!r}, and this router reads {known}; {_REFIT}"
                )
        return _Saved.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{file}: {where}: {first['msg']}; {_REFIT}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is no saved estimator ({error!r}); {_REFIT}") from error


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}; {_REFIT}") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
