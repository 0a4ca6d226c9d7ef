"""What each lever of head training gives, on problems held out of training (cross-validation).

    python -m benchmarks.verifier_levers ROLLOUTS... --features DIR --out JSON

Only training problems are used, so choosing by these figures leaves the test problems untouched.
Those whose solutions all end alike can be ranked by nothing, and are left out. Hidden states are
read once and kept in the features directory; each variant then takes a minute.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoTokenizer

from router.intervals import mean_figure, resamples
from router.models.prompts import get_prompt
from router.models.runtime.threads import map_on_cores
from router.models.tokens import ChainEncoder
from router.models.training.features import StateReader
from router.models.training.head import Examples, HeadSettings, train_head
from router.models.training.mean_head import train_mean_head
from router.models.training.metrics import auc
from router.models.verifiers.prm import SELF
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.verifier.data import SolutionPool, data_digest, read_together
from router.verifier.evaluation import measure
from router.verifier.sources import source_of
from router.verifier.training import encode_pools, read_states, to_examples, with_scores

LAYERS = (12, 14, 16)
BASE = HeadSettings()
Scores = npt.NDArray[np.float64]


def held_out(train: Callable[..., Any], settings: HeadSettings, data: Examples) -> Scores:
    return train(data, settings).held_out  # type: ignore[no-any-return]


one = partial(held_out, train_head)
both = partial(held_out, train_mean_head)


def relative(data: Examples) -> Examples:
    """States less the mean of their problem's, which says nothing of which solution is right."""
    states = data.states.astype(np.float32)
    for problem in np.unique(data.groups):
        own = data.groups == problem
        states[own] -= states[own].mean(0)
    return replace(data, states=states.astype(np.float16))


def without(part: int, data: Examples) -> Examples:
    """Without the token's own state (0), or without the mean (1)."""
    states = data.states.copy()
    states[:, part] = 0
    return replace(data, states=states)


def from_gsm8k(sources: Sequence[str], data: Examples) -> Scores:
    """Trained as the head before was, on GSM8K alone; other sources are scored by the whole."""
    known = {index for index, source in enumerate(sources) if source == "gsm8k"}
    inside = np.isin(data.groups, list(known))
    trained = train_head(data.of(known), BASE)
    scores = trained.head.probabilities(torch.from_numpy(data.states[:, 0])).double().numpy()
    scores[inside] = trained.held_out
    return scores


@click.command()
@click.argument("rollouts", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--most", type=int, default=120, show_default=True, help="Problems of each source.")
@click.option("--features", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(rollouts: tuple[Path, ...], most: int, features: Path, out: Path) -> None:
    model = find_model()
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(model), get_prompt(DEFAULT.prompt))
    pools = first_of_each([p for p in read_together(rollouts, {}, encoder) if p.mixed], most)
    encoded = encode_pools(pools, SELF, encoder)
    states = read_states(encoded, StateReader(model, LAYERS, features), _say)
    counts = [len(pool.candidates) for pool in pools]
    data = {layer: to_examples(pools, encoded, states[layer], counts) for layer in LAYERS}
    own = data[LAYERS[-1]]
    sources = [source_of(pool.problem) for pool in pools]
    together = replace(own, states=np.concatenate([data[layer].states for layer in (12, 16)], 2))
    networks: dict[str, Callable[[], Scores]] = {
        "one token, GSM8K alone (the head before)": lambda: from_gsm8k(sources, own),
        "one token": lambda: one(BASE, own),
    }
    linear: dict[str, Callable[[], Scores]] = {
        "one token and the mean": lambda: both(BASE, own),
        "one token, linear": lambda: both(BASE, without(1, own)),
        "the mean alone": lambda: both(BASE, without(0, own)),
        "layer 12": lambda: both(BASE, data[12]),
        "layer 14": lambda: both(BASE, data[14]),
        "layers 12 and 16 together": lambda: both(BASE, together),
        "relative to the problem": lambda: both(BASE, relative(own)),
        "two folds": lambda: both(replace(BASE, folds=2), own),
        "no pairs": lambda: both(replace(BASE, pairs=0.0), own),
        "no pairs, penalty 0.03": lambda: both(replace(BASE, pairs=0.0, penalty=3e-2), own),
    }
    for penalty in (1e-2, 3e-1):
        linear[f"penalty {penalty}"] = partial(both, replace(BASE, penalty=penalty), own)
    for share in (0.2, 1.0):
        name = f"last step weighs {share}"
        linear[name] = partial(both, replace(BASE, last_share=share), own)
    rows = [{"variant": name, **figures(pools, scores())} for name, scores in networks.items()]
    found = map_on_cores(lambda scores: scores(), linear.values())
    for name, scores in zip(linear, found, strict=True):
        rows.append({"variant": name, **figures(pools, scores)})
        _say(name, len(rows), len(networks) + len(linear))
    rows += [fewer_problems(pools, own, share) for share in (0.25, 0.5)]
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.verifier_levers", *sys.argv[1:]]),
        "data": data_digest(pools),
        "problems": dict(Counter(sources)),
        "layer": LAYERS[-1],
        "base": asdict(BASE),
        "variants": rows,
    }
    out.write_text(json.dumps(record, indent=1) + "\n")


def first_of_each(pools: Sequence[SolutionPool], most: int) -> list[SolutionPool]:
    """At most so many problems of each source, so that none decides alone."""
    seen: Counter[str] = Counter()
    kept = []
    for pool in pools:
        source = source_of(pool.problem)
        seen[source] += 1
        if seen[source] <= most:
            kept.append(pool)
    return kept


def fewer_problems(pools: Sequence[SolutionPool], data: Examples, share: float) -> dict[str, Any]:
    """Train on a share of the problems, so that one sees what more of them give."""
    kept = np.random.default_rng(0).permutation(len(pools))[: round(share * len(pools))]
    subset = [pools[index] for index in sorted(kept)]
    return {
        "variant": f"{len(subset)} problems",
        **figures(subset, both(BASE, data.of(kept.tolist()))),
    }


def inside(pools: Sequence[SolutionPool]) -> Scores:
    """AUC of the last score inside each problem; not a number where all end alike."""
    return np.array(
        [
            auc([(c.scores or ())[-1] for c in p.candidates], [c.correct for c in p.candidates])
            for p in pools
        ]
    )


def figures(pools: Sequence[SolutionPool], scores: Scores) -> dict[str, Any]:
    """AUC inside problems of the last step, together and per source, and what votes gain."""
    scored = with_scores(pools, scores)
    each = {"all": inside(scored)}
    sources = np.array([source_of(pool.problem) for pool in scored])
    each |= {str(name): each["all"][sources == name] for name in np.unique(sources)}
    report = measure(scored)
    return {
        "within_last": {
            name: asdict(mean_figure(values, resamples(len(values), 0)))
            for name, values in each.items()
        },
        "within_steps": asdict(report.step_within),
        "weighted_gain": {
            size: asdict(report.curve("weighted", "last").gain[size - 1])
            for size in (4, report.sizes[-1])
        },
    }


def _say(what: str, done: int, total: int) -> None:
    if done % 20 == 0 or done == total or total < 100:
        click.echo(f"{what}: {done} of {total}", err=True)


if __name__ == "__main__":
    main()
