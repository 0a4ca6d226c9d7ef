"""`router model`: data on stdout, progress on stderr, errors from what is not a model."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from router.models.weights.embedded import EMBEDDED


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "qwen2"}')
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "model", *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_list_without_the_model(tmp_path: Path) -> None:
    done = run("list", "--json", ROUTER_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    entries = json.loads(done.stdout)
    assert [entry["name"] for entry in entries] == list(EMBEDDED)
    for entry in entries:
        assert entry["licence"] == "Apache-2.0"
        assert entry["source"]["sha256"] == EMBEDDED[entry["name"]].source.sha256
        assert entry["path"] is entry["size"] is None


def test_pull_and_show_what_is_here(checkpoint: Path) -> None:
    pulled = run("pull", str(checkpoint), "--json")
    assert json.loads(pulled.stdout)["path"] == str(checkpoint)

    shown = json.loads(run("show", str(checkpoint), "--json").stdout)
    assert shown["size"] == sum(file.stat().st_size for file in checkpoint.iterdir())
    assert shown["sha256"] == {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    assert shown["licence"] is None

    text = run("show", str(checkpoint)).stdout
    assert str(checkpoint) in text
    assert hashlib.sha256(b"weights").hexdigest() in text


@pytest.mark.parametrize(
    ("ref", "code", "message"),
    [
        (".", 1, "no config.json"),
        ("/no/such/place", 2, "neither a directory nor a hub id"),
        ("nobody/nothing", 1, "HF_ENDPOINT"),
        *((name, 1, f"router model pull {name}") for name in EMBEDDED),
    ],
)
def test_what_is_not_here_is_one_line(tmp_path: Path, ref: str, code: int, message: str) -> None:
    done = run("show", str(tmp_path) if ref == "." else ref, ROUTER_CACHE=str(tmp_path))
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("pull", ROUTER_CACHE=str(tmp_path / "file"))
    assert done.returncode == 1
    assert "ROUTER_CACHE" in done.stderr
    assert "Traceback" not in done.stderr
