"""Scores stored solutions with a trained head, through the same cached features as training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from models.tokens import PathEncoder
from models.training.features import StateReader
from models.verifiers.prm import ClassHead, get_format
from models.verifiers.reward_heads import load_head
from models.verifiers.trained_head import WEIGHTS_FILE, HeadConfig
from router.verifier.data import SolutionPool
from router.verifier.training import Reporter, encode_pools, read_states, with_scores


def score_pools(
    pools: Sequence[SolutionPool],
    head_directory: Path,
    model: Path,
    encoder: PathEncoder,
    cache: Path,
    report: Reporter,
) -> list[SolutionPool]:
    """The pools with a score for every step. Resumes from `cache` after an interruption.

    Raises:
        ModelError: no head there, one of another width, or one for another backbone.
    """
    config = HeadConfig.load(head_directory)
    config.check_backbone(model)
    spec = get_format(config.format).head
    assert isinstance(spec, ClassHead)
    head = load_head([head_directory / WEIGHTS_FILE], config.backbone.hidden_size, spec)
    reader = StateReader(model, (config.layer,), cache)
    states = read_states(encode_pools(pools, config.format, encoder), reader, report)
    with torch.inference_mode():
        scores = head.probabilities(torch.from_numpy(states[config.layer]))
    return with_scores(pools, scores.double().numpy())
