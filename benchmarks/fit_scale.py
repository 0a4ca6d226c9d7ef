"""How long `fit --from-rollouts` takes on 10,000 problems x 64 samples, and how much memory.

python -m benchmarks.fit_scale benchmarks/results/fit_scale.json
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.provenance import provenance
from benchmarks.simulated import simulated_store
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import DEFAULTS, configurations
from router.rollouts.store import RolloutStore

PROBLEMS = 10_000
BUDGETS = (1, 2, 4, 8, 16, 32)
SETTINGS = FitSettings(
    BUDGETS, configurations(BUDGETS, DEFAULTS, verifier=True), "quantile:3", level_samples=32
)


def main(result: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rollouts.sqlite"
        # In a process of its own: the memory of making the store is not that of the fit.
        child = os.fork()
        if not child:
            simulated_store(path, PROBLEMS, SETTINGS.strategies, level_samples=32)
            os._exit(0)
        os.waitpid(child, 0)
        started, cpu = time.monotonic(), time.process_time()
        with RolloutStore.read(path) as store:
            bundle = fit_bundle(store, SETTINGS)
            runs = sum(row[2] for row in store.spent())
        record = {
            **provenance(),
            "problems": PROBLEMS,
            "samples": bundle.manifest["data"]["samples"],
            "runs": runs,
            "strategies": len(SETTINGS.strategies),
            "seconds": round(time.monotonic() - started, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "peak_gigabytes": round(
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2
            ),
            "winners_at_8": [
                bundle.table.best(level, 8).strategy for level in range(1, bundle.table.levels + 1)
            ],
        }
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
