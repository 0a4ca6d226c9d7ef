"""Votes that stop, or change their temperature on the way, replayed on stored pools.

The samples of a problem are put into orders in which a search might have drawn them, and each order
is followed by the very rule of a live search (`strategies.stopping`). Every size of a search and
every rule is read off the same orders: they are prefixes of one another. Accuracy and cost are
means over the orders, with their standard error; nothing is drawn twice within an order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from router.fitting.estimates import Pool, winners
from router.strategies.base import Select, Strategy
from router.strategies.stopping import Poll, Stopping

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ORDERS = 256
"""Orders in which each problem's samples are drawn."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one search does on one problem, over the orders.

    error: Monte-Carlo standard error of the accuracy. coverage: how often some candidate is right.
    spent: mean units of each part that are run, shape (parts,).
    """

    accuracy: float
    error: float
    coverage: float
    spent: Floats


def replay(
    pool: Pool,
    units: Sequence[int],
    strategies: Sequence[Strategy],
    select: Select,
    *,
    scored: bool,
    seed: int = 0,
) -> list[Replayed | None]:
    """Replay strategies whose parts are these, in this order; None where units are too few.

    pool: the units of all parts, part after part; units: how many each part has.
    """
    counts = [[count for _, count in strategy.parts()] for strategy in strategies]
    fits = [all(c <= u for c, u in zip(each, units, strict=False)) for each in counts]
    most = max((sum(each) for each, fit in zip(counts, fits, strict=True) if fit), default=0)
    if not most:
        return [None] * len(strategies)
    widest = max((each for each, fit in zip(counts, fits, strict=True) if fit), key=sum)
    drawn = np.array(sorted({d for s in strategies for d in _waves(s) if d <= most}))
    orders = _orders(widest, units, seed)
    view = _View.of(pool, orders, drawn, select, scored=scored)
    return [
        view.follow(strategy, each) if fit else None
        for strategy, each, fit in zip(strategies, counts, fits, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Judged:
    """How a vote is judged on one problem, over the orders.

    stays: how often it is left at that. accuracy, coverage: how often it is, and the answer, or
        some candidate, is right. error: Monte-Carlo standard error of the two together.
    """

    stays: float
    accuracy: float
    coverage: float
    error: float


def judge(
    pool: Pool,
    units: Sequence[int],
    first: Strategy,
    rules: Sequence[Stopping],
    *,
    scored: bool,
    seed: int = 0,
) -> list[Judged] | None:
    """How a vote is judged by each of these rules; None where units are too few for it.

    pool, units: as `replay` takes them.
    """
    counts = [count for _, count in first.parts()]
    if any(count > have for count, have in zip(counts, units, strict=True)):
        return None
    drawn = np.array(_waves(first))
    orders = _orders(counts, units, seed)
    view = _View.of(pool, orders, drawn, first.select, scored=scored)
    at = np.arange(len(orders)), view.last(first)
    judged = []
    for rule in rules:
        stays = rule.settled(view.votes.at(at), view.drawn[at[1]])
        right = stays * view.right[at]
        judged.append(
            Judged(
                float(stays.mean()),
                float(right.mean()),
                float((stays * view.covered[at]).mean()),
                float((right - stays).std(ddof=1) / np.sqrt(len(right))),
            )
        )
    return judged


def _waves(strategy: Strategy) -> tuple[int, ...]:
    rule = strategy.stopping
    return (sum(count for _, count in strategy.parts()),) if rule is None else rule.waves


def _orders(counts: Sequence[int], units: Sequence[int], seed: int) -> Ints:
    """So many of each part's units, in random order, part after part; (orders, units drawn)."""
    rng = np.random.default_rng([seed, *units])
    starts = accumulate(units, initial=0)
    parts = [
        start + rng.permuted(np.tile(np.arange(size), (ORDERS, 1)), axis=1)[:, :count]
        for start, size, count in zip(starts, units, counts, strict=False)
    ]
    return np.concatenate(parts, axis=1)


def run_length(pool: Pool, strategy: Strategy) -> int:
    """Units that are run until the vote is over, of a pool that is drawn in its own order."""
    most = min(pool.units, _waves(strategy)[-1])
    if strategy.stopping is None:
        return most
    votes = Poll.of(unit_votes(pool, strategy.select).cumsum(axis=0), strategy.select)
    waves = np.array([wave for wave in strategy.stopping.waves if wave < most], np.int64)
    ends = strategy.stopping.ends(votes.at(waves - 1), waves)
    return int(waves[ends.argmax()]) if ends.any() else most


def unit_votes(pool: Pool, select: Select) -> Floats:
    """What each unit's votes weigh, shape (units, answers)."""
    votes = np.zeros((pool.units, max(1, len(pool.correct))))
    weight = None if select == "majority" else pool.score
    if weight is None:
        weight = np.ones(len(pool.unit))
    np.add.at(votes, (pool.unit, pool.group), weight)
    return votes


@dataclass(frozen=True)
class _View:
    """What a vote looks like in each order (rows), after each wave (columns).

    drawn: units after each wave. votes: how they stand. right: chance that the leader is right;
    covered: whether any answer so far is right.
    """

    drawn: Ints
    votes: Poll
    right: Floats
    covered: Floats

    @classmethod
    def of(cls, pool: Pool, orders: Ints, drawn: Ints, select: Select, *, scored: bool) -> _View:
        right = np.zeros(pool.units)
        right[pool.unit[pool.correct[pool.group]]] = 1.0
        at = drawn - 1
        return cls(
            drawn,
            Poll.of(unit_votes(pool, select)[orders].cumsum(axis=1)[:, at], select),
            winners(pool, orders, drawn, select, scored=scored),
            np.maximum.accumulate(right[orders], axis=1)[:, at],
        )

    def follow(self, strategy: Strategy, counts: Sequence[int]) -> Replayed:
        """Where each order ends, and what is known there."""
        last = self.last(strategy)
        rows = np.arange(len(last))
        right, spent = self.right[rows, last], self.drawn[last]
        starts = np.array([0, *accumulate(counts)])[:-1]
        return Replayed(
            accuracy=float(right.mean()),
            error=float(right.std(ddof=1) / np.sqrt(len(right))),
            coverage=float(self.covered[rows, last].mean()),
            spent=np.clip(spent[:, None] - starts, 0, counts).mean(axis=0),
        )

    def last(self, strategy: Strategy) -> Ints:
        """The wave after which each order ends, shape (orders,)."""
        waves = np.searchsorted(self.drawn, _waves(strategy))
        ends = np.zeros((len(self.right), len(waves)), np.bool_)
        if (rule := strategy.stopping) is not None:
            ends = rule.ends(self.votes.at((slice(None), waves)), self.drawn[waves])
        ends[:, -1] = True
        return np.asarray(waves[ends.argmax(axis=1)], np.int64)
