r"""Clients that mean harm: python -m tests.service.attacks.clients NAME URL SECONDS"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

PIECE: Final = b"x" * 65_536
MOST: Final = 1 << 26
"""Bytes that one connection sends at the very most."""

FILE: Final = "/page/vendor/katex/katex.min.js"
CHAT: Final = "/v1/chat/completions"
ROUTE: Final = "/v1/route"


class Target:
    """What is attacked, until when."""

    def __init__(self, url: str, seconds: float) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.until = time.monotonic() + seconds

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self.until

    @asynccontextmanager
    async def connection(
        self, receive: int | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection. receive: the most bytes that the kernel takes for it unread."""
        bare = socket.socket()
        if receive is not None:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        bare.setblocking(False)
        await asyncio.get_running_loop().sock_connect(bare, (self.host, self.port))
        reader, writer = await asyncio.open_connection(sock=bare, limit=1 << 24)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def each(self, count: int, attack: Callable[[Target], Awaitable[None]]) -> None:
        """So many clients at once; each begins again when it is thrown out."""

        async def again() -> None:
            while self.lasts:
                with suppress(OSError, EOFError, TimeoutError):
                    await attack(self)
                await asyncio.sleep(0.2)

        with suppress(TimeoutError):
            async with asyncio.timeout(self.until - time.monotonic()):
                await asyncio.gather(*(again() for _ in range(count)))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {size}\r\n\r\n".encode()
        + body
    )


def asked(text: str, **further: object) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "parrot", "messages": messages, **further}).encode()


async def pour(writer: asyncio.StreamWriter, begin: bytes, piece: bytes = PIECE) -> None:
    """Send something that has no end."""
    writer.write(begin)
    for _ in range(MOST // len(piece)):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


async def header_bomb(target: Target) -> None:
    """40 requests for a file that are never read, then a header without an end."""
    async with target.connection() as (_, writer):
        await pour(writer, get(FILE) * 40 + b"GET / HTTP/1.1\r\nX-Long: ")


async def header_bomb_beside_a_search(target: Target) -> None:
    """A header without an end behind a search that runs."""
    async with target.connection() as (_, writer):
        body = asked("5", stream=True)
        await pour(writer, post(CHAT, body) + b"GET / HTTP/1.1\r\nX-Long: ")


async def trailer_bomb(target: Target) -> None:
    """A body in chunks whose trailer has no end."""
    async with target.connection() as (_, writer):
        begin = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        chunks = "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX-Long: "
        await pour(writer, (begin + chunks).encode())


async def pipeline(target: Target) -> None:
    """Thousands of requests at once, of which none is read."""
    async with target.connection(receive=4096) as (_, writer):
        await pour(writer, b"", get("/health") * 1000)


async def slow_reader(target: Target) -> None:
    """A page's files, one byte a second."""
    async with target.connection(receive=4096) as (reader, writer):
        writer.write(get(FILE) * 10)
        while await reader.read(1):  # noqa: ASYNC110
            await asyncio.sleep(1)


async def slowloris(target: Target) -> None:
    """One byte of a header a second."""
    async with target.connection() as (_, writer):
        writer.write(b"GET /health HTTP/1.1\r\nX-Slow: ")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(1)


async def slow_body(target: Target) -> None:
    """One byte of a body a second."""
    async with target.connection() as (_, writer):
        writer.write(post(CHAT, b"{", 900_000))
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(1)


def bodies() -> Iterator[bytes]:
    """Bodies that take long to read, or to refuse."""
    part = {"type": "image_url"}
    ask: dict[str, object] = {"model": "parrot", "messages": [{"role": "user", "content": "5"}]}
    many = ",".join("n=4" for _ in range(50_000))
    for value in (
        {**ask, "messages": [{"role": "user", "content": [part] * 40_000}]},
        {**ask, "messages": [7] * 100_000},
        {**ask, "router": {f"k{i}": 0 for i in range(60_000)}},
        {**ask, **{f"k{i}": 0 for i in range(60_000)}},
        {**ask, "router": {"strategy": f"best_of_n({many})"}},
        {**ask, "router": {"strategy": "(" * 100_000}},
        {**ask, "router": {"task": "m" * 900_000}},
        {**ask, "m" * 900_000: 1},
        {**ask, "metadata": [[]] * 200_000},
        {**ask, "stop": ["x"] * 100_000},
    ):
        yield json.dumps(value).encode()
    yield b"[" * 900_000
    yield b'{"a":' * 150_000
    yield b"[" + b"9" * 4_299 + b",9" * 100_000 + b"]"
    yield b'["' + b'\\"' * 400_000
    yield json.dumps([[]] * 100_000).encode("utf-16")


BODIES: Final = itertools.cycle(random.Random(0).sample(list(bodies()), 15))


async def bad_body(target: Target) -> None:
    """One bad body after the other."""
    async with target.connection() as (reader, writer):
        for path in (CHAT, ROUTE) * 20:
            writer.write(post(path, next(BODIES)))
            await writer.drain()
            await _answer(reader)


async def long_problem(target: Target) -> None:
    """A decision on 900 kB of text."""
    async with target.connection() as (reader, writer):
        text = "If $x_1 = 12$ and 3,400 are left, how many? " * 20_000
        writer.write(post(ROUTE, json.dumps({"problem": text}).encode()))
        await _answer(reader)


async def hard_answers(target: Target) -> None:
    """Eight answers that computer algebra would compare for hours."""
    await _search(target, r"\boxed{9^{9^{9^{RANDOM}}}+x}", {"budget": 8, "deadline": 2})


async def open_boxes(target: Target) -> None:
    """100 kB of boxes without an end, with the tree."""
    await _search(target, "OPEN", {"budget": 4, "trace": True, "deadline": 5})


async def search(target: Target) -> None:
    """An honest search, with an honest deadline."""
    await _search(target, "5", {"budget": 4, "deadline": 5})


async def _search(target: Target, text: str, options: dict[str, object]) -> None:
    async with target.connection() as (reader, writer):
        stream = bool(options.get("trace"))
        writer.write(post(CHAT, asked(text, max_tokens=1 << 18, stream=stream, router=options)))
        await _answer(reader)


async def _answer(reader: asyncio.StreamReader) -> None:
    """Read one answer, as far as it says how long it is."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, rest = head.partition(b"content-length: ")
    if found:
        await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    else:
        await reader.readuntil(b"\r\n0\r\n\r\n")


ATTACKS: Final[dict[str, tuple[int, Callable[[Target], Awaitable[None]]]]] = {
    attack.__name__.replace("_", " "): (count, attack)
    for count, attack in (
        (10, header_bomb),
        (10, header_bomb_beside_a_search),
        (10, trailer_bomb),
        (10, pipeline),
        (50, slow_reader),
        (1500, slowloris),
        (200, slow_body),
        (4, bad_body),
        (8, long_problem),
        (4, hard_answers),
        (2, open_boxes),
        (16, search),
    )
}
"""By name: how many clients at once, and what each does."""


if __name__ == "__main__":
    name, url, seconds = sys.argv[1:]
    number, what = ATTACKS[name]
    target = Target(url, float(seconds))
    asyncio.run(target.each(number, what))
