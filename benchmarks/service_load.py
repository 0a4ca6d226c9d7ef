"""What the service costs, and whether it holds: 64 clients, mixed budgets, clients that leave.

python -m benchmarks.service_load --output benchmarks/results/service_load.json

The load runs on the package's deterministic fake, which answers at 20 (then 50) tokens a second
per solution however many run: what is measured is the service, not an engine. `--engine vllm`
measures the cost at budget 1 on the embedded model too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks.provenance import provenance
from benchmarks.service_process import measured
from router.models.fakes import fake_problems

CLIENTS = 64
BUDGETS = (1, 4, 16, 64)
RAMP = 4.0
LOAD_SECONDS_PER_TOKEN = 0.05
"""For the load: hundreds of solutions a second in all, as a large GPU gives a small model."""
SECONDS_PER_TOKEN = 0.02
"""For twice as many, where the service's process and the fakes in it fill their core."""
QUICK_SECONDS_PER_TOKEN = 0.002
"""For calls one after the other: what is asked is what the service adds to each."""
STEP_TOKENS = 20
"""A step of the fake's solutions has at most so many tokens."""
LEAVE_EVERY = 10
"""One chat in so many is left in the middle."""


@dataclass
class Connection:
    """A bare HTTP/1.1 client, so that its own cost is not what is measured."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, url: str) -> Self:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 26))

    async def request(self, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body."""
        self.send(path, body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return status, await self.reader.readuntil(b"\r\n0\r\n\r\n")
        length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return status, await self.reader.readexactly(length)

    def send(self, path: str, body: Any = None) -> None:
        payload = b"" if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n".encode()
            + payload
        )

    def close(self) -> None:
        self.writer.close()


@dataclass
class Seen:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    chats: dict[int, list[float]] = field(default_factory=dict)
    routes: list[float] = field(default_factory=list)
    left: int = 0


