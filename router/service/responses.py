"""`POST /v1/responses`: OpenAI's newer API. Text goes in and comes out; nothing is stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Discriminator, Field, Tag
from starlette.responses import Response

from router.service.conversation import Turn
from router.service.errors import ServiceError
from router.service.fields import unsupported
from router.service.protocol import (
    MAX_MESSAGES,
    Ask,
    Body,
    Limit,
    Parts,
    SearchBody,
    Text,
    listed,
    said,
)
from router.service.response_events import ResponseWriter
from router.service.settings import Effort
from router.service.solving import OURS, BudgetHeader, respond
from router.service.structured import form_of

routes = APIRouter()


class Item(Body):
    """One item of the input: a message, or what a model had thought, which is left out."""

    model_config = ConfigDict(extra="allow")

    type: Text = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Parts = None

    def turn(self, where: str) -> Turn | None:
        """It as a turn; None for thoughts.

        Raises:
            ServiceError: it is something else, or holds something else than text.
        """
        if self.type == "reasoning":
            return None
        if self.type != "message":
            raise unsupported(f"{where}.type", "only messages are understood here")
        if self.role is None:
            field = f"{where}.role"
            raise ServiceError(400, f"{field} is required", "invalid_value", field)
        for name, value in (self.model_extra or {}).items():
            if name not in ("id", "status", "phase", "name") and value not in (None, "", [], {}):
                raise unsupported(f"{where}.{name}")
        return Turn(self.role, said(self.content, f"{where}.content"), f"{where}.content")


class Reasoning(Body):
    """effort: stands for a budget. What is said of summaries changes nothing."""

    effort: Effort | None = None
    summary: Text | None = None
    generate_summary: Text | None = None
    context: Text | None = None
    mode: Literal["standard"] | None = None


class TextOptions(Body):
    """format: plain text, or JSON that holds the answer."""

    format: dict[str, Any] | None = None
    verbosity: Text | None = None


_Items = Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
Input = Annotated[
    Annotated[Text, Tag("one")] | Annotated[_Items, Tag("list")], Discriminator(listed)
]


class ResponseRequest(SearchBody):
    """The body of `POST /v1/responses`."""

    input: Input
    instructions: Text | None = None
    max_output_tokens: Limit = None
    reasoning: Reasoning | None = None
    text: TextOptions | None = None

    def asked(self) -> Ask:
        """What is asked for.

        Raises:
            ServiceError: what cannot be honoured.
        """
        self.refuse_events("/v1/chat/completions")
        turns = [Turn("system", self.instructions, "instructions")] if self.instructions else []
        if isinstance(self.input, str):
            turns.append(Turn("user", self.input, "input"))
        else:
            items = [item.turn(f"input[{at}]") for at, item in enumerate(self.input)]
            turns += [turn for turn in items if turn is not None]
        if not turns:
            raise ServiceError(400, "input holds no message", "invalid_value", "input")
        return self.ask(
            turns,
            effort=self.reasoning.effort if self.reasoning else None,
            form=form_of((self.text and self.text.format) or {}, "text.format"),
            max_tokens=self.max_output_tokens,
        )

    def echoed(self) -> dict[str, Any]:
        """What a response says of its request."""
        form = (self.text and self.text.format) or {"type": "text"}
        reasoning = self.reasoning or Reasoning()
        return {
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": (self.model_extra or {}).get("metadata") or {},
            "model": self.model,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "reasoning": {"effort": reasoning.effort, "summary": None},
            "store": False,
            "temperature": self.temperature,
            "text": {"format": form},
            "tool_choice": "none",
            "tools": [],
            "top_p": self.top_p,
            "truncation": "disabled",
        }


@routes.post("/v1/responses")
async def responses(
    body: ResponseRequest, request: Request, service: OURS, x_router_budget: BudgetHeader = None
) -> Response:
    """Search for the answer to the last message, and answer as OpenAI's responses API does."""
    writer = ResponseWriter(body.echoed())
    return await respond(
        [body.asked()], writer, request, service, x_router_budget, stream=bool(body.stream)
    )
