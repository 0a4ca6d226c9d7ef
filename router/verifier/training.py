"""Trains a verifier head from rollouts: features, layer, calibration, default aggregation."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from router.models.tokens import ChainEncoder
from router.models.training.features import StateReader
from router.models.training.head import Examples, HeadSettings, TrainedHead, train_head
from router.models.training.lora import Labelled, LoraSettings, Tuned, tune
from router.models.training.mean_head import train_mean_head
from router.models.training.metrics import auc_within
from router.models.verifiers.checkpoint import check_architecture, save_checkpoint
from router.models.verifiers.identity import identity_of_head, mark
from router.models.verifiers.prm import OWN, SELF_MEAN, Encoded, get_format
from router.models.verifiers.reward_heads import RewardHead
from router.models.verifiers.trained_head import WEIGHTS_FILE, Backbone, HeadConfig
from router.models.weights.fingerprint import fingerprint
from router.strategies.tasks import posed
from router.verifier.data import SolutionPool, check_trainable, data_digest
from router.verifier.evaluation import VerifierReport, measure
from router.verifier.sources import Source, measure_sources, source_of

CHECKPOINT = "checkpoint"
"""Subdirectory with the whole checkpoint of a head in a published format."""

Reporter = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Training:
    """What to train.

    model: directory of the backbone. name: its short name. encoder: of the generator's prompt.
    format: id in the PRM registry. layers: candidates; the best on held-out problems is taken.
    cache: directory of step features. lora: fine-tune the backbone's last layers too.
    """

    model: Path
    name: str
    encoder: ChainEncoder
    format: str
    layers: tuple[int, ...]
    cache: Path
    settings: HeadSettings
    lora: LoraSettings | None = None


@dataclass(frozen=True, slots=True)
class TrainedVerifier:
    """A head with its config, and how it did on problems that its parts never saw.

    sources: the same for each source.
    tuned: weights of the backbone that were fine-tuned with it, by name; the head is then for the
        checkpoint that holds them, not for the generator.
    """

    config: HeadConfig
    head: RewardHead
    held_out: VerifierReport
    sources: tuple[Source, ...]
    tuned: Mapping[str, Tensor] = field(default_factory=dict)

    def save(self, directory: Path, model: Path) -> None:
        """Write the head; and its whole checkpoint, for a format that servers know."""
        directory.mkdir(parents=True, exist_ok=True)
        weights = directory / WEIGHTS_FILE
        weights.unlink(missing_ok=True)  # so that a killed run leaves no head with another's config
        config = self.config
        if config.format not in OWN:
            checkpoint = directory / CHECKPOINT
            shutil.rmtree(checkpoint, ignore_errors=True)
            save_checkpoint(model, config.layer, self.head, checkpoint, self.tuned)
            if self.tuned:
                backbone = replace(config.backbone, fingerprint=fingerprint(checkpoint))
                config = replace(config, backbone=backbone)
        config.save(directory)
        partial = weights.with_suffix(".partial")
        self.head.save(partial)
        partial.replace(weights)
        if config.format not in OWN:
            mark(directory / CHECKPOINT, identity_of_head(directory))


def train_verifier(
    pools: Sequence[SolutionPool],
    training: Training,
    provenance: Mapping[str, Any],
    report: Reporter,
) -> TrainedVerifier:
    """Train a head on all pools, and measure it on those with right and wrong solutions.

    Resumes from cached features after an interruption.

    provenance: recorded with the head, beside what is known here.

    Raises:
        InputError: rollouts that teach nothing, a layer that the model does not have, or a model
            for which the format knows no checkpoint.
    """
    check_trainable(pools)
    kept = [pool for pool in pools if not pool.suspect]
    suspect = len(pools) - len(kept)
    counts = [len(pool.candidates) for pool in kept]
    pools = [pool.worth_reading for pool in kept]
    if training.format not in OWN:
        check_architecture(training.model)
    encoded = encode_pools(pools, training.format, training.encoder)
    reader = StateReader(training.model, training.layers, training.cache)
    states = read_states(encoded, reader, report)
    heads: dict[int, TrainedHead] = {}
    for layer in training.layers:
        told = partial(report, f"training on layer {layer}")
        examples = to_examples(pools, encoded, states[layer], counts)
        train = train_mean_head if training.format == SELF_MEAN else train_head
        heads[layer] = train(examples, training.settings, told)
    ranks = {layer: _rank_within(pools, head.held_out) for layer, head in heads.items()}
    layer = max(ranks, key=ranks.__getitem__)
    best = heads[layer]
    unseen = [pool for pool in with_scores(pools, best.held_out) if pool.mixed]
    held_out = measure(unseen)
    aggregation = held_out.best_aggregation
    head, temperature, epochs, tuned = best.head, best.temperature, best.epochs, {}
    if training.lora is not None:
        examples = to_examples(pools, encoded, states[layer], counts)
        found, unseen = _fine_tuned(
            pools, encoded, examples, training, training.lora, layer, report
        )
        held_out = measure(unseen)
        head, temperature, epochs = found.head, found.temperature, (found.epochs,)
        tuned = found.weights
    sources = measure_sources(unseen, aggregation)
    config = HeadConfig(
        name=f"{training.name}-{training.format}-{layer}",
        format=training.format,
        layer=layer,
        prompt=training.encoder.prompt.id,
        aggregation=aggregation,
        backbone=Backbone(training.name, fingerprint(training.model), head.hidden),
        temperature=temperature,
        provenance={
            **provenance,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": importlib.metadata.version("compute-optimal-router"),
            "data": data_digest(pools),
            "problems": len(pools),
            "suspect_golds_left_out": suspect,
            "sources": dict(Counter(source_of(pool.problem) for pool in pools)),
            "settings": asdict(training.settings),
            "lora": None if training.lora is None else asdict(training.lora),
            "epochs": epochs,
            "layers_tried": ranks,
            "held_out": _summary(held_out),
            "verdicts": {source.name: source.verdict for source in sources},
        },
    )
    return TrainedVerifier(config, head, held_out, sources, tuned)


def encode_pools(
    pools: Sequence[SolutionPool], format_id: str, encoder: ChainEncoder
) -> list[list[Encoded]]:
    """Each pool's candidates as the format reads them."""
    layout = get_format(format_id).layout
    return [
        [layout.encode(c.chain(posed(pool.problem)), encoder) for c in pool.candidates]
        for pool in pools
    ]


