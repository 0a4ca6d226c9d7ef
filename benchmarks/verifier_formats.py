r"""Whether a verifier should read a step's own last token (`self`) or a tag after it (`qwen-prm`).

    python -m benchmarks.verifier_formats --features build/features \
        --output benchmarks/results/verifier_formats.json

Trains both kinds of head on the same solutions of the embedded model, frozen backbone, and compares
their cross-validated scores: AUC inside problems, with 95 % bootstraps over problems, paired for
the difference. Costs are tokens that a verifier of each format reads for all of these solutions.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from transformers import AutoTokenizer

from benchmarks.provenance import provenance
from benchmarks.verifier import ROLLOUTS
from router.intervals import Floats, mean_figure, resamples
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.training.features import StateReader
from router.models.training.head import HeadSettings, train_head
from router.models.training.metrics import auc
from router.models.verifiers.prm import SELF
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.verifier.data import SolutionPool, read_pools
from router.verifier.training import encode_pools, read_states, to_examples, with_scores

FORMATS = (SELF, "qwen-prm")


def inside(pools: list[SolutionPool], last: bool) -> Floats:
    """AUC inside each problem, NaN where it has one kind only, shape (problems,)."""
    found = []
    for pool in pools:
        scores: list[float] = []
        right: list[bool] = []
        for candidate in pool.candidates:
            own = (candidate.scores or ())[-1:] if last else candidate.scores or ()
            scores += own
            right += [candidate.correct] * len(own)
        found.append(auc(scores, right))
    return np.array(found)


def interval(values: Floats) -> dict[str, float]:
    return asdict(mean_figure(values, resamples(len(values), seed=0)))


@click.command(help=__doc__)
@click.option("--features", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--problems", default=100, show_default=True)
@click.option("--layer", default=16, show_default=True)
def main(features: Path, output: Path, problems: int, layer: int) -> None:
    model = find_model()
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(model), get_prompt(DEFAULT.prompt))
    pools = read_pools(ROLLOUTS, {}, encoder)[:problems]
    record = {**provenance(), "problems": len(pools), "layer": layer, "formats": {}}
    ranks: dict[tuple[str, bool], Floats] = {}
    for name in FORMATS:
        encoded = encode_pools(pools, name, encoder)
        # `self` at the layers that `benchmarks.verifier` has read already.
        layers = (12, 14, 16) if name == SELF else (layer,)
        states = read_states(encoded, StateReader(model, layers, features), _say)
        counts = [len(pool.candidates) for pool in pools]
        trained = train_head(to_examples(pools, encoded, states[layer], counts), HeadSettings())
        scored = with_scores(pools, trained.held_out)
        for last in (True, False):
            ranks[name, last] = inside(scored, last)
        record["formats"][name] = {
            "within_last_step": interval(ranks[name, True]),
            "within_all_steps": interval(ranks[name, False]),
            "tokens_read": sum(len(one.ids) for entries in encoded for one in entries),
        }
    record["self_minus_qwen_prm"] = {
        what: interval(ranks[FORMATS[0], last] - ranks[FORMATS[1], last])
        for what, last in (("within_last_step", True), ("within_all_steps", False))
    }
    output.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    click.echo(json.dumps(record, indent=1))


def _say(what: str, done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        click.echo(f"{what}: {done} of {total}", err=True)


if __name__ == "__main__":
    main()
