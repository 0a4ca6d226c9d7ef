"""Trained verifier heads on disk: a directory with `config.json` and `head.safetensors`.

The weights are those of a Linear-ReLU-Linear head (`models.verifiers.reward_heads.RewardHead`)
that reads the RMS-normalised output of one decoder layer of its backbone. The backbone itself is
not stored but named by a fingerprint: a head on another model's states gives noise, so it is
refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, get_args

from router.models.base import Aggregation
from router.models.errors import ModelError
from router.models.verifiers.prm import get_format
from router.models.weights.fingerprint import fingerprint

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "head.safetensors"
SCHEMA = 1
_SHIPPED = Path(__file__).parent.parent / "trained"


@dataclass(frozen=True, slots=True)
class Backbone:
    """Which model a head reads: its short name, `fingerprint` of its layers, hidden size."""

    name: str
    fingerprint: str
    hidden_size: int


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Everything about a head but its weights.

    format: id in the PRM registry. layer: decoder layer, counted from 1, whose output is read.
    prompt: id in `models.prompts` of the prompt that the training solutions followed.
    aggregation: the measured best. temperature: what the logits were divided by to calibrate them
    (already part of the weights). provenance: data, samples, seeds, metrics, command; free-form.
    """

    name: str
    format: str
    layer: int
    prompt: str
    aggregation: Aggregation
    backbone: Backbone
    temperature: float = 1.0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write `config.json`."""
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, ensure_ascii=False)
        (directory / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the `config.json` of a head's directory.

        Raises:
            ModelError: it is missing, broken, or of another schema.
        """
        file = directory / CONFIG_FILE
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            schema = record.pop("schema")
            if schema != SCHEMA:
                raise ModelError(
                    f"{file} has schema {schema!r}, and this version reads {SCHEMA}; "
                    "train the head again with `router verifier train`"
                )
            config = cls(**{**record, "backbone": Backbone(**record["backbone"])})
            get_format(config.format)
            if config.aggregation not in get_args(Aggregation) or config.layer < 1:
                raise ValueError(f"aggregation {config.aggregation!r}, layer {config.layer!r}")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"{directory} holds no trained head: {error!r}") from error
        return config

    def check_backbone(self, directory: Path) -> None:
        """Refuse another model than the one that the head was trained on.

        Raises:
            ModelError: the model in `directory` has other layers.
        """
        if fingerprint(directory) != self.backbone.fingerprint:
            raise ModelError(
                f"head {self.name!r} was trained on {self.backbone.name}, and {directory} holds "
                "other weights; train a head for it with `router verifier train --model`"
            )


def shipped_head(model: str) -> Path | None:
    """Directory of the head that comes with `router` for a model of that short name, if any."""
    directory = _SHIPPED / model
    return directory if is_head(directory) else None


def shipped_heads() -> tuple[Path, ...]:
    """Directories of all heads that come with `router`."""
    return tuple(sorted(filter(is_head, _SHIPPED.iterdir())))


def is_head(directory: Path) -> bool:
    """Whether a directory holds a trained head (and not a whole checkpoint)."""
    return (directory / WEIGHTS_FILE).is_file()


def head_digest(directory: Path) -> str:
    """A short hash of all that the scores of the head in `directory` depend on.

    Raises:
        ModelError: no head there.
    """
    config = HeadConfig.load(directory)
    digest = hashlib.sha256((directory / WEIGHTS_FILE).read_bytes())
    digest.update(f"{config.backbone.fingerprint} {config.layer}".encode())
    return digest.hexdigest()[:12]
