"""What the router gives back: how it decided, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.models.types import EndReason, FinishReason
from router.models.usage import Usage, total
from router.strategies.base import Candidate, Select, Strategy
from router.strategies.registry import parse_strategy
from router.strategies.selection import Vote
from router.strategies.trace import Trace


@dataclass(frozen=True, slots=True)
class Considered:
    """One configuration that was weighed, with what is expected of it.

    interval: confidence interval of the accuracy, where there is one.
    cost: generations (of the first model) that it spends at most; expected_cost: on average, where
        that is known.
    """

    strategy: Strategy
    cost: float
    expected_accuracy: float | None = None
    interval: tuple[float, float] | None = None
    expected_cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **_fields(self),
            "strategy": str(self.strategy),
            "parameters": self.strategy.to_dict(),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Considered:
        interval = record["interval"]
        return cls(
            parse_strategy(record["strategy"]),
            record["cost"],
            record["expected_accuracy"],
            None if interval is None else (interval[0], interval[1]),
            record.get("expected_cost"),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Which search a problem gets at a budget, and why.

    levels: P(level | problem), level 1 (the easiest) first; None where nothing estimated them.
    expected_accuracy: of that strategy on this problem; None where nothing is known.
    expected_cost: generations that it spends on average; None where that is not known.
    considered: what else could have been chosen, best first.
    models: names of those that the strategy may ask, in its order; empty where there is only one.
    """

    strategy: Strategy
    levels: tuple[float, ...] | None
    expected_accuracy: float | None
    why: str
    considered: tuple[Considered, ...] = ()
    expected_cost: float | None = None
    models: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            **_fields(self),
            "strategy": str(self.strategy),
            "parameters": self.strategy.to_dict(),
            "considered": [one.to_dict() for one in self.considered],
            "models": list(self.models),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Decision:
        levels = record["levels"]
        return cls(
            parse_strategy(record["strategy"]),
            None if levels is None else tuple(levels),
            record["expected_accuracy"],
            record["why"],
            tuple(map(Considered.from_dict, record["considered"])),
            record.get("expected_cost"),
            tuple(record.get("models", ())),
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """A candidate as it is reported: a finished solution, without the models' own records.

    scores: of each step; None where the verifier was not asked.
    tokens: sampled tokens; None where the engine does not say.
    finish: `stop` at the model's own end, `length` where a limit of tokens cut it.
    text: what is said; thoughts: what was thought before, None if no thought is shown. Steps and
        their scores are of both.
    model: that wrote it, by its name in a fleet; empty where there is only one.
    """

    answer: str | None
    scores: tuple[float, ...] | None
    tokens: int | None
    finish: FinishReason
    text: str
    thoughts: str | None = None
    model: str = ""

    @classmethod
    def of(cls, candidate: Candidate) -> Finished:
        chain = candidate.chain
        assert chain.step is not None
        counts = [step.tokens for step in chain.steps]
        thoughts, text = chain.apart
        finish = chain.step.finish
        model = chain.problem.model
        return cls(candidate.answer, candidate.scores, total(counts), finish, text, thoughts, model)

    def to_dict(self) -> dict[str, Any]:
        return _fields(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Finished:
        scores = record["scores"]
        return cls(
            record["answer"],
            None if scores is None else tuple(scores),
            record["tokens"],
            record["finish"],
            record["text"],
            record["thoughts"],
            record.get("model", ""),
        )


@dataclass(frozen=True, slots=True)
class Solution:
    """What a search found for one problem.

    answer: None if no candidate states one; nothing is invented then.
    text: the solution that the answer was taken from, without its thoughts.
    ended: `completed`, or the limit of the budget that ended the search first.
    selection: how the candidates really became one answer.
    votes: every answer that candidates gave, the chosen one first; equal answers are one.
    correct: whether the answer equals the problem's gold answer; None where there is none.
    notes: what the caller asked for and did not get, one sentence each.
    thoughts: what the model thought before `text`; None if it shows no thought.
    trace: the whole search, for drawing; not part of `to_dict`.
    """

    problem_id: str
    answer: str | None
    text: str
    decision: Decision
    usage: Usage
    ended: EndReason
    selection: Select
    votes: tuple[Vote, ...]
    candidates: tuple[Finished, ...]
    correct: bool | None = None
    notes: tuple[str, ...] = ()
    thoughts: str | None = None
    trace: Trace | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            "problem_id": self.problem_id,
            "answer": self.answer,
            "text": self.text,
            "thoughts": self.thoughts,
            "correct": self.correct,
            "decision": self.decision.to_dict(),
            "usage": self.usage.to_dict(),
            "ended": self.ended,
            "selection": self.selection,
            "votes": [vote.to_dict() for vote in self.votes],
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "notes": list(self.notes),
        }

    def trace_dict(self) -> dict[str, Any]:
        """The search as a tree of steps: `nodes` in the order of their appearance."""
        assert self.trace is not None, "a solution read from a file has no trace"
        return {
            "problem_id": self.problem_id,
            "strategy": str(self.decision.strategy),
            "nodes": self.trace.to_list(),
            "dropped": self.trace.dropped,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Solution:
        """Read what `to_dict` wrote.

        Raises:
            KeyError, TypeError: the record is no solution.
        """
        return cls(
            record["problem_id"],
            record["answer"],
            record["text"],
            Decision.from_dict(record["decision"]),
            Usage.from_dict(record["usage"]),
            record["ended"],
            record["selection"],
            tuple(Vote(**vote) for vote in record["votes"]),
            tuple(map(Finished.from_dict, record["candidates"])),
            record["correct"],
            tuple(record["notes"]),
            record["thoughts"],
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A problem of a batch that could not be solved; the others go on."""

    problem_id: str
    error: Exception


def _fields(record: Any) -> dict[str, Any]:
    """As `dataclasses.asdict` of a flat record, which is too slow for hundreds of them."""
    return {name: getattr(record, name) for name in record.__slots__}
