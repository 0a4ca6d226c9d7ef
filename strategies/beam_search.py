"""Step-level beam search with a verifier, and the same with look-ahead."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from router.models.base import Aggregation
from router.models.errors import InputError
from router.models.types import Chain, Problem
from router.strategies.base import Candidate, Strategy
from router.strategies.scoring import candidates, step_values
from router.strategies.search import Search


@dataclass(frozen=True)
class BeamSearch(Strategy):
    """Beam search (Snell et al. 2024, sec. 5.2).

    Sample N first steps, keep the N/M with the best verifier score, sample M continuations of
    each, until all have finished or `depth` rounds are over; the last round samples to the end.
    Finished chains leave the beam and count, so the beam narrows: unlike the reference
    (search-and-learn), it never grows back to N, and no candidate is a copy of another.

    width: M, continuations of each kept chain.
    depth: most rounds.
    """

    name: ClassVar[str] = "beam_search"

    width: int = 4
    depth: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n % self.width:
            raise InputError(
                f"{self.name}: width must divide n, but {self.n} is no multiple of {self.width}"
            )

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        how = search.aggregation(self.aggregate)
        done: list[Chain] = []
        beam: list[tuple[Chain, int]] = [(search.root, self.n)]
        live = self.n
        for round_ in range(self.depth):
            grown = await expand(search, beam, whole=round_ == self.depth - 1)
            done += [chain for chain in grown if chain.finished]
            live = self.n - len(done)
            kept = await self._keep(search, [p for p in grown if not p.finished], live, how)
            if not kept:
                break
            beam = list(zip(kept, shares(live, kept), strict=True))
        return await candidates(search, done, scored=True)

    async def _keep(
        self, search: Search, chains: list[Chain], live: int, how: Aggregation
    ) -> list[Chain]:
        """The best `live`/M unfinished chains, best first; equal scores keep their order."""
        if not chains or live < 1:
            search.prune(chains)
            return []
        values = await self._values(search, chains, how)
        order = sorted(range(len(chains)), key=lambda i: -values[i])
        keep = max(1, live // self.width)
        search.prune([chains[i] for i in order[keep:]])
        return [chains[i] for i in order[:keep]]

    async def _values(
        self, search: Search, chains: Sequence[Chain], how: Aggregation
    ) -> list[float]:
        return await step_values(search, chains, how)

    @classmethod
    def within(cls, budget: int, params: dict[str, Any]) -> BeamSearch:
        width = params.get("width", cls.width)
        factor = cls(n=width, **params).cost // width
        n = budget // factor // width * width
        if n < width:
            raise InputError(
                f"{cls.name} with width={width} needs at least {factor * width} generations,"
                f" but the budget is {budget}"
            )
        return cls(n=n, **params)


@dataclass(frozen=True)
class Lookahead(BeamSearch):
    """Beam search whose step value is the verifier's score k greedy steps further on.

    Snell et al. 2024, sec. 5.2; costs N(k+1) generations. The text of the look-ahead is scored
    and then dropped.

    k: greedy steps ahead.
    """

    name: ClassVar[str] = "lookahead"
    title: ClassVar[str] = "look-ahead search"

    k: int = 1

    @property
    def cost(self) -> int:
        return self.n * (self.k + 1)

    @property
    def scores_samples(self) -> bool:
        return False

    async def _values(
        self, search: Search, chains: Sequence[Chain], how: Aggregation
    ) -> list[float]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(search.look_ahead(chain, self.k)) for chain in chains]
        return await step_values(search, [task.result() for task in tasks], how)


async def expand(search: Search, beam: Sequence[tuple[Chain, int]], *, whole: bool) -> list[Chain]:
    """Sample each chain's share of continuations, all at once."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(search.sample(chain, share, whole=whole))
            for chain, share in beam
            if share
        ]
    return [child for task in tasks for child in task.result()]


def shares(total: int, kept: Sequence[Chain]) -> list[int]:
    """`total` continuations dealt out evenly, the better chains first."""
    each, extra = divmod(total, len(kept))
    return [each + (i < extra) for i in range(len(kept))]
