"""What few problems say of many strategies, made sober: empirical Bayes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_PRIOR = 4.0  # problems' worth of trust in the common variance of a cell's configurations
_SPREAD = 0.02
"""Least standard deviation assumed between configurations of the same cost, and of what lies
between one of them at a level and at the next."""


def shrunken(
    accuracy: Floats, costs: Floats, family: Ints | None = None, kind: Ints | None = None
) -> Floats:
    """Accuracy of each strategy at one level, shrunk toward its family's trend along N.

    Empirical Bayes on paired differences (random effects; DerSimonian and Laird 1986): problems
    differ far more than strategies do, so each strategy is compared, problem by problem, with
    those that were measured on every problem. Within a family (the same search at the same
    temperature) that difference is shrunk toward a line in log cost by as much as its sampling
    error asks for, and families of one kind of search toward the line of them all: a temperature
    that was lucky on its few samples does not win by it. A strategy that was measured on few
    problems (racing) is thus neither favoured by easy ones nor by luck. Strategies with equal
    outcomes are one, however often they are named.

    accuracy: shape (problems, strategies), NaN where not measured. costs: mean generations; family,
        kind: their numbers (all are one by default); each of shape (strategies,).

    Returns:
        shape (strategies,), NaN for a strategy that was measured nowhere.
    """
    found = np.full(accuracy.shape[1], np.nan)
    known = np.flatnonzero(~np.isnan(accuracy).all(axis=0))
    if not len(known):
        return found
    families = np.zeros(len(costs), np.int64) if family is None else family
    outcomes = np.vstack([np.where(np.isnan(accuracy), -1.0, accuracy), costs, families])[:, known]
    _, first, same = np.unique(outcomes.round(9), axis=1, return_index=True, return_inverse=True)
    columns = known[first]
    reference, difference = _paired(accuracy[:, columns])
    effect, error, size = (
        np.nanmean(difference, axis=0),
        _errors(difference),
        np.log2(costs[columns]),
    )
    members = [families[columns] == number for number in np.unique(families[columns])]
    for own in members:
        effect[own] = _toward(effect[own], error[own], _line(size[own]))
    kinds = np.zeros(len(columns), np.int64) if kind is None else kind[columns]
    for number in np.unique(kinds):
        _draw_together(effect, error, size, [own & (kinds == number) for own in members])
    found[known] = np.clip(reference.mean() + effect, 0.0, 1.0)[same.reshape(-1)]
    return found


def errors(accuracy: Floats) -> Floats:
    """Variance of each strategy's mean, problem by problem against the others.

    accuracy: shape (problems, strategies), NaN where not measured.

    Returns:
        shape (strategies,), NaN for a strategy that was measured nowhere.
    """
    found = np.full(accuracy.shape[1], np.nan)
    known = ~np.isnan(accuracy).all(axis=0)
    if known.any():
        found[known] = _errors(_paired(accuracy[:, known])[1])
    return found


def borrowed(accuracy: Floats, error: Floats, costs: Floats) -> Floats:
    """Accuracy at each level once each has borrowed from the others.

    What is better than others of its cost at one level is likely to be so at the next. So how far
    strategies lie from their level's curve along log cost is averaged over the levels, each
    weighing one over the sum of its sampling error and a variance that grows with its distance, by
    as much as neighbours are seen to differ: a level that was measured on many problems keeps its
    own, one of few goes by its neighbours.

    accuracy, error, costs: what each strategy is to be expected to reach, the sampling variance of
        that, and mean generations; each of shape (levels, strategies), NaN where not measured.

    Returns:
        shape (levels, strategies), NaN as before.
    """
    known = ~np.isnan(accuracy)
    trend = np.zeros(accuracy.shape)
    for own, of_level, cost, line in zip(known, accuracy, costs, trend, strict=True):
        if own.any():
            size = np.log2(cost[own])
            powers = np.vander(size, min(3, len(np.unique(size))), increasing=True)
            line[own] = powers @ np.linalg.lstsq(powers, of_level[own], rcond=None)[0]
    apart = np.where(known, accuracy - trend, 0.0)
    number = np.arange(len(accuracy))
    error = np.maximum(np.where(known, error, np.inf), 1e-12)  # what is not known has no weight
    both = known[1:] & known[:-1]
    steps = (np.diff(apart, axis=0) ** 2)[both] - (error[1:] + error[:-1])[both]
    step = max(_SPREAD**2, steps.mean() if len(steps) else 0.0)
    distance = np.abs(number[:, None] - number) * step
    weight = 1 / (error + distance[..., None])
    total = np.maximum(weight.sum(axis=1), 1e-300)
    together = np.einsum("lks,ks->ls", weight, apart) / total
    return np.where(known, np.clip(trend + together, 0.0, 1.0), np.nan)


def _paired(accuracy: Floats) -> tuple[Floats, Floats]:
    """The mean of those that were measured on every problem, and how far each lies from it.

    Returns:
        of the problems that were measured at all: shapes (problems,), (problems, strategies).
    """
    x = accuracy[~np.isnan(accuracy).all(axis=1)]
    everywhere = ~np.isnan(x).any(axis=0)
    reference = np.nanmean(x[:, everywhere] if everywhere.any() else x, axis=1)
    return reference, x - reference[:, None]


def _draw_together(effect: Floats, error: Floats, size: Floats, members: list[Bools]) -> None:
    """Shrink families toward the line of them all, in place. members: the columns of each."""
    members = [own for own in members if own.any()]
    line, every = _line(size), np.logical_or.reduce(members)
    trend = line @ np.linalg.lstsq(line[every], effect[every], rcond=None)[0]
    apart = np.array([(effect - trend)[own].mean() for own in members])
    # One family's sizes come from the same samples, so their errors are one error.
    kept = _toward(apart, np.array([error[own].mean() for own in members]), None)
    for own, change in zip(members, kept - apart, strict=True):
        effect[own] += change


def _errors(difference: Floats) -> Floats:
    """Variance of each column's mean, moderated (Smyth 2004): a few equal outcomes prove little."""
    counts = (~np.isnan(difference)).sum(axis=0)
    squares = np.nansum((difference - np.nanmean(difference, axis=0)) ** 2, axis=0)
    common = squares.sum() / max(1, int((counts - 1).sum()))
    return np.asarray((squares + _PRIOR * common) / (counts - 1 + _PRIOR) / counts, np.float64)


def _line(size: Floats) -> Floats:
    """Design of a line over `size`; of a mean, where all are of one size."""
    return np.stack([np.ones(len(size)), size], axis=1)[:, : min(2, len(np.unique(size)))]


def _toward(effect: Floats, error: Floats, design: Floats | None) -> Floats:
    """Effects shrunk toward what a design explains of them; None: toward nothing.

    error: variance of each effect; both of shape (effects,).
    """
    if not error.any():
        return effect
    weight = 1 / error
    line, scale, explained = np.zeros(len(effect)), weight.sum(), 0
    if design is not None:
        inner = np.linalg.inv(design.T * weight @ design)
        line = design @ (inner @ (design.T @ (weight * effect)))
        scale -= np.trace(inner @ (design.T * weight**2 @ design))
        explained = design.shape[1]
    surplus = weight @ (effect - line) ** 2 - (len(effect) - explained)
    between = max(_SPREAD**2, surplus / scale if scale > 1e-9 else 0.0)
    return np.asarray(line + between / (between + error) * (effect - line), np.float64)
