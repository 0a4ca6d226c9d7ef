r"""How fast searches run: problems an hour and tokens a second, beside a lock-step baseline.

    python -m benchmarks.search_speed ../shared/data/gsm8k_dev.jsonl \
        --output benchmarks/results/search_speed.json [--quick] [--peer-path DIR]

Every cell is one way of running one strategy on the first problems of the file, on one engine and
one verifier that are loaded once. A cell is stored as soon as it is measured; the same command goes
on where it was stopped. `ceiling` is the engine's own rate: best-of-N that is only counted, with
every request there from the start and no verifier.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.lock_step import Beam, LockStep, WholeSolutionVerifier
from benchmarks.search_speed_plot import plot
from benchmarks.search_speed_results import Results
from router.models.base import Aggregation, Verifier
from router.models.types import Problem, Sampling
from router.models.usage import Usage
from router.models.verifiers.load import load_verifier
from router.models.verifiers.trained_head import shipped_head
from router.models.weights.embedded import DEFAULT
from router.models.weights.find import find_model
from router.opening import FAKE, Models, load_models
from router.pairs import Pair
from router.problem_files import read_problems
from router.provenance import digest
from router.strategies.base import Candidate
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from router.strategies.registry import parse_strategy
from router.strategies.selection import select
from router.strategies.tasks import get_task

SEARCHES = ("beam_search", "dvts")
LOADS = ((16, 1, 2), (16, 4, 4), (4, 1, 4), (4, 16, 16), (4, 32, 32), (64, 1, 1), (64, 4, 4))
"""N, problems in flight and problems in all of a whole run: the fewer are in flight, the longer
each takes, so the fewer there are."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What all ways of running share."""

    width: int
    depth: int
    max_tokens: int
    temperature: float

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens)


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement.

    way: `router`, `ceiling`, `lock step`, the name of a peer, or `second pass`: as `router`, but
        the verifier reads new steps with a backbone of its own, not the generator's states.
    strategy: its name; the sizes are `n` and the limits.
    in_flight: problems that run at once, of `problems` in all.
    """

    way: str
    strategy: str
    n: int
    in_flight: int
    problems: int

    @property
    def key(self) -> str:
        return f"{self.way}/{self.strategy}/{self.n}/{self.in_flight} of {self.problems}"


Searched = tuple[list[list[Candidate]], Usage]
"""Candidates of each problem, and what all of them cost."""


def cells(quick: bool, peers: Sequence[str]) -> list[Cell]:
    """All cells, what the targets ask about first."""
    # Lock step takes so much longer that a quick run gives it a quarter of the problems.
    few = 4 if quick else 16
    found = [
        Cell("ceiling", "best_of_n", 16, 16, 16),
        Cell("router", "beam_search", 16, 16, 16),
        Cell("router", "dvts", 16, 16, 16),
        Cell("lock step", "beam_search", 16, 1, few),
        Cell("lock step", "dvts", 16, 1, few),
    ]
    for name, _, strategy in (peer.rpartition(":") for peer in peers):
        found.append(Cell(name, strategy, 16, 1, few))
        if strategy == "dvts" and not quick:
            found.append(Cell(name, strategy, 16, 16, 16))
    found += [Cell(way, "beam_search", 16, 4, 4) for way in ("router", "second pass")]
    if quick:
        return found
    # The one search that the reference runs on many problems.
    found.append(Cell("lock step", "dvts", 16, 16, 16))
    found += [Cell("router", strategy, *load) for load in LOADS for strategy in SEARCHES]
    found += [
        Cell("lock step", strategy, *load)
        for load in ((4, 1, 4), (64, 1, 1))
        for strategy in SEARCHES
    ]
    found += [
        Cell("router", strategy, *load)
        for load in ((4, 16, 16), (16, 4, 4), (64, 4, 4), (16, 16, 16))
        for strategy in ("best_of_n", "lookahead")
    ]
    found.append(Cell("router", "beam_search", 16, 32, 32))
    return list(dict.fromkeys(found))


class Speed:
    """Measures cells on one pair of models."""

    def __init__(
        self,
        models: Models,
        passing: Verifier,
        rescorer: Verifier,
        limits: Limits,
        peers: dict[str, Any],
    ) -> None:
        self._models = models
        self._verifiers = {"router": models.verifier, "second pass": passing, "ceiling": None}
        self._rescorer = rescorer
        self._limits = limits
        self._peers = peers

    async def measure(self, cell: Cell, problems: Sequence[Problem]) -> dict[str, Any]:
        """Run a cell and say what it took."""
        started, loop, cpu = time.monotonic(), time.thread_time(), cpu_seconds()
        found, usage = await self._run(cell, problems)
        seconds, loop = time.monotonic() - started, time.thread_time() - loop
        cpu = cpu_seconds() - cpu
        how = self._rescorer.info.aggregation
        right = [await answers_right(p, c, how) for p, c in zip(problems, found, strict=True)]
        sampled = usage.sampled_tokens or 0
        cached, prompt = usage.prompt_tokens_cached, usage.prompt_tokens
        return {
            **asdict(cell),
            "seconds": round(seconds, 1),
            "problems_per_hour": round(3600 * len(problems) / seconds, 2),
            "tokens_per_second": round(sampled / seconds, 2),
            "solutions": sum(map(len, found)),
            "correct": sum(right),
            "sampled_tokens": sampled,
            "prompt_tokens": prompt,
            "prompt_tokens_cached": cached,
            "prompt_tokens_computed": usage.prompt_tokens_computed,
            "hit_rate": None if cached is None or not prompt else round(cached / prompt, 4),
            "verifier_tokens": usage.verifier_tokens,
            "cpu_seconds": round(cpu, 1),
            "event_loop_cpu_seconds": round(loop, 2),
            "load_average": round(os.getloadavg()[0], 1),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    async def _run(self, cell: Cell, problems: Sequence[Problem]) -> Searched:
        if cell.way in self._verifiers:
            return await self._router(cell, problems)
        lock_step = LockStep(self._models.generator, self._rescorer, self._limits.sampling)
        size = (cell.n, self._limits.width, self._limits.depth)
        found: list[list[Candidate]] = []
        for start in range(0, len(problems), cell.in_flight):
            batch = problems[start : start + cell.in_flight]
            if cell.way != "lock step":
                search = self._peers[f"{cell.way}:{cell.strategy}"]
                models = Blocking(lock_step)
                ended = await asyncio.to_thread(search, models, batch, *size)
                found += [[beam.candidate() for beam in beams] for beams in ended]
            elif cell.strategy == "dvts":
                found += await lock_step.dvts(batch, *size)
            else:
                found += [await lock_step.beam_search(problem, *size) for problem in batch]
        return found, lock_step.usage

    async def _router(self, cell: Cell, problems: Sequence[Problem]) -> Searched:
        verifier = self._verifiers[cell.way]
        sizes = f"n={cell.n}, width={self._limits.width}, depth={self._limits.depth}"
        if cell.strategy == "best_of_n":
            sizes = f"n={cell.n}" if verifier else f"n={cell.n}, select=majority"
        strategy = parse_strategy(f"{cell.strategy}({sizes})")
        places = asyncio.Semaphore(cell.in_flight)

        async def one(problem: Problem) -> tuple[list[Candidate], Usage]:
            async with places:
                outcome = await run_search(
                    strategy,
                    problem,
                    self._models.generator,
                    verifier,
                    Budget(strategy.cost),
                    self._limits.sampling,
                )
            return list(outcome.candidates), outcome.usage

        done = await asyncio.gather(*map(one, problems))
        return [found for found, _ in done], sum((usage for _, usage in done), Usage())


async def answers_right(
    problem: Problem, candidates: Sequence[Candidate], how: Aggregation
) -> bool:
    """Whether the same selection as everywhere picks the right answer."""
    assert problem.answer is not None
    scored = all(candidate.scores for candidate in candidates)
    task = get_task(problem.task)
    groups = (await task.group([candidate.answer for candidate in candidates])).representatives
    choice = select(candidates, groups, "weighted" if scored else "majority", how)
    return await task.correct(choice.answer, problem.answer) is True


def cpu_seconds() -> float:
    """CPU time of this process and the engine's, which other work on the machine inflates less."""
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True)))


