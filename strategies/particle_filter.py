"""Particle filtering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Final

from router.strategies.rebase import Rebase, softmax
from router.strategies.search import Search

_EDGE: Final = 1e-6
"""Scores nearer than this to 0 or 1 have no larger log-odds."""


@dataclass(frozen=True)
class ParticleFilter(Rebase):
    """Particle filtering (Puri et al. 2025, arXiv 2502.01618).

    REBASE whose shares are drawn: at every depth the unfinished chains are resampled by
    softmax(log-odds of the score / balance), so that a chain which the verifier takes for a bad one
    may live on. Resampling is systematic, which draws each chain within one of its expectation
    (Kitagawa 1996). As in our other searches, and unlike in the paper, finished chains leave the
    population and count: they take no share from those that still run.

    balance: temperature of the softmax; 1 as published.
    """

    name: ClassVar[str] = "particle_filter"

    balance: float = 1.0

    def _shares(self, total: int, values: Sequence[float], search: Search) -> list[int]:
        odds = [-math.inf if v == -math.inf else _log_odds(v) for v in values]
        return resampled(total, softmax(odds, self.balance), search.random.random())


def resampled(total: int, weights: Sequence[float], start: float) -> list[int]:
    """How often each is drawn, `total` times in all; shape as `weights`.

    weights: adding up to 1. start: the one random number of a systematic resampling, below 1.
    """
    sums = list(accumulate(weights))  # the last may be a little off 1
    edges = [math.ceil(edge / sums[-1] * total - start) for edge in sums]
    return [after - before for before, after in zip([0, *edges], edges, strict=False)]


def _log_odds(score: float) -> float:
    score = min(max(score, _EDGE), 1 - _EDGE)
    return math.log(score / (1 - score))
