"""Features from the generator's one prefill of a problem, beside those of its text.

How well the generator predicts the text, and where the text lies in its hidden space (Damani et
al. 2024, arXiv 2410.04707). Arrays in, arrays out: an engine that can look inside its model
supplies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from models.errors import InputError, NotFinite

COMPONENTS: Final = 16
_TENSORS: Final = {"mean", "components", "scale"}


@dataclass(frozen=True, slots=True, eq=False)
class PrefillFeatures:
    """A whitened principal component analysis of hidden states.

    mean: shape (hidden,). components: shape (components, hidden), orthonormal.
    scale: standard deviation of each component, shape (components,).
    """

    mean: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, hidden: npt.NDArray[Any], components: int = COMPONENTS) -> Self:
        """Learn from training problems.

        hidden: state of each problem's last token, shape (problems, hidden). At most as many
            components as problems less one are kept.

        Raises:
            NotFinite: a state holds NaN or infinity.
            InputError: fewer than two problems.
        """
        from sklearn.decomposition import PCA

        _check("hidden state", hidden)
        if len(hidden) < 2:
            raise InputError(f"prefill features need at least 2 problems, not {len(hidden)}")
        kept = min(components, len(hidden) - 1, hidden.shape[1])
        pca = PCA(kept, svd_solver="full").fit(np.asarray(hidden, np.float64))
        scale = np.maximum(np.sqrt(pca.explained_variance_), 1e-6)
        arrays = (pca.mean_, pca.components_, scale)
        return cls(*(np.asarray(array, np.float32) for array in arrays))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in order."""
        return ("prefill_logprob", *(f"prefill_{i}" for i in range(len(self.scale))))

    def transform(
        self, log_probs: npt.NDArray[Any], hidden: npt.NDArray[Any]
    ) -> npt.NDArray[np.float32]:
        """The features, shape (problems, 1 + components).

        log_probs: mean log-probability of each problem's tokens, shape (problems,), nats.
        hidden: as for `fit`.

        Raises:
            NotFinite: an input is NaN or infinite.
            InputError: states of another size than fitted.
        """
        _check("mean log-probability", log_probs)
        _check("hidden state", hidden)
        if hidden.shape[1] != len(self.mean):
            raise InputError(
                f"prefill features were fitted on hidden states of {len(self.mean)} dimensions,"
                f" not {hidden.shape[1]}: another generator? Fit the bundle again"
            )
        projected = (np.asarray(hidden, np.float32) - self.mean) @ self.components.T / self.scale
        return np.column_stack([np.asarray(log_probs, np.float32), projected])

    def save(self, file: Path) -> None:
        """Write a safetensors file."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}, file)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: the file cannot be read, or holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read {file}: {error}; fit the bundle again") from error
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        wanted = shapes.get("scale", ()) + shapes.get("mean", ())
        if shapes.keys() != _TENSORS or len(wanted) != 2 or shapes["components"] != wanted:
            raise InputError(f"{file} holds no prefill features; fit the bundle again")
        return cls(**tensors)


def _check(what: str, values: npt.NDArray[Any]) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise NotFinite(f"the {what} of problem {bad[0][0]} is NaN or infinite; check the engine")
