"""Scores from a head's rows: known steps are remembered, whatever the cache gives of them."""

from __future__ import annotations

import numpy as np
import pytest

from router.models.verifiers import rows
from router.models.verifiers.prm import ClassHead, Encoded, MeanHead
from router.models.verifiers.rows import RowReader

ENCODED = Encoded(ids=tuple(range(100, 120)), reads=(3, 7, 7, 8, 19), opening=4)
"""The first step has no text, so it is read before the steps begin; the third has none either."""

NUMBERS = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)


def whole(encoded: Encoded = ENCODED, numbers: np.ndarray = NUMBERS) -> list[float]:
    found = []
    for read in encoded.reads:
        tokens = numbers[encoded.opening : read + 1, 1]
        mean = tokens.mean() if len(tokens) else numbers[read, 1]
        found.append(1 / (1 + np.exp(-numbers[read, 0] - mean)))
    return found


def until(step: int) -> Encoded:
    """The chain up to that step."""
    end = ENCODED.reads[step] + 1
    return Encoded(ENCODED.ids[:end], ENCODED.reads[: step + 1], ENCODED.opening)


@pytest.mark.parametrize("extra", [0, 1, 3])
def test_a_further_step_takes_its_own_tokens(extra: int) -> None:
    """However many rows before them the last block of a cache gives."""
    reader = RowReader(MeanHead("score"))
    for step, value in enumerate(whole()):
        encoded = until(step)
        reading = reader.plan(encoded, step)
        own = min(encoded.reads[step - 1] + 1, encoded.reads[step]) if step else 3
        assert reading.first == own
        given = NUMBERS[max(0, reading.first - extra) : len(encoded.ids)]
        assert reader.scores(given, reading) == pytest.approx([value])


@pytest.mark.parametrize("known", range(5))
def test_without_a_memory_all_of_the_steps_are_read(known: int) -> None:
    reader = RowReader(MeanHead("score"))
    reading = reader.plan(ENCODED, known)
    assert reading.first == min(ENCODED.opening, ENCODED.reads[known])
    assert reader.scores(NUMBERS[reading.first :], reading) == pytest.approx(whole()[known:])


def test_another_beginning_is_another_sum() -> None:
    reader = RowReader(MeanHead("score"))
    reader.scores(NUMBERS, reader.plan(ENCODED, 0))
    assert reader.plan(ENCODED, 4).first == 9
    other = Encoded((99, *ENCODED.ids[1:]), ENCODED.reads, ENCODED.opening)
    assert reader.plan(other, 4).first == ENCODED.opening


def test_the_oldest_sums_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_REMEMBERED", 2)
    reader = RowReader(MeanHead("score"))
    reader.scores(NUMBERS, reader.plan(ENCODED, 0))
    # The last two ends are kept: of the fourth step and the fifth.
    assert [reader.plan(ENCODED, known).first for known in range(1, 5)] == [4, 4, 4, 9]
    assert len(reader._totals) == 2


def test_classes_are_read_where_the_steps_end() -> None:
    reader = RowReader(ClassHead("score", good=1))
    reading = reader.plan(ENCODED, 2)
    assert reading.first == 7
    softmax = np.exp(NUMBERS) / np.exp(NUMBERS).sum(1, keepdims=True)
    assert reader.scores(NUMBERS[5:], reading) == pytest.approx(list(softmax[[7, 8, 19], 1]))
