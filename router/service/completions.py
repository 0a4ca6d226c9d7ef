"""`POST /v1/completions`: OpenAI's older API, in which a problem is a prompt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from uuid import uuid4

from fastapi import APIRouter, Request
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from router.service.answers import Reply, brief, pieces
from router.service.conversation import Turn
from router.service.errors import ServiceError
from router.service.fields import unsupported
from router.service.protocol import Ask, Limit, SearchBody, Text, listed
from router.service.settings import Effort
from router.service.solving import OURS, BudgetHeader, respond
from router.service.streaming import DONE, Writer, data

MAX_PROMPTS: Final = 64

routes = APIRouter()

_Several = Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
Prompts = Annotated[
    Annotated[Text, Tag("one")] | Annotated[_Several, Tag("list")], Discriminator(listed)
]


class CompletionRequest(SearchBody):
    """The body of `POST /v1/completions`. Each prompt is a problem, and has a search of its own."""

    prompt: Prompts
    max_tokens: Limit = None
    reasoning_effort: Effort | None = None

    def asked(self) -> list[Ask]:
        """What is asked for, a search a prompt.

        Raises:
            ServiceError: what cannot be honoured.
        """
        self.refuse_events("/v1/chat/completions")
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if self.stream and len(prompts) > 1:
            raise unsupported("stream", "with several prompts, take the whole answers")
        return [
            self.ask(
                [
                    Turn(
                        "user",
                        prompt,
                        "prompt" if isinstance(self.prompt, str) else f"prompt[{at}]",
                    )
                ],
                effort=self.reasoning_effort,
                max_tokens=self.max_tokens,
            )
            for at, prompt in enumerate(prompts)
        ]


@routes.post("/v1/completions")
async def completions(
    body: CompletionRequest, request: Request, service: OURS, x_router_budget: BudgetHeader = None
) -> Response:
    """Search for the answer to each prompt, and answer as OpenAI's completions API does."""
    writer = CompletionWriter(body)
    return await respond(
        body.asked(), writer, request, service, x_router_budget, stream=bool(body.stream)
    )


@dataclass(frozen=True)
class CompletionWriter(Writer):
    """Writes `text_completion` objects."""

    asked: CompletionRequest
    completion_id: str = field(default_factory=lambda: f"cmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Reply]) -> dict[str, Any]:
        choices = [
            _choice(at, answer.text or "", answer.finish) for at, answer in enumerate(answers)
        ]
        for choice, answer in zip(choices, answers, strict=True):
            choice["router"] = answer.found
        return {**self._head(), "choices": choices, "usage": _usage(answers)}

    def start(self) -> Iterator[bytes]:
        yield self._chunk([_choice(0, "", None)])

    def answer(self, answer: Reply) -> Iterator[bytes]:
        for piece in pieces(answer.text or ""):
            yield self._chunk([_choice(0, piece, None)])
        yield self._chunk([{**_choice(0, "", answer.finish), "router": brief(answer.found)}])
        if self.asked.include_usage:
            yield self._chunk([], usage=_usage([answer]))
        yield DONE

    def failure(self, failure: ServiceError) -> Iterator[bytes]:
        yield data(failure.to_dict())
        yield DONE

    def _chunk(self, choices: list[Any], **further: Any) -> bytes:
        usage = {"usage": None} if self.asked.include_usage else {}
        return data({**self._head(), "choices": choices, **usage, **further})

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.completion_id,
            "object": "text_completion",
            "created": self.created,
            "model": self.asked.model,
        }


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _usage(answers: Sequence[Reply]) -> dict[str, int] | None:
    """Of all searches; None where the engine does not report tokens of one."""
    known = [answer.tokens for answer in answers if answer.tokens is not None]
    if len(known) < len(answers):
        return None
    prompt, sampled = sum(one.prompt for one in known), sum(one.sampled for one in known)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": sampled,
        "total_tokens": prompt + sampled,
    }
