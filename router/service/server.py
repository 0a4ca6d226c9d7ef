"""The HTTP server: patience with slow clients that ends, and shutdown that drains first."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast
from uuid import uuid4

import uvicorn

from router.core import Router
from router.models.errors import InputError, RouterError
from router.service import guard
from router.service.app import create_app
from router.service.errors import ServiceError
from router.service.settings import Settings
from router.service.state import Service
from router.service.upgrades import StayingProtocol

log = logging.getLogger("router.service")

HEADER_SECONDS: Final = 10.0
"""What a client gets to send a request's headers, once it has begun."""

MOST_HEADER_BYTES: Final = 1 << 16
"""Of a request's bytes that are no body."""

MOST_PIPELINED: Final = 16
"""Requests that may wait on one connection for the answer to those before them."""

SEND_SECONDS: Final = 30.0
"""What a client gets to take what was written to it: a megabyte at the very most."""

SPARE_CONNECTIONS: Final = 512
"""Beside those of searches. With more, the client that has been waited for longest loses its."""

KEEP_ALIVE_SECONDS: Final = 65
"""Longer than the idle time of common load balancers, so that they, not we, close connections."""

SWITCH_SECONDS: Final = 0.0005

LAST_WORDS_SECONDS: Final = 5
"""What a request that was ended, by a deadline of ours, gets to tell its client so."""


class PatientProtocol(StayingProtocol):
    """Bounds what uvicorn does not: what a client may leave unsent, unread or waiting.

    Each thing that is waited for has its time: a request, its headers, its body, and the client's
    taking what was written to it. Bytes that are no body are counted whatever else goes on, so
    headers, chunk sizes and trailers cannot pile up behind a response that nobody reads.
    """

    def __init__(self, *args: Any, most: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._most = most  # connections at once
        self._since = 0.0  # when what is waited for began to be, by the loop's clock
        self._clock: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._coming = False  # a request has begun and is not whole
        self._overhead = 0  # bytes since the last whole request that are no body

    @property
    def _responding(self) -> bool:
        """Whether a request has come that has no whole answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _idle(self) -> bool:
        """Whether it is the client that is waited for."""
        waited_for = not self._responding or self._writing is not None
        return waited_for and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Whatever was not taken counts, or a client could keep a little of it for ever.
        transport.set_write_buffer_limits(high=0)
        self._allow(KEEP_ALIVE_SECONDS)
        if len(self.connections) > self._most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._allow(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._coming and self._overhead > MOST_HEADER_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming = True
        self._allow(HEADER_SECONDS)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests before the first is answered")
        super().on_headers_complete()
        self._allow(guard.BODY_SECONDS + LAST_WORDS_SECONDS)

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._coming = False
        self._overhead = 0
        self._allow(None if self._responding else KEEP_ALIVE_SECONDS)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._coming and not self._responding:
            self._allow(KEEP_ALIVE_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._since = self.loop.time()
        self._writing = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP as everything is refused: in JSON, with an id that is logged."""
        if self._responding:  # the client would take it for a part of that answer
            self.transport.abort()
            return
        request_id = uuid4().hex
        log.warning("no HTTP", extra={"facts": {"request_id": request_id, "status": 400}})
        body = json.dumps(ServiceError(400, msg, "invalid_http").to_dict())
        head = (
            "HTTP/1.1 400 Bad Request",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-request-id: {request_id}",
            "connection: close",
        )
        self.transport.write("\r\n".join([*head, "", body]).encode())
        self.transport.close()

    def _allow(self, seconds: float | None) -> None:
        """Close the connection after so long, unless something else is waited for by then."""
        self._since = self.loop.time()
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if seconds is not None:
            self._clock = self.loop.call_later(seconds, self.transport.close)

    def _make_room(self) -> None:
        """End the connections that have been waited for longest; several, as looking takes time."""
        others = cast(set[PatientProtocol], self.connections)
        idle = [connection for connection in others if connection._idle]
        idle.sort(key=lambda connection: connection._since)
        for connection in idle[: 1 + len(idle) // 32]:
            connection.transport.abort()


class Server(uvicorn.Server):
    """Serves until SIGTERM, then finishes what runs; what is left at the deadline is ended.

    drain: seconds that running requests get after SIGTERM.
    """

    def __init__(self, router: Router, settings: Settings, drain: float) -> None:
        self._fatal: Exception | None = None
        app = create_app(router, settings, self._give_up)
        self.service: Service = app.state.service
        self._drain = drain
        most = settings.running + settings.waiting + SPARE_CONNECTIONS
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(PatientProtocol, most=most),  # type: ignore[arg-type]
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(drain) + LAST_WORDS_SECONDS,
            )
        )

    def serve_on(self, bound: socket.socket) -> None:
        """Serve on this socket until a signal comes.

        Raises:
            InputError, ModelError: the models cannot be opened.
        """
        # Searches run in a thread of their own. Requests need not wait for it as long as Python's
        # default, 5 ms a turn, would have them.
        sys.setswitchinterval(SWITCH_SECONDS)
        # What is loaded by now stays: a full collection need not walk it while requests wait.
        gc.collect()
        gc.freeze()
        self.run(sockets=[bound])
        if self._fatal is not None:
            raise self._fatal

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let requests finish, end those that take too long."""
        ending = asyncio.create_task(self._end_the_rest())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()
            with suppress(asyncio.CancelledError):
                await ending

    async def _end_the_rest(self) -> None:
        await asyncio.sleep(self._drain)
        self.service.searches.end_all()

    def _give_up(self, error: Exception) -> None:
        self._fatal = error
        self.should_exit = True


def bind(host: str, port: int, settings: Settings) -> socket.socket:
    """A socket to serve on.

    Raises:
        InputError: others can reach the host, and there are no keys.
        RouterError: the address is not free, or not this machine's.
    """
    if not settings.keys and not guard.is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines: give API keys with --keys FILE or"
            " ROUTER_API_KEYS, or serve on 127.0.0.1"
        )
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise RouterError(f"cannot serve on {host} port {port}: {error.strerror}") from None
