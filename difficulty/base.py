"""What an estimator of difficulty is: what it must have observed, and P(level) from that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from router.models.errors import InputError
from router.models.types import Problem

_SHARE: Final = 4
"""Observed samples take so large a part of the budget: one in four."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be observed of a problem before its level is told; nothing by default.

    layer: decoder layer, counted from 1, whose state after reading the prompt is wanted.
    samples: whole solutions, scored by the verifier, at most.
    """

    layer: int | None = None
    samples: int = 0

    def drawn(self, generations: int) -> int:
        """Samples that are drawn on a budget of so many generations."""
        return min(self.samples, math.ceil(generations / _SHARE))


NOTHING: Final = Needs()


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What was observed of a problem before deciding.

    state: the generator's after reading the prompt, shape (hidden,), float32; None if not read.
    scores: the verifier's aggregated score of each sample that was drawn.
    generations: what it cost of the budget.
    """

    state: npt.NDArray[np.float32] | None = None
    scores: tuple[float, ...] = ()
    generations: int = 0

    def meets(self, needs: Needs) -> bool:
        """Whether all that is needed was observed."""
        return (needs.layer is None or self.state is not None) and (
            needs.samples == 0 or bool(self.scores)
        )


UNOBSERVED: Final = Evidence()


class Estimator(Protocol):
    """Tells how hard a problem is for one generator. Safe to call from many threads.

    known: what it goes by, in words that end the sentence "difficulty judged by …".
    """

    @property
    def needs(self) -> Needs: ...

    def levels(self, problem: Problem, evidence: Evidence) -> Sequence[float]:
        """P(level | problem, evidence), level 1 (the easiest) first.

        Raises:
            InputError: the evidence is not what it needs, or the problem is not known.
        """
        ...

    def known(self, evidence: Evidence) -> str: ...


@dataclass(frozen=True, slots=True)
class Prior:
    """How common each level is: for problems of which nothing else is known."""

    probabilities: tuple[float, ...]

    @property
    def needs(self) -> Needs:
        return NOTHING

    def levels(self, problem: Problem, evidence: Evidence) -> Sequence[float]:  # noqa: ARG002
        return self.probabilities

    def known(self, evidence: Evidence) -> str:  # noqa: ARG002
        return "how common each level is"


@dataclass(frozen=True)
class Oracle:
    """Levels that are given: what perfect difficulty would gain.

    given: level of each problem, by its id; 1 is the easiest. count: how many levels there are.
    """

    given: Mapping[str, int]
    count: int

    @property
    def needs(self) -> Needs:
        return NOTHING

    def levels(self, problem: Problem, evidence: Evidence) -> Sequence[float]:  # noqa: ARG002
        level = self.given.get(problem.id)
        if level is None:
            raise InputError(f"the level of problem {problem.id!r} is not given")
        return [float(number == level) for number in range(1, self.count + 1)]

    def known(self, evidence: Evidence) -> str:  # noqa: ARG002
        return "its true level"
