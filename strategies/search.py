"""What a running strategy may do: sample, score, spend. One `Search` is one problem's search.

The context owns budget, concurrency, reuse, cancellation and the trace; strategies own none.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import time
from collections import Counter
from dataclasses import replace
from weakref import WeakKeyDictionary

from router.models.base import Aggregation, Generator, Verifier
from router.models.errors import EngineError, VerifierError
from router.models.types import Continuation, Path, Problem, Sampled, Sampling
from router.strategies.budget import Budget, Generations, TokenPurse, Usage
from router.strategies.trace import Listener, Trace


class Search:
    """The search context.

    Args:
        problem: what is searched.
        generator, verifier: the models; no verifier means that `score` raises.
        budget: limits; charged before anything is sampled.
        sampling: temperature, top_p, stop strings and the limit on tokens of one solution.
        seed: makes `rng`, and every call on a generator that takes seeds, reproducible.
        listener: told of every node as the tree grows.
        score_samples: begin to score each sampled path at once, so that verifier work overlaps
            generation; for strategies that will ask for those scores anyway.
        temperature: the strategy's own, in place of that of `sampling`.
    """

    def __init__(
        self,
        problem: Problem,
        generator: Generator,
        verifier: Verifier | None,
        budget: Budget,
        sampling: Sampling,
        *,
        seed: int | None = None,
        listener: Listener | None = None,
        score_samples: bool = False,
        temperature: float | None = None,
    ) -> None:
        self.root = Path(problem)
        self.budget = budget
        self.rng = random.Random(f"{seed}/{problem.id}")
        self.trace = Trace(self.root, listener)
        self.finished: list[Path] = []
        self.kept: list[Path] = []  # whole solutions that the next call for such takes first
        self.capped = False  # a solution was cut because the token cap left it no room
        self._generator = generator
        self._verifier = verifier
        self._sampling = sampling
        self._seed = seed
        self.score_samples = score_samples and verifier is not None
        self.temperature = temperature
        self._one_by_one = listener is not None or budget.seconds is not None or self.score_samples
        self._generations = Generations(budget.generations)
        self._purse = TokenPurse(budget.tokens)
        self._scores: WeakKeyDictionary[Path, float] = WeakKeyDictionary()
        self._scoring: WeakKeyDictionary[Path, asyncio.Task[None]] = WeakKeyDictionary()
        self._calls: Counter[str] = Counter()
        self._usage = Usage()
        self._started = time.monotonic()

    @property
    def remaining(self) -> int:
        """Generations that may still be spent."""
        return self.budget.generations - self._generations.spent

    @property
    def usage(self) -> Usage:
        """What has been spent so far."""
        spent = Usage(generations=self._generations.spent, seconds=time.monotonic() - self._started)
        return self._usage + spent

    async def sample(self, path: Path, n: int, *, whole: bool = False) -> list[Path]:
        """n continuations of `path`: one more step each, or (`whole`) to the end.

        Raises:
            BudgetExhausted: the generations or tokens left do not cover it.
            EngineError: the generator failed.
        """
        if whole and path is self.root and self.kept:
            taken, self.kept = self.kept[:n], self.kept[n:]
            n -= len(taken)
            return taken + (await self.sample(path, n, whole=True) if n else [])
        self._generations.charge(path.depth, n, whole=whole)
        given, own = self._sampling, self.temperature
        sampling = replace(
            given,
            until="end" if whole else "step",
            max_tokens=max(1, given.max_tokens - path.tokens),
            temperature=given.temperature if own is None else own,
        )
        if n == 1 or not (self._purse.capped or (whole and self._one_by_one)):
            return self._record(await self._call(path, n, sampling))
        # Separate calls share the prefix in the engine's cache, and each can finish, be scored,
        # or be refused on its own.

        async def one() -> list[Path]:
            return self._record(await self._call(path, 1, sampling))

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(one()) for _ in range(n)]
        return [child for call in calls for child in call.result()]

    async def look_ahead(self, path: Path, steps: int) -> Path:
        """`path` and up to `steps` greedy steps further; charged as `steps` samples.

        Stops early, and is charged less, where the solution ends (Snell et al. 2024, sec. 5.2:
        "up to k more steps at temperature 0").
        """
        depth = path.depth - 1
        for _ in range(steps):
            if path.finished:
                break
            self._generations.charge(depth, 1, whole=False)
            room = max(1, self._sampling.max_tokens - path.tokens)
            greedy = replace(self._sampling, until="step", temperature=0.0, max_tokens=room)
            (path,) = await self._call(path, 1, greedy)
            self.trace.add(path, "lookahead")
        return path

    async def score(self, path: Path) -> tuple[float, ...]:
        """The verifier's score of each step of `path`; steps scored before cost nothing.

        Raises:
            VerifierError: there is no verifier, it failed, or it returned no probability.
        """
        task = self._scoring.get(path)
        if task is None:
            task = asyncio.ensure_future(self._score(path))
            self._scoring[path] = task
        await asyncio.shield(task)
        return tuple(self._scores[node] for node in _chain(path))

    def aggregation(self, override: Aggregation | None = None) -> Aggregation:
        """How step scores become one: what a strategy asks for, else the verifier's default."""
        if override is not None:
            return override
        if self._verifier is None:
            raise VerifierError("this search has no verifier")
        return self._verifier.info.aggregation

    def known_scores(self, path: Path) -> tuple[float, ...] | None:
        """Scores of the path's steps if all of them are known; never calls the verifier."""
        chain = _chain(path)
        if not chain or any(node not in self._scores for node in chain):
            return None
        return tuple(self._scores[node] for node in chain)

    def prune(self, paths: list[Path]) -> None:
        """Say that these paths are not followed; for the trace."""
        for path in paths:
            self.trace.mark(path, "pruned")

    async def aclose(self) -> None:
        """Cancel scoring that nobody waits for any more."""
        tasks = list(self._scoring.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- inside ---------------------------------------------------------------------------

    async def _call(self, path: Path, n: int, sampling: Sampling) -> list[Path]:
        want = n * sampling.max_tokens
        async with self._purse.reserve(want) as reservation:
            sampling = replace(
                sampling,
                max_tokens=min(sampling.max_tokens, reservation.tokens),
                seed=self._call_seed(path),
            )
            sampled = await self._generator.sample(path, n, sampling)
            reservation.used = self._count(sampled)
            self.capped |= reservation.tokens < want and any(
                c.finish == "length" for c in sampled.continuations
            )
        if len(sampled.continuations) != n:
            raise EngineError(f"asked for {n} continuations, got {len(sampled.continuations)}")
        return [path.extend(*continuation.steps) for continuation in sampled.continuations]

    def _count(self, sampled: Sampled) -> int | None:
        tokens = _total(sampled.continuations)
        flops = None
        computed = None
        if sampled.prompt_tokens is not None and sampled.cached_tokens is not None:
            computed = sampled.prompt_tokens - sampled.cached_tokens
        parameters = self._generator.info.parameters
        if None not in (parameters, tokens, computed):
            flops = 2.0 * parameters * (tokens + computed)  # type: ignore[operator]
        self._usage += Usage(
            sampled_tokens=tokens,
            prompt_tokens=sampled.prompt_tokens,
            prompt_tokens_cached=sampled.cached_tokens,
            flops=flops,
        )
        return tokens

    def _record(self, paths: list[Path]) -> list[Path]:
        for path in paths:
            self.trace.add(path, "finished" if path.finished else "live")
            if path.finished:
                self.finished.append(path)
            if self.score_samples:
                self._scoring[path] = asyncio.ensure_future(self._score(path))
        return paths

    def _call_seed(self, path: Path) -> int | None:
        """A seed for this call that does not depend on the order in which branches run."""
        if self._seed is None or not self._generator.info.seeds:
            return None
        key = f"{self._seed}/{path.problem.id}/{path.text}"
        self._calls[key] += 1
        digest = hashlib.sha256(f"{key}/{self._calls[key]}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    async def _score(self, path: Path) -> None:
        if self._verifier is None:
            raise VerifierError("this search has no verifier")
        chain = _chain(path)
        known = next((i for i, node in enumerate(chain) if node not in self._scores), len(chain))
        if known == len(chain):
            return
        started = time.monotonic()
        scored = await self._verifier.score(path, known)
        if len(scored.values) != len(chain) - known:
            raise VerifierError(
                f"asked for scores of {len(chain) - known} steps, got {len(scored.values)}"
            )
        parameters = self._verifier.info.parameters
        known_cost = parameters is not None and scored.tokens is not None
        self._usage += Usage(
            verifier_tokens=scored.tokens,
            verifier_seconds=time.monotonic() - started,
            flops=2.0 * parameters * scored.tokens if known_cost else None,  # type: ignore[operator]
        )
        for node, value in zip(chain[known:], scored.values, strict=True):
            if math.isnan(value) or not 0.0 <= value <= 1.0:
                raise VerifierError(f"verifier returned {value}, which is not a probability")
            self._scores[node] = value
            self.trace.score(node, value)


def _chain(path: Path) -> list[Path]:
    """The path's prefixes from its first step to itself, one a step."""
    return list(path.ancestors())[-2::-1]


def _total(continuations: tuple[Continuation, ...]) -> int | None:
    counts = [continuation.tokens for continuation in continuations]
    return None if None in counts else sum(count for count in counts if count is not None)
