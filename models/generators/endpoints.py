"""HTTP calls spread over several servers of one model, with retries and bounded concurrency."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.request import getproxies, proxy_bypass

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


_TEMPLATE = re.compile(r"jinja|raise_exception|chat.?template|\broles?\b", re.IGNORECASE)
_CONTEXT = re.compile(r"context.(length|size|window)", re.IGNORECASE)


class HTTPFailure(EngineError):
    """A server refused a call for good; `status` is its HTTP status, `reason` its own words."""

    def __init__(self, message: str, status: int, reason: str = "") -> None:
        super().__init__(message, reason)
        self.status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type[HTTPFailure], tuple[str, int, str]]:
        return type(self), (str(self), self.status, self.reason)

    @property
    def denied(self) -> bool:
        """Whether the key is at fault, and no other request would fare better."""
        return self.status in (401, 403)

    @property
    def by_template(self) -> bool:
        """Whether the model's chat template refused the turns."""
        return not self.denied and _TEMPLATE.search(self.reason) is not None

    @property
    def by_context(self) -> bool:
        """Whether the prompt does not fit the model's context."""
        return self.status in (400, 413, 422) and _CONTEXT.search(self.reason) is not None


@dataclass(eq=False)
class _Endpoint:
    """One server.

    root: its URL without `/v1`. proxy: what stands before it. ready_at: rests until then
    (monotonic).
    """

    root: httpx.URL
    proxy: httpx.URL | None
    in_flight: int = 0
    ready_at: float = 0.0

    @property
    def label(self) -> str:
        """The URL without user name and password."""
        return _bare(self.root)

    @property
    def by_way_of(self) -> str:
        """Names the proxy, in messages."""
        return f" (through the proxy {_bare(self.proxy)})" if self.proxy else ""

    def wait(self) -> float:
        """Seconds until it may be called again."""
        return max(0.0, self.ready_at - time.monotonic())


class EndpointPool:
    """Sends each call to the endpoint that is ready and has the fewest in flight.

    Connection errors, timeouts, 429 and 5xx rest the endpoint (for as long as `Retry-After` says,
    if it does) and move the call to another one. Endpoints on this machine are called directly,
    whatever proxy the environment names. Use it from one event loop.

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
        self._endpoints = [_Endpoint(root, _proxy(root)) for root in map(_root, endpoints)]
        self._free = asyncio.Semaphore(CONCURRENCY * len(endpoints))
        silence = TIMEOUT if timeout is None else timeout
        limits = httpx.Limits(max_connections=None)
        trusted = httpx.create_ssl_context()
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            timeout=httpx.Timeout(silence, connect=min(silence, 5.0), pool=None),
            limits=limits,
            verify=trusted,
            transport=transport,
            mounts={} if transport else _proxies(self._endpoints, trusted, limits),
            trust_env=False,  # it would put the environment's proxies before this machine too
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
            HTTPFailure: a status of 400 to 499 other than 429, or a chat template's refusal;
                neither is tried again.
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
        message = f"{failure} (tried {ATTEMPTS} times)"
        raise EngineError(message, failure.said) from failure.__cause__

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _try(
        self, endpoint: _Endpoint, method: str, path: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        url = f"{str(endpoint.root).rstrip('/')}/{path}"
        shown = f"{endpoint.label.rstrip('/')}/{path}{endpoint.by_way_of}"
        try:
            response = await self._client.request(method, url, json=body)
        except httpx.RequestError as error:
            lost = EngineError(f"{method} {shown} failed: {str(error) or type(error).__name__}")
            lost.__cause__ = error
            raise _Retryable(lost) from error
        if response.is_success:
            return _json_object(response, shown)
        reason = _reason(response)
        message = f"{method} {shown} answered {response.status_code}: {reason or 'no text'}"
        failure = HTTPFailure(message, response.status_code, reason)
        # 501 is for what it does not have; llama.cpp answers 500 where a chat template refuses.
        lasting = response.status_code == 501 or failure.by_template
        passing = response.is_server_error and not lasting
        if passing or response.status_code == 429:
            raise _Retryable(failure, _retry_after(response))
        raise failure


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


def _bare(url: httpx.URL) -> str:
    return str(url.copy_with(userinfo=b""))


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or number alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _proxy(root: httpx.URL) -> httpx.URL | None:
    """The proxy that the environment puts before a server; never one before this machine.

    Raises:
        InputError: it is no URL.
    """
    if _is_loopback(root.host) or proxy_bypass(root.host):
        return None
    proxies = getproxies()
    found = proxies.get(root.scheme) or proxies.get("all")
    if not found:
        return None
    try:
        return httpx.URL(found if "://" in found else f"http://{found}")
    except httpx.InvalidURL as error:
        raise InputError(
            f"the environment's proxy before {root.host} is no URL: {error}; change it, or add "
            f"{root.host} to NO_PROXY"
        ) from error


def _proxies(
    endpoints: Sequence[_Endpoint], trusted: ssl.SSLContext, limits: httpx.Limits
) -> dict[str, httpx.AsyncBaseTransport]:
    """What carries calls to endpoints behind a proxy, by URL pattern.

    Raises:
        InputError: a proxy that cannot be used.
    """
    mounts: dict[str, httpx.AsyncBaseTransport] = {}
    for one in endpoints:
        if one.proxy is None:
            continue
        pattern = str(one.root.copy_with(scheme="all", path="/", userinfo=b""))
        try:
            mounts[pattern] = httpx.AsyncHTTPTransport(
                verify=trusted, limits=limits, proxy=one.proxy
            )
        except (ImportError, ValueError) as error:
            raise InputError(
                f"endpoint {one.label} cannot be called{one.by_way_of}: {error}; change the "
                f"environment's proxy, or add {one.root.host} to NO_PROXY"
            ) from error
    return mounts


def _json_object(response: httpx.Response, shown: str) -> dict[str, Any]:
    try:
        answer = response.json()
    except (ValueError, RecursionError) as error:
        start = _start(response)
        raise EngineError(f"{shown} answered what is not JSON: {start!r}", repr(start)) from error
    if not isinstance(answer, dict):
        start = repr(_start(response)[:80])
        raise EngineError(f"{shown} answered JSON that is not an object: {start}", start)
    return answer


def _start(response: httpx.Response) -> str:
    """The beginning of a body on one line; of a long one, no more is looked at."""
    return " ".join(response.text[: 4 * _BODY_SHOWN].split())[:_BODY_SHOWN]


def _reason(response: httpx.Response) -> str:
    """Why a server refuses, in its own words: those of its error object, else the body's start.

    Of a template's error, what the template itself says: llama.cpp quotes its source first.
    """
    try:
        said = response.json()
        while isinstance(said, dict):
            said = next((said[key] for key in ("error", "message", "detail") if key in said), None)
    except (ValueError, RecursionError):
        said = None
    text = said if isinstance(said, str) else _start(response)
    return " ".join(text[max(0, text.rfind("Jinja Exception:")) :].split())[:_BODY_SHOWN]


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
