"""Scores stored solutions with a trained head, through the same cached features as training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from router.models.tokens import ChainEncoder
from router.models.training.features import StateReader
from router.models.verifiers.prm import ClassHead, get_format
from router.models.verifiers.reward_heads import RewardHead, load_head
from router.models.verifiers.trained_head import WEIGHTS_FILE, HeadConfig
from router.verifier.data import SolutionPool
from router.verifier.training import Reporter, encode_pools, read_states, with_scores


@dataclass(frozen=True)
class Scorer:
    """A trained head, and the directory of the backbone that it reads."""

    config: HeadConfig
    head: RewardHead
    model: Path

    @classmethod
    def load(cls, head: Path, model: Path) -> Self:
        """Read a head's directory.

        Raises:
            ModelError: no head there, a damaged one, or one of another width or backbone.
        """
        config = HeadConfig.load(head)
        config.check_backbone(model)
        spec = get_format(config.format).head
        assert isinstance(spec, ClassHead)
        weights = load_head([head / WEIGHTS_FILE], config.backbone.hidden_size, spec)
        return cls(config, weights, model)

    def score(
        self, pools: Sequence[SolutionPool], encoder: ChainEncoder, cache: Path, report: Reporter
    ) -> list[SolutionPool]:
        """The pools with a score for every step. Resumes from `cache` after an interruption."""
        layer = self.config.layer
        encoded = encode_pools(pools, self.config.format, encoder)
        states = read_states(encoded, StateReader(self.model, (layer,), cache), report)
        with torch.inference_mode():
            scores = self.head.probabilities(torch.from_numpy(states[layer]))
        return with_scores(pools, scores.double().numpy())
