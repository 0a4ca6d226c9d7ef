"""Are the samples of a pool exchangeable? Every estimate of a fit takes them to be.

A pool drifts where the model, its settings or the machine changed while it was sampled, or where
what ended first was kept first: short solutions end first, and are right more often.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import erfc, sqrt
from typing import Any

import numpy as np

from router.fitting.pools import units_of
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.base import Strategy

_CONFIDENCE = 0.99
"""Of all tests of a fit together (Bonferroni)."""


@dataclass(frozen=True, slots=True)
class Halves:
    """Means of the first and the second halves of problems' samples, in the order of storing.

    p: chance of such a difference, or a larger one, if the order within problems says nothing.
    """

    first: float
    second: float
    p: float


@dataclass(frozen=True, slots=True)
class Order:
    """What the order of one pool's samples says of them: of being right, and of their tokens.

    problems: with two samples or more; samples: of these, a run of several counting as one.
    tokens: None where they are not known.
    """

    configuration: str
    problems: int
    samples: int
    right: Halves
    tokens: Halves | None


def orders(
    store: RolloutStore, strategies: Iterable[Strategy], only: Collection[str]
) -> tuple[Order, ...]:
    """Of every pool that these strategies are measured on: of samples, and of DVTS's subtrees."""
    units = (unit for strategy in strategies for unit in units_of(strategy))
    pools = {SAMPLES, *(unit.configuration for unit in units if unit.count > 1)}
    right: defaultdict[str, list[list[float]]] = defaultdict(list)
    tokens: defaultdict[str, list[list[float]]] = defaultdict(list)
    for (problem, name), rows in groupby(store.outcomes(), key=lambda row: (row[0], row[1])):
        if problem not in only or name not in pools:
            continue
        found = _units(name, rows)
        if len(found) > 1:
            right[name].append([float(np.mean([correct for correct, _ in unit])) for unit in found])
            tokens[name].append([float(np.mean([count for _, count in unit])) for unit in found])
    return tuple(
        Order(
            name,
            len(values),
            sum(map(len, values)),
            halves(values),
            None if any(np.isnan(row).any() for row in tokens[name]) else halves(tokens[name]),
        )
        for name, values in sorted(right.items())
    )


def _units(name: str, rows: Iterable[tuple[Any, ...]]) -> list[list[tuple[float, float]]]:
    """Right or not, and tokens, of each candidate of each unit: a sample, or a run's candidates."""
    found = [
        (repeat, float(correct), np.nan if tokens is None else float(tokens))
        for _, _, repeat, _, correct, _, tokens, *_ in rows
        if correct is not None
    ]
    if name == SAMPLES:
        return [[unit[1:]] for unit in found]
    runs = groupby(found, key=lambda unit: unit[0])
    return [[unit[1:] for unit in run] for _, run in runs]


def halves(rows: Sequence[Sequence[float]]) -> Halves:
    """Compare the first with the second half of every row, by a permutation test inside rows.

    The sum over rows has, under all permutations, mean 0 and a known variance, and is close to
    normal (as in the test of Mantel and Haenszel).
    """
    parts = [np.split(np.asarray(row, np.float64), [len(row) // 2]) for row in rows]
    excess = sum(a.sum() - len(a) * np.mean([*a, *b]) for a, b in parts)
    spread = sum(len(a) * len(b) / (len(a) + len(b)) * np.var([*a, *b], ddof=1) for a, b in parts)
    first, second = (float(np.concatenate(half).mean()) for half in zip(*parts, strict=True))
    return Halves(first, second, erfc(abs(excess) / sqrt(2 * spread)) if spread else 1.0)


def drifting(found: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each pool that is not exchangeable.

    found: orders as dictionaries, as a bundle's manifest holds them.
    """
    bound = (1 - _CONFIDENCE) / (2 * max(len(found), 1))
    told = []
    for order in found:
        for what, form in (("right", ".1%"), ("tokens", ".0f")):
            half = order[what]
            if half is not None and half["p"] < bound:
                told.append(
                    f"samples of {order['configuration']} are not exchangeable: {what}"
                    f" {half['first']:{form}} in the first half of a problem's samples,"
                    f" {half['second']:{form}} in the second (p = {half['p']:.1g});"
                    " sample them again before trusting figures that rest on them"
                )
    return told
