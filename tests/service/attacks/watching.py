"""What others see of a service while it is attacked, and what it takes of the machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import psutil

from tests.service.attacks.clients import ATTACKS, ROUTE, Target, get, post
from tests.service.test_serve_command import Running, process

HUNG = "hung engine"
"""Searches on an engine that is stopped (SIGSTOP) while they run."""

EVERY = 0.02
"""Seconds between two looks, where the one before has been answered by then."""

DECIDE = json.dumps({"problem": "What is 12 + 35 + 7?", "budget": 8}).encode()


@dataclass(frozen=True)
class Victim:
    """A service, its process, and its engine's."""

    url: str
    running: Running
    engine: subprocess.Popen[bytes]

    @property
    def megabytes(self) -> float:
        """What the service holds, its helpers included."""
        service = psutil.Process(self.running.child.pid)
        held = 0
        for one in (service, *service.children(recursive=True)):
            try:
                held += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return held / 1e6


@contextmanager
def victim() -> Iterator[Victim]:
    """`router serve` on an engine that says what it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.service.attacks.engine", str(port)]
    engine = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    serve = ("-m", "cli", "serve", "--port", "0", "--drain", "0", "--verifier", "none")
    try:
        with process(*serve, "--endpoint", f"http://127.0.0.1:{port}") as (running, url):
            yield Victim(url, running, engine)
    finally:
        engine.kill()
        engine.wait()


@dataclass(frozen=True)
class Seen:
    """Latencies in seconds, and memory in megabytes, while one attack ran.

    other: answers to a look that were neither 200 nor, of a decision, 503; and those that broke.
    """

    health: list[float]
    route: list[float]
    other: list[str]
    megabytes: list[float]

    @classmethod
    async def during(cls, name: str | None, service: Victim, seconds: float) -> Self:
        """Look at the service while it is attacked; at rest where no attack is named."""
        before = service.megabytes
        hung = name == HUNG
        if hung:
            service.engine.send_signal(signal.SIGSTOP)
        attack = None
        if name is not None:
            clients = [sys.executable, "-m", "tests.service.attacks.clients"]
            what = ["search" if hung else name, service.url, str(seconds + 2)]
            attack = await asyncio.create_subprocess_exec("nice", *clients, *what)
            await asyncio.sleep(1.0)  # until it has begun
        try:
            seen = cls([], [], [], [before])
            target = Target(service.url, seconds)
            await asyncio.gather(
                seen._look(target, get("/health"), seen.health),
                seen._look(target, post(ROUTE, DECIDE), seen.route),
                seen._weigh(target, service),
            )
        finally:
            if attack is not None:
                attack.terminate()
                await attack.wait()
            if hung:
                service.engine.send_signal(signal.SIGCONT)
        return seen

    async def _look(self, target: Target, request: bytes, latencies: list[float]) -> None:
        while target.lasts:
            began = time.perf_counter()
            try:
                async with asyncio.timeout(10), target.connection() as (reader, writer):
                    writer.write(request)
                    status = (await reader.readline())[9:12].decode()
            except (OSError, TimeoutError) as error:
                status = type(error).__name__
            latencies.append(time.perf_counter() - began)
            if status != "200" and (latencies is self.health or status != "503"):
                self.other.append(status)
            await asyncio.sleep(max(0.0, EVERY - latencies[-1]))

    async def _weigh(self, target: Target, service: Victim) -> None:
        while target.lasts:
            self.megabytes.append(service.megabytes)
            await asyncio.sleep(0.1)

    def to_dict(self) -> dict[str, Any]:
        """Percentiles in milliseconds; memory before, and at most."""
        return {
            "health_p50": percentile(self.health, 0.5),
            "health_p99": percentile(self.health, 0.99),
            "route_p50": percentile(self.route, 0.5),
            "route_p99": percentile(self.route, 0.99),
            "looks": len(self.health) + len(self.route),
            "not_answered": len(self.other),
            "megabytes_before": round(self.megabytes[0], 1),
            "megabytes_most": round(max(self.megabytes), 1),
            "load_average": round(os.getloadavg()[0], 1),
        }


def percentile(seconds: list[float], share: float) -> float:
    """In milliseconds."""
    ordered = sorted(seconds)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)


NAMES = (*(name for name in ATTACKS if name != "search"), HUNG)
