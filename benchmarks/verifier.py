"""Trains the verifier of the embedded model, and draws what it does on unseen problems.

    python -m benchmarks.verifier --features build/features

Writes `models/trained/<model>` and `benchmarks/results/verifier.{json,html}` with PNG pictures.
What is made with the head is then of another one, and made again: the shipped bundle (`router
rollouts export --unscored`, then `router fit`), and its evaluation.
The figures are cross-validated: each solution is scored by a network that never saw its problem.
Layer and aggregation are the best of a few on the same scores, so expect a little less elsewhere.
Reading the hidden states takes most of an hour on two cores, once; they stay in the directory.
On rollouts of other problems, `router verifier evaluate` measures the merged head itself.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click
from transformers import AutoTokenizer

from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.training.head import HeadSettings
from router.models.verifiers.prm import SELF_MEAN
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.verifier.data import read_together
from router.verifier.report import reads, render, save_pictures
from router.verifier.training import Training, train_verifier

HERE = Path(__file__).parent
ROLLOUTS = HERE / "rollouts" / "verifier_train.jsonl.gz"
MIXED = HERE / "rollouts" / "mixed_train.jsonl.gz"
RESULTS = HERE / "results"
LAYERS = (16,)  # the best of 12, 14 and 16: `results/verifier_mixed/levers.json`


@click.command()
@click.option("--features", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(features: Path) -> None:
    model = find_model()
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(model), get_prompt(DEFAULT.prompt))
    pools = read_together([ROLLOUTS, MIXED], {}, encoder)
    training = Training(
        model, DEFAULT.name, encoder, SELF_MEAN, LAYERS, features, settings=HeadSettings()
    )
    command = shlex.join(["python", "-m", "benchmarks.verifier", *sys.argv[1:]])
    trained = train_verifier(pools, training, {"command": command}, _say)
    trained.save(HERE.parent / "models" / "trained" / DEFAULT.name, model)
    report, config = trained.held_out, trained.config
    sources = {source.name: source.to_dict() for source in trained.sources}
    record = {"head": asdict(config), "held_out": report.to_dict(), "sources": sources}
    (RESULTS / "verifier.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    page = render(report, config.name, reads(config), trained.sources)
    (RESULTS / "verifier.html").write_text(page, encoding="utf-8")
    save_pictures(report, RESULTS)


def _say(what: str, done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        click.echo(f"{what}: {done} of {total}", err=True)


if __name__ == "__main__":
    main()