def _fine_tuned(
    pools: Sequence[SolutionPool],
    encoded: Sequence[Sequence[Encoded]],
    examples: Examples,
    training: Training,
    lora: LoraSettings,
    layer: int,
    report: Reporter,
) -> tuple[Tuned, list[SolutionPool]]:
    """A head fine-tuned with its backbone, and what was left out, scored by it."""
    out = left_out(pools, lora)
    start = train_head(examples.of(set(range(len(pools))) - out), training.settings)
    solutions = _labelled(pools, encoded, out)
    told = partial(report, "fine-tuning")
    found = tune(training.model, layer, start.head, solutions, lora, told)
    unseen = [pools[index] for index in sorted(out)]
    return found, with_scores(unseen, found.scores)


def left_out(pools: Sequence[SolutionPool], lora: LoraSettings) -> set[int]:
    """Indices of the problems to fine-tune without: drawn at random, enough to be measured on."""
    order = np.random.default_rng(lora.seed).permutation(len(pools)).tolist()
    out = order[: max(2, len(pools) // lora.left_out)]
    if not any(pools[index].mixed for index in out):
        out.append(next(index for index in order if pools[index].mixed))
    return set(out)


def _labelled(
    pools: Sequence[SolutionPool], encoded: Sequence[Sequence[Encoded]], out: Set[int]
) -> list[Labelled]:
    """Every candidate, in order."""
    return [
        Labelled(entry, labels, index in out)
        for index, (pool, entries) in enumerate(zip(pools, encoded, strict=True))
        for entry, labels in zip(entries, pool.labels(), strict=True)
    ]


def read_states(
    encoded: Sequence[Sequence[Encoded]], reader: StateReader, report: Reporter
) -> dict[int, npt.NDArray[np.float16]]:
    """States of all steps of all candidates in order, by layer, each (steps, 2, hidden)."""
    rows: dict[int, list[npt.NDArray[np.float16]]] = {}
    for done, found in enumerate(reader.read_all(encoded), start=1):
        for layer, states in found.items():
            rows.setdefault(layer, []).append(states)
        report("reading hidden states", done, len(encoded))
    return {layer: np.concatenate(parts) for layer, parts in rows.items()}


def to_examples(
    pools: Sequence[SolutionPool],
    encoded: Sequence[Sequence[Encoded]],
    states: npt.NDArray[np.float16],
    counts: Sequence[int],
) -> Examples:
    """Every step of every candidate, in the order of `read_states`.

    counts: how many solutions each problem had before `SolutionPool.worth_reading`.
    """
    labels: list[float] = []
    groups: list[int] = []
    last: list[bool] = []
    steps: list[int] = []
    stands_for: list[int] = []
    for index, (pool, solutions) in enumerate(zip(pools, encoded, strict=True)):
        for solution, values in zip(solutions, pool.labels(), strict=True):
            count = len(solution.reads)
            labels += values
            groups += [index] * count
            last += [False] * (count - 1) + [True]
            steps += [count] * count
            stands_for += [counts[index] // len(solutions)] * count
    return Examples(
        states,
        np.array(labels, dtype=np.float32),
        np.array(groups, dtype=np.int64),
        np.array(last, dtype=np.bool_),
        np.array(steps, dtype=np.int64),
        np.array(stands_for, dtype=np.int64),
    )


def with_scores(
    pools: Sequence[SolutionPool], scores: npt.NDArray[np.float64]
) -> list[SolutionPool]:
    """Pools whose candidates carry their steps' scores, given in the order of `read_states`."""
    scored, start = [], 0
    for pool in pools:
        own = []
        for candidate in pool.candidates:
            own.append(scores[start : start + len(candidate.steps)].tolist())
            start += len(candidate.steps)
        scored.append(pool.scored(own))
    return scored


def _rank_within(pools: Sequence[SolutionPool], scores: npt.NDArray[np.float64]) -> float:
    """AUC inside problems of the last steps' scores: what layers are compared by."""
    rows = [
        ((candidate.scores or ())[-1], candidate.correct, pool.problem.id)
        for pool in with_scores(pools, scores)
        for candidate in pool.candidates
    ]
    values, right, groups = zip(*rows, strict=True)
    return auc_within(values, right, groups)


def _summary(report: VerifierReport) -> dict[str, Any]:
    """The figures that a head carries with it; intervals stay in the full report."""
    largest = report.sizes[-1]
    return {
        "solutions": report.solutions,
        "steps": report.steps,
        "auc_last": report.auc["last"].value,
        "within_last": report.within["last"].value,
        "within_steps": report.step_within.value,
        "calibration_error": report.calibration_error.value,
        f"majority@{largest}": report.curve("majority").accuracy[-1].value,
        f"weighted@{largest}": report.curve("weighted", report.best_aggregation).accuracy[-1].value,
    }
