"""From candidates to one answer: majority, best, weighted, confident.

Step scores become one score per solution by an `Aggregation`; Snell et al. (2024, App. E) found
the last step's best for their PRM, others publish min, mean or prod. `best` takes the solution
with the highest score (naive best-of-N). `weighted` takes the answer with the highest sum of scores
(best-of-N weighted: Li et al. 2023, Snell et al. App. E). `majority` needs no scores
(self-consistency). `confident` weights a vote by what the generator itself thought of the solution,
its mean log-probability (CISC, Taubenfeld et al. 2025, arXiv 2502.06233), so it needs no verifier.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from router.models.base import Aggregation
from router.models.errors import InputError, NoCandidates, VerifierError
from router.strategies.base import Candidate, Select


@dataclass(frozen=True, slots=True)
class Vote:
    """What one answer received.

    count: candidates that gave it; weight: sum of their scores (of their confidences, where these
    select); best: the highest of them. The last two are None without scores.
    """

    answer: str
    count: int
    weight: float | None = None
    best: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Selected:
    """The outcome of a selection.

    candidate: the solution to show. answer: the representative of its group; None when no
    candidate gave an answer. votes: all answers, the chosen one first.
    """

    candidate: Candidate
    answer: str | None
    votes: tuple[Vote, ...]


def aggregate(scores: Sequence[float], how: Aggregation) -> float:
    """One score from the scores of a solution's steps.

    Raises:
        VerifierError: no scores, or one that is not a finite number.
    """
    if not scores:
        raise VerifierError("cannot aggregate no step scores: the verifier scored no step")
    for step, score in enumerate(scores):
        if not math.isfinite(score):
            raise VerifierError(f"score of step {step} is {score}, not a finite number")
    match how:
        case "last":
            return scores[-1]
        case "min":
            return min(scores)
        case "mean":
            return math.fsum(scores) / len(scores)
        case "prod":
            return math.prod(scores)


def confidence(logprobs: Sequence[float | None], tokens: Sequence[int | None]) -> float | None:
    """The geometric mean of the probabilities of a solution's tokens; None if not known.

    CISC's "response probability". Sharpening it by a softmax, as CISC does, gained nothing on our
    rollouts at any temperature from 0.1 to 1, and lost below.

    logprobs: mean log-probability of each step's tokens; tokens: how many it has.
    """
    parts = [(each, count) for each, count in zip(logprobs, tokens, strict=True) if count]
    known = [each * count for each, count in parts if each is not None]
    if not parts or len(known) < len(parts):
        return None
    return math.exp(math.fsum(known) / sum(count for _, count in parts))


def value(candidate: Candidate, how: Select, aggregation: Aggregation) -> float | None:
    """What a candidate's vote weighs, from 0 to 1; None where that is not known.

    Raises:
        VerifierError: a score is not finite.
    """
    if how == "confident":
        steps = candidate.chain.steps
        return confidence([step.logprob for step in steps], [step.tokens for step in steps])
    return aggregate(candidate.scores, aggregation) if candidate.scores else None


@dataclass(frozen=True, slots=True)
class Voters:
    """Who chooses the answer, and how.

    of: indices of the candidates that vote. notes: what is not as it was asked, a sentence each.
    """

    of: Sequence[int]
    how: Select
    notes: tuple[str, ...] = ()


def voters(how: Select, scored: Sequence[bool]) -> Voters:
    """Those with scores where scores select; where most have none, a majority of all.

    scored: whether the `value` of each candidate is known.
    """
    everyone = range(len(scored))
    voting = [index for index in everyone if scored[index]]
    missing = len(scored) - len(voting)
    if how == "majority" or not missing:
        return Voters(everyone, how)
    if missing > len(voting):
        what = "log-probabilities" if how == "confident" else "scores"
        note = f"{missing} of {len(scored)} solutions have no {what}, so a majority, not {how}"
        return Voters(everyone, "majority", (note,))
    return Voters(voting, how, (f"{missing} solutions have no scores, so they do not vote",))


def select(
    candidates: Sequence[Candidate],
    groups: Sequence[str | None],
    how: Select,
    aggregation: Aggregation = "last",
) -> Selected:
    """Choose one answer, and the best-scored candidate that gives it.

    groups: for each candidate the representative of its answer, as `Task.group` returns it;
    None where it gave no answer. Such a candidate is chosen only if no other gave one. Ties go to
    the larger weight, then count, then the answer that came first among the candidates: of samples
    drawn alike, that is each tied answer with the same probability. Between equal candidates the
    first is shown.

    Raises:
        NoCandidates: there is none.
        InputError: a candidate lacks the scores or log-probabilities that select.
        VerifierError: a score is missing or not finite.
    """
    if not candidates:
        raise NoCandidates("completed", "there is no finished solution to select from")
    scores = _scores(candidates, how, aggregation)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, answer in enumerate(groups):
        if answer is not None:
            members[answer].append(index)
    votes = sorted(
        (_vote(answer, indices, scores) for answer, indices in members.items()),
        key=lambda vote: (-standing(vote, how), -(vote.weight or 0.0), -vote.count),
    )
    answer = votes[0].answer if votes else None
    finalists = members[answer] if answer is not None else range(len(candidates))
    # `max` keeps the first of equals.
    shown = finalists[0] if scores is None else max(finalists, key=scores.__getitem__)
    return Selected(candidates[shown], answer, tuple(votes))


def _scores(
    candidates: Sequence[Candidate], how: Select, aggregation: Aggregation
) -> list[float] | None:
    """One score per candidate; None where a majority has to do without."""
    scores = []
    for index, candidate in enumerate(candidates):
        score = value(candidate, how, aggregation)
        if score is None:
            if how == "majority":
                return None
            needs = "an engine that gives log-probabilities" if how == "confident" else "a verifier"
            raise InputError(
                f"selection {how!r} needs scores, but candidate {index} has none;"
                f" give {needs}, or select=majority"
            )
        scores.append(score)
    return scores


def _vote(answer: str, indices: Sequence[int], scores: Sequence[float] | None) -> Vote:
    if scores is None:
        return Vote(answer, len(indices))
    own = [scores[index] for index in indices]
    # fsum is exact, so the order of the candidates cannot tip a tie.
    return Vote(answer, len(indices), math.fsum(own), max(own))


def standing(vote: Vote, how: Select) -> float:
    """What an answer wins by."""
    if how == "majority":
        return float(vote.count)
    return (vote.best if how == "best" else vote.weight) or 0.0
