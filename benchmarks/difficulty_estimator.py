"""How well cheap features of a problem's text predict a generator's pass@1 on it.

    python -m benchmarks.difficulty_estimator gsm8k_train.jsonl pilot_rollouts.jsonl.gz \
        --output benchmarks/results/difficulty_estimator.json

Every prediction is for a problem that neither trees nor calibration saw: ten folds around the
whole fit. `ordinal` is what `difficulty/estimator.py` does; the others are what it was chosen over.
Intervals are 95 % bootstraps over problems. The ceiling is what a perfect estimator of the true
pass@1 would reach, as the observed one comes from few samples: the square root of the split-half
reliability (Spearman-Brown).
"""

from __future__ import annotations

import gzip
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from lightgbm import LGBMClassifier
from scipy.stats import spearmanr
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from router.difficulty.estimator import DifficultyClassifier
from router.difficulty.features import NAMES, extract
from router.difficulty.levels import Floats, Ints, fit_levels
from router.difficulty.ordinal import ProportionalOdds
from router.difficulty.validation import Validation
from router.problem_files import read_problems
from router.strategies.tasks import get_task

FOLDS, REPEATS, RESAMPLES = 10, 3, 2000
SPECIFICATIONS = ("absolute", "quantile:5", "quantile:3")


class TrainingCalibrated(DifficultyClassifier):
    """Calibrated on the scores of its own training problems: what cross-fitting avoids."""

    def fit(self, X: Floats, y: Ints, groups: Ints | None = None) -> TrainingCalibrated:
        super().fit(X, y, groups)
        scores = self.booster_.predict(X, raw_score=True)
        index = np.searchsorted(self.classes_, y)
        self.calibrator_ = ProportionalOdds.fit(scores, index, len(self.classes_))
        return self


def multiclass() -> LGBMClassifier:
    """Boosting with one tree a class, at the same strength of regularisation."""
    return LGBMClassifier(
        n_estimators=100,
        learning_rate=0.03,
        num_leaves=4,
        min_child_samples=10,
        reg_lambda=1.0,
        extra_trees=True,
        colsample_bytree=0.3,
        subsample=0.7,
        subsample_freq=1,
        random_state=0,
        n_jobs=1,
        verbosity=-1,
    )


METHODS: dict[str, Callable[[], Any]] = {
    "ordinal": DifficultyClassifier,
    "ordinal, calibrated in training": TrainingCalibrated,
    "multiclass": multiclass,
    "multiclass, temperature": lambda: CalibratedClassifierCV(
        multiclass(), method="temperature", cv=5, ensemble=False
    ),
    "logistic regression": lambda: make_pipeline(
        FunctionTransformer(np.log1p), StandardScaler(), LogisticRegression(C=0.01)
    ),
}


