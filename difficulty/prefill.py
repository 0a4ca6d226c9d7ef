"""P(level | the generator's state after reading a problem).

Where a problem lies in the generator's hidden space tells how often the generator solves it (Damani
et al. 2024, arXiv 2410.04707). One pass over the prompt gives the state of its last token; a few
principal components of that go through the same classifier as the features of the text. How
probable the generator finds the text tells nothing beside it (benchmarks/difficulty_prefill.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from router.difficulty.base import Evidence, Needs
from router.difficulty.estimator import FEWEST, DifficultyClassifier
from router.difficulty.levels import Floats, Ints
from router.difficulty.validation import Validation
from router.models.errors import InputError, NotFinite
from router.models.types import Problem

COMPONENTS: Final = 32
_FEW: Final = 8
_PROBLEMS: Final = 12
"""For each component beyond the first `_FEW` (benchmarks/difficulty_size.py)."""

_RELATIVE_VARIANCE: Final = 1e-9
"""Of a component, to the first one's, below which states in float32 cannot tell it from zero."""
_DECIMALS: Final = 5
_TENSORS: Final = {"layer", "mean", "components", "scale"}
_FILE: Final = "projection.safetensors"

States = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A whitened principal component analysis of hidden states.

    mean: shape (hidden,). components: shape (components, hidden), orthonormal.
    scale: standard deviation of each component, shape (components,).
    """

    mean: States
    components: States
    scale: States

    @classmethod
    def fit(cls, states: npt.NDArray[Any], components: int = COMPONENTS) -> Self:
        """Learn from training problems.

        states: of each problem's last token, shape (problems, hidden). components: at most; fewer
            of few problems, and none that hold rounding errors only.

        Raises:
            NotFinite: a state holds NaN or infinity.
            InputError: fewer than two problems.
        """
        from sklearn.decomposition import PCA

        _check(states)
        if len(states) < 2:
            raise InputError(f"prefill features need at least 2 problems, not {len(states)}")
        worth = max(_FEW, len(states) // _PROBLEMS)
        kept = min(components, worth, len(states) - 1, states.shape[1])
        pca = PCA(kept, svd_solver="full").fit(np.asarray(states, np.float64))
        variance = pca.explained_variance_
        real = variance >= _RELATIVE_VARIANCE * variance[0]
        scale = np.maximum(np.sqrt(variance[real]), 1e-6)
        arrays = (pca.mean_, pca.components_[real], scale)
        return cls(*(np.asarray(array, np.float32) for array in arrays))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return tuple(f"prefill_{i}" for i in range(len(self.scale)))

    def transform(self, states: npt.NDArray[Any]) -> Floats:
        """The features, shape (problems, components).

        states: as for `fit`.

        Raises:
            NotFinite: a state holds NaN or infinity.
            InputError: states of another size than fitted.
        """
        _check(states)
        if states.shape[1] != len(self.mean):
            raise InputError(
                f"prefill features were fitted on hidden states of {len(self.mean)} dimensions,"
                f" not {states.shape[1]}: another generator? Fit the bundle again"
            )
        centred = np.asarray(states, np.float64) - self.mean
        projected = centred @ self.components.T.astype(np.float64) / self.scale
        # One problem alone is multiplied in another order than many, which must not decide a split.
        rounded: Floats = projected.round(_DECIMALS)
        return rounded


@dataclass(frozen=True, slots=True, eq=False)
class PrefillEstimator:
    """A classifier of the levels 1, 2, … over states of one decoder layer, counted from 1."""

    layer: int
    projection: Projection
    classifier: DifficultyClassifier

    @classmethod
    def fit(
        cls, states: States, levels: Ints, pass_at_1: Floats, layer: int, seed: int = 0
    ) -> Self:
        """Learn from problems whose level is known.

        states: of each problem's last token, shape (problems, hidden). levels, pass_at_1: as for
            `difficulty.text_estimator.TextEstimator.fit`, shape (problems,). Cross-validation
            leaves the projection as it is, which saw states of all, and no level.

        Raises:
            NotFinite: a state holds NaN or infinity.
            InputError: fewer than `FEWEST` problems.
        """
        if len(states) < FEWEST:
            raise InputError(
                f"the difficulty estimator needs {FEWEST} different problems or more,"
                f" not {len(states)}"
            )
        projection = Projection.fit(states)
        classifier = DifficultyClassifier(feature_names=projection.names, random_state=seed)
        classifier.fit(projection.transform(states), levels)
        validation = Validation.of(classifier.held_out_proba_, levels, pass_at_1)
        classifier.provenance_ = {"validation": validation.to_dict()}
        return cls(layer, projection, classifier)

    @property
    def count(self) -> int:
        """How many levels there are."""
        return len(self.classifier.classes_)

    @property
    def needs(self) -> Needs:
        return Needs(layer=self.layer)

    def known(self, evidence: Evidence) -> str:  # noqa: ARG002
        return "the generator's state after reading it"

    def levels(self, problem: Problem, evidence: Evidence) -> tuple[float, ...]:  # noqa: ARG002
        """P(level | state of the prompt's last token), level 1 first.

        Raises:
            NotFinite, InputError: as `Projection.transform`.
        """
        assert evidence.state is not None
        state = evidence.state[None]
        probabilities = self.classifier.predict_proba(self.projection.transform(state))
        return tuple(probabilities[0].tolist())

    def save(self, directory: Path) -> None:
        """Write into a new directory."""
        from safetensors.numpy import save_file

        directory.mkdir()
        names = sorted(_TENSORS - {"layer"})
        tensors = {name: np.ascontiguousarray(getattr(self.projection, name)) for name in names}
        save_file({"layer": np.array([self.layer], np.int64), **tensors}, directory / _FILE)
        self.classifier.save(directory)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: as `DifficultyClassifier.load`; or the projection cannot be read, or is
                none.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        file = directory / _FILE
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read {file}: {error}; fit the bundle again") from error
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        wanted = shapes.get("scale", ()) + shapes.get("mean", ())
        if shapes.keys() != _TENSORS or len(wanted) != 2 or shapes["components"] != wanted:
            raise InputError(f"{file} holds no prefill features; fit the bundle again")
        layer = int(tensors.pop("layer")[0])
        projection = Projection(**tensors)
        classifier = DifficultyClassifier.load(directory)
        if classifier.names_ != projection.names:
            raise InputError(f"{directory} uses other features than those of its projection")
        return cls(layer, projection, classifier)


def _check(states: npt.NDArray[Any]) -> None:
    bad = np.argwhere(~np.isfinite(states))
    if len(bad):
        raise NotFinite(
            f"the hidden state of problem {bad[0][0]} is NaN or infinite; check the engine"
        )
