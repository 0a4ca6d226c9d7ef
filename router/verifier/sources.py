"""What a verifier is worth on each source of problems, and whether it beats a plain vote there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from router.models.base import Aggregation
from router.models.types import Problem
from router.verifier.data import SolutionPool
from router.verifier.evaluation import VerifierReport, can_measure, measure

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Source:
    """The problems of one source. report: None where they are too few to measure on."""

    name: str
    problems: int
    verdict: str
    report: VerifierReport | None

    def to_dict(self) -> dict[str, Any]:
        measured = None if self.report is None else self.report.to_dict()
        return {"problems": self.problems, "verdict": self.verdict, "measured": measured}


def source_of(problem: Problem) -> str:
    """Where a problem comes from: what it says, else its id up to the first slash."""
    return problem.source or problem.id.partition("/")[0]


def measure_sources(pools: Sequence[SolutionPool], way: Aggregation) -> tuple[Source, ...]:
    """Each source by itself, in order of name.

    way: how the verifier's step scores become one; its own default, so that nothing is chosen on
        the problems that it is measured on.
    """
    parts: defaultdict[str, list[SolutionPool]] = defaultdict(list)
    for pool in pools:
        parts[source_of(pool.problem)].append(pool)
    return tuple(_measured(name, part, way) for name, part in sorted(parts.items()))


def _measured(name: str, pools: Sequence[SolutionPool], way: Aggregation) -> Source:
    if not can_measure(pools):
        mixed = sum(pool.mixed for pool in pools)
        why = f"not measured: {mixed} of {len(pools)} problems have right and wrong solutions"
        return Source(name, len(pools), why, None)
    report = measure(pools)
    return Source(name, len(pools), verdict(report, way), report)


def verdict(report: VerifierReport, way: Aggregation) -> str:
    """Whether a vote weighted by the verifier beats a plain one, at the largest N."""
    weighted, plain = report.curve("weighted", way), report.curve("majority")
    gain = weighted.gain[-1]
    if gain.low > _ROUNDING:
        outcome = "beats"
    elif gain.high < -_ROUNDING:
        outcome = "loses to"
    else:
        outcome = "is not told apart from"
    return (
        f"at N = {report.sizes[-1]} a weighted vote {outcome} a plain one:"
        f" {weighted.accuracy[-1].value:.1%} against {plain.accuracy[-1].value:.1%}"
        f" ({100 * gain.value:+.1f} points, {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    )
