"""Every failure as the OpenAI API states it: a status, and `{"error": {message, type, …}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from router.models.errors import EngineError, InputError, NoCandidates, VerifierError
from router.models.generators.endpoints import HTTPFailure

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

NO_RETRY: Final = {"x-should-retry": "false"}
"""Tells OpenAI's clients not to send the request again, which would pay for the search again."""

RETRY_SECONDS: Final = 5

LONGEST_MESSAGE: Final = 1000
LONGEST_PARAM: Final = 200
"""Characters: what was sent may be quoted, and may be a megabyte."""


class ServiceError(Exception):
    """A request that gets no answer.

    message: what is wrong and the way out; shown to the client, so without internals.
    code: stable name of the error; param: the offending field of the body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(_shortened(message, LONGEST_MESSAGE))
        self.status = status
        self.code = code
        self.param = param and _shortened(param, LONGEST_PARAM)
        self.headers = headers

    def to_dict(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": str(self),
                "type": _TYPES.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> Response:
        # ASCII: a message may quote half of a surrogate pair, which UTF-8 cannot hold.
        return Response(
            json.dumps(self.to_dict()),
            self.status,
            dict(self.headers or {}),
            media_type="application/json",
        )


class ClientGone(ServiceError):
    """Nobody waits for the answer any more; 499 is nginx's status for it, seen in logs only."""

    def __init__(self) -> None:
        super().__init__(499, "the client closed the connection", "client_gone")


def shutting_down() -> ServiceError:
    """For searches that are ended because the server is."""
    return ServiceError(
        503, "this server is shutting down; try again", "shutting_down", headers=_retry()
    )


def not_ready(why: str) -> ServiceError:
    """For requests that need models which do not answer."""
    return ServiceError(503, f"{why}; try again", "not_ready", headers=_retry())


def described(error: Exception) -> ServiceError:
    """What the client is told of any failure; 500 without a reason for those that are bugs."""
    match error:
        case ServiceError():
            return error
        case InputError():
            return ServiceError(400, str(error), "invalid_value", "router")
        case NoCandidates(ended="deadline"):
            message = "the deadline passed before one solution was finished; try a smaller budget"
            return ServiceError(504, message, "deadline_exceeded", "router.deadline", NO_RETRY)
        case NoCandidates():
            message = f"the search ended ({error.ended}) before one solution was finished; raise"
            field = "router.token_cap" if error.ended == "tokens" else "router.budget"
            return ServiceError(422, f"{message} its limits", "no_solution", field)
        case HTTPFailure():
            # Most often a prompt that is too long for a server that does not say its context.
            status = 400 if error.status in (400, 413, 422) else 502
            message = "the engine refused the request"
            return ServiceError(status, message, "engine_refused", "messages")
        case EngineError() | VerifierError():
            message = "the engine failed; try again"
            return ServiceError(503, message, "engine_failed", headers=_retry())
        case _:
            message = "internal error; the server's log has it by its x-request-id"
            return ServiceError(500, message, "internal_error")


def _shortened(text: str, most: int) -> str:
    """The beginning and the end of a long text."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"


def _retry() -> dict[str, str]:
    return {"Retry-After": str(RETRY_SECONDS)}
