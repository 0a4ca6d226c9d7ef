"""Checkpoints of the architecture of Qwen2.5-Math-PRM, made of a generator and a trained head.

Such a checkpoint (the generator's first layers, a final norm of unit weights, the head) is one
that transformers and vLLM's pooling runner serve like the published PRMs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from router.models.errors import InputError, ModelError
from router.models.verifiers.identity import Identity, identity_of_head, mark
from router.models.verifiers.prm import SELF, TokenHead, get_format
from router.models.verifiers.reward_heads import RewardHead, load_head
from router.models.verifiers.trained_head import WEIGHTS_FILE, HeadConfig, head_digest
from router.models.weights.count import in_layers
from router.models.weights.find import cache_dir, weight_files

ARCHITECTURE = "Qwen2ForProcessRewardModel"
_OTHER_FILES = ("tokenizer*", "*.jinja", "vocab.json", "merges.txt", "special_tokens_map.json")


def check_architecture(generator: Path) -> None:
    """Make sure that a generator's layers can be part of such a checkpoint.

    Raises:
        InputError: it is no Qwen2.
    """
    kind = json.loads((generator / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != "qwen2":
        raise InputError(
            f"a checkpoint of {ARCHITECTURE} needs a Qwen2 generator, and {generator} is {kind!r};"
            f" train a head of format {SELF!r}, which transformers reads without one"
        )


def save_checkpoint(
    generator: Path,
    layer: int,
    head: RewardHead,
    directory: Path,
    tuned: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Write the generator's first `layer` layers with the head, to a directory that is not there.

    tuned: weights, by name, that take the place of the generator's.

    Raises:
        InputError: the generator is no Qwen2.
        ModelError: it has no weights in safetensors format, or cannot be stored.
    """
    check_architecture(generator)
    config = json.loads((generator / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": [ARCHITECTURE], "num_hidden_layers": layer, "num_labels": 2}
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][:layer]
    partial = directory.with_name(f"{directory.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        tensors = {**_tensors(generator, layer, head), **tuned}
        weights = partial / "model.safetensors"
        save_file(tensors, weights, {"format": "pt"})
        weights.chmod(0o644)  # as all else here: who serves it may be another user
        (partial / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        for pattern in _OTHER_FILES:
            for file in generator.glob(pattern):
                shutil.copy(file, partial)
        partial.rename(directory)
    except OSError as error:
        raise ModelError(f"cannot store a verifier in {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def export_checkpoint(generator: Path, head_directory: Path, directory: Path) -> Identity:
    """Write the checkpoint of a head on disk and its generator, to serve it, and say whose it is.

    Raises:
        InputError: the generator is no Qwen2.
        ModelError: another generator, or `directory` is there or cannot be written.
    """
    if directory.exists():
        raise ModelError(f"{directory} exists; name a directory that is not there")
    config = HeadConfig.load(head_directory)
    config.check_backbone(generator)
    spec = get_format(config.format).head
    assert isinstance(spec, TokenHead)
    head = load_head([head_directory / WEIGHTS_FILE], config.backbone.hidden_size, spec)
    save_checkpoint(generator, config.layer, head, directory)
    identity = identity_of_head(head_directory)
    mark(directory, identity)
    return identity


def cached_checkpoint(generator: Path, head_directory: Path) -> Path:
    """The checkpoint of a head on disk and its generator; written to our cache the first time."""
    config = HeadConfig.load(head_directory)
    directory = cache_dir() / "verifiers" / f"{config.name}-{head_digest(head_directory)}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_name(f"{directory.name}.lock")):
        if not directory.is_dir():
            export_checkpoint(generator, head_directory, directory)
    return directory


def _tensors(generator: Path, layer: int, head: RewardHead) -> dict[str, Tensor]:
    """Weights under their published names: the generator's in its own type, the head's as is."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(generator):
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118 (not a dict)
                if name.startswith("model.") and in_layers(name, layer):
                    tensors[name] = stored.get_tensor(name)
    tensors["model.norm.weight"] = torch.ones_like(tensors["model.norm.weight"])
    return {**tensors, **{name: part.contiguous() for name, part in head.state_dict().items()}}
