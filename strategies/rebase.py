"""Reward balanced search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from router.models.errors import InputError
from router.models.types import Chain, Problem
from router.strategies.base import Candidate, Strategy
from router.strategies.beam_search import expand
from router.strategies.scoring import candidates, step_values
from router.strategies.search import Search


@dataclass(frozen=True)
class Rebase(Strategy):
    """Reward balanced search, REBASE (Wu et al. 2024, arXiv 2408.00724).

    Sample N first steps; at every further depth hand N, less the chains that have finished, out to
    the unfinished ones by softmax(score / balance), until all have finished or `depth` rounds are
    over; the last round samples to the end. A chain whose share is nothing is pruned, so the beam
    is as wide as the scores are close together.

    balance: temperature of the softmax; 0.1 as published. Near 0 it follows the best chain alone,
        far above 1 it treats all alike.
    depth: most rounds.
    """

    name: ClassVar[str] = "rebase"
    title: ClassVar[str] = "REBASE"

    balance: float = 0.1
    depth: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.balance
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise InputError(f"{self.name}: balance must be a number above 0, not {value!r}")

    async def run(self, problem: Problem, search: Search) -> list[Candidate]:
        how = search.aggregation(self.aggregate)
        done: list[Chain] = []
        beam = [(search.root, self.n)]
        for round_ in range(self.depth):
            grown = await expand(search, beam, whole=round_ == self.depth - 1)
            done += [chain for chain in grown if chain.finished]
            live = [chain for chain in grown if not chain.finished]
            if not live:
                break
            values = await step_values(search, live, how)
            shares = self._shares(self.n - len(done), values, search)
            beam = list(zip(live, shares, strict=True))
            search.prune([chain for chain, share in beam if not share])
        return await candidates(search, done, scored=True)

    def _shares(self, total: int, values: Sequence[float], search: Search) -> list[int]:
        """How many continuations each chain gets, `total` in all."""
        return balanced(total, values, self.balance)


def softmax(values: Sequence[float], temperature: float) -> list[float]:
    """Shares that add up to 1. Minus infinity gets nothing, unless all are."""
    top = max(values)
    weights = [1.0 if v == top else math.exp((v - top) / temperature) for v in values]
    whole = math.fsum(weights)
    return [weight / whole for weight in weights]


def balanced(total: int, values: Sequence[float], temperature: float) -> list[int]:
    """`total` continuations handed out by softmax(values / temperature); shape as `values`.

    What rounding down leaves over goes to the largest remainders, of equal ones to the first. A
    value of minus infinity gets nothing, unless all are.
    """
    exact = [total * share for share in softmax(values, temperature)]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(values)), key=lambda i: shares[i] - exact[i])
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares
