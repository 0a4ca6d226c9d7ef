"""Finding a model's weights: an embedded model, a directory, or a hub id."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE

import platformdirs
from filelock import FileLock

from router.models.errors import InputError, ModelError
from router.models.extras import require
from router.models.weights.embedded import DEFAULT, EMBEDDED, EmbeddedModel
from router.models.weights.fetch import fetch, hub_answers, last_line, raise_if_full

CACHE_VARIABLE = "ROUTER_CACHE"
_CONVERTER = Path(__file__).with_name("convert.py")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
_SAFE_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "*.model"]


def find_model(ref: str | None = None, *, download: bool = True) -> Path:
    """Directory of a model in the layout of transformers: config, safetensors, tokenizer.

    ref: None or an embedded model's name (`models.weights.embedded`); a directory; anything else is
    a hub id. What is not here yet is fetched, with progress on stderr, unless `download` is False.
    Blocks.

    Raises:
        InputError: `ref` is neither a directory nor formed like a hub id.
        ModelError: the model cannot be had, or what is there is not a whole model.
    """
    name = DEFAULT.name if ref is None else ref
    if name in EMBEDDED:
        directory = _embedded(EMBEDDED[name], download)
    elif Path(name).is_dir():
        directory = Path(name)
    else:
        _require_local_extra()
        directory = _from_hub(name, download)
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
            raise ModelError(
                f"{model.name} is not in {cache_dir()}; `router model pull {model.name}` gets it"
            )
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

    One process at a time works, in a directory of a fixed name. Of what a killed one left there,
    only the download is used.
    """
    from rich.console import Console

    console = Console(stderr=True)
    scratch = directory.with_name(f"{model.name}.partial")
    checkpoint = scratch / "checkpoint"
    scratch.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(directory.with_name(f"{model.name}.lock")):
        if directory.is_dir():  # another process was faster
            return
        shutil.rmtree(checkpoint, ignore_errors=True)
        scratch.mkdir(exist_ok=True)
        try:
            _require_disk(model, scratch)
            console.print(_sizes(model), highlight=False, soft_wrap=True)
            gguf = fetch(model.source, scratch, console)
        except OSError:  # the disk is full, or fails
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        try:
            with console.status(f"Converting {gguf.name} (a minute or two, once)"):
                _convert(gguf, checkpoint)
            checkpoint.rename(directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    console.print(f"{model.name} is in {directory}", highlight=False, soft_wrap=True)


def _require_disk(model: EmbeddedModel, scratch: Path) -> None:
    here = sum(file.stat().st_size for file in scratch.rglob("*"))
    if shutil.disk_usage(scratch).free + here < model.disk:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))


def _sizes(model: EmbeddedModel) -> str:
    return (
        f"Getting {model.name}: {model.source.size / 1e9:.1f} GB to download (less what is here), "
        f"{model.disk / 1e9:.1f} GB of disk until it is converted"
    )


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
