"""Who a verifier is: its name, and how its input is written. Needs no weights and no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from router.models.base import Aggregation, VerifierInfo
from router.models.errors import InputError, ModelError
from router.models.verifiers.prm import OWN, get_format, known_format
from router.models.verifiers.trained_head import HeadConfig, head_digest

_MARK: Final = "router"
"""Where a checkpoint made of a trained head says in its `config.json` whose it is: its
architecture alone would make it a published PRM, whose input is written otherwise."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What weights alone do not tell of a verifier.

    name: short name, with the digest of a trained head. format: id in the PRM registry.
    prompt: id in `models.prompts` of what the generator was asked with; `self` reads its tokens.
    """

    name: str
    format: str
    aggregation: Aggregation
    prompt: str = "plain"

    def info(self, parameters: int | None) -> VerifierInfo:
        """The same for those who search; parameters: weights used for one scored token."""
        return VerifierInfo(self.name, self.format, self.aggregation, parameters)


def identity_of_head(directory: Path) -> Identity:
    """Of a trained head.

    Raises:
        ModelError: the directory holds none.
    """
    config = HeadConfig.load(directory)
    # With the digest, so that scores of a head that was trained again do not mix with its own.
    name = f"{config.name}@{head_digest(directory)}"
    return Identity(name, config.format, config.aggregation, config.prompt)


def identity_of(ref: str, format: str | None = None) -> Identity:
    """Of a whole model: a directory, or the hub id of a published one.

    format: id in `models.verifiers.prm`, for weights that do not tell.

    Raises:
        InputError: no such format, or none was given and nothing tells.
        ModelError: the directory has no readable `config.json`.
    """
    config = _config(Path(ref)) if Path(ref).is_dir() else {}
    if _MARK in config:
        identity = _marked(ref, config[_MARK])
        if format not in (None, identity.format):
            raise InputError(f"{ref} was made for format {identity.format!r}, not {format!r}")
        return identity
    architectures = tuple(config.get("architectures") or ())
    prm = get_format(format) if format else known_format(ref, architectures)
    if prm.id in OWN:
        raise InputError(f"format {prm.id!r} is for trained heads, and {ref} holds a whole model")
    name = Path(ref).resolve().name if config else ref
    return Identity(name, prm.id, prm.aggregation)


def is_marked(directory: Path) -> bool:
    """Whether a directory holds a checkpoint made of a trained head."""
    return directory.is_dir() and _MARK in _config(directory)


def mark(checkpoint: Path, identity: Identity) -> None:
    """Say in a checkpoint whose head it was made of.

    Raises:
        OSError: its `config.json` cannot be written.
    """
    config = _config(checkpoint) | {_MARK: asdict(identity)}
    (checkpoint / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _marked(ref: str, stored: Any) -> Identity:
    try:
        identity = Identity(**stored)
        get_format(identity.format)
    except (TypeError, InputError) as error:
        raise ModelError(
            f"{ref}/config.json: what it says of its head is broken: {error}"
        ) from error
    return identity


def _config(directory: Path) -> dict[str, Any]:
    file = directory / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {file}: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{file} holds no JSON object")
    return config
