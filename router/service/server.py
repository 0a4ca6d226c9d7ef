"""The HTTP server: patience with slow clients that ends, and shutdown that drains first."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from contextlib import suppress
from typing import Final

import uvicorn

from router.core import Router
from router.models.errors import InputError, RouterError
from router.service.app import create_app
from router.service.guard import is_loopback
from router.service.settings import Settings
from router.service.state import Service
from router.service.upgrades import StayingProtocol

HEADER_SECONDS: Final = 10.0
"""What a client gets to send a request's headers, once it has begun."""

MOST_HEADER_BYTES: Final = 1 << 16

KEEP_ALIVE_SECONDS: Final = 65
"""Longer than the idle time of common load balancers, so that they, not we, close connections."""

SWITCH_SECONDS: Final = 0.0005

LAST_WORDS_SECONDS: Final = 5
"""What searches that were ended at the drain's deadline get to tell their clients."""


class PatientProtocol(StayingProtocol):
    """Closes connections whose headers come too slowly, or never end; uvicorn waits for ever."""

    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._close_after(KEEP_ALIVE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
            return
        if not self._header_bytes:
            self._close_after(HEADER_SECONDS)
        self._header_bytes += len(data)
        if self._header_bytes > MOST_HEADER_BYTES:
            self.transport.close()

    def _close_after(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        self._header_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """Serves until SIGTERM, then finishes what runs; what is left at the deadline is ended.

    drain: seconds that running requests get after SIGTERM.
    """

    def __init__(self, router: Router, settings: Settings, drain: float) -> None:
        self._fatal: Exception | None = None
        app = create_app(router, settings, self._give_up)
        self.service: Service = app.state.service
        self._drain = drain
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
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
    if not settings.keys and not is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines: give API keys with --keys FILE or"
            " ROUTER_API_KEYS, or serve on 127.0.0.1"
        )
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise RouterError(f"cannot serve on {host} port {port}: {error.strerror}") from None
