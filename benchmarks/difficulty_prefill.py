"""Whether the generator's one prefill of a problem tells its difficulty better than its text does.

    python -m benchmarks.difficulty_prefill --cache build/prefill.npz \
        --output benchmarks/results/difficulty_prefill.json

Reads every problem of `rollouts/verifier_train.jsonl.gz` once with the embedded model: mean
log-probability of the problem's tokens, and hidden states of the prompt's last token, projected by
a PCA that is fitted without the fold. Each set of features goes through the same ten folds and the
same classifier. Intervals are 95 % bootstraps over problems, paired where they are differences.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.model_selection import KFold
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.provenance import provenance
from benchmarks.verifier import ROLLOUTS
from router.difficulty.estimator import DifficultyClassifier
from router.difficulty.features import extract
from router.difficulty.levels import Floats, Ints, fit_levels
from router.difficulty.prefill import Projection
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.verifier.data import read_pools

LAYERS = (8, 16, 24)
AFTER = 5
"""Tokens of the chat template between a problem and its answer."""
FOLDS, RESAMPLES = 10, 2000


def read(problems: Sequence[Problem], encoder: ChainEncoder, cache: Path) -> dict[str, Floats]:
    """`log_probs` (problems,), and by layer the last token's states (problems, hidden)."""
    if cache.is_file():
        stored = dict(np.load(cache))
        row = {name: i for i, name in enumerate(stored.pop("ids").tolist())}
        rows = [row[problem.id] for problem in problems]
        return {name: values[rows] for name, values in stored.items()}
    model = AutoModelForCausalLM.from_pretrained(find_model(), dtype=torch.bfloat16).eval()
    found: dict[str, list[Floats]] = {}
    with torch.inference_mode():
        for number, problem in enumerate(problems, start=1):
            ids = torch.tensor([encoder.chain_ids(Chain(problem))])
            end = ids.shape[1] - AFTER
            start = end - len(encoder.tokenizer(problem.text).input_ids)
            output = model(ids, output_hidden_states=True)
            rows = output.logits[0, start - 1 : end - 1].float().log_softmax(-1)
            told = rows.gather(1, ids[0, start:end, None]).mean()
            found.setdefault("log_probs", []).append(told.double().numpy())
            for layer in LAYERS:
                state = output.hidden_states[layer][0, -1].double().numpy()
                found.setdefault(f"layer {layer}", []).append(state)
            click.echo(f"\r{number} of {len(problems)}", err=True, nl=number == len(problems))
    arrays = {name: np.array(values) for name, values in found.items()}
    cache.parent.mkdir(parents=True, exist_ok=True)
    names = np.array([problem.id for problem in problems])
    np.savez(cache, ids=names, **arrays)  # type: ignore[arg-type]  # the stub's allow_pickle
    return arrays


def held_out(columns: list[Floats], states: Floats | None, levels: Ints) -> Floats:
    """Expected level of each problem by a fit without its fold, shape (problems,).

    columns: features as they are; states: to be projected, shape (problems, hidden).
    """
    expected = np.zeros(len(levels))
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(levels):
        projected = [] if states is None else [Projection.fit(states[train]).transform(states)]
        X = np.column_stack([*columns, *projected])
        fitted = DifficultyClassifier().fit(X[train], levels[train])
        expected[test] = fitted.predict_proba(X[test]) @ fitted.classes_
    return expected


def resampled(expected: Floats, pass_at_1: Floats) -> Floats:
    """Spearman correlations of an easier expected level with pass@1, shape (resamples,)."""
    draws = np.random.default_rng(0).integers(len(pass_at_1), size=(RESAMPLES, len(pass_at_1)))
    return np.array([-spearmanr(expected[rows], pass_at_1[rows]).statistic for rows in draws])


@click.command(help=__doc__)
@click.option("--cache", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(cache: Path, output: Path) -> None:
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(find_model()), get_prompt(DEFAULT.prompt))
    pools = read_pools(ROLLOUTS, {}, encoder)
    pass_at_1 = np.array([np.mean([one.correct for one in pool.candidates]) for pool in pools])
    levels = fit_levels(pass_at_1, "absolute", merge=True).of(pass_at_1)
    text = extract([pool.problem.text for pool in pools]).astype(float)
    arrays = read([pool.problem for pool in pools], encoder, cache)
    told = arrays["log_probs"]
    sets = {
        "text": held_out([text], None, levels),
        "mean log-probability": held_out([told], None, levels),
        "text and mean log-probability": held_out([text, told], None, levels),
    }
    for layer in LAYERS:
        states = arrays[f"layer {layer}"]
        sets[f"layer {layer}"] = held_out([], states, levels)
        sets[f"layer {layer} and mean log-probability"] = held_out([told], states, levels)
        sets[f"layer {layer} and text"] = held_out([text], states, levels)
    alone = resampled(sets["text"], pass_at_1)
    record = {**provenance(), "problems": len(pools), "features": {}}
    for name, expected in sets.items():
        drawn = resampled(expected, pass_at_1)
        record["features"][name] = {
            "spearman": float(-spearmanr(expected, pass_at_1).statistic),
            "interval": np.quantile(drawn, [0.025, 0.975]).tolist(),
            "over_text": np.quantile(drawn - alone, [0.025, 0.975]).tolist(),
        }
        click.echo(f"{name:<34} {record['features'][name]}")
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