class Blocking:
    """The same models for a peer's code, which blocks a thread while it waits for them.

    A peer is `search(models, problems, n, width, depth) -> solutions of each problem`, where a
    solution so far is a `benchmarks.lock_step.Beam`.
    """

    def __init__(self, lock_step: LockStep) -> None:
        self._lock_step = lock_step
        self._loop = asyncio.get_running_loop()

    def grow(self, beams: Sequence[Beam], *, whole: bool) -> list[Beam]:
        """Every beam longer by a step, or to its end; one batch."""
        return self._wait(self._lock_step.grow(beams, whole=whole))

    def score(self, beams: Sequence[Beam]) -> list[Beam]:
        """Every beam with the scores of all of its steps."""
        return self._wait(self._lock_step.score(beams))

    def _wait(self, work: Awaitable[list[Beam]]) -> list[Beam]:
        async def run() -> list[Beam]:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()


def load_peers(path: Path | None) -> dict[str, Callable[..., list[list[Beam]]]]:
    """`PEERS` of the adapter in a directory outside this repository: `name:strategy` to search."""
    if path is None:
        return {}
    sys.path.insert(0, str(path))
    peers: dict[str, Callable[..., list[list[Beam]]]] = importlib.import_module("adapter").PEERS
    return peers


async def open_models(engine: str) -> Models:
    """The embedded model with the shipped head, or fakes."""
    head = FAKE if engine == FAKE else str(shipped_head(DEFAULT.name))
    return await load_models({"": Pair(engine=engine, verifier=head)})


