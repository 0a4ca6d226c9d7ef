"""The router: one object that decides, searches and answers."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from router.averages import AtThePrice, priced, shared_out
from router.bundle import Bundle
from router.choosing import (
    AUTO,
    ByTable,
    Chooser,
    Default,
    Difficulty,
    Fixed,
    Routing,
)
from router.difficulty.base import UNOBSERVED
from router.many import Results, results_of, solve_each
from router.models.base import Generator, Verifier
from router.models.errors import InputError
from router.models.prompts import NO_ARGS, TemplateArgs
from router.models.runtime.engine_args import NONE, EngineArgs
from router.models.types import AskedSampling, Problem, Sampling
from router.opening import Models, load_models
from router.pairs import Pair, named_pairs, relative_costs
from router.records import Decision, Failure, Solution
from router.road import solve
from router.session import Session
from router.strategies.base import Strategy
from router.strategies.budget import Budget
from router.strategies.fleet import ALONE, Fleet, Terms, asked_by, check
from router.strategies.registry import parse_strategy
from router.strategies.trace import Listener

Decided = Callable[[Decision], None]
"""Told of a decision."""

LivePrice = Callable[[], float]
"""What one generation more must add to the accuracy, at the moment."""

DEFAULT_BUDGET = 16
IN_FLIGHT = 32
"""Problems of a batch that run at once; enough to keep an engine's own batch full."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """What one call asks for.

    price: in place of the one for problems like those of the fit.
    """

    budget: int | Budget
    strategy: str | Strategy | None = None
    tolerance: float = 0.0
    sampling: Sampling | None = None
    price: LivePrice | None = None


class Router(Session):
    """Decides per problem which search is worth its budget, runs it, and answers.

    The constructor only stores its arguments. Models are opened on first use, or by
    `with Router() as router`, and used from a thread of the router's own: one router may be used
    from several threads and event loops at once.

    Args:
        model, engine, endpoints, endpoint_key, endpoint_seeds, tokenizer, prompt,
            chat_template_kwargs, verifier, verifier_format, verifier_endpoints,
            verifier_endpoint_key, engine_args, verifier_args, generator: what the one model and its
            verifier are opened from, as `pairs.Pair` explains them.
        models: in their place the pair, or several by their names, of the first of which a sample
            costs 1 (`docs/fleet.md`).
        strategy: `auto`; or a strategy, yours included, or its text: `beam_search(n=16, width=4)`.
        sampling: temperature, top_p, stop strings and the limit on tokens of one solution. What is
            not asked for is as the bundle that decides was fitted, else the model's own; what is
            asked for and differs from the bundle's is noted in `Decision.why`.
        bundle: directory of a fitted bundle, which decides what the strategy `auto` means; None
            means none, which is best-of-N. `auto` is the one that comes with `router` for the
            model, where it fits prompt and verifier; a ready-made generator gets none.
        difficulty: how a problem's level is told: `text`, by the bundle's estimator; `prefill`, by
            the generator's state after reading it, where the engine hands that out; or `pilot`,
            by the verifier's scores of a quarter of the samples, drawn first.
        chooser: decides in place of a bundle.
        average: generations that problems cost on average, where a bundle decides: easy and
            hopeless ones cost less, so that those in between may cost more, up to their budget.
            `solve_many` shares it out over its problems; a single problem gets what it would among
            problems like those of the fit.
        target_accuracy: in its place: as few generations as promise this accuracy, on average.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        engine: str = "auto",
        endpoints: Sequence[str] = (),
        endpoint_key: str | None = None,
        endpoint_seeds: bool = False,
        tokenizer: str | None = None,
        prompt: str | None = None,
        chat_template_kwargs: TemplateArgs = NO_ARGS,
        verifier: str | Verifier | None = AUTO,
        verifier_format: str | None = None,
        verifier_endpoints: Sequence[str] = (),
        verifier_endpoint_key: str | None = None,
        engine_args: EngineArgs = NONE,
        verifier_args: EngineArgs = NONE,
        strategy: str | Strategy = AUTO,
        sampling: Sampling | AskedSampling | None = None,
        bundle: str | Path | None = AUTO,
        difficulty: Difficulty = "text",
        chooser: Chooser | None = None,
        average: float | None = None,
        target_accuracy: float | None = None,
        generator: Generator | None = None,
        models: Pair | Mapping[str, Pair] | None = None,
    ) -> None:
        super().__init__()
        pair = Pair(
            model,
            engine,
            endpoints,
            endpoint_key,
            endpoint_seeds,
            tokenizer,
            prompt,
            chat_template_kwargs,
            verifier,
            verifier_format,
            verifier_endpoints,
            verifier_endpoint_key,
            engine_args,
            verifier_args,
            generator,
        )
        self.pairs = named_pairs(pair, models)
        self.pair = next(iter(self.pairs.values()))
        self.strategy = strategy
        asked = AskedSampling.of(sampling) if isinstance(sampling, Sampling) else sampling
        self.asked = asked or AskedSampling()
        self.bundle = bundle
        self.difficulty = difficulty
        self.chooser = chooser
        self.average = average
        self.target_accuracy = target_accuracy

    @property
    def verifier(self) -> str | Verifier | None:
        """The verifier that is, or will be, used, of the first model: what `auto` stands for."""
        return self.pair.judge

    @cached_property
    def fleet(self) -> Fleet:
        """On what terms strategies may ask each model by its name; a single one has none.

        A sample costs what the bundle's fit has measured; else as `pairs.relative_costs`.

        Raises:
            InputError, ModelError: the bundle cannot be read, or a cost is not known.
        """
        if "" in self.pairs:
            return ALONE
        bundle = self._routing.bundle
        costs = {} if bundle is None else bundle.table.costs
        if not costs.keys() >= self.pairs.keys():
            costs = {**relative_costs(self.pairs), **costs}
        return {
            name: Terms(costs[name], pair.judge is not None) for name, pair in self.pairs.items()
        }

    @cached_property
    def _routing(self) -> Routing:
        asked, alone = self.bundle != AUTO, len(self.pairs) == 1
        directory = self.bundle if asked else self.pair.bundle if alone else None
        models = "this model" if alone else "these models"
        return Routing.of(directory, asked, self.difficulty, models)

    @property
    def fitted(self) -> Bundle | None:
        """The bundle whose table decides the strategy `auto`; None where something else does.

        Before the models are open, a bundle is taken to fit them.

        Raises:
            InputError: the bundle that was asked for cannot be read, or does not fit.
        """
        by_table = self.chooser is None and isinstance(self._by_bundle(), ByTable)
        return self._routing.bundle if by_table else None

    @property
    def sampling(self) -> Sampling:
        """How solutions are sampled where a call asks for nothing.

        Raises:
            InputError: as `fitted`.
        """
        return self.sampling_with(self.strategy)

    def sampling_with(self, strategy: str | Strategy) -> Sampling:
        """The same where a call names the strategy."""
        chooser = (self.chooser or self._by_bundle()) if strategy == AUTO else None
        return self._sampling(chooser, self.asked)

    @property
    def loader(self) -> Callable[[], Coroutine[Any, Any, Models]]:
        """Opens models such as this router's; in another process too, if none is ready-made."""
        costs = {name: terms.cost for name, terms in self.fleet.items()}
        return partial(load_models, self.pairs, costs)

    # -- use ------------------------------------------------------------------------------

    def decide(
        self,
        problem: str | Problem,
        budget: int | Budget = DEFAULT_BUDGET,
        *,
        strategy: str | Strategy | None = None,
        tolerance: float = 0.0,
        sampling: Sampling | None = None,
    ) -> Decision:
        """Which search the problem would get; opens no model.

        Before the models are open, a bundle is taken to fit them. Where something is to be
        observed of the problem first, this is the decision before it.

        Raises:
            InputError: as `solve`.
        """
        return self._decide(problem, _Ask(budget, strategy, tolerance, sampling))

    async def adecide(
        self,
        problem: str | Problem,
        budget: int | Budget = DEFAULT_BUDGET,
        *,
        strategy: str | Strategy | None = None,
        tolerance: float = 0.0,
        sampling: Sampling | None = None,
        price: LivePrice | None = None,
    ) -> Decision:
        """As `decide`, in a thread: the features of a long text take a while.

        price: as `asolve` takes it.
        """
        ask = _Ask(budget, strategy, tolerance, sampling, price)
        return await asyncio.to_thread(self._decide, problem, ask)

    def price(self, budget: int | Budget = DEFAULT_BUDGET) -> float:
        """What one generation more must add, for `average` or `target_accuracy`; 0 without them.

        Raises:
            InputError: as `solve`.
        """
        _, chooser, _ = self._plan(_Ask(budget))
        return chooser.price if isinstance(chooser, ByTable) else 0.0

    def solve(
        self,
        problem: str | Problem,
        budget: int | Budget = DEFAULT_BUDGET,
        *,
        strategy: str | Strategy | None = None,
        tolerance: float = 0.0,
        sampling: Sampling | None = None,
        seed: int | None = None,
        listener: Listener | None = None,
        decided: Decided | None = None,
    ) -> Solution:
        """Solve one problem; also works inside a running event loop, which it blocks.

        Args:
            budget: generations, or a `Budget` to cap tokens and seconds too.
            strategy, sampling: in place of the router's own.
            tolerance: accuracy that may be given up for a cheaper search, where a bundle decides.
            seed: makes the search reproducible on engines that take seeds; see `Solution.notes`.
            listener: told of every node of the search, on the router's thread.
            decided: told of the decision, before the search; on that thread too.

        Raises:
            InputError: a bad budget or strategy, or a problem that the model cannot take.
            ModelError: the models cannot be opened.
            EngineError, VerifierError: a model failed.
            NoCandidates: the search ended before one solution was finished.
        """
        ask = _Ask(budget, strategy, tolerance, sampling)
        return self._loop().run(self._solve(problem, ask, seed, listener, decided))

    async def asolve(
        self,
        problem: str | Problem,
        budget: int | Budget = DEFAULT_BUDGET,
        *,
        strategy: str | Strategy | None = None,
        tolerance: float = 0.0,
        sampling: Sampling | None = None,
        seed: int | None = None,
        listener: Listener | None = None,
        decided: Decided | None = None,
        price: LivePrice | None = None,
    ) -> Solution:
        """As `solve`, awaited from any event loop. Cancelling it cancels the search.

        price: asked for when a table decides, in place of the one for problems like those of the
            fit: for whoever holds an average over what really comes (`averages.Controller`).
        """
        ask = _Ask(budget, strategy, tolerance, sampling, price)
        return await self._loop().wait(self._solve(problem, ask, seed, listener, decided))

    def solve_many(
        self,
        problems: Iterable[str | Problem],
        budget: int | Budget = DEFAULT_BUDGET,
        *,
        strategy: str | Strategy | None = None,
        tolerance: float = 0.0,
        sampling: Sampling | None = None,
        seed: int | None = None,
        in_flight: int = IN_FLIGHT,
    ) -> Iterator[Solution | Failure]:
        """Solve many problems at once; results come as they finish.

        A problem that fails, in whatever way, gives a `Failure` and ends no other. Leaving the
        iterator early cancels what has not finished.

        Args:
            budget: of each problem, and so are a `Budget`'s token cap and seconds.
            in_flight: problems that run at once.

        Raises:
            InputError: a bad budget or strategy; at once, before anything is opened.
            ModelError: the models cannot be opened.
            RuntimeError: called by a listener, which would wait for itself.
        """
        ask = _Ask(budget, strategy, tolerance, sampling)
        self._plan(ask)
        self._loop().check_caller()
        work = [_problem(problem) for problem in problems]
        results: Results = queue.SimpleQueue()
        prices: dict[int, float] = {}

        async def one(problem: Problem) -> Solution:
            price = prices.get(id(problem))
            own = None if price is None else lambda: price
            return await self._solve(problem, replace(ask, price=own), seed)

        async def every() -> None:
            try:
                await self._models()
                limits, chooser, _ = self._plan(ask)
                if self.average is not None and isinstance(chooser, ByTable):
                    prices.update(
                        await asyncio.to_thread(shared_out, work, limits, chooser, self.average)
                    )
                await solve_each(work, one, results, in_flight)
            finally:
                results.put(None)

        return self._results(every, results)

    # -- inside ---------------------------------------------------------------------------

    def _results(
        self, work: Callable[[], Coroutine[Any, Any, None]], results: Results
    ) -> Iterator[Solution | Failure]:
        # Only once it is iterated: until then nothing has started.
        yield from results_of(work(), results, self._loop())

    def _sampling(self, chooser: Chooser | None, asked: AskedSampling) -> Sampling:
        fitted = chooser.fitted if isinstance(chooser, ByTable) else None
        return asked.over(fitted or self.pair.sampling)

    def _decide(self, problem: str | Problem, ask: _Ask) -> Decision:
        limits, chooser, _ = self._plan(ask)
        decision = chooser.choose(_problem(problem), UNOBSERVED, limits)
        return replace(decision, models=asked_by(decision.strategy, next(iter(self.pairs))))

    def _by_bundle(self, tolerance: float = 0.0) -> Default | ByTable:
        return self._routing.chooser(
            tolerance, verified=self.verifier is not None, models=self.opened, fleet=self.fleet
        )

    def _plan(self, ask: _Ask) -> tuple[Budget, Chooser, Sampling]:
        """Check everything that can be checked; more of it once the models are open."""
        limits = ask.budget if isinstance(ask.budget, Budget) else Budget(ask.budget)
        strategy = self.strategy if ask.strategy is None else ask.strategy
        chooser = self._chooser(limits, strategy, ask.tolerance)
        wished = self.asked if ask.sampling is None else AskedSampling.of(ask.sampling)
        sampled = self._sampling(chooser, wished)
        average, accuracy = self.average, self.target_accuracy
        if ask.price is None and (average, accuracy) != (None, None):
            chooser = priced(chooser, self.fitted, limits, average, accuracy)
        if isinstance(chooser, ByTable):
            chooser = replace(chooser, sampled=sampled)
            if ask.price is not None:
                return limits, AtThePrice(chooser, ask.price), sampled
        return limits, chooser, sampled

    def _chooser(self, budget: Budget, asked: str | Strategy, tolerance: float) -> Chooser:
        if asked == AUTO and self.chooser is None:
            return self._by_bundle(tolerance)
        if tolerance:
            raise InputError(
                "a tolerance is for what a bundle decides, and this is decided already"
            )
        if asked == AUTO and self.chooser is not None:
            return self.chooser
        fixed = (
            parse_strategy(asked, budget.generations, self.fleet)
            if isinstance(asked, str)
            else asked
        )
        check(fixed, budget, has_verifier=self.verifier is not None, fleet=self.fleet)
        return Fixed(fixed)

    async def _solve(
        self,
        problem: str | Problem,
        ask: _Ask,
        seed: int | None,
        listener: Listener | None = None,
        decided: Decided | None = None,
    ) -> Solution:
        # Refuses bad input before a model is opened.
        self._plan(ask)
        problem = _problem(problem)
        models = await self._models()
        limits, chooser, sampled = self._plan(ask)
        solution = await solve(
            problem,
            models,
            chooser,
            limits,
            sampled,
            seed=seed,
            listener=listener,
            decided=decided,
        )
        return replace(solution, notes=(*solution.notes, *self._assumed))

    @cached_property
    def _assumed(self) -> tuple[str, ...]:
        """Notes on what the shipped verifiers or bundle rest on, where that is not certain."""
        notes = {
            pair.assumed: None
            for pair in self.pairs.values()
            if AUTO in (pair.verifier, self.bundle)
        }
        return tuple(note for note in notes if note is not None)


def _problem(problem: str | Problem) -> Problem:
    """A problem with an id.

    Raises:
        InputError: it is empty.
    """
    if isinstance(problem, str):
        return Problem.of_text(problem)
    if not problem.text.strip():
        raise InputError(f"problem {problem.id!r} is empty")
    return problem
