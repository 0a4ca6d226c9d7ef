"""When a vote over samples is over: one rule for live searches and for replays of stored ones.

Samples come in waves, and after each the vote so far is looked at. A vote in which one answer is
far ahead is decided (Aggarwal et al. 2023, adaptive consistency); one in which even the leader has
little weight is not going to be won. Where votes are scores one number says both: what a further
sample is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RIGHT: Final = 0.8
OF: Final = 4
"""Votes, and of how many samples, that are counted beside those drawn: as if one in five were
right."""

UNSEEN: Final = {True: 0.1, False: 1.0}
"""Votes that answers which were not seen yet are taken to have, by whether votes are scores: a high
score makes its answer likely by itself, a plain vote does once others agree."""


class Poll(NamedTuple):
    """How a vote stands, in votes: of the first answer, of the second, and of all; shape (…,).

    by_score: whether a vote weighs what a verifier says of it.
    """

    first: Floats
    second: Floats
    total: Floats
    by_score: bool

    @classmethod
    def of(cls, votes: Floats | Sequence[float], select: str) -> Poll:
        """votes: of each answer, shape (…, answers), which may be none. select: their kind."""
        array = np.asarray(votes, np.float64)
        padded = np.concatenate([array, np.zeros((*array.shape[:-1], 2))], axis=-1)
        top = np.partition(padded, -2, axis=-1)
        return cls(top[..., -1], top[..., -2], array.sum(axis=-1), select == "weighted")

    def at(self, places: Any) -> Poll:
        """Of some of the votes, by an index of numpy."""
        first, second, total = (votes[places] for votes in self[:3])
        return self._replace(first=first, second=second, total=total)

    def worth(self, drawn: Ints | int) -> Floats:
        """What one more sample is worth: how likely it turns a wrong answer into the right one.

        The chance that it is right, by the votes so far, times that of the leader to be wrong, by
        its share of them, times the sample's own part in the vote. The constants were chosen on
        the problems of the shipped fit (`benchmarks.ablations`).
        """
        drawn = np.asarray(drawn)
        right = (self.total + RIGHT) / (drawn + OF)
        wrong = 1 - self.first / (self.total + UNSEEN[self.by_score])
        return np.asarray(right * wrong / drawn, np.float64)


@dataclass(frozen=True, slots=True)
class Stopping:
    """The rule of one vote over at most n samples, each of which weighs at most 1.

    lead: stop where the first answer is this far ahead of the second, in votes.
    give_up: stop where the first answer has no more than this, in votes for each sample drawn.
    worth: stop where one more sample is worth no more than this (`Poll.worth`).
    select: what the votes are.
    None is never. A vote that no further sample can turn is over in any case.
    """

    n: int
    lead: float | None
    give_up: float | None
    worth: float | None = None
    select: str = "majority"

    @property
    def waves(self) -> tuple[int, ...]:
        """How many samples are drawn after each wave: powers of two, and n.

        From 2, since a lead over nobody says little; from 1 where one sample that is sure would be
        enough by its worth.
        """
        one = self.worth is not None and Poll.of([1.0], self.select).worth(1) <= self.worth
        return (*(2**i for i in range(0 if one else 1, (self.n - 1).bit_length())), self.n)

    def ends(self, poll: Poll, drawn: Ints | int) -> Bools:
        """Whether the vote is over."""
        decided = poll.first - poll.second > self.n - drawn
        return np.asarray(self.settled(poll, drawn) | decided, np.bool_)

    def settled(self, poll: Poll, drawn: Ints | int) -> Bools:
        """Whether the rule says so, though further samples could turn the vote."""
        settled = np.zeros(np.shape(poll.first), np.bool_)
        if self.lead is not None:
            settled = settled | (poll.first - poll.second >= self.lead)
        if self.give_up is not None:
            settled = settled | (poll.first <= self.give_up * drawn)
        if self.worth is not None:
            settled = settled | (poll.worth(drawn) <= self.worth)
        return settled
