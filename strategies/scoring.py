"""Score many paths at once, and turn finished ones into candidates."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from router.models.base import Aggregation
from router.models.errors import Unscorable
from router.models.types import Path
from router.strategies.base import Candidate
from router.strategies.search import Search
from router.strategies.selection import aggregate


async def step_values(search: Search, paths: Sequence[Path], how: Aggregation) -> list[float]:
    """Each path's aggregated score, as of its newest step. All are scored at once.

    A path that the verifier cannot take is worth less than any other.
    """
    scores = await _scores(search, paths)
    return [-math.inf if s is None else aggregate(s, how) for s in scores]


async def candidates(search: Search, paths: Sequence[Path], *, scored: bool) -> list[Candidate]:
    """One candidate a finished path; `scored` asks the verifier for what is not known yet."""
    if not scored:
        return [Candidate(path, search.known_scores(path)) for path in paths]
    scores = await _scores(search, paths)
    return [Candidate(path, s) for path, s in zip(paths, scores, strict=True)]


async def _scores(search: Search, paths: Sequence[Path]) -> list[tuple[float, ...] | None]:
    async def one(path: Path) -> tuple[float, ...] | None:
        try:
            return await search.score(path)
        except Unscorable:
            return None  # its fault alone

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(path)) for path in paths]
    return [task.result() for task in tasks]
