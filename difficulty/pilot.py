"""Levels predicted from the verifier: the mean score of a pilot sample (Snell et al. 2024, 3.2).

Who draws the pilot sample also charges it to the budget, and reuses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from router.difficulty.base import Evidence, Needs
from router.difficulty.levels import Floats, Ints
from router.difficulty.ordinal import ProportionalOdds
from router.models.errors import InputError, NotFinite
from router.models.types import Problem

_EXTREME = 1e-3
"""How close to 0 and 1 mean scores are told apart."""


class PilotLevels(BaseModel):
    """P(level | mean verifier score of k samples of a problem).

    odds: the model for each fitted k; the mean of few samples says less than that of many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    odds: Annotated[dict[int, ProportionalOdds], Field(min_length=1)]

    @property
    def count(self) -> int:
        """How many levels there are."""
        return len(next(iter(self.odds.values())).thresholds) + 1

    @classmethod
    def fit(
        cls,
        scores: Sequence[Floats],
        levels: Ints,
        count: int,
        sizes: Sequence[int] = (1, 2, 4, 8),
    ) -> Self:
        """Learn from problems whose level is known.

        scores: of each problem's samples, in [0, 1]; each cut into as many pilot samples as it
            holds. levels: of each problem, 1 to `count`. sizes: of the pilot samples; those that
            no problem has samples for are left out.

        Raises:
            NotFinite: a score is NaN or infinite.
            InputError: a score is no probability, or there is no sample at all.
        """
        for problem in scores:
            _check(problem)
        odds = {}
        for size in sizes:
            means, owners = _pilots(scores, size)
            if len(means):
                odds[size] = ProportionalOdds.fit(_hardness(means), levels[owners] - 1, count)
        if not odds:
            raise InputError(f"pilot levels need problems with {min(sizes)} scored samples or more")
        return cls(odds=odds)

    def probabilities(self, mean_scores: Floats, samples: int) -> Floats:
        """P(level), shape (problems, levels).

        mean_scores: shape (problems,). samples: behind each mean; the largest fitted size that is
            no larger is used.

        Raises:
            NotFinite: a score is NaN or infinite.
            InputError: fewer samples than the smallest fitted size.
        """
        _check(mean_scores)
        fitting = [size for size in self.odds if size <= samples]
        if not fitting:
            raise InputError(
                f"levels were fitted on pilots of {min(self.odds)} samples or more, not {samples}"
            )
        return self.odds[max(fitting)].probabilities(_hardness(mean_scores))

    def predict(self, mean_scores: Floats, samples: int) -> Ints:
        """The most probable level, shape (problems,); errors as `probabilities`."""
        return np.asarray(1 + self.probabilities(mean_scores, samples).argmax(axis=1), np.int64)

    @property
    def needs(self) -> Needs:
        return Needs(samples=max(self.odds))

    def known(self, evidence: Evidence) -> str:
        drawn = len(evidence.scores)
        return f"the mean score of a pilot, {_mean(evidence.scores):.2f} over {drawn} samples"

    def levels(self, problem: Problem, evidence: Evidence) -> Sequence[float]:  # noqa: ARG002
        """P(level | scores of the problem's first samples), level 1 first.

        Raises:
            NotFinite, InputError: as `probabilities`.
        """
        mean = np.array([_mean(evidence.scores)])
        found: list[float] = self.probabilities(mean, len(evidence.scores))[0].tolist()
        return found

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            InputError: it is no such record.
        """
        try:
            return cls.model_validate(record)
        except ValidationError as error:
            raise InputError(f"broken pilot levels: {error.errors()[0]['msg']}") from None


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


def _pilots(scores: Sequence[Floats], size: int) -> tuple[Floats, Ints]:
    """Means of disjoint runs of `size` samples, and the index of the problem of each."""
    means, owners = [], []
    for owner, problem in enumerate(scores):
        whole = len(problem) // size
        means.append(np.reshape(problem[: whole * size], (whole, size)).mean(axis=1))
        owners.append(np.full(whole, owner))
    return np.concatenate(means), np.concatenate(owners)


def _hardness(mean_scores: Floats) -> Floats:
    """Log-odds of being wrong: the scale on which a calibrated score has slope 1."""
    wrong = np.clip(1 - np.asarray(mean_scores, np.float64), _EXTREME, 1 - _EXTREME)
    return np.asarray(np.log(wrong / (1 - wrong)))


def _check(scores: Floats) -> None:
    if not np.isfinite(scores).all():
        raise NotFinite("a verifier score is NaN or infinite; check the verifier")
    if np.any((np.asarray(scores) < 0) | (np.asarray(scores) > 1)):
        raise InputError("verifier scores must lie in [0, 1]; check the verifier")
