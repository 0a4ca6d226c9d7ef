"""How a conversation becomes a problem.

The last message, which must be the user's, is the problem. Earlier turns of user and assistant are
put before it, through the model's own chat template. System and developer messages are joined into
one system text, followed by the prompt's own, which asks for the layout that answers are read
from: without it, candidates could not vote. Nothing is dropped but empty turns of the assistant at
the end, by which some clients ask it to speak; what cannot be put so is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from router.models.types import Message, Problem
from router.service.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation. field: of the body, that holds its text."""

    role: Literal["system", "developer", "user", "assistant"]
    text: str
    field: str


def problem_of(turns: Sequence[Turn], own_system: str | None) -> Problem:
    """The problem that a conversation states.

    own_system: the prompt's own system text, if it has one.

    Raises:
        ServiceError: the last message is not the user's, or it is empty.
    """
    *earlier, last = _asked(turns)
    if last.role != "user":
        raise ServiceError(
            400,
            f"the last message must be the user's, which is the problem; it is {last.role!r}",
            "invalid_value",
            f"{last.field.removesuffix('.content')}.role",
        )
    if not last.text.strip():
        raise ServiceError(
            400,
            f"the last message, which is the problem, is empty ({last.field})",
            "invalid_value",
            last.field,
        )
    system = [turn.text for turn in earlier if turn.role in ("system", "developer")]
    history = [
        Message(turn.role, turn.text) for turn in earlier if turn.role in ("user", "assistant")
    ]
    if system:
        text = "\n\n".join([*system, own_system] if own_system else system)
        history.insert(0, Message("system", text))
    # Seeds are mixed with the id, so it stands for everything that was said.
    said = json.dumps([[turn.role, turn.content] for turn in history] + [last.text])
    return Problem(
        hashlib.sha256(said.encode()).hexdigest()[:12], last.text, history=tuple(history)
    )


def _asked(turns: Sequence[Turn]) -> list[Turn]:
    left = list(turns)
    while len(left) > 1 and left[-1].role == "assistant" and not left[-1].text.strip():
        left.pop()
    return left
