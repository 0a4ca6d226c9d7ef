"""Requests that offer to go on in another protocol are answered in HTTP/1.1, as HTTP lets a server.

Stock Java clients offer HTTP/2 with their first request (RFC 9110, sec. 7.8). The parser takes what
comes after such a head for the other protocol, so that the body would be lost.
"""

from __future__ import annotations

from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFERS: Final = (b"upgrade", b"http2-settings")


class _Parser(httptools.HttpRequestParser):
    """Reads the head of such a request once more, without the offer, and goes on behind it."""

    def __init__(self, protocol: StayingProtocol) -> None:
        super().__init__(protocol)
        self._protocol = protocol
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def feed_data(self, data: Any) -> None:
        rest = bytes(data)
        while True:
            try:
                super().feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self._protocol.offered:
                    raise  # CONNECT, which is nothing else without it
                rest = self._protocol.head() + rest[upgrade.args[0] :]


class StayingProtocol(HttpToolsProtocol):
    """HTTP/1.1, whatever else is offered. offered: whether the head that was read offers it."""

    offered = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)

    def on_headers_complete(self) -> None:
        self.offered = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if not self.offered:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.offered:
            super().on_message_complete()

    def head(self) -> bytes:
        """The head of the request, without its offer."""
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        for name, value in self.headers:
            if name == b"connection":
                kept = [one for one in value.split(b",") if one.strip().lower() not in _OFFERS]
                value = b",".join(kept)
            if name not in _OFFERS and value:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])
