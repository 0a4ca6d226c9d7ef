"""How many weights of a checkpoint multiply: what `models.usage.flops` counts a token with."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Final

from router.models.errors import ModelError
from router.models.weights.find import weight_files

_INPUT: Final = "embed_tokens.weight"
_OUTPUT: Final = "lm_head.weight"


def count_parameters(model: Path, layers: int | None = None, *, head: bool = True) -> int:
    """Weights of a model in safetensors format that one token is multiplied by, from its headers.

    An input embedding is looked up and multiplies nothing, unless it is the output head too: then
    the checkpoint holds no other.

    layers: the first decoder layers only; None is all. head: whether the output head is used; no
        verifier multiplies by more than two rows of it.

    Raises:
        ModelError: there are no weights, or they cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    sizes: dict[str, int] = {}
    for file in weight_files(model):
        try:
            with safe_open(file, "numpy") as stored:
                for name in stored.keys():  # noqa: SIM118 (not a dict)
                    sizes[name] = prod(stored.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read {file}: {error}") from error
    own_head = any(name.endswith(_OUTPUT) for name in sizes)
    idle = tuple(
        name for name, used in ((_INPUT, head and not own_head), (_OUTPUT, head)) if not used
    )
    return sum(
        size for name, size in sizes.items() if not name.endswith(idle) and in_layers(name, layers)
    )


def in_layers(name: str, layers: int | None) -> bool:
    """Whether a weight belongs to no decoder layer, or to one of the first `layers`."""
    _, _, rest = name.partition(".layers.")
    return not rest or layers is None or int(rest.partition(".")[0]) < layers
