"""Trained heads on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from router.models.errors import ModelError
from router.models.verifiers.trained_head import CONFIG_FILE, Backbone, HeadConfig, is_head
from router.models.weights.fingerprint import fingerprint

CONFIG = HeadConfig(
    name="toy-self-2",
    format="self",
    layer=2,
    prompt="qwen-math",
    aggregation="mean",
    backbone=Backbone("toy", "abc", 8),
    temperature=1.5,
    provenance={"seed": 0},
)


def model(directory: Path, value: float = 1.0) -> Path:
    directory.mkdir(exist_ok=True)
    tensors = {
        "model.embed_tokens.weight": torch.zeros(4, 8),
        "model.layers.0.mlp.weight": torch.full((8, 8), value),
        "model.layers.0.norm.weight": torch.ones(8),
    }
    save_file(tensors, directory / "model.safetensors")
    return directory


def test_a_config_survives_the_disk(tmp_path: Path) -> None:
    CONFIG.save(tmp_path)
    assert HeadConfig.load(tmp_path) == CONFIG


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"layer": 0},
        {"aggregation": "median"},
        {"surprise": 1},
        {"backbone": None},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    CONFIG.save(tmp_path)
    file = tmp_path / CONFIG_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ModelError):
        HeadConfig.load(tmp_path)


@pytest.mark.parametrize("content", [None, "", "[1]", "{nonsense"])
def test_a_directory_without_a_config_is_no_head(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / CONFIG_FILE).write_text(content)
    assert not is_head(tmp_path)
    with pytest.raises(ModelError, match="no trained head"):
        HeadConfig.load(tmp_path)


def test_another_backbone_is_refused_by_name(tmp_path: Path) -> None:
    own = model(tmp_path / "own")
    config = replace(CONFIG, backbone=Backbone("toy", fingerprint(own), 8))
    config.check_backbone(own)
    with pytest.raises(ModelError, match=r"toy-self-2.*trained on toy"):
        config.check_backbone(model(tmp_path / "tuned", value=1.001))


def test_a_fingerprint_depends_on_the_layers_alone(tmp_path: Path) -> None:
    directory = model(tmp_path / "own")
    before = fingerprint(directory)
    tensors = load_file(directory / "model.safetensors")
    save_file({**tensors, "lm_head.weight": torch.ones(4, 8)}, directory / "model.safetensors")
    assert fingerprint(directory) == before


def test_corrupted_weights_are_a_clear_error(tmp_path: Path) -> None:
    directory = model(tmp_path / "own")
    (directory / "model.safetensors").write_bytes(b"\x10" * 100)
    with pytest.raises(ModelError, match="cannot read"):
        fingerprint(directory)
