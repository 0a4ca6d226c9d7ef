"""One log line and one count for each request, whatever becomes of it."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.models.usage import Usage
from router.records import Solution
from router.service.errors import ClientGone, ServiceError, described
from router.service.keys import Client
from router.service.metrics import Metrics

log = logging.getLogger("router.service")

_REQUEST_ID: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)

_SECURITY: Final = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@dataclass
class LogEntry:
    """What will be logged of one request.

    facts: whatever is known of it; prompts: whether problems and answers may be among them.
    """

    request_id: str
    prompts: bool
    client: Client = field(default_factory=Client)
    facts: dict[str, Any] = field(default_factory=dict)
    error: ServiceError | None = None

    def asked(self, problem: str, budget: int) -> None:
        """A search was asked for."""
        self.facts["budget"] = budget
        if self.prompts:
            self.facts["problem"] = problem

    def solved(self, solution: Solution, budget: int) -> None:
        """The search has ended well."""
        self.facts |= {
            "budget": budget,
            "strategy": str(solution.decision.strategy),
            "ended": solution.ended,
        }
        if self.prompts:
            self.facts |= {"answer": solution.answer, "text": solution.text}

    def spent(self, usage: Usage | None) -> None:
        """What its search has spent, well ended or not; None where none has begun."""
        if usage is not None:
            self.facts |= {
                "generations": usage.generations,
                "sampled_tokens": usage.sampled_tokens,
                "search_seconds": round(usage.seconds, 4),
                "lower_bound": usage.lower_bound,
            }

    def client_gone(self) -> None:
        """The client has left before the end."""
        self.error = self.error or ClientGone()

    def failed(self, failure: ServiceError, cause: Exception) -> None:
        """It gets `failure` for an answer. A bug is logged where it happened."""
        self.error = failure
        if failure.status == 500:
            log.error("internal error", exc_info=cause, extra={"facts": self._who()})

    def _who(self) -> dict[str, Any]:
        return {"request_id": self.request_id, "key": self.client.key}


class Envelope:
    """The outermost layer: an id for every request, an answer to every failure, a log line.

    A client's own `x-request-id` is kept if it is short and plain.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, prompts: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._prompts = prompts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        wanted = Headers(scope=scope).get("x-request-id", "")
        entry = LogEntry(wanted if _REQUEST_ID.fullmatch(wanted) else uuid4().hex, self._prompts)
        scope.setdefault("state", {})["entry"] = entry
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(
                    {"x-request-id": entry.request_id, **_SECURITY}
                )
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            failure = described(error)
            entry.failed(failure, error)
            if not status:
                await failure.response()(scope, receive, sending)
        finally:
            self._note(scope, entry, status, time.perf_counter() - started)

    def _note(self, scope: Scope, entry: LogEntry, status: int, seconds: float) -> None:
        if not status:
            entry.client_gone()  # the task was cancelled
        error = entry.error
        outcome = "ok" if error is None else error.code or str(error.status)
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.request(route, outcome, seconds)
        facts = {
            **entry._who(),
            "method": scope["method"],
            "route": route,
            "status": error.status if error else status,
            "outcome": outcome,
            "seconds": round(seconds, 4),
            **entry.facts,
        }
        log.info("request", extra={"facts": facts})
