"""What each lever of head training gives, on problems held out of training (cross-validation).

    python -m benchmarks.verifier_levers TRAIN.jsonl.gz --model DIR --features DIR --out JSON

Only training problems are used, so choosing by these figures leaves the test problems untouched.
Hidden states are read once and kept in the features directory; each variant then takes a minute.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from transformers import AutoTokenizer

from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.training.features import StateReader
from router.models.training.head import Examples, HeadSettings, train_head
from router.problem_files import read_problems
from router.verifier.data import SolutionPool, data_digest, read_pools
from router.verifier.evaluation import measure
from router.verifier.training import encode_pools, read_states, to_examples, with_scores

LAYERS = (12, 14, 16)
BASE = HeadSettings()
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "last step only": {"last_share": 1.0},
    "last step weighs nine tenths": {"last_share": 0.9},
    "last step weighs a fifth": {"last_share": 0.2},
    "learning rate 1e-4": {"learning_rate": 1e-4},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "weight decay 0.01": {"weight_decay": 0.01},
    "weight decay 30": {"weight_decay": 30.0},
    "four folds": {"folds": 4},
}


@click.command()
@click.argument("rollouts", type=click.Path(path_type=Path, exists=True))
@click.option("--problems", type=click.Path(path_type=Path, exists=True))
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--prompt", default="qwen-math")
@click.option("--features", type=click.Path(path_type=Path), required=True)
@click.option("--format", "format_id", default="self")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    rollouts: Path,
    problems: Path | None,
    model: Path,
    prompt: str,
    features: Path,
    format_id: str,
    out: Path,
) -> None:
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(model), get_prompt(prompt))
    known = {p.id: p for p in read_problems(problems).problems} if problems else {}
    pools = read_pools(rollouts, known, encoder)
    encoded = encode_pools(pools, format_id, encoder)
    states = read_states(encoded, StateReader(model, LAYERS, features), _say)
    data = {layer: to_examples(pools, encoded, states[layer]) for layer in LAYERS}
    rows = [row(f"layer {layer}", pools, data[layer], BASE) for layer in LAYERS]
    best = max(LAYERS, key=lambda layer: rows[LAYERS.index(layer)]["within_last"])
    for name, change in VARIANTS.items():
        rows.append(row(name, pools, data[best], replace(BASE, **change)))
    for share in (0.25, 0.5, 0.75):
        rows.append(fewer_problems(pools, data[best], share))
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.verifier_levers", *sys.argv[1:]]),
        "data": data_digest(pools),
        "problems": len(pools),
        "format": format_id,
        "layer": best,
        "base": asdict(BASE),
        "variants": rows,
    }
    out.write_text(json.dumps(record, indent=2) + "\n")


def row(
    name: str, pools: tuple[SolutionPool, ...], data: Examples, settings: HeadSettings
) -> dict[str, Any]:
    """Train with cross-validation and measure on the problems left out."""
    trained = train_head(data, settings)
    return {"variant": name, **figures(pools, trained.held_out)}


def fewer_problems(pools: tuple[SolutionPool, ...], data: Examples, share: float) -> dict[str, Any]:
    """Train on a share of the problems, so that one sees what more of them give."""
    kept = np.random.default_rng(0).permutation(len(pools))[: round(share * len(pools))]
    subset = tuple(pools[index] for index in sorted(kept))
    return row(f"{len(subset)} problems", subset, data.of(kept), BASE)


def figures(pools: tuple[SolutionPool, ...], scores: Any) -> dict[str, Any]:
    report = measure(with_scores(pools, scores))
    way = report.best_aggregation
    return {
        "auc_last": report.auc["last"].value,
        "within_last": report.within["last"].value,
        "within_last_interval": [report.within["last"].low, report.within["last"].high],
        "within_steps": report.step_within.value,
        "calibration_error": report.calibration_error.value,
        "aggregation": way,
        "majority": report.curve("majority").accuracy[-1].value,
        "weighted": {
            curve.aggregation: asdict(curve.gain[-1])
            for curve in report.curves
            if curve.select == "weighted"
        },
    }


def _say(what: str, done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        click.echo(f"{what}: {done} of {total}", err=True)


if __name__ == "__main__":
    main()
