r"""How long it takes to start: the command, an answer without a model, and the engines.

    python -m benchmarks.startup --output benchmarks/results/startup.json [--engines]

Each command runs in processes of its own; the least CPU and wall time of a few runs are kept, as
other work only adds to them. `--engines` opens and closes a router on the embedded model and the
shipped verifier as well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.provenance import provenance

RUNS = 5
ENGINE_RUNS = 2
OPEN = """
import sys
from router import Router
router = Router(engine=sys.argv[1])
router.open()
router.close()
"""
COMMANDS = {
    "python": ("-c", "pass"),
    "import router": ("-c", "from router import Router"),
    "router --help": ("-m", "cli", "--help"),
    "router solve, fake engine": ("-m", "cli", "solve", "12 + 30?", "--engine", "fake"),
}
ENGINES = {f"open {engine}": ("-c", OPEN, engine) for engine in ("vllm", "transformers")}


def measure(arguments: tuple[str, ...], runs: int) -> dict[str, Any]:
    """Least times of a Python command, and the most memory that one of its processes took."""
    found = [_once(arguments) for _ in range(runs)]
    cpu, wall, memory = zip(*found, strict=True)
    return {
        "cpu_seconds": round(min(cpu), 3),
        "wall_seconds": round(min(wall), 3),
        "megabytes": round(max(memory)),
    }


def _once(arguments: tuple[str, ...]) -> tuple[float, float, float]:
    started = time.monotonic()
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a file descriptor is wanted)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *arguments],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), stream) for stream in (1, 2)],
        )
    _, status, usage = os.wait4(pid, 0)
    wall = time.monotonic() - started
    if code := os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"python {' '.join(arguments)} exited with {code}")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--engines", is_flag=True, help="Load the embedded model too.")
def main(output: Path, engines: bool) -> None:
    record: dict[str, Any] = {**provenance(), "runs": RUNS, "engine_runs": ENGINE_RUNS}
    record["commands"] = {name: measure(command, RUNS) for name, command in COMMANDS.items()}
    if engines:
        record["commands"] |= {name: measure(call, ENGINE_RUNS) for name, call in ENGINES.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n")
    click.echo(json.dumps(record["commands"], indent=1))


if __name__ == "__main__":
    main()
