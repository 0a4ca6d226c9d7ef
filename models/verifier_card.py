"""`verifier.json`: what a verifier directory of ours says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from models.base import Aggregation
from models.errors import ModelError

CARD_FILE = "verifier.json"
HEAD_FILE = "head.safetensors"
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class VerifierCard:
    """How a trained verifier is to be used.

    format: id in `models.prm`; aggregation: the measured best; hidden: width of the states that
    the head reads. Self-verifiers only: `backbone`, the generator's name, and `layer`, how many
    of its decoder layers come before the state that the head reads (at least 1, and fewer than
    the generator has, since a last state has gone through the final norm).
    provenance: data, seeds, metrics and command of the training; not interpreted.
    """

    format: str
    aggregation: Aggregation
    hidden: int
    backbone: str | None = None
    layer: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> VerifierCard | None:
        """The card of a directory; None if it has none.

        Raises:
            ModelError: it cannot be read, or is of a later schema.
        """
        file = directory / CARD_FILE
        if not file.is_file():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            schema = record.pop("schema")
            if schema != _SCHEMA:
                raise ModelError(
                    f"{file} has schema {schema!r}, and this version of router reads {_SCHEMA}; "
                    "train the verifier again, or update router"
                )
            card = cls(**record)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"{file} is not a verifier card: {error}") from error
        if card.aggregation not in get_args(Aggregation):
            raise ModelError(f"{file} names an unknown aggregation {card.aggregation!r}")
        return card

    def write(self, directory: Path) -> None:
        """Store the card in a directory."""
        record = {"schema": _SCHEMA, **asdict(self)}
        (directory / CARD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
