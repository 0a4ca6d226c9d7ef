"""HTTP calls spread over several servers of one model, with retries and bounded concurrency."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from router.models.errors import EngineError, InputError

ATTEMPTS = 5
"""Tries of one call, over all endpoints."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 60.0
"""Seconds that an endpoint rests after a failure: doubled at each try of a call, plus jitter."""

TIMEOUT = 300.0
"""Seconds that a server may stay silent: a whole solution comes in one piece."""

CONCURRENCY = 64
"""Calls in flight at one endpoint."""

_BODY_SHOWN = 300


class HTTPFailure(EngineError):
    """A server refused a call for good; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[HTTPFailure], tuple[str, int]]:
        return type(self), (str(self), self.status)


@dataclass(eq=False)
class _Endpoint:
    """One server. `root`: its URL without `/v1`; `ready_at`: rests until then (monotonic)."""

    root: httpx.URL
    in_flight: int = 0
    ready_at: float = 0.0

    @property
    def label(self) -> str:
        """The URL without user name and password."""
        return str(self.root.copy_with(userinfo=b""))

    def wait(self) -> float:
        """Seconds until it may be called again."""
        return max(0.0, self.ready_at - time.monotonic())


class EndpointPool:
    """Sends each call to the endpoint that is ready and has the fewest in flight.

    Connection errors, timeouts, 429 and 5xx rest the endpoint (for as long as `Retry-After` says,
    if it does) and move the call to another one. Use it from one event loop.

    timeout: seconds that a server may stay silent during one try; None is `TIMEOUT`.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not endpoints:
            raise InputError("no endpoint was given; name one such as http://localhost:8000/v1")
        self._endpoints = [_Endpoint(_root(url)) for url in endpoints]
        self._free = asyncio.Semaphore(CONCURRENCY * len(endpoints))
        silence = TIMEOUT if timeout is None else timeout
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            timeout=httpx.Timeout(silence, connect=min(silence, 5.0), pool=None),
            limits=httpx.Limits(max_connections=None),
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"EndpointPool({', '.join(endpoint.label for endpoint in self._endpoints)})"

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The JSON object that one of the endpoints answers. Cancelling closes the request.

        path: below the server's root, e.g. `v1/completions`.

        Raises:
            EngineError: every try failed, or the answer is not a JSON object.
            HTTPFailure: a status of 400 to 499 other than 429, which is not tried again.
        """
        failure: EngineError | None = None
        async with self._free:
            for attempt in range(ATTEMPTS):
                endpoint = min(self._endpoints, key=lambda one: (one.wait(), one.in_flight))
                endpoint.in_flight += 1
                try:
                    await asyncio.sleep(endpoint.wait())
                    return await self._try(endpoint, method, path, body)
                except _Retryable as error:
                    failure = error.failure
                    pause = FIRST_DELAY * 2**attempt * random.uniform(1.0, 1.5)
                    pause = min(error.retry_after or pause, LONGEST_DELAY)
                    endpoint.ready_at = max(endpoint.ready_at, time.monotonic() + pause)
                finally:
                    endpoint.in_flight -= 1
        assert failure is not None
        raise EngineError(f"{failure} (tried {ATTEMPTS} times)") from failure.__cause__

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _try(
        self, endpoint: _Endpoint, method: str, path: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        url = f"{str(endpoint.root).rstrip('/')}/{path}"
        shown = f"{endpoint.label.rstrip('/')}/{path}"
        try:
            response = await self._client.request(method, url, json=body)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            failure = EngineError(f"{method} {shown} failed: {reason}")
            failure.__cause__ = error
            raise _Retryable(failure) from error
        if response.is_success:
            return _json_object(response, shown)
        text = " ".join(response.text.split())[:_BODY_SHOWN]
        message = f"{method} {shown} answered {response.status_code}: {text or 'no text'}"
        if response.status_code == 429 or response.is_server_error:
            raise _Retryable(EngineError(message), _retry_after(response))
        raise HTTPFailure(message, response.status_code)


class _Retryable(Exception):
    """A failure that another try may mend."""

    def __init__(self, failure: EngineError, retry_after: float | None = None) -> None:
        self.failure = failure
        self.retry_after = retry_after


def _root(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InputError(f"endpoint {url!r} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InputError(f"endpoint {url!r} is not a URL such as http://localhost:8000/v1")
    return parsed.copy_with(path=parsed.path.rstrip("/").removesuffix("/v1") or "/")


def _json_object(response: httpx.Response, shown: str) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError as error:
        start = " ".join(response.text.split())[:_BODY_SHOWN]
        raise EngineError(f"{shown} answered what is not JSON: {start!r}") from error
    if not isinstance(answer, dict):
        raise EngineError(f"{shown} answered JSON that is not an object: {str(answer)[:80]!r}")
    return answer


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of the header `Retry-After`, which holds a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
