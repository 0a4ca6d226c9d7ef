"""Diverse verifier tree search."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import ClassVar

from router.models.base import Aggregation
from router.models.types import Chain, Problem
from router.strategies.base import Candidate
from router.strategies.beam_search import BeamSearch
from router.strategies.scoring import candidates, step_values
from router.strategies.search import Search


@dataclass(frozen=True)
class DVTS(BeamSearch):
    """Diverse verifier tree search (Beeching et al. 2024).

    N/M independent subtrees; each samples M continuations of its chain and greedily follows the
    one with the best verifier score. There is no barrier between subtrees. Every chain that
    finished in a subtree counts; the subtree ends when the chain that it follows is finished.

    width: M, continuations at every step of a subtree.
    """

    name: ClassVar[str] = "dvts"
    title: ClassVar[str] = "DVTS"

    def parts(self) -> tuple[tuple[DVTS, int], ...]:
        return ((replace(self, n=self.width), self.n // self.width),)

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        how = search.aggregation(self.aggregate)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._subtree(search, how)) for _ in range(self.n // self.width)
            ]
        done = [chain for task in tasks for chain in task.result()]
        return await candidates(search, done, scored=True)

    async def _subtree(self, search: Search, how: Aggregation) -> list[Chain]:
        done: list[Chain] = []
        followed = search.root
        for round_ in range(self.depth):
            children = await search.sample(followed, self.width, whole=round_ == self.depth - 1)
            done += [chain for chain in children if chain.finished]
            values = await step_values(search, children, how)
            best = max(range(len(children)), key=lambda i: values[i])
            followed = children[best]
            search.prune([p for p in children if p is not followed and not p.finished])
            if followed.finished:
                break
        return done
