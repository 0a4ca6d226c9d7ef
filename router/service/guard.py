"""What every request must pass before it is looked at: its host, its key, its size."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from itertools import islice
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.service.errors import ClientGone, ServiceError
from router.service.keys import Client
from router.service.rates import Rate
from router.service.settings import Settings

PUBLIC: Final = frozenset({"/", "/health", "/ready", "/version", "/metrics"})
PUBLIC_FILES: Final = "/page/"

BODY_SECONDS: Final = 30.0
"""What a client gets to send a request's body."""

MOST_TOKENS: Final = 100_000
"""Strings, brackets and commas of one body, those in strings aside; a message has seven or more."""

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)


class Guard:
    """Refuses requests without a key, for another host, or with too large or too slow a body."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._requests = Rate(settings.key_requests, "requests")
        self._counting = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            public = scope["path"] in PUBLIC or scope["path"].startswith(PUBLIC_FILES)
            if not self._settings.keys:
                _check_host(headers.get("host", ""))
            elif not public:
                client = self._client(headers.get("authorization", ""))
                self._requests.take(client.key)
                scope["state"]["entry"].client = client
            if scope["method"] == "POST" and not public:  # nothing public reads a body
                _check_type(headers.get("content-type", ""))
                body = await self._body(headers, receive)
                await self._check_json(body)
                receive = _replayed(body, receive)
        await self._app(scope, receive, send)

    def _client(self, authorization: str) -> Client:
        scheme, _, key = authorization.partition(" ")
        client = self._settings.keys.client(key.strip()) if scheme.lower() == "bearer" else None
        if client is None:
            raise ServiceError(
                401,
                "no such API key; send one as `Authorization: Bearer KEY`",
                "invalid_api_key",
                "authorization",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return client

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """All of the body.

        Raises:
            ServiceError: 413, or 408 where it does not come.
        """
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.body:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    body += message.get("body", b"")
                    if len(body) > self._settings.body:
                        raise self._too_large()
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise ServiceError(
                408, "the request's body did not come in time", "timeout", "body"
            ) from None

    async def _check_json(self, body: bytes) -> None:
        """Count what a body holds before anything is made of it, which takes far longer.

        Counting takes milliseconds, too. It is done for one body at a time, and then for as long
        for none, so that many of them leave others half of the time.

        Raises:
            ServiceError: 400 for too much, or for another encoding, which would hide it.
        """
        if b"\0" in body:  # in every JSON in UTF-16 and UTF-32, in none in UTF-8
            raise ServiceError(400, "the body is not JSON in UTF-8", "invalid_json", "body")
        if sum(map(body.count, b'"[{,')) <= MOST_TOKENS:
            return
        async with self._counting:
            began = time.perf_counter()
            too_many = next(islice(_TOKEN.finditer(body), MOST_TOKENS, None), None)
            await asyncio.sleep(time.perf_counter() - began)
        if too_many:
            message = f"the body's JSON has more than {MOST_TOKENS} strings, brackets and commas"
            raise ServiceError(400, message, "too_many_values", "body")

    def _too_large(self) -> ServiceError:
        return ServiceError(
            413,
            f"the body is over the limit of {self._settings.body} bytes",
            "body_too_large",
            "body",
        )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body has been read."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _check_type(content_type: str) -> None:
    # A form can be sent from any web page; JSON makes a browser ask first (Fetch, sec. 3.2.2).
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ServiceError(
            415,
            "send JSON, with `Content-Type: application/json`",
            "unsupported_media_type",
            "content-type",
        )


def _check_host(host: str) -> None:
    """Without keys only this machine is served: no web page under a name that resolves to it."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name):
        raise ServiceError(
            403,
            f"this server is for localhost, not for {host[:200]!r}; with --keys it is for any name",
            "host_not_allowed",
            "host",
        )


def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine's own, and no other's."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
