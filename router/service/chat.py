"""`POST /v1/chat/completions`, and the decision alone: `POST /v1/route`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from starlette.responses import Response

from router.models.types import Problem
from router.service.answers import LINE, Reply, brief, pieces
from router.service.errors import ServiceError
from router.service.jobs import strategy, task_id
from router.service.observe import LogEntry
from router.service.protocol import ChatRequest, RouteRequest
from router.service.solving import OURS, BudgetHeader, respond
from router.service.streaming import DONE, Writer, data

routes = APIRouter()


@routes.post("/v1/chat/completions")
async def chat(
    body: ChatRequest, request: Request, service: OURS, x_router_budget: BudgetHeader = None
) -> Response:
    """Search for the answer to the last message, and answer as OpenAI's chat API does.

    The budget is that of `router.budget`, else the header's, else that of the model's name, else
    that of `reasoning_effort`.
    """
    writer = ChatWriter(body)
    return await respond(
        [body.asked()], writer, request, service, x_router_budget, stream=bool(body.stream)
    )


@routes.post("/v1/route")
async def route(body: RouteRequest, request: Request, service: OURS) -> dict[str, Any]:
    """Which search a problem would get, and why; samples nothing."""
    models = service.engine.require()
    entry: LogEntry = request.state.entry
    budget = service.desk.budget((body.budget,), entry.client)
    entry.asked(body.problem, budget)
    problem = Problem.of_text(body.problem, task_id(body.task, "task"))
    chosen = strategy(body.strategy, budget, models, "strategy")
    give_up_at = time.monotonic() + service.settings.deadline
    async with service.decisions.place(entry.client.key, 1, give_up_at):
        decision = await service.engine.router.adecide(
            problem,
            budget,
            strategy=chosen,
            tolerance=body.tolerance,
            price=service.averages.price(entry.client.key, budget),
        )
    return {"decision": decision.to_dict(), "budget": budget}


@dataclass(frozen=True)
class ChatWriter(Writer):
    """Writes `chat.completion` and `chat.completion.chunk` objects."""

    asked: ChatRequest
    completion_id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answers: Sequence[Reply]) -> dict[str, Any]:
        [answer] = answers
        message = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
        if answer.thoughts is not None:
            message["reasoning_content"] = answer.thoughts
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": answer.tokens and answer.tokens.to_dict(),
            "router": answer.found,
        }

    def start(self) -> Iterator[bytes]:
        yield self._delta({"role": "assistant", "content": ""})

    def progress(self, text: str) -> bytes:
        if self.asked.router.reasoning:
            return self._delta({"reasoning_content": text + "\n"})
        return super().progress(text)

    def event(self, event: dict[str, Any]) -> Iterator[bytes]:
        """As `router` of chunks without choices; what is too long for a line, in parts of JSON."""
        text = json.dumps(event)
        if len(text) <= LINE:
            yield self._chunk([], router=event)
            return
        parts = list(pieces(text, LINE // 2))  # quotes and backslashes are doubled
        for at, part in enumerate(parts, 1):
            yield self._chunk([], router={"event": "part", "text": part, "last": at == len(parts)})

    def answer(self, answer: Reply) -> Iterator[bytes]:
        traced = self.asked.router.trace
        if traced:
            yield from self.event({"event": "spend", "usage": answer.found["usage"]})
            yield from self.event({"event": "solution", "solution": answer.found})
        for kind, text in (
            ("reasoning_content", answer.thoughts),
            ("content", answer.text),
            ("refusal", answer.refusal),
        ):
            for piece in pieces(text or ""):
                yield self._delta({kind: piece})
        own = {} if traced else {"router": brief(answer.found)}
        yield self._delta({}, answer.finish, **own)
        if self.asked.include_usage:
            yield self._chunk([], usage=answer.tokens and answer.tokens.to_dict())
        yield DONE

    def failure(self, failure: ServiceError) -> Iterator[bytes]:
        yield data(failure.to_dict())
        yield DONE

    def _delta(self, delta: dict[str, Any], finish: str | None = None, **further: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._chunk([choice], **further)

    def _chunk(self, choices: list[Any], **further: Any) -> bytes:
        usage = {"usage": None} if self.asked.include_usage else {}
        head = self._head("chat.completion.chunk")
        return data({**head, "choices": choices, **usage, **further})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created,
            "model": self.asked.model,
        }
