"""From a solution to what every API says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from router.models.types import FinishReason
from router.records import Finished, Solution
from router.service.structured import Form

SMALL: Final = 64_000
"""Characters of all candidates' texts together; with more, they are left out."""

LINE: Final = 12_000
"""Characters of one object in a stream: some clients take no line much longer."""

PIECE: Final = 1_000
"""Characters of a piece of text in a stream; JSON may need twelve bytes for one."""

Finish = Literal["stop", "length"]
_FINISH: Final[dict[FinishReason, Finish]] = {"stop": "stop", "length": "length", "step": "length"}


@dataclass(frozen=True)
class Reply:
    """What a client is told of one solution.

    text: the solution; with a form, the JSON that holds the answer; None where nothing fits it.
    refusal: why there is no text. thoughts: what was thought before; None if nothing shows.
    finish: `length` where a limit of tokens cut the text that is shown.
    tokens: of the whole search; None where the engine does not report them.
    found: the field `router`: decision, spend, votes and candidates.
    """

    text: str | None
    refusal: str | None
    thoughts: str | None
    finish: Finish
    tokens: Tokens | None
    found: dict[str, Any]

    @classmethod
    def of(cls, solution: Solution, budget: int, form: Form | None = None) -> Reply:
        """The answer that a solution is. budget: generations that were allowed."""
        text: str | None = solution.text
        if form is not None:
            text = form.filled(solution.answer)
        refusal = "the search found no answer that fits the schema" if text is None else None
        return cls(
            text=text,
            refusal=refusal,
            thoughts=solution.thoughts,
            finish=_FINISH[winner(solution).finish] if form is None else "stop",
            tokens=Tokens.of(solution),
            found=summary(solution, budget),
        )


@dataclass(frozen=True)
class Tokens:
    """What a search read and wrote. own: what was sampled of the text that is shown, if known."""

    prompt: int
    cached: int | None
    sampled: int
    own: int | None

    @classmethod
    def of(cls, solution: Solution) -> Tokens | None:
        """Those of a whole search; None where the engine does not report them."""
        spent = solution.usage
        if spent.sampled_tokens is None or spent.prompt_tokens is None:
            return None
        own = winner(solution).tokens
        return cls(spent.prompt_tokens, spent.prompt_tokens_cached, spent.sampled_tokens, own)

    @property
    def hidden(self) -> int | None:
        """OpenAI's reasoning tokens: sampled, and not shown."""
        return None if self.own is None else max(0, self.sampled - self.own)

    def to_dict(self) -> dict[str, Any]:
        """OpenAI's usage object, with `winner_tokens` beside its own details."""
        details = {"winner_tokens": self.own, "reasoning_tokens": self.hidden}
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.sampled,
            "total_tokens": self.prompt + self.sampled,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {} if self.own is None else details,
        }


def summary(solution: Solution, budget: int) -> dict[str, Any]:
    """The field `router`: decision, spend, votes and candidates of one search."""
    candidates = [candidate.to_dict() for candidate in solution.candidates]
    if sum(len(c.text) + len(c.thoughts or "") for c in solution.candidates) > SMALL:
        candidates = [_without_text(candidate) for candidate in candidates]
    return {
        "answer": solution.answer,
        "budget": budget,
        "decision": solution.decision.to_dict(),
        "usage": solution.usage.to_dict(),
        "ended": solution.ended,
        "selection": solution.selection,
        "votes": [vote.to_dict() for vote in solution.votes],
        "candidates": candidates,
        "notes": list(solution.notes),
    }


def winner(solution: Solution) -> Finished:
    """The candidate that is shown."""
    shown = solution.text, solution.thoughts
    return next(c for c in solution.candidates if (c.text, c.thoughts) == shown)


def brief(found: dict[str, Any]) -> dict[str, Any]:
    """As much of the field `router` as goes into one line of a stream."""
    return next((less for less in _ever_less(found) if len(json.dumps(less)) <= LINE), {})


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """A text cut for a stream."""
    return (text[at : at + size] for at in range(0, len(text), size))


def _ever_less(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield found
    yield {**found, "candidates": list(map(_without_text, found["candidates"]))}
    less = {**found, "decision": {**found["decision"], "considered": []}}
    for name in ("candidates", "votes", "answer"):
        del less[name]
        yield dict(less)


def _without_text(candidate: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in candidate.items() if name not in ("text", "thoughts")}
