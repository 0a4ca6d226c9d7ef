"""What drawing samples in waves costs in time: bursts against votes that stop, 16 problems at once.

    python -m benchmarks.waves --out benchmarks/results/waves.json

The engine is a fake with the timing of a real one: a step of its batch takes a constant and so much
for each sequence in it, sequences have lengths of their own, and whoever comes joins at the next
steps. The searches are the real ones. `latency` is a problem's mean time from start to end,
`throughput` sampled tokens a second of engine time, both relative to bursts of 16 problems at once.
A vote that stops leaves room in the batch, so more problems may be in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from pathlib import Path
from typing import Any, Final

from benchmarks.provenance import provenance
from router.models.fakes import FakeGenerator
from router.models.types import Chain, Continuation, Problem, Sampled, Sampling, Step
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.registry import parse_strategy

STEP, SEQUENCE = 0.020, 0.001
"""Seconds of a step of the batch, and besides for each sequence in it (CPU, 0.5B)."""
CHUNK: Final = 25  # steps at a time
IN_FLIGHT: Final = (16, 40)
BURST: Final = "best_of_n(n=16, select=majority)"
STOPPING: Final = (
    "best_of_n(n=16, select=majority, lead=16)",
    "best_of_n(n=16, select=majority, lead=3)",
    "best_of_n(n=16, select=majority, lead=2, give_up=0.15)",
    "best_of_n(n=16, select=majority, worth=0)",
    "best_of_n(n=16, select=majority, worth=0.05)",
)


class Batch(FakeGenerator):
    """Continuous batching, on a clock of its own.

    chances: of a right answer, by the problem's id. searches: how many run; the clock stands still
    until each of them waits for the engine, so that nothing depends on this machine.
    """

    def __init__(self, chances: dict[str, float], seed: int) -> None:
        super().__init__()
        self._chances, self._rng = chances, random.Random(seed)
        self._left: dict[asyncio.Event, int] = {}
        self._calls: dict[asyncio.Event, list[asyncio.Event]] = {}
        self._ticker: asyncio.Task[None] | None = None
        self.tokens = self.searches = self.waiting = 0
        self.clock = 0.0

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:  # noqa: ARG002
        lengths = [int(min(1000, self._rng.lognormvariate(5.6, 0.4))) for _ in range(n)]
        ends = [asyncio.Event() for _ in lengths]
        self._left |= dict(zip(ends, lengths, strict=True))
        self._calls |= dict.fromkeys(ends, ends)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._run())
        self.waiting += 1
        await asyncio.gather(*(end.wait() for end in ends))
        steps = [Step(self._answer(chain.problem), "stop", tokens) for tokens in lengths]
        return Sampled(tuple(Continuation((s,), s.tokens) for s in steps), 1, 0)

    def _answer(self, problem: Problem) -> str:
        right = self._rng.random() < self._chances[problem.id]
        return f"\\boxed{{{0 if right else self._rng.randint(1, 12)}}}"

    async def _run(self) -> None:
        while self._left:
            while self.waiting < self.searches:  # noqa: ASYNC110
                await asyncio.sleep(1e-4)
            self.clock += CHUNK * (STEP + SEQUENCE * len(self._left))
            for end in list(self._left):
                self.tokens += min(CHUNK, self._left[end])
                self._left[end] -= CHUNK
                if self._left[end] <= 0:
                    del self._left[end]
                    end.set()
                    self.waiting -= all(other.is_set() for other in self._calls.pop(end))
            await asyncio.sleep(0)


async def timed(text: str, problems: int, in_flight: int, seed: int) -> dict[str, float]:
    """Solve all, so many at once."""
    rng, strategy = random.Random(seed), parse_strategy(text)
    chances = {f"p{i}": rng.choice((0.02, 0.3, 0.5, 0.9)) for i in range(problems)}
    engine, slots, took, spent = Batch(chances, seed), asyncio.Semaphore(in_flight), [], []

    async def one(name: str) -> None:
        async with slots:
            began = engine.clock
            engine.searches += 1
            found = await run_search(
                strategy, Problem(name, "?"), engine, None, Budget(16), Sampling()
            )
            engine.searches -= 1
            took.append(engine.clock - began)
            spent.append(found.usage.generations)

    await asyncio.gather(*map(one, chances))
    return {
        "seconds": sum(took) / len(took),
        "generations": sum(spent) / len(spent),
        "tokens_a_second": engine.tokens / engine.clock,
        "problems_a_minute": 60 * problems / engine.clock,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--problems", type=int, default=96)
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    for in_flight in IN_FLIGHT:
        for text in (BURST, *STOPPING):
            own = asyncio.run(timed(text, given.problems, in_flight, 0))
            burst = found[0] if found else own
            own |= {
                "latency": own["seconds"] / burst["seconds"],
                "throughput": own["tokens_a_second"] / burst["tokens_a_second"],
            }
            own = {name: round(value, 3) for name, value in own.items()}
            found.append({"strategy": text, "in_flight": in_flight, **own})
            print(found[-1])
    if given.out:
        record = {"provenance": provenance(), "searches": found}
        given.out.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
