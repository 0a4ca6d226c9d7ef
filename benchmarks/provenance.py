"""What every result says of where it came from."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router.provenance import commit

_CPU = Path("/proc/cpuinfo")


def provenance() -> dict[str, Any]:
    """The command, the date, the commit, and the machine with how busy it was."""
    return {
        "command": shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {
            "processor": _processor(),
            "native_bfloat16": "bf16" in _CPU.read_text() if _CPU.is_file() else None,
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "memory_gigabytes": round(
                os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
            ),
            "load_average": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        },
    }


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).name


def _processor() -> str:
    if _CPU.is_file():
        for line in _CPU.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
