"""Levels of difficulty: bins of a generator's own pass@1, level 1 the easiest.

Quantile levels hold equally many problems each (Snell et al. 2024, sec. 3.2: five of them);
absolute levels have fixed thresholds (Liu et al. 2025, sec. 3.1: easy from 50 %, hard under 10 %),
since quantiles mislead where most problems are easy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from router.models.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ABSOLUTE = (0.5, 0.1)
LEAST = 4
"""Fewest problems of a level: two for each of two folds."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Thresholds between levels.

    edges: pass@1 falling, one fewer than levels; a problem at or above the first is level 1.
    shares: fraction of the problems at or above each edge, where edges are quantiles; else None.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...] | None = None

    @property
    def count(self) -> int:
        return len(self.edges) + 1

    def of(self, pass_at_1: Floats) -> Ints:
        """Level of each problem, 1 to `count`, shape (problems,)."""
        below = np.asarray(pass_at_1)[:, None] < np.array(self.edges)[None]
        return np.asarray(1 + below.sum(axis=1), np.int64)

    def refit(self, pass_at_1: Floats) -> Levels:
        """The same shares of other problems, for a training fold; absolute levels stay."""
        if self.shares is None:
            return self
        return Levels(_quantiles(pass_at_1, self.shares), self.shares)

    def to_dict(self) -> dict[str, Any]:
        return {"edges": list(self.edges), "shares": self.shares and list(self.shares)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Levels:
        """Read what `to_dict` wrote.

        Raises:
            InputError: thresholds that are no falling probabilities.
        """
        edges, shares = record["edges"], record["shares"]
        if list(edges) != sorted(set(edges), reverse=True) or not all(0 < e <= 1 for e in edges):
            raise InputError(f"level edges must fall and lie in (0, 1], not {edges}")
        return cls(tuple(edges), None if shares is None else tuple(shares))


def fit_levels(pass_at_1: Floats, how: str, *, merge: bool = False) -> Levels:
    """Levels for these problems.

    how: `quantile:K`, or `absolute`.
    merge: join levels that have too few problems with a neighbour, rather than refuse.

    Raises:
        InputError: unknown `how`; too few problems, or too many with the same pass@1, for so many
            levels; or all problems are solved always, or never.
    """
    if len(pass_at_1) and (np.all(pass_at_1 == 1) or np.all(pass_at_1 == 0)):
        always = "every" if pass_at_1[0] == 1 else "no"
        change = "harder" if pass_at_1[0] == 1 else "easier"
        raise InputError(
            f"{always} sample of all {len(pass_at_1)} problems is correct, so there is no"
            f" difficulty to tell apart; add {change} problems"
        )
    check_levels(how, len(pass_at_1), merge=merge)
    levels = _parse(pass_at_1, how)
    while (sizes := _sizes(levels, pass_at_1)).min() < LEAST and levels.edges:
        if not merge:
            short = int(sizes.argmin()) + 1
            value, ties = _commonest(pass_at_1)
            raise InputError(
                f"--levels {how}: level {short} would have {sizes.min()} problems and needs"
                f" {LEAST}; {ties} of {len(pass_at_1)} problems have pass@1 = {value:g}. Add"
                f" {LEAST - int(sizes.min())} or more problems of that level or more samples a"
                " problem, ask for fewer levels, or add --merge-levels"
            )
        levels = _merged(levels, sizes)
    return levels


def check_levels(how: str, problems: int, *, merge: bool = False) -> None:
    """Refuse what cannot work with so many problems, before anything is sampled.

    Raises:
        InputError: unknown `how`, or too few problems.
    """
    needed = LEAST * _parse(np.zeros(0), how).count
    if problems < needed and not merge:
        raise InputError(
            f"--levels {how} needs at least {needed} problems ({LEAST} a level), and there are"
            f" {problems}; give more problems, ask for fewer levels, or add --merge-levels"
        )


def _parse(pass_at_1: Floats, how: str) -> Levels:
    if how == "absolute":
        return Levels(ABSOLUTE)
    match = re.fullmatch(r"quantile:(\d+)", how)
    if not match or not 1 <= int(match[1]) <= 100:
        raise InputError(f"levels must be quantile:K (K from 1 to 100) or absolute, not {how!r}")
    count = int(match[1])
    shares = tuple(i / count for i in range(1, count))
    return Levels(_quantiles(pass_at_1, shares), shares)


def _quantiles(pass_at_1: Floats, shares: tuple[float, ...]) -> tuple[float, ...]:
    """The edges whose fractions of problems above come nearest to `shares`.

    Edges lie half-way between values that occur: equal problems stay together, and an edge also
    divides problems that it was not fitted on.
    """
    values, counts = np.unique(pass_at_1, return_counts=True)
    if len(values) < 2:
        return (float(values[0]) if len(values) else 0.0,) * len(shares)
    edges = (values[1:] + values[:-1]) / 2
    above = 1 - np.cumsum(counts)[:-1] / len(pass_at_1)
    return tuple(float(edges[np.abs(above - share).argmin()]) for share in shares)


def _sizes(levels: Levels, pass_at_1: Floats) -> Ints:
    return np.bincount(levels.of(pass_at_1) - 1, minlength=levels.count)


def _merged(levels: Levels, sizes: Ints) -> Levels:
    """Without the edge between the smallest level and its smaller neighbour."""
    smallest = int(sizes.argmin())
    sides = [i for i in (smallest - 1, smallest + 1) if 0 <= i < len(sizes)]
    gone = min(smallest, min(sides, key=lambda i: sizes[i]))

    def kept(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(value for i, value in enumerate(values) if i != gone)

    return Levels(kept(levels.edges), None if levels.shares is None else kept(levels.shares))


def _commonest(pass_at_1: Floats) -> tuple[float, int]:
    values, counts = np.unique(pass_at_1, return_counts=True)
    return float(values[counts.argmax()]), int(counts.max())
