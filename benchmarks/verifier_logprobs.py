"""Whether a verifier's scores tell more together with the log-probabilities of what they score.

    python -m benchmarks.verifier_logprobs --out benchmarks/results/verifier_mixed/logprobs.json

A logistic regression is fitted on the problems of `rollouts/fit.jsonl.gz`, which the head was not
trained on, and measured on those of `rollouts/evaluate.jsonl.gz`, as far as they were stored with
log-probabilities: from the last step's score alone, with the log-probabilities beside it, and with
the length too. Nothing is sampled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.verifier_levers import inside
from router.intervals import mean_figure, resamples
from router.rollouts.export import open_rollouts
from router.rollouts.runs import StoredCandidate
from router.verifier.data import SolutionPool
from router.verifier.evaluation import measure

ROLLOUTS: Final = Path(__file__).parent / "rollouts"
FEATURES: Final = {
    "score": 1,
    "score and log-probabilities": 5,
    "score, log-probabilities and length": 6,
}
"""Of `features`, how many of the first."""

Floats = npt.NDArray[np.float64]


def features(solution: StoredCandidate) -> list[float]:
    """The last score's log-odds; log-probabilities: mean, sum, worst, last; the length."""
    assert solution.scores
    assert solution.logprobs
    assert solution.step_tokens
    score = min(max(solution.scores[-1], 1e-4), 1 - 1e-4)
    steps = list(zip(solution.logprobs, solution.step_tokens, strict=False))
    tokens = sum(count for _, count in steps)
    total = sum(mean * count for mean, count in steps)
    means = (total / tokens, total, min(solution.logprobs), solution.logprobs[-1])
    return [math.log(score / (1 - score)), *means, math.log(tokens)]


def read(file: Path) -> list[SolutionPool]:
    """The problems whose solutions all have scores and log-probabilities."""
    with open_rollouts(file) as store:
        return [
            SolutionPool(problem, candidates, ())
            for problem, candidates in store.samples()
            if all(c.scores and c.logprobs for c in candidates)
        ]


def figures(pools: Sequence[SolutionPool], before: Floats) -> dict[str, Any]:
    """before: AUC inside problems of the score alone."""
    found = inside(pools)
    weights = resamples(len(pools), 0)
    report = measure(pools)
    gain = report.curve("weighted", "last").gain
    return {
        "within_last": asdict(mean_figure(found, weights)),
        "within_last_gain": asdict(mean_figure(found - before, weights)),
        "weighted_gain": {size: asdict(gain[size - 1]) for size in (4, 8, 16)},
    }


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(out: Path) -> None:
    known, unseen = (read(ROLLOUTS / f"{name}.jsonl.gz") for name in ("fit", "evaluate"))
    x = np.array([features(c) for pool in known for c in pool.candidates])
    y = np.array([c.correct for pool in known for c in pool.candidates])
    before = inside(unseen)
    rows = []
    for name, count in FEATURES.items():
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[:, :count], y)
        judged = [
            pool.scored(
                model.predict_proba([features(c)[:count] for c in pool.candidates])[:, 1:].tolist()
            )
            for pool in unseen
        ]
        rows.append({"features": name, **figures(judged, before)})
        click.echo(f"{name}: AUC inside {rows[-1]['within_last']['value']:.3f}")
    record = {
        "command": f"python -m benchmarks.verifier_logprobs --out {out}",
        "problems": {"fitted on": len(known), "unseen": len(unseen)},
        "variants": rows,
    }
    out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
