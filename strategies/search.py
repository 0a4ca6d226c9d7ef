"""What a running strategy may do: sample, score, spend. One `Search` is one problem's search.

The context owns budget, deadline, concurrency, reuse, cancellation, usage and the trace; strategies
own none, and nothing that spends goes past it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from router.models.base import Aggregation, Generator, Prefiller, Verifier
from router.models.errors import (
    EngineError,
    InputError,
    VerifierError,
)
from router.models.types import Chain, EndReason, Prefill, Problem, Sampled, Sampling
from router.models.usage import Price, Usage
from router.strategies.budget import Budget, Generations, TokenPurse
from router.strategies.fleet import Member, check, fleet_of
from router.strategies.trace import Listener, Trace

if TYPE_CHECKING:
    from router.strategies.base import Strategy


class Search:
    """The search context; `open_search` makes one.

    root: the problem as it is put to the model that is asked, without a step; a chain belongs to
        the model of its root, which samples and scores it.
    finished: solutions so far, in the order they ended. kept: whole solutions of the first model,
        sampled as the caller samples, that the next call for such takes first.
    strategy: what is followed; None before anything is.
    ended: the limit that ended the search; `completed` while none has.
    """

    def __init__(
        self,
        problem: Problem,
        generator: Generator,
        verifier: Verifier | None,
        budget: Budget,
        sampling: Sampling,
        *,
        name: str = "",
        price: Price | None = None,
        others: Sequence[Member] = (),
        seed: int | None = None,
        listener: Listener | None = None,
    ) -> None:
        members = (Member(name, generator, verifier, 1, price), *others)
        self._members = {member.name: member for member in members}
        self._fleet = fleet_of(members)
        self._roots = {member.name: _posed_to(member, problem) for member in members}
        self._first = self.root = self._roots[name]
        self.budget = budget
        self.trace = Trace([*self._roots.values()], listener)
        self.finished: list[Chain] = []
        self.kept: list[Chain] = []
        self.strategy: Strategy | None = None
        self.ended: EndReason = "completed"
        self._sampling = sampling
        self._seed = seed
        self._early = False
        self._temperature = sampling.temperature
        self._apart = listener is not None or budget.seconds is not None
        self._generations = Generations(budget.generations, {m.name: m.cost for m in members})
        self._purse = TokenPurse(budget.tokens)
        self._scores: WeakKeyDictionary[Chain, float] = WeakKeyDictionary()
        self._scoring: WeakKeyDictionary[Chain, asyncio.Task[None]] = WeakKeyDictionary()
        self._calls: Counter[str] = Counter()
        self._calling: set[asyncio.Task[object]] = set()
        self._spent = {member.name: Usage() for member in members}
        self._started = time.monotonic()

    # -- what is left ---------------------------------------------------------------------

    @property
    def verified(self) -> bool:
        """Whether the model that is asked has a verifier."""
        return self._verifier is not None

    @property
    def _verifier(self) -> Verifier | None:
        return self._of(self.root).verifier

    @property
    def greedy(self) -> bool:
        """Whether it samples at temperature 0, so that a chain has one continuation."""
        return self._temperature == 0

    @property
    def remaining(self) -> float:
        """Generations of the first model that may still be spent."""
        return self.budget.generations - self._generations.spent

    @cached_property
    def random(self) -> random.Random:
        """What a strategy draws by itself; the same under the same seed."""
        seeded = self._seed is not None and self._of(self._first).generator.info.seeds
        return random.Random(f"{self._seed}/{self.root.problem.id}" if seeded else None)

    @property
    def limit_reached(self) -> bool:
        """Whether a limit of the budget has ended the search."""
        return self.ended != "completed"

    @property
    def deadline(self) -> float | None:
        """When its time is over, in `time.monotonic` seconds; None if never."""
        return None if self.budget.seconds is None else self._started + self.budget.seconds

    @property
    def usage(self) -> Usage:
        """What has been spent so far."""
        of = {
            name: replace(
                own, generations=self._generations.of(name), money=self._members[name].charge(own)
            )
            for name, own in self._spent.items()
        }
        found = sum(of.values(), Usage(seconds=time.monotonic() - self._started))
        found = replace(found, generations=self._generations.spent)
        return found if len(of) == 1 else replace(found, models=of)

    def end(self, reason: EndReason) -> None:
        """A limit of the budget has ended it; a deadline, once passed, is what ended it."""
        if self.ended != "deadline":
            self.ended = reason

    # -- spending -------------------------------------------------------------------------

    def follow(self, strategy: Strategy) -> None:
        """Ask the strategy's own model from now on, as hot as it says; score early if it will.

        Raises:
            InputError: it costs more than the budget, needs a verifier and there is none, or asks
                a model that is not there.
        """
        verified = self._of(self._first).verifier is not None
        check(strategy, self.budget, has_verifier=verified, fleet=self._fleet)
        self.strategy = strategy
        self.root = self._first if strategy.model is None else self._roots[strategy.model]
        own = strategy.temperature
        self._temperature = self._sampling.temperature if own is None else own
        self._early = strategy.scores_samples and self.verified

    async def read_prompt(self) -> Prefill:
        """Let the generator read the problem; what is sampled then finds it in the prefix cache.

        Raises:
            PromptTooLong: the problem does not fit the model.
            EngineError: the engine failed, or hands out no states.
        """
        generator = self._of(self.root).generator
        if not isinstance(generator, Prefiller):
            raise EngineError(f"the engine {generator.info.engine!r} hands out no states")
        read = await generator.prefill(self.root.problem)
        parameters = generator.info.parameters
        spent = Usage.of_generator(0, read.prompt_tokens, read.cached_tokens, parameters)
        self._add(self.root, spent)
        return read

    async def sample(
        self, chain: Chain, n: int, *, whole: bool = False, temperature: float | None = None
    ) -> list[Chain]:
        """n continuations of `chain`: one more step each, or (`whole`) to the end.

        At temperature 0 they would all be equal, so there is one, and one is charged.

        temperature: in place of the strategy's or the caller's own.

        Raises:
            BudgetExhausted: the generations or tokens left do not cover it.
            EngineError: the generator failed.
        """
        if temperature is None:
            temperature = self._temperature
        alike = temperature == self._sampling.temperature
        if whole and chain is self._first and self.kept and alike:
            taken, self.kept = self.kept[:n], self.kept[n:]
            n -= len(taken)
            return taken + (
                await self.sample(chain, n, whole=True, temperature=temperature) if n else []
            )
        n = n if temperature else 1
        self._generations.charge(chain.depth, n, whole=whole, model=chain.problem.model)
        sampling = replace(
            self._sampling,
            until="end" if whole else "step",
            max_tokens=max(1, self._sampling.max_tokens - chain.tokens),
            temperature=temperature,
        )
        apart = self._purse.capped or (whole and (self._apart or self._early))
        if n == 1 or not apart:
            return self._record(await self._call(chain, n, sampling))
        # Separate calls share the prefix in the engine's cache, and each can finish, be scored,
        # or be refused on its own.

        async def one() -> list[Chain]:
            return self._record(await self._call(chain, 1, sampling))

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(one()) for _ in range(n)]
        return [child for call in calls for child in call.result()]

    async def look_ahead(self, chain: Chain, steps: int) -> Chain:
        """`chain` and up to `steps` greedy steps further; charged as `steps` samples.

        Stops early, and is charged less, where the solution ends (Snell et al. 2024, sec. 5.2:
        "up to k more steps at temperature 0").
        """
        depth = chain.depth - 1
        for _ in range(steps):
            if chain.finished:
                break
            self._generations.charge(depth, 1, whole=False, model=chain.problem.model)
            room = max(1, self._sampling.max_tokens - chain.tokens)
            greedy = replace(self._sampling, until="step", temperature=0.0, max_tokens=room)
            (chain,) = await self._call(chain, 1, greedy)
            self.trace.add(chain, "lookahead")
        return chain

    async def score(self, chain: Chain) -> tuple[float, ...]:
        """The verifier's score of each step of `chain`; steps scored before cost nothing.

        Raises:
            Unscorable: the verifier cannot take this chain.
            VerifierError: there is no verifier, it failed, or it returned no probability.
        """
        task = self._scoring.get(chain)
        if task is None:
            task = asyncio.ensure_future(self._score(chain))
            self._scoring[chain] = task
        await asyncio.shield(task)
        return tuple(self._scores[node] for node in _prefixes(chain))

    async def stop(self) -> None:
        """Cancel what nobody waits for any more, so that all that was spent is counted."""
        tasks = [*self._scoring.values(), *self._calling]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- looking --------------------------------------------------------------------------

    def aggregation(self, override: Aggregation | None = None) -> Aggregation:
        """How step scores become one: what a strategy asks for, else the verifier's default."""
        if override is not None:
            return override
        if self._verifier is None:
            raise VerifierError("this search has no verifier")
        return self._verifier.info.aggregation

    @property
    def usual_aggregation(self) -> Aggregation:
        """The verifier's default; without one, the last step's."""
        return "last" if self._verifier is None else self._verifier.info.aggregation

    def known_scores(self, chain: Chain) -> tuple[float, ...] | None:
        """Scores of the chain's steps if all of them are known; never calls the verifier."""
        nodes = _prefixes(chain)
        if not nodes or any(node not in self._scores for node in nodes):
            return None
        return tuple(self._scores[node] for node in nodes)

    def prune(self, chains: list[Chain]) -> None:
        """Say that these chains are not followed; for the trace."""
        for chain in chains:
            self.trace.mark(chain, "pruned")

    # -- inside ---------------------------------------------------------------------------

    async def _call(self, chain: Chain, n: int, sampling: Sampling) -> list[Chain]:
        want = n * sampling.max_tokens
        async with self._known(), self._purse.reserve(want) as reservation:
            sampling = replace(
                sampling,
                max_tokens=min(sampling.max_tokens, reservation.tokens),
                seed=self._call_seed(chain),
            )
            try:
                sampled = await self._of(chain).generator.sample(chain, n, sampling)
            except BaseException as error:
                reservation.used = self._lost(chain, error)
                if isinstance(error, (Exception, asyncio.CancelledError)):
                    raise
                # A panic in Rust or an exit ends this search; an event loop that sees it ends too.
                raise EngineError(f"the engine ended by {error!r}") from error
            reservation.used = self._count(chain, sampled)
            if reservation.tokens < want and any(
                c.finish == "length" for c in sampled.continuations
            ):
                self.ended = "tokens"  # a solution was cut because the cap left it no room
        if len(sampled.continuations) != n:
            raise EngineError(f"asked for {n} continuations, got {len(sampled.continuations)}")
        return [chain.extend(*continuation.steps) for continuation in sampled.continuations]

    @asynccontextmanager
    async def _known(self) -> AsyncIterator[None]:
        """A call that `stop` ends if the strategy has left it behind."""
        task = asyncio.current_task()
        assert task is not None
        self._calling.add(task)
        try:
            yield
        finally:
            self._calling.discard(task)

    def _of(self, chain: Chain) -> Member:
        """The model that a chain belongs to."""
        return self._members[chain.problem.model]

    def _add(self, chain: Chain, spent: Usage) -> None:
        self._spent[chain.problem.model] += spent

    def _count(self, chain: Chain, sampled: Sampled) -> int | None:
        spent = Usage.of_sampling(sampled, self._of(chain).generator.info.parameters)
        self._add(chain, spent)
        return spent.sampled_tokens

    def _lost(self, chain: Chain, error: BaseException) -> int | None:
        """Count what a call had done that was cancelled or failed; returns its sampled tokens."""
        known: Usage | None = getattr(error, "usage", None)
        if known is not None:
            self._add(chain, known)
            return known.sampled_tokens
        if not isinstance(error, InputError):  # refused before anything was done
            self._add(chain, Usage(lower_bound=True))
        return None

    def _record(self, chains: list[Chain]) -> list[Chain]:
        for chain in chains:
            self.trace.add(chain, "finished" if chain.finished else "live")
            if chain.finished:
                self.finished.append(chain)
            if self._early:
                self._scoring[chain] = asyncio.ensure_future(self._score(chain))
        return chains

    def _call_seed(self, chain: Chain) -> int | None:
        """A seed for this call that does not depend on the order in which branches run."""
        if self._seed is None or not self._of(chain).generator.info.seeds:
            return None
        key = f"{self._seed}/{chain.problem.id}/{chain.text}"
        self._calls[key] += 1
        digest = hashlib.sha256(f"{key}/{self._calls[key]}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    async def _score(self, chain: Chain) -> None:
        verifier = self._of(chain).verifier
        if verifier is None:
            raise VerifierError("this search has no verifier")
        nodes = _prefixes(chain)
        known = next((i for i, node in enumerate(nodes) if node not in self._scores), len(nodes))
        if known == len(nodes):
            return
        started = time.monotonic()
        try:
            scored = await verifier.score(chain, known)
        except (asyncio.CancelledError, VerifierError):
            self._add(chain, Usage(lower_bound=True))
            raise
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            raise VerifierError(f"the verifier ended by {error!r}") from error
        if len(scored.values) != len(nodes) - known:
            raise VerifierError(
                f"asked for scores of {len(nodes) - known} steps, got {len(scored.values)}"
            )
        seconds = time.monotonic() - started
        self._add(chain, Usage.of_scoring(scored, seconds, verifier.info.parameters))
        for node, value in zip(nodes[known:], scored.values, strict=True):
            if math.isnan(value) or not 0.0 <= value <= 1.0:
                raise VerifierError(f"verifier returned {value}, which is not a probability")
            self._scores[node] = value
            self.trace.score(node, value)


def _posed_to(member: Member, problem: Problem) -> Chain:
    """The problem as this model is asked."""
    return Chain(replace(problem, thinks=member.generator.info.thinks, model=member.name))


def _prefixes(chain: Chain) -> list[Chain]:
    """The chain's prefixes from its first step to itself, one a step."""
    return list(chain.ancestors())[-2::-1]