async def run(
    problems: Sequence[Problem],
    engine: str,
    limits: Limits,
    plan: Sequence[Cell],
    peers: dict[str, Any],
    results: Results,
) -> None:
    async with aclosing(await open_models(engine)) as models:
        assert models.verifier is not None
        passing = rescorer = models.verifier
        if engine != FAKE:
            head = shipped_head(DEFAULT.name)
            assert head is not None
            rescorer = await asyncio.to_thread(WholeSolutionVerifier.load, head, find_model(None))
            passing = await load_verifier(str(head))
        speed = Speed(models, passing, rescorer, limits, peers)
        # Not measured: the first requests find cold caches, and peers import their code.
        for way, strategy in dict.fromkeys((cell.way, cell.strategy) for cell in plan):
            await speed.measure(Cell(way, strategy, limits.width, 1, 1), problems[-1:])
        for cell in plan:
            measured = await speed.measure(cell, problems[: cell.problems])
            results.add(cell.key, measured)
            click.echo(json.dumps(measured), err=True)


@click.command()
@click.argument("problems", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--engine", default="vllm", show_default=True)
@click.option("--width", default=4, show_default=True)
@click.option("--depth", default=8, show_default=True)
@click.option("--max-tokens", default=512, show_default=True)
@click.option("--temperature", default=0.8, show_default=True)
@click.option("--quick", is_flag=True, help="Only what the targets ask about.")
@click.option("--only", multiple=True, help="Only cells whose key starts with this; repeatable.")
@click.option("--peer-path", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(
    problems: Path,
    output: Path,
    engine: str,
    width: int,
    depth: int,
    max_tokens: int,
    temperature: float,
    quick: bool,
    only: tuple[str, ...],
    peer_path: Path | None,
) -> None:
    """Measure what is not measured yet, and write JSON and a picture beside it."""
    limits = Limits(width, depth, max_tokens, temperature)
    chosen = [problem for problem in read_problems(problems).problems if problem.answer][:33]
    settings = {
        "engine": engine,
        **asdict(limits),
        "problems": digest([[problem.id, problem.text] for problem in chosen]),
    }
    results = Results(output, settings)
    peers = load_peers(peer_path)
    plan = [
        cell
        for cell in cells(quick, list(peers))
        if not results.has(cell.key) and (not only or cell.key.startswith(only))
    ]
    if plan:
        asyncio.run(run(chosen, engine, limits, plan, peers, results))
    plot(results.record, output.with_suffix(".png"))


if __name__ == "__main__":
    main()
