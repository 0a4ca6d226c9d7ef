"""Accuracy of smaller searches from one pool, as expectations over its subsets.

A pool of S exchangeable units (whole solutions, or DVTS subtrees) tells what a search of k <= S
units would give: the mean over all k-subsets, which is unbiased for every k, where one draw would
only be noisy. It follows `strategies.selection.select`, ties included, with one simplification:
an answer is known by its representative in the whole pool.

| selection | method |
|---|---|
| pass@k | exact: Chen et al. 2021, sec. 2.1 |
| majority, without scores | exact: counts of answers are multivariate hypergeometric |
| best | exact by order statistics; if a score is shared by different answers, as weighted |
| weighted, confident, and majority with scores | exact over all subsets while there are at \
most `EXACT`; else a fixed set of `DRAWS` random subsets, unbiased, with its standard error |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from router.strategies.base import Select

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

EXACT = 1024
"""Most subsets that are enumerated."""

DRAWS = 256
"""Random subsets otherwise."""

_CHUNK = 256  # pools at a time, for memory
_LARGE = 1000  # units; beyond, binomial coefficients leave the range of a float
# One sum ranks by (weight, count) or (count, weight): both are integers, the first one shifted.
_WEIGHT, _SHIFT = 2.0**30, 2.0**12


@dataclass(frozen=True)
class Pool:
    """One problem's exchangeable units, and the answers in them.

    units: how many units there are, those without an answer included.
    unit, group: of each candidate that gave an answer: its unit, and its answer's index among the
        pool's answers; shape (candidates,).
    correct: of each answer, shape (answers,).
    score: aggregated score of each candidate in [0, 1], shape (candidates,); None if unscored.
    """

    units: int
    unit: Ints
    group: Ints
    correct: Bools
    score: Floats | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected accuracies and their Monte-Carlo standard errors (0: exact), (pools, sizes)."""

    accuracy: Floats
    error: Floats


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Probability that k of `samples`, drawn without replacement, hold a correct one."""
    if not 1 <= k <= samples:
        raise ValueError(f"k must be between 1 and {samples}, not {k}")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def expected_accuracy(
    pools: Sequence[Pool], sizes: Sequence[int], select: Select, *, scored: bool
) -> Expected:
    """Accuracy of `select` over k of a pool's units, for each pool and each k in `sizes`.

    NaN where a pool has fewer than k units.

    scored: whether the search knows its candidates' scores; a majority vote then breaks ties by
        them. `best` and `weighted` always do.

    Raises:
        ValueError: scores are needed and a pool has none.
    """
    found = Expected(*np.full((2, len(pools), len(sizes)), np.nan))
    alike: defaultdict[int, list[int]] = defaultdict(list)
    for index, pool in enumerate(pools):
        if pool.score is None and (scored or select != "majority"):
            raise ValueError(f"selection {select} needs scores, and a pool has none")
        alike[pool.units].append(index)
    for units, indices in alike.items():
        # Pools with as many answers side by side: less padding.
        indices.sort(key=lambda index: len(pools[index].correct))
        columns = [column for column, k in enumerate(sizes) if k <= units]
        for start in range(0, len(indices), _CHUNK):
            chunk = indices[start : start + _CHUNK]
            part = _alike(
                [pools[index] for index in chunk], [sizes[c] for c in columns], select, scored
            )
            found.accuracy[np.ix_(chunk, columns)] = part.accuracy
            found.error[np.ix_(chunk, columns)] = part.error
    return found


def expected_coverage(pools: Sequence[Pool], sizes: Sequence[int]) -> Floats:
    """Chance that some candidate of k of a pool's units is right: pass@k, over units.

    Exact; shape (pools, sizes), NaN where a pool has fewer than k units.
    """
    found = np.full((len(pools), len(sizes)), np.nan)
    for row, pool in enumerate(pools):
        right = len(np.unique(pool.unit[pool.correct[pool.group]]))
        for column, k in enumerate(sizes):
            if k <= pool.units:
                found[row, column] = pass_at_k(pool.units, right, k)
    return found


def _alike(pools: Sequence[Pool], sizes: Sequence[int], select: Select, scored: bool) -> Expected:
    """The same for pools of as many units, none of them smaller than a size."""
    if not sizes or not any(len(pool.correct) for pool in pools):
        return Expected(*np.zeros((2, len(pools), len(sizes))))
    single = all(len(np.unique(pool.unit)) == len(pool.unit) for pool in pools)
    if select == "majority" and not scored and single and pools[0].units <= _LARGE:
        exact = _majority(pools, sizes)
        return Expected(exact, np.zeros_like(exact))
    if select != "best":
        return _over_subsets(pools, sizes, select, scored)
    found = Expected(*np.zeros((2, len(pools), len(sizes))))
    for index, pool in enumerate(pools):
        tops = _tops(pool)
        if tops is not None:
            found.accuracy[index] = _order_statistics(tops, sizes)
        elif len(pool.correct):
            drawn = _over_subsets([pool], sizes, select, scored)
            found.accuracy[index], found.error[index] = drawn.accuracy[0], drawn.error[0]
    return found


def _majority(pools: Sequence[Pool], sizes: Sequence[int]) -> Floats:
    """Exact probability that the largest group is correct; answers that tie share it equally.

    The number of subsets in which answer g has m votes and wins is C(s_g, m) times a coefficient
    of a product of polynomials, one for each other answer: at most m votes. Rows below are pairs
    (pool, correct answer).
    """
    owner, winner = np.nonzero(_padded([pool.correct for pool in pools], np.bool_))
    counts = _padded(
        [np.bincount(pool.group, minlength=len(pool.correct)) for pool in pools], np.int64
    )[owner]
    units, length = pools[0].units, max(sizes) + 1
    choose = _binomials(max(units, length))
    won = counts[np.arange(len(owner)), winner]
    rivals = np.where(np.arange(counts.shape[1]) == winner[:, None], 0, counts)
    ways = np.zeros((len(owner), length))
    for m in range(1, min(max(won, default=0), length - 1) + 1):
        # Where no rival can reach m votes, everything else is free.
        others = choose[units - won, : length - m]
        rows = np.flatnonzero((won >= m) & (rivals.max(axis=1) >= m))
        others[rows] = _outvoted(rivals[rows], units - won[rows], m, choose[:, : length - m])
        ways[:, m:] += choose[won, m][:, None] * others
    probability = ways[:, list(sizes)] / choose[units, list(sizes)]
    accuracy = np.zeros((len(pools), len(sizes)))
    np.add.at(accuracy, owner, probability)
    return accuracy


def _outvoted(rivals: Ints, rest: Ints, m: int, choose: Floats) -> Floats:
    """Ways to draw i of the `rest` other candidates so that m votes win; shape (rows, i).

    A draw in which t rivals have m votes too counts 1 / (t + 1), the integral of z^t over [0, 1].
    So each rival's term of m votes is multiplied by z, and the polynomial in z integrated, by a
    Gauss-Legendre rule that is exact for its degree.
    """
    ways = np.zeros((len(rivals), choose.shape[1]))
    most = int(min((rivals >= m).sum(axis=1).max(initial=0), (choose.shape[1] - 1) // m))
    for z, weight in zip(*_unit_interval_rule(most // 2 + 1), strict=True):
        product: Floats = choose[rest - rivals.sum(axis=1)]  # those without an answer
        for h in range(rivals.shape[1]):
            votes = choose[rivals[:, h], : m + 1].copy()
            votes[:, m:] *= z
            product = _times(product, votes)
        ways += weight * product
    return ways


@lru_cache(maxsize=64)
def _unit_interval_rule(nodes: int) -> tuple[Floats, Floats]:
    """Nodes and weights of Gauss-Legendre integration over [0, 1]; exact to degree 2 nodes - 1."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return (points + 1) / 2, weights / 2


