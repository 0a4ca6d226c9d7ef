"""Clients that offer another protocol are answered in HTTP/1.1, their bodies read."""

from __future__ import annotations

import json
import socket
import time
from itertools import pairwise

import pytest

from tests.service.serving import CHAT, QUESTION, Served

BODY = json.dumps({"model": "fake@1", "messages": [{"role": "user", "content": QUESTION}]}).encode()
OFFERS = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n",
    "Upgrade: h2c\r\nHTTP2-Settings: AAEA\r\nConnection: keep-alive, Upgrade, HTTP2-Settings\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhl\r\n",
)


def request(offer: str, *, chunked: bool = False) -> bytes:
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(BODY)}"
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{offer}Content-Type: application/json\r\n"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    return f"{head}{length}\r\n\r\n".encode() + body


@pytest.mark.parametrize("offer", OFFERS, ids=range(3))
@pytest.mark.parametrize("cuts", [[], [40], [230], [300], [40, 300], [-1]], ids=str)
def test_the_body_of_such_a_request_is_read(service: Served, offer: str, cuts: list[int]) -> None:
    sent = request(offer, chunked=bool(cuts))
    pieces = [sent[a:b] for a, b in pairwise([0, *cuts, len(sent)] if cuts != [-1] else [0, None])]
    assert replies(service, pieces, 1).startswith(b"HTTP/1.1 200")


def test_requests_one_after_the_other(service: Served) -> None:
    sent = request(OFFERS[0]) + request(OFFERS[1]) + request("")
    assert replies(service, [sent], 3).count(b"HTTP/1.1 200") == 3


def test_without_a_body(service: Served) -> None:
    got = f"GET /health HTTP/1.1\r\nHost: localhost\r\n{OFFERS[0]}\r\n".encode()
    assert replies(service, [got], 1).endswith(b'{"status":"ok"}')


def replies(service: Served, pieces: list[bytes], count: int) -> bytes:
    """What comes back, once there are so many answers."""
    host, port = service.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.02)
        while received.count(b"HTTP/1.1") < count or received[-1:] != b"}":
            received += connection.recv(100_000)
    return received
