"""From a head's numbers for every token to scores of steps; known steps are not read again."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from router.models.verifiers.prm import ClassHead, Encoded, Head, MeanHead

Rows = npt.NDArray[np.floating[Any]]
"""What a head says of some tokens, the last of a chain, shape (tokens, 2)."""

_REMEMBERED: Final = 2**17
"""Ends of steps whose sums are kept: 16 bytes of key, and a number."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What it takes to score the steps of a chain from `known` on.

    first: index of the first token whose row is needed.
    summed: index of the first of the steps' tokens that `total`, a sum over them, leaves out.
    """

    encoded: Encoded
    known: int
    first: int
    summed: int = 0
    total: float = 0.0


class RowReader:
    """Reads the scores of steps from a head's rows.

    A head that pools reads a mean over all tokens of the steps so far. How much they add up to is
    remembered at every step's end, so that one more step takes its own tokens' rows alone. Only
    one thread at a time may use it.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._totals: OrderedDict[bytes, float] = OrderedDict()

    def plan(self, encoded: Encoded, known: int) -> Reading:
        """Which rows the scores of the steps from index `known` on need; there must be one."""
        read = encoded.reads[known]
        if not isinstance(self._head, MeanHead):
            return Reading(encoded, known, first=read)
        total, summed = None, encoded.opening
        if known:
            end = encoded.reads[known - 1] + 1
            total = self._totals.get(_key(encoded.ids[:end]))
        if total is None:
            return Reading(encoded, known, min(summed, read), summed)
        return Reading(encoded, known, min(end, read), max(end, summed), total)

    def scores(self, rows: Rows, reading: Reading) -> list[float]:
        """Scores of the steps that were planned.

        rows: the head's logits of the last tokens of the chain, from `reading.first` at the latest.
        """
        ids, reads = reading.encoded.ids, reading.encoded.reads[reading.known :]
        if isinstance(self._head, ClassHead):
            good = self._head.good
            ends = (rows[read - len(ids)] for read in reads)
            return [_sigmoid(float(row[good]) - float(row[1 - good])) for row in ends]
        values, total, summed = [], reading.total, reading.summed
        for read in reads:
            own, here = rows[read - len(ids)], read + 1 - reading.encoded.opening
            if read >= summed:
                total += float(rows[summed - len(ids) : read + 1 - len(ids) or None, 1].sum())
                summed = read + 1
            mean = total / here if here > 0 else float(own[1])
            values.append(_sigmoid(float(own[0]) + mean))
            self._remember(ids[: read + 1], total)
        return values

    def _remember(self, ids: Sequence[int], total: float) -> None:
        self._totals[_key(ids)] = total
        while len(self._totals) > _REMEMBERED:
            self._totals.popitem(last=False)


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))  # which never overflows


def _key(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", ids).tobytes(), digest_size=16).digest()
