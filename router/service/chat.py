"""`POST /v1/chat/completions`, and the decision alone: `POST /v1/route`."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Final
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import Response

from router.models.types import Problem
from router.service import answers
from router.service.jobs import task_id
from router.service.observe import LogEntry
from router.service.protocol import ChatRequest, RouteRequest
from router.service.searching import Feed, failed, leave, result, settled
from router.service.state import Service, the_service
from router.service.streaming import Chunks, SearchStream

FAILS_EARLY_SECONDS: Final = 0.1
"""A stream waits so long for its first byte that a prompt which is refused gets a status."""

routes = APIRouter()

OURS = Annotated[Service, Depends(the_service)]
BudgetHeader = Annotated[int | None, Header(ge=1)]


@routes.post("/v1/chat/completions")
async def chat(
    body: ChatRequest, request: Request, service: OURS, x_router_budget: BudgetHeader = None
) -> Response:
    """Search for the answer to the last message, and answer as OpenAI's chat API does.

    The budget is that of `router.budget`, else the header's, else that of the model's name.
    """
    entry: LogEntry = request.state.entry
    job = service.desk.job(body, x_router_budget, entry.client, service.engine.require())
    entry.asked(job.problem.text, job.generations)
    feed = Feed(trace=bool(body.stream) and body.router.trace)
    completion_id, created = f"chatcmpl-{uuid4().hex}", int(time.time())
    task = service.searches.start(job, feed)
    try:
        if not body.stream:
            await settled(task, request)
        elif not (await settled(task, request, FAILS_EARLY_SECONDS) and failed(task)):
            usage = bool(body.stream_options and body.stream_options.include_usage)
            chunks = Chunks(completion_id, created, body.model, usage)
            return SearchStream(task, feed, body, chunks, job.generations, entry)
        solution = result(task)
    except BaseException:
        await leave(task)
        entry.spent(feed.usage)
        raise
    entry.solved(solution, job.generations)
    entry.spent(feed.usage)
    return _json(answers.completion(completion_id, created, body.model, solution, job.generations))


@routes.post("/v1/route")
async def route(body: RouteRequest, request: Request, service: OURS) -> dict[str, Any]:
    """Which search a problem would get, and why; samples nothing."""
    service.engine.require()
    entry: LogEntry = request.state.entry
    budget = service.desk.budget((body.budget,), entry.client)
    entry.asked(body.problem, budget)
    problem = Problem.of_text(body.problem, task_id(body.task, "task"))
    decision = await service.engine.router.adecide(
        problem, budget, strategy=body.strategy, tolerance=body.tolerance
    )
    return {"decision": decision.to_dict(), "budget": budget}


def _json(value: dict[str, Any]) -> Response:
    return Response(json.dumps(value), media_type="application/json")
