from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations

import numpy as np
import pytest

from router.fitting import estimates
from router.fitting.estimates import Pool, expected_accuracy, pass_at_k
from router.models.types import Chain, Problem, Step
from router.strategies.base import Candidate, Select
from router.strategies.selection import select

ROOT = Chain(Problem("p", "?"))
RIGHT = "b"
Units = list[list[tuple[str | None, float]]]


def _candidate(score: float | None) -> Candidate:
    return Candidate(ROOT.extend(Step("x", "stop")), None if score is None else (score,))


def _pool(units: Units) -> Pool:
    answers = sorted({a for unit in units for a, _ in unit if a is not None})
    given = [(i, a, s) for i, unit in enumerate(units) for a, s in unit if a is not None]
    return Pool(
        len(units),
        np.array([i for i, _, _ in given], dtype=np.int64),
        np.array([answers.index(a) for _, a, _ in given], dtype=np.int64),
        np.array([a == RIGHT for a in answers], dtype=np.bool_),
        np.array([s for _, _, s in given]),
    )


def _brute(units: Units, k: int, how: Select, scored: bool) -> float:
    """Over all subsets, and all orders in which their answers can come first."""
    subsets = [[member for unit in chosen for member in unit] for chosen in combinations(units, k)]
    return float(np.mean([_chance(members, how, scored) for members in subsets]))


def _chance(members: list[tuple[str | None, float]], how: Select, scored: bool) -> float:
    answers = sorted({a for a, _ in members if a is not None})
    hits = []
    for order in permutations(answers):
        ranked = sorted(members, key=lambda m: order.index(m[0]) if m[0] else -1)
        hits.append(_chosen(ranked, how, scored) == RIGHT)
    return float(np.mean(hits))


def _chosen(members: Sequence[tuple[str | None, float]], how: Select, scored: bool) -> str | None:
    candidates = [_candidate(s if scored else None) for _, s in members]
    return select(candidates, [a for a, _ in members], how).answer


def _random(seed: int, units: int, width: int, ties: bool) -> Units:
    rng = np.random.default_rng(seed)
    answers: list[str | None] = ["a", "b", "b", "c", "d", None]
    return [
        [
            (answers[rng.integers(6)], float(rng.integers(3) / 2 if ties else rng.random()))
            for _ in range(width)
        ]
        for _ in range(units)
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize(
    ("how", "scored"), [("majority", False), ("majority", True), ("best", True), ("weighted", True)]
)
def test_expectations_equal_brute_force_over_the_real_selection(
    seed: int, ties: bool, width: int, how: Select, scored: bool
) -> None:
    units = _random(seed, 8, width, ties)
    sizes = [1, 2, 3, 5, 8]
    expected = expected_accuracy([_pool(units)], sizes, how, scored=scored)
    brute = [_brute(units, k, how, scored) for k in sizes]
    np.testing.assert_allclose(expected.accuracy[0], brute, atol=1e-12)
    assert not expected.error.any()


def test_every_order_of_the_candidates_is_as_likely() -> None:
    units = [[("a", 0.5)], [("a", 0.5)], [("b", 0.5)], [("b", 0.5)], [("c", 1.0)], [(None, 0.9)]]
    pool = _pool(units)
    for how, scored in (("majority", False), ("weighted", True), ("best", True)):
        for k in (2, 4, 5, 6):
            drawn = [
                _chosen([unit[0] for unit in order], how, scored) == RIGHT
                for order in permutations(units, k)
            ]
            expected = expected_accuracy([pool], [k], how, scored=scored)
            assert expected.accuracy[0, 0] == pytest.approx(np.mean(drawn))


def test_majority_is_exact_in_pools_too_large_to_enumerate() -> None:
    units = _random(1, 64, 1, False)
    exact = expected_accuracy([_pool(units)], [16], "majority", scored=False)
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(4000):
        members = [units[i][0] for i in rng.choice(64, 16, replace=False)]
        hits.append(_chosen(members, "majority", False) == RIGHT)
    assert exact.error[0, 0] == 0
    assert abs(np.mean(hits) - exact.accuracy[0, 0]) < 4 * np.std(hits) / np.sqrt(len(hits))


def test_random_subsets_are_unbiased_and_say_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    misses = []
    for seed in range(40):
        pool = _pool(_random(seed, 12, 1, False))
        exact = expected_accuracy([pool], [5], "weighted", scored=True)
        assert exact.error[0, 0] == 0
        with monkeypatch.context() as patch:
            patch.setattr(estimates, "EXACT", 10)
            estimates._subsets.cache_clear()
            drawn = expected_accuracy([pool], [5], "weighted", scored=True)
        estimates._subsets.cache_clear()
        if drawn.error[0, 0] > 0:
            misses.append((drawn.accuracy[0, 0] - exact.accuracy[0, 0]) / drawn.error[0, 0])
    assert len(misses) > 30
    assert 0.5 < np.std(misses) < 1.6


def test_pass_at_k_equals_brute_force() -> None:
    for correct in range(7):
        samples = [True] * correct + [False] * (6 - correct)
        for k in range(1, 7):
            brute = np.mean([any(c) for c in combinations(samples, k)])
            assert pass_at_k(6, correct, k) == pytest.approx(brute)


def test_pools_of_any_shape_are_answered_together() -> None:
    shapes = [(8, 1), (5, 1), (8, 2)]
    units = [_random(seed, count, width, False) for seed, (count, width) in enumerate(shapes)]
    units.append([[(None, 0.5)], [(None, 0.1)]])
    together = expected_accuracy([_pool(u) for u in units], [2, 6], "weighted", scored=True)
    for row, one in zip(together.accuracy, units, strict=True):
        alone = expected_accuracy([_pool(one)], [2, 6], "weighted", scored=True)
        np.testing.assert_array_equal(row, alone.accuracy[0])
    assert np.isnan(together.accuracy[1, 1])
    assert together.accuracy[3, 0] == 0


def test_impossible_questions_are_refused() -> None:
    pool = _pool(_random(0, 4, 1, False))
    unscored = Pool(pool.units, pool.unit, pool.group, pool.correct)
    with pytest.raises(ValueError, match="needs scores"):
        expected_accuracy([unscored], [2], "weighted", scored=True)
    with pytest.raises(ValueError, match="between"):
        pass_at_k(3, 1, 4)
