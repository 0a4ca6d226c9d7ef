"""Scores stored solutions: with a trained head, through the same cached features as training, or
with any other verifier."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Self

import torch

from router.models.base import Verifier
from router.models.errors import Unscorable
from router.models.tokens import ChainEncoder
from router.models.training.features import StateReader
from router.models.verifiers.identity import identity_of_head
from router.models.verifiers.prm import TokenHead, get_format
from router.models.verifiers.reward_heads import RewardHead, load_head
from router.models.verifiers.trained_head import WEIGHTS_FILE, HeadConfig
from router.rollouts.runs import StoredCandidate
from router.strategies.tasks import posed
from router.verifier.data import SolutionPool
from router.verifier.training import Reporter, encode_pools, read_states, with_scores


@dataclass(frozen=True)
class Scorer:
    """A trained head, and the directory of the backbone that it reads."""

    config: HeadConfig
    head: RewardHead
    model: Path
    name: str

    @classmethod
    def load(cls, head: Path, model: Path) -> Self:
        """Read a head's directory.

        Raises:
            ModelError: no head there, a damaged one, or one of another width or backbone.
        """
        config = HeadConfig.load(head)
        config.check_backbone(model)
        spec = get_format(config.format).head
        assert isinstance(spec, TokenHead)
        weights = load_head([head / WEIGHTS_FILE], config.backbone.hidden_size, spec)
        return cls(config, weights, model, identity_of_head(head).name)

    def score(
        self, pools: Sequence[SolutionPool], encoder: ChainEncoder, cache: Path, report: Reporter
    ) -> Sequence[SolutionPool]:
        """The pools with a score for every step; those that have them stay as they are.

        Resumes from `cache` after an interruption.
        """
        new = [pool for pool in pools if not pool.has_scores]
        if not new:
            return pools
        layer = self.config.layer
        encoded = encode_pools(new, self.config.format, encoder)
        states = read_states(encoded, StateReader(self.model, (layer,), cache), report)
        read = torch.from_numpy(states[layer])
        with torch.inference_mode():
            scores = self.head.probabilities(read if self.head.pools else read[:, 0])
        scored = iter(with_scores(new, scores.double().numpy()))
        return [pool if pool.has_scores else next(scored) for pool in pools]


async def score_with(
    verifier: Verifier, pools: Sequence[SolutionPool], cache: Path, report: Reporter
) -> Sequence[SolutionPool]:
    """The pools with the verifier's scores; empty ones for a solution that it cannot take.

    cache: file of the scores that are known, one a line; it grows, so that an interrupted run goes
        on where it stopped.

    Raises:
        VerifierError: the verifier failed.
    """
    known = _read_scores(cache)
    done = count(1)
    total = sum(len(pool.candidates) for pool in pools)
    cache.parent.mkdir(parents=True, exist_ok=True)

    async def one(pool: SolutionPool, candidate: StoredCandidate) -> StoredCandidate:
        parts = [verifier.info.name, verifier.info.format, pool.problem.text, *candidate.steps]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        if key not in known:
            try:
                known[key] = (await verifier.score(candidate.chain(posed(pool.problem)))).values
            except Unscorable:
                known[key] = ()
            lines.write(json.dumps({"solution": key, "scores": known[key]}) + "\n")
            lines.flush()
        report("scoring solutions", next(done), total)
        return replace(candidate, scores=known[key])

    with cache.open("a", encoding="utf-8") as lines:
        scored = []
        for pool in pools:
            found = await asyncio.gather(*(one(pool, candidate) for candidate in pool.candidates))
            scored.append(replace(pool, candidates=tuple(found)))
        return scored


def _read_scores(cache: Path) -> dict[str, tuple[float, ...]]:
    """Scores by solution; a line that a killed run has torn is left out."""
    known: dict[str, tuple[float, ...]] = {}
    for line in cache.read_text(encoding="utf-8").splitlines() if cache.is_file() else ():
        try:
            record = json.loads(line)
            known[record["solution"]] = tuple(map(float, record["scores"]))
        except (ValueError, KeyError, TypeError):
            continue
    return known
