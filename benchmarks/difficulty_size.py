"""How large the difficulty estimators should be, by how many problems they learn from.

    python -m benchmarks.difficulty_size --output benchmarks/results/difficulty_size.json

On the problems of the shipped bundle's fit (`rollouts/fit.jsonl.gz`), nothing else: random parts of
them and all of them, by the estimator's own cross-validation, so what it is evaluated on stays
unseen. `before` is the size that was chosen on 305 problems.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt

from router.difficulty.estimator import DifficultyClassifier
from router.difficulty.features import extract
from router.difficulty.levels import fit_levels
from router.difficulty.prefill import Projection
from router.difficulty.validation import Validation
from router.fitting.measurements import measure
from router.rollouts.export import open_rollouts
from router.strategies.best_of_n import BestOfN

ROLLOUTS: Final = Path(__file__).parent / "rollouts" / "fit.jsonl.gz"
PARTS: Final = {100: 6, 200: 5, 400: 4, None: 1}
"""Problems, and how many random choices of so many; None is all."""

COMPONENTS: Final = (8, 16, 32)
SIZES: Final[dict[str, dict[str, Any]]] = {
    "before": {"trees": 200, "leaves": 4, "learning_rate": 0.03},
    "as shipped": {},
    "twice as slow": {"trees": 600, "leaves": 8, "learning_rate": 0.03},
    "larger": {"trees": 300, "leaves": 16, "learning_rate": 0.06},
}

Floats = npt.NDArray[np.float64]


def read() -> tuple[dict[str, Floats], Floats]:
    """Features of each problem by their kind, and its pass@1."""
    with open_rollouts(ROLLOUTS) as store:
        found = measure(store, [BestOfN(1, select="majority")])
        texts = {problem.id: problem.text for problem in store.problems()}
    states = np.array([read.state for read in found.prefills if read is not None], np.float32)
    kinds = {"text": np.asarray(extract([texts[name] for name in found.problems]), np.float64)}
    projected = Projection.fit(states).transform(states)
    kinds |= {f"prefill, {count}": projected[:, :count] for count in COMPONENTS}
    return kinds, found.pass_at_1


def validated(x: Floats, pass_at_1: Floats, **size: Any) -> Validation:
    level = fit_levels(pass_at_1, "quantile:5", merge=True).of(pass_at_1)
    names = tuple(f"x{i}" for i in range(x.shape[1]))
    fitted = DifficultyClassifier(feature_names=names, **size).fit(x, level)
    return Validation.of(fitted.held_out_proba_, level, pass_at_1)


@click.command(help=__doc__)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(output: Path) -> None:
    kinds, pass_at_1 = read()
    rng = np.random.default_rng(0)
    rows = []
    for count, repeats in PARTS.items():
        parts = [rng.permutation(len(pass_at_1))[:count] for _ in range(repeats)]
        for features, x in kinds.items():
            for name, size in SIZES.items():
                found = [validated(x[part], pass_at_1[part], **size) for part in parts]
                row = {
                    "problems": len(parts[0]),
                    "features": features,
                    "size": name,
                    "spearman": float(np.mean([one.spearman for one in found])),
                    "log_loss": float(np.mean([one.log_loss for one in found])),
                }
                rows.append(row)
                click.echo("  ".join(f"{value}" for value in row.values()))
    command = f"python -m benchmarks.difficulty_size --output {output}"
    record = {"command": command, "sizes": SIZES, "rows": rows}
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
