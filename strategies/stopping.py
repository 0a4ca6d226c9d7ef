"""When a vote over samples is over: one rule for live searches and for replays of stored ones.

Samples come in waves, and after each the vote so far is looked at. A vote in which one answer is
far ahead is decided (Aggarwal et al. 2023, adaptive consistency); one in which even the leader has
little weight is not going to be won.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stopping:
    """The rule of one vote over at most n samples, each of which weighs at most 1.

    lead: stop where the first answer is this far ahead of the second, in votes.
    give_up: stop where the first answer has no more than this, in votes for each sample drawn.
    None is never. A vote that no further sample can turn is over in any case.
    """

    n: int
    lead: float | None
    give_up: float | None

    @property
    def waves(self) -> tuple[int, ...]:
        """How many samples are drawn after each wave: powers of two from 2, and n."""
        return (*(2**i for i in range(1, (self.n - 1).bit_length())), self.n)

    def ends(self, votes: Floats | Sequence[float], drawn: int) -> Bools:
        """Whether the vote is over.

        votes: of each answer, shape (…, answers). Returns shape (…,).
        """
        first, second = top_two(votes)
        return self.over(first, first - second, drawn)

    def over(self, first: Floats, ahead: Floats, drawn: int) -> Bools:
        """The same, by the votes of the first answer and by how far it is ahead of the second."""
        return np.asarray(self.settled(first, ahead, drawn) | (ahead > self.n - drawn), np.bool_)

    def settled(self, first: Floats, ahead: Floats, drawn: Ints | int) -> Bools:
        """Whether `lead` or `give_up` says so, though further samples could turn the vote."""
        settled = np.zeros(np.shape(first), np.bool_)
        if self.lead is not None:
            settled = settled | (ahead >= self.lead)
        if self.give_up is not None:
            settled = settled | (first <= self.give_up * drawn)
        return settled


def top_two(votes: Floats | Sequence[float]) -> tuple[Floats, Floats]:
    """The most votes and the next most, 0 where nobody voted; of shape (…, answers): (…,)."""
    array = np.asarray(votes, np.float64)
    padded = np.concatenate([array, np.zeros((*array.shape[:-1], 2))], axis=-1)
    top = np.partition(padded, -2, axis=-1)
    return top[..., -1], top[..., -2]