def _times(left: Floats, right: Floats) -> Floats:
    """Products of polynomials, row by row, cut to the length of the left ones."""
    product = np.zeros_like(left)
    for j in range(min(left.shape[1], right.shape[1])):
        product[:, j:] += right[:, j : j + 1] * left[:, : left.shape[1] - j]
    return product


def _padded(rows: Sequence[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    table: npt.NDArray[Any] = np.zeros((len(rows), max(len(row) for row in rows)), dtype)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table


@lru_cache(maxsize=8)
def _binomials(n: int) -> Floats:
    """C(i, j) for 0 <= i, j <= n."""
    return np.array([[float(comb(i, j)) for j in range(n + 1)] for i in range(n + 1)])


def _tops(pool: Pool) -> Bools | None:
    """Whether each unit's best candidate is correct, best unit first; None if ties forbid it."""
    assert pool.score is not None
    order = np.lexsort((pool.group, -pool.score))
    score, group = pool.score[order], pool.group[order]
    if np.any((score[1:] == score[:-1]) & (group[1:] != group[:-1])):
        return None
    _, first = np.unique(pool.unit[order], return_index=True)
    tops = np.zeros(pool.units, dtype=np.bool_)
    tops[: len(first)] = pool.correct[group[np.sort(first)]]
    return tops


def _order_statistics(tops: Bools, sizes: Sequence[int]) -> Floats:
    """The unit at rank i is the best of a k-subset in C(S-1-i, k-1) of the C(S, k) subsets."""
    units = len(tops)
    ranks = np.flatnonzero(tops)
    return np.array(
        [sum(comb(units - 1 - int(i), k - 1) for i in ranks) / comb(units, k) for k in sizes]
    )


def _over_subsets(
    pools: Sequence[Pool], sizes: Sequence[int], select: Select, scored: bool
) -> Expected:
    answers = max(len(pool.correct) for pool in pools)
    keys = np.stack([_unit_keys(pool, answers, select, scored) for pool in pools], axis=1)
    correct = _padded([pool.correct for pool in pools], np.bool_)
    accuracy, error = np.zeros((2, len(pools), len(sizes)))
    for column, k in enumerate(sizes):
        chosen, blocks = _subsets(pools[0].units, k)
        sums = np.asarray(
            np.tensordot(chosen, keys, axes=1), np.float64
        )  # (subsets, pools, answers)
        if select == "best":
            sums = _only_tops(sums, chosen, pools[0])
        right = _right(sums, correct)
        accuracy[:, column] = right.mean(axis=0)
        if blocks:
            means = right.reshape(-1, blocks, len(pools)).mean(axis=1)
            error[:, column] = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    return Expected(accuracy, error)


def winners(pool: Pool, orders: Ints, drawn: Ints, select: Select, *, scored: bool) -> Floats:
    """Chance that the winner is right once so many units of each order are drawn.

    orders: units in the order in which they are drawn, (orders, units). drawn: shape (sizes,).
    Returns shape (orders, sizes).
    """
    if not len(pool.correct):
        return np.zeros((len(orders), len(drawn)))
    keys = _unit_keys(pool, len(pool.correct), select, scored)
    return _right(keys[orders].cumsum(axis=1)[:, drawn - 1], pool.correct)


def _right(sums: Floats, correct: Bools) -> Floats:
    """Chance that the first answer by rank is right; those that tie share it.

    sums: ranks, 0 of what nobody gave, shape (…, answers).
    """
    tied = (sums == sums.max(axis=-1, keepdims=True)) & (sums > 0)
    return np.asarray((tied & correct).sum(axis=-1) / np.maximum(tied.sum(axis=-1), 1), np.float64)


def _unit_keys(pool: Pool, answers: int, select: Select, scored: bool) -> Floats:
    """What each unit adds to the rank of each answer, shape (units, answers)."""
    weight = np.zeros(len(pool.unit))
    if scored or select != "majority":
        assert pool.score is not None
        weight = np.rint(pool.score * _WEIGHT)
    first_count = select == "majority"
    contribution = _WEIGHT * _SHIFT + weight if first_count else weight * _SHIFT + 1.0
    keys = np.zeros((pool.units, answers))
    np.add.at(keys, (pool.unit, pool.group), contribution)
    return keys


def _only_tops(sums: Floats, chosen: Floats, pool: Pool) -> Floats:
    """Ranks of the answers that share a subset's highest score; 0 for all others."""
    assert pool.score is not None
    best = np.full((pool.units, len(pool.correct)), -1.0)
    np.maximum.at(best, (pool.unit, pool.group), pool.score)
    tops = np.where(chosen[:, :, None] > 0, best[None], -1.0).max(axis=1)
    return np.where(tops == tops.max(axis=1, keepdims=True), sums[:, 0], 0.0)[:, None]


@lru_cache(maxsize=64)
def _subsets(units: int, k: int) -> tuple[Floats, int]:
    """k-subsets as rows of zeros and ones, shape (subsets, units); and the rows of one draw.

    All of them (and 0), or random permutations cut into disjoint blocks: every unit is used
    equally often, which takes most of the variance out. Only permutations are independent.
    """
    if comb(units, k) <= EXACT:
        rows = [list(c) for c in combinations(range(units), k)]
        blocks = 0
    else:
        rng = np.random.default_rng([units, k])
        blocks = units // k
        rows = [
            block.tolist()
            for _ in range(-(-DRAWS // blocks))
            for block in rng.permutation(units)[: blocks * k].reshape(blocks, k)
        ]
    chosen = np.zeros((len(rows), units))
    np.put_along_axis(chosen, np.array(rows), 1.0, axis=1)
    return chosen, blocks