@asynccontextmanager
async def service(*options: str) -> AsyncIterator[tuple[dict[str, Any], int]]:
    """A service in a process of its own: what it said of itself, and its process id."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.service_process",
        *options,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    try:
        assert child.stdout is not None
        said = json.loads(await child.stdout.readline())
        connection = await Connection.open(said["url"])
        while (await connection.request("/ready"))[0] != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        connection.close()
        yield said, child.pid
    finally:
        child.terminate()
        await child.wait()


def chat(text: str, budget: int, stream: bool) -> dict[str, Any]:
    return {
        "model": f"fake@{budget}",
        "messages": [{"role": "user", "content": text}],
        "stream": stream,
        "router": {"trace": stream},
    }


async def client(url: str, number: int, until: float, seen: Seen) -> None:
    """Ask which search a problem would get, then have it solved; again and again."""
    await asyncio.sleep(RAMP * number / CLIENTS)
    rng = random.Random(number)
    problems = fake_problems(1000, seed=number)
    connection = await Connection.open(url)
    while time.monotonic() < until:
        problem, budget = rng.choice(problems).text, rng.choice(BUDGETS)
        started = time.perf_counter()
        status, _ = await connection.request("/v1/route", {"problem": problem, "budget": budget})
        seen.routes.append(time.perf_counter() - started)
        seen.statuses[f"route {status}"] += 1
        body = chat(problem, budget, rng.random() < 0.5)
        if rng.randrange(LEAVE_EVERY) == 0:
            connection.send("/v1/chat/completions", body)
            await asyncio.sleep(rng.uniform(0, 0.5))
            connection.close()
            connection = await Connection.open(url)
            seen.left += 1
            continue
        started = time.perf_counter()
        status, answer = await connection.request("/v1/chat/completions", body)
        seen.chats.setdefault(budget, []).append(time.perf_counter() - started)
        seen.statuses[f"chat {status}"] += 1
        if b'"error":' in answer:
            seen.errors[answer.decode()[:200]] += 1
    connection.close()


async def load(seconds: float, seconds_per_token: float) -> dict[str, Any]:
    """Many clients at once; the memory of the service after its warm-up."""
    async with service("--seconds-per-token", str(seconds_per_token)) as (said, pid):
        seen, memory, spent = Seen(), [], cpu_seconds(pid)
        until = time.monotonic() + seconds
        clients = [
            asyncio.create_task(client(said["url"], number, until, seen))
            for number in range(CLIENTS)
        ]
        while time.monotonic() < until:
            await asyncio.sleep(seconds / 60)
            memory.append(megabytes(pid))
        await asyncio.gather(*clients)
        spent = cpu_seconds(pid) - spent
        _, metrics = await (await Connection.open(said["url"])).request("/metrics")
    quarter = len(memory) // 4
    early, late = memory[quarter : 2 * quarter], memory[-quarter:]
    return {
        "clients": CLIENTS,
        "seconds": seconds,
        "seconds_per_token": seconds_per_token,
        "statuses": dict(seen.statuses),
        "errors": dict(seen.errors),
        "left": seen.left,
        "generations": value(metrics, "router_generations_total"),
        "server_cpu_seconds": round(spent, 1),
        "route": summary(seen.routes),
        "chat": {budget: summary(times) for budget, times in sorted(seen.chats.items())},
        "megabytes": {
            "second_quarter": round(statistics.median(early), 1),
            "last_quarter": round(statistics.median(late), 1),
            "all": [round(value, 1) for value in memory],
        },
    }


async def leaving(trials: int) -> dict[str, Any]:
    """How long the engine goes on working for a client that has gone."""
    async with service("--seconds-per-token", str(SECONDS_PER_TOKEN)) as (said, _):
        watch = await Connection.open(said["url"])

        async def calls() -> float:
            return value((await watch.request("/metrics"))[1], "engine_calls")

        released = []
        for trial, problem in enumerate(fake_problems(trials)):
            connection = await Connection.open(said["url"])
            connection.send("/v1/chat/completions", chat(problem.text, 64, trial % 2 == 0))
            while not await calls():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            connection.close()
            started = time.perf_counter()
            while await calls():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            released.append(time.perf_counter() - started)
    return {"trials": trials, "step_seconds": STEP_TOKENS * SECONDS_PER_TOKEN, **summary(released)}


async def overhead(
    calls: int, concurrency: int, seconds_per_token: float = 0.0, engine: str = "fake"
) -> dict[str, Any]:
    """Budget 1 through the service, beside the same calls on the engine itself."""
    options = ["--engine", engine, "--direct", str(calls), "--concurrency", str(concurrency)]
    options += ["--seconds-per-token", str(seconds_per_token)]
    async with service(*options) as (said, _):
        connections = [await Connection.open(said["url"]) for _ in range(concurrency)]
        _, models = await connections[0].request("/v1/models")
        model = json.loads(models)["data"][0]["id"]
        problems = fake_problems(calls)

        async def call(index: int) -> None:
            connection = connections.pop()
            body = {**chat(problems[index].text, 1, False), "model": f"{model}@1"}
            if engine != "fake":
                # Nothing that the engine does not do when it is called directly.
                body["router"] = {"strategy": "best_of_n(select=majority)"}
            status, answer = await connection.request("/v1/chat/completions", body)
            assert status == 200, answer
            connections.append(connection)

        served = await measured(call, calls, concurrency)
    direct = said["direct"]
    # The same problem on both sides: their lengths differ by more than what is added.
    added = [
        after - before
        for before, after in zip(direct["latencies"], served["latencies"], strict=True)
    ]
    return {
        "engine": engine,
        "seconds_per_token": seconds_per_token if engine == "fake" else None,
        "calls": calls,
        "concurrency": concurrency,
        "direct": summary(direct["latencies"]),
        "served": summary(served["latencies"]),
        "added_milliseconds": round(1000 * statistics.median(added), 2),
        "direct_per_second": round(calls / direct["seconds"], 2),
        "served_per_second": round(calls / served["seconds"], 2),
        "throughput": round(direct["seconds"] / served["seconds"], 4),
    }


def summary(seconds: list[float]) -> dict[str, Any]:
    """Count and percentiles, in milliseconds."""
    if not seconds:
        return {"count": 0}
    ordered = sorted(seconds)
    picked = {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))]
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }
    return {
        "count": len(ordered),
        **{f"{name}_milliseconds": round(1000 * value, 2) for name, value in picked.items()},
    }


def value(metrics: bytes, name: str) -> float:
    for line in metrics.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[-1])
    return 0.0


def megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


async def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--calls", type=int, default=512)
    parser.add_argument("--engine", help="also measure budget 1 on this engine")
    options = parser.parse_args(arguments)
    record = {
        **provenance(),
        "fake": "engine and verifier are fakes, equally fast however many solutions run",
        "load": await load(options.seconds, LOAD_SECONDS_PER_TOKEN),
        "saturated": await load(options.seconds, SECONDS_PER_TOKEN),
        "leaving": await leaving(options.trials),
        "added_latency": await overhead(options.calls, 1, QUICK_SECONDS_PER_TOKEN),
        "throughput": await overhead(options.calls, CLIENTS, SECONDS_PER_TOKEN),
        "capacity": await overhead(options.calls, CLIENTS),
    }
    if options.engine:
        record["real_added_latency"] = await overhead(32, 1, engine=options.engine)
        record["real_throughput"] = await overhead(64, 16, engine=options.engine)
    text = json.dumps(record, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
