"""From a solution to OpenAI's response objects."""

from __future__ import annotations

from typing import Any, Final

from router.models.types import FinishReason
from router.records import Finished, Solution

SMALL: Final = 64_000
"""Characters of all candidates' texts together; with more, they are left out."""

_FINISH: Final[dict[FinishReason, str]] = {"stop": "stop", "length": "length", "step": "length"}


def summary(solution: Solution, budget: int) -> dict[str, Any]:
    """The field `router`: decision, spend, votes and candidates of one search."""
    candidates = [candidate.to_dict() for candidate in solution.candidates]
    if sum(len(candidate.text) for candidate in solution.candidates) > SMALL:
        for candidate in candidates:
            del candidate["text"]
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


def usage(solution: Solution) -> dict[str, Any] | None:
    """Tokens of the whole search; None where the engine does not report them.

    The winner's own tokens are `winner_tokens`; the rest of the completion is `reasoning_tokens`,
    OpenAI's name for tokens that were sampled and are not shown.
    """
    spent = solution.usage
    if spent.sampled_tokens is None or spent.prompt_tokens is None:
        return None
    details = {}
    own = winner(solution).tokens
    if own is not None:
        details = {"winner_tokens": own, "reasoning_tokens": max(0, spent.sampled_tokens - own)}
    return {
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.sampled_tokens,
        "total_tokens": spent.prompt_tokens + spent.sampled_tokens,
        "prompt_tokens_details": {"cached_tokens": spent.prompt_tokens_cached},
        "completion_tokens_details": details,
    }


def winner(solution: Solution) -> Finished:
    """The candidate that is shown."""
    shown = solution.text, solution.thoughts
    return next(c for c in solution.candidates if (c.text, c.thoughts) == shown)


def finish_reason(solution: Solution) -> str:
    """`stop`, or `length` where a limit of tokens cut the text that is shown."""
    return _FINISH[winner(solution).finish]


def completion(
    completion_id: str, created: int, model: str, solution: Solution, budget: int
) -> dict[str, Any]:
    """A `chat.completion`."""
    message = {"role": "assistant", "content": solution.text, "refusal": None}
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": finish_reason(solution),
            }
        ],
        "usage": usage(solution),
        "router": summary(solution, budget),
    }
