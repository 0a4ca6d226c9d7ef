"""Where a result comes from: digests, and the version of the code."""

from __future__ import annotations

import hashlib
import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def package_version() -> str | None:
    """The installed version; None from a source tree that is not installed."""
    try:
        return version("compute-optimal-router")
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the source tree that runs, if it is one."""
    here = Path(__file__)
    try:
        # An installed copy may lie inside a repository that is not ours, and does not track it.
        for arguments in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
            found = subprocess.run(
                ["git", *arguments],
                cwd=here.parent,
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