def graded(problems: Path, samples: Path) -> tuple[list[str], Floats]:
    """Texts, and which samples are right, shape (problems, samples)."""
    known = {problem.id: problem for problem in read_problems(problems).problems}
    texts, right = [], []
    with gzip.open(samples, "rt", encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            problem = known[record["id"]]
            texts.append(problem.text)
            right.append([_right(sample, problem.answer or "") for sample in record["samples"]])
    return texts, np.array(right, np.float64)


def _right(sample: dict[str, Any], gold: str) -> bool:
    task = get_task("maths")
    answer = task.read(sample["text"], sample["finish_reason"] == "length")
    return task.correct_sync(answer, gold) is True


def held_out(make: Callable[[], Any], X: Floats, levels: Ints, seed: int) -> Floats:
    """P(level) of each problem by a fit without its fold, shape (problems, levels)."""
    found = np.zeros((len(X), int(levels.max())))
    for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(X):
        # From 0: scikit-learn's temperature scaling is wrong for other labels.
        fitted = make().fit(X[train], levels[train] - 1)
        found[np.ix_(test, fitted.classes_)] = fitted.predict_proba(X[test])
    return found


def measured(make: Callable[[], Any], X: Floats, levels: Ints, pass_at_1: Floats) -> dict[str, Any]:
    """Quality over repeated cross-validation; the interval is of the first repeat."""
    runs = [held_out(make, X, levels, seed) for seed in range(REPEATS)]
    found = [Validation.of(run, levels, pass_at_1) for run in runs]
    return {
        "spearman": float(np.mean([one.spearman for one in found])),
        "spearman_interval": interval(runs[0], pass_at_1),
        "log_loss": float(np.mean([one.log_loss for one in found])),
        "calibration_error": float(np.mean([one.calibration_error for one in found])),
        "reliability": found[0].to_dict()["reliability"],
    }


def interval(probabilities: Floats, pass_at_1: Floats) -> list[float]:
    expected = -probabilities @ np.arange(probabilities.shape[1])
    rng = np.random.default_rng(0)
    draws = rng.integers(len(pass_at_1), size=(RESAMPLES, len(pass_at_1)))
    values = [spearmanr(expected[rows], pass_at_1[rows]).statistic for rows in draws]
    return [float(value) for value in np.quantile(values, [0.025, 0.975])]


def ceiling(right: Floats) -> float:
    rng = np.random.default_rng(0)
    halves = []
    for _ in range(200):
        columns = rng.permutation(right.shape[1])
        half = right.shape[1] // 2
        first, second = right[:, columns[:half]], right[:, columns[half : 2 * half]]
        halves.append(spearmanr(first.mean(axis=1), second.mean(axis=1)).statistic)
    correlation = np.mean(halves)
    return float(np.sqrt(2 * correlation / (1 + correlation)))


def milliseconds(fitted: DifficultyClassifier, texts: Sequence[str]) -> list[float]:
    """Median and 95th percentile of one decision, features included."""
    spent = []
    for text in texts:
        started = time.perf_counter()
        fitted.predict_proba(extract([text]))
        spent.append(1000 * (time.perf_counter() - started))
    return [float(value) for value in np.quantile(spent, [0.5, 0.95])]


@click.command(help=__doc__)
@click.argument("problems", type=click.Path(path_type=Path, exists=True))
@click.argument("samples", type=click.Path(path_type=Path, exists=True))
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(problems: Path, samples: Path, output: Path) -> None:
    texts, right = graded(problems, samples)
    X, pass_at_1 = extract(texts).astype(float), right.mean(axis=1)
    results: dict[str, Any] = {}
    for how in SPECIFICATIONS:
        levels = fit_levels(pass_at_1, how, merge=True).of(pass_at_1)
        sizes = np.bincount(levels)[1:]
        methods = {}
        for name, make in METHODS.items():
            methods[name] = found = measured(make, X, levels, pass_at_1)
            quality = (found["spearman"], found["log_loss"], found["calibration_error"])
            click.echo(f"{how:<11} {name:<32} " + "  ".join(f"{one:.3f}" for one in quality))
        shares = sizes / sizes.sum()
        results[how] = {
            "sizes": sizes.tolist(),
            "log_loss_of_frequencies": float(-(shares * np.log(shares)).sum()),
            "methods": methods,
        }
    levels = fit_levels(pass_at_1, "absolute", merge=True).of(pass_at_1)
    final = DifficultyClassifier().fit(X, levels)
    strongest = np.argsort(-final.feature_importances_)[:15]
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.difficulty_estimator", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "problems": len(texts),
        "samples": right.shape[1],
        "mean_pass_at_1": float(pass_at_1.mean()),
        "ceiling": ceiling(right),
        "length_alone": float(-spearmanr(X[:, NAMES.index("words")], pass_at_1).statistic),
        "milliseconds": milliseconds(final, texts),
        "importance": {NAMES[i]: float(final.feature_importances_[i]) for i in strongest},
        "levels": results,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
