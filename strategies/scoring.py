"""Score many chains at once, and turn finished ones into candidates."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from router.models.base import Aggregation
from router.models.errors import Unscorable
from router.models.types import Chain
from router.strategies.base import Candidate
from router.strategies.search import Search
from router.strategies.selection import aggregate


async def step_values(search: Search, chains: Sequence[Chain], how: Aggregation) -> list[float]:
    """Each chain's aggregated score, as of its newest step. All are scored at once.

    A chain that the verifier cannot take is worth less than any other.
    """
    scores = await _scores(search, chains)
    return [-math.inf if s is None else aggregate(s, how) for s in scores]


async def candidates(search: Search, chains: Sequence[Chain], *, scored: bool) -> list[Candidate]:
    """One candidate a finished chain; `scored` asks the verifier for what is not known yet."""
    if not scored:
        return [Candidate(chain, search.known_scores(chain)) for chain in chains]
    scores = await _scores(search, chains)
    return [Candidate(chain, s) for chain, s in zip(chains, scores, strict=True)]


async def _scores(search: Search, chains: Sequence[Chain]) -> list[tuple[float, ...] | None]:
    async def one(chain: Chain) -> tuple[float, ...] | None:
        try:
            return await search.score(chain)
        except Unscorable:
            return None  # its fault alone

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(chain)) for chain in chains]
    return [task.result() for task in tasks]
