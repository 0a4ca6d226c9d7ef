"""Step labels from final answers alone: Monte-Carlo estimates of P(right in the end | prefix).

Wang et al. 2023 (Math-Shepherd, arXiv 2312.08935, sec. 3.3) complete every step prefix several
times. A sampled solution already is one such completion of each of its own prefixes, so labels
exist before any further sampling; more completions only make them softer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from router.models.types import Chain


@dataclass(frozen=True, slots=True)
class Graded:
    """A finished solution, whether its final answer is right, and where its sampling began.

    start: number of steps that were given to the generator; 0 for a solution from scratch.
    """

    chain: Chain
    correct: bool
    start: int = 0


def step_labels(solutions: Sequence[Graded]) -> list[tuple[float, ...]]:
    """For each solution from scratch one label a step, in order: the share of right outcomes.

    The outcomes that count for a prefix are those of the solutions of the same problem that were
    sampled through it. A completion counts for the prefix that it started from, and for its own
    later ones; not for earlier ones, where it is no independent sample.
    """
    outcomes: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for solution in solutions:
        for prefix in _prefixes(solution.chain)[max(solution.start - 1, 0) :]:
            outcomes[prefix].append(solution.correct)
    means = {prefix: sum(seen) / len(seen) for prefix, seen in outcomes.items()}
    return [
        tuple(means[prefix] for prefix in _prefixes(solution.chain))
        for solution in solutions
        if solution.start == 0
    ]


def _prefixes(chain: Chain) -> list[tuple[str, str]]:
    """(problem id, text up to the end of the step), one a step."""
    text, prefixes = "", []
    for step in chain.steps:
        text += step.text
        prefixes.append((chain.problem.id, text))
    return prefixes
