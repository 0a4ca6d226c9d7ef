"""Which weights these are: a name may be given to others."""

from __future__ import annotations

import hashlib
from pathlib import Path

from router.models.errors import ModelError
from router.models.weights.find import weight_files


def fingerprint(directory: Path) -> str:
    """A hash of a model's decoder layers: names, shapes and the first row of every tensor.

    Cheap (one row a tensor is read), and changed by any fine-tuning of the layers.
    """
    from safetensors import SafetensorError, safe_open

    rows: dict[str, bytes] = {}
    for file in weight_files(directory):
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    if ".layers." in name:
                        part = tensors.get_slice(name)
                        shape = part.get_shape()
                        row = part[:1] if len(shape) > 1 else part[:]
                        label = f"{name} {shape} {part.get_dtype()}"
                        rows[label] = row.contiguous().flatten().float().numpy().tobytes()
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read {file}: {error}") from error
    digest = hashlib.sha256()
    for label in sorted(rows):
        digest.update(label.encode())
        digest.update(rows[label])
    return digest.hexdigest()
