r"""How long it takes to start: the command, an answer without a model, and the engines.

    python -m benchmarks.startup --output benchmarks/results/startup.json [--engines]

Each command runs in processes of its own; the least CPU and wall time of a few runs are kept, as
other work only adds to them. `--engines` opens and closes a router on the embedded model and the
shipped verifier as well.
"""

from __future__ import annotations

import json
import resource
import subprocess
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


def measure(arguments: tuple[str, ...], runs: int) -> dict[str, float]:
    """Least times of a Python command, its children's CPU time included."""
    cpu, wall = zip(*(_once(arguments) for _ in range(runs)), strict=True)
    return {"cpu_seconds": round(min(cpu), 3), "wall_seconds": round(min(wall), 3)}


def _once(arguments: tuple[str, ...]) -> tuple[float, float]:
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


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
