"""What every generator promises: `models.base.Generator`, as far as it shows from outside."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from router.models.base import Generator, GeneratorInfo, Prefiller, state_layer
from router.models.errors import InputError, PromptTooLong
from router.models.types import Chain, Continuation, Problem, Sampled, Sampling
from router.models.usage import Usage
from router.testing.running import ModelSuite, on_loop


class GeneratorConformance(ModelSuite[Generator]):
    """Puts a generator through what a search asks of it. Write `open`; the rest is optional.

    problems: at least three that the model takes, and answers in various ways.
    tokens: limit of most calls; more makes a slow engine slower.
    counts_cancelled: whether yours says what a cancelled call had done, as the error's `usage`.
    """

    problems: ClassVar[Sequence[Problem]] = (
        Problem("sum", "What is 314159 + 271828 + 161803? Explain each step."),
        Problem("long", "Ann has 1234 apples and buys 9876. " * 8 + "How many has she? Explain."),
        Problem("steps", "Add 55555, 66666, 77777 and 88888, one after the other."),
    )
    tokens: ClassVar[int] = 64
    counts_cancelled: ClassVar[bool] = False

    def prompt_ids(self, chain: Chain) -> Sequence[int] | None:  # noqa: ARG002
        """Tokens of the prompt that continues a chain; None where yours cannot tell."""
        return None

    def running(self) -> int | None:
        """What the engine works on at this moment, in calls or in sequences; None if unknown."""
        return None

    async def sample(self, chain: Chain, n: int, sampling: Sampling | None = None) -> Sampled:
        """One call, of which everything that holds for all calls is checked."""
        sampling = sampling or self.sampling
        sampled = await self.model.sample(chain, n, sampling)
        assert len(sampled.continuations) == n
        for continuation in sampled.continuations:
            _check(continuation, sampling)
        assert sampled.prompt_tokens is None or sampled.prompt_tokens > 0
        if sampled.prompt_tokens is not None and sampled.cached_tokens is not None:
            assert 0 <= sampled.cached_tokens <= sampled.prompt_tokens
        return sampled

    @property
    def sampling(self) -> Sampling:
        """How most calls are made."""
        return Sampling(temperature=1.0, max_tokens=self.tokens)

    @property
    def root(self) -> Chain:
        """The first problem."""
        return Chain(self.problems[0])

    # -- what it is -----------------------------------------------------------------------

    @on_loop
    async def test_it_says_what_it_is(self) -> None:
        assert isinstance(self.model, Generator)
        info = self.model.info
        assert isinstance(info, GeneratorInfo)
        assert info.model
        assert info.engine
        assert info.prompt
        assert info.context is None or info.context > 0
        assert info.parameters is None or info.parameters > 0

    # -- continuations ----------------------------------------------------------------------

    @on_loop
    async def test_a_call_gives_n_continuations(self) -> None:
        for n in (1, 2, 5):
            await self.sample(self.root, n)

    @on_loop
    async def test_continuations_of_one_call_are_independent(self) -> None:
        seeds = (None, 3) if self.model.info.seeds else (None,)
        for seed in seeds:
            sampled = await self.sample(self.root, 8, replace(self.sampling, seed=seed))
            texts = {continuation.text for continuation in sampled.continuations}
            assert len(texts) > 1, f"eight samples at temperature 1 are one text (seed {seed})"

    @on_loop
    async def test_a_step_at_a_time_grows_a_path(self) -> None:
        chain, before = self.root, 0
        for _ in range(4):
            step = replace(self.sampling, until="step")
            sampled = await self.sample(chain, 1, step)
            if sampled.prompt_tokens is not None:
                assert sampled.prompt_tokens >= before
                before = sampled.prompt_tokens
            chain = chain.extend(*sampled.continuations[0].steps)
            if chain.finished:
                break

    @on_loop
    async def test_a_longer_paths_prompt_continues_its_parents(self) -> None:
        chain = self.root
        parent = self.prompt_ids(chain)
        if parent is None:
            pytest.skip("prompt_ids is not defined, so nothing is known of prompts")
        for _ in range(4):
            sampled = await self.sample(chain, 1, replace(self.sampling, until="step"))
            (step,) = sampled.continuations[0].steps
            chain = chain.extend(step)
            child = self.prompt_ids(chain)
            assert child is not None
            assert list(child[: len(parent)]) == list(parent)
            if step.token_ids is not None:
                assert tuple(child[len(parent) :]) == step.token_ids
            if chain.finished:
                break
            parent = child

    @on_loop
    async def test_a_limit_of_tokens_is_kept(self) -> None:
        for until in ("step", "end"):
            for limit in (1, 3):
                short = replace(self.sampling, until=until, max_tokens=limit)
                await self.sample(self.root, 2, short)

    @on_loop
    async def test_a_stop_string_ends_the_text_before_it(self) -> None:
        sampled = await self.sample(self.root, 4)
        texts = [c.text for c in sampled.continuations]
        letters = Counter(letter for text in texts for letter in set(text) if letter.isalnum())
        if not letters:
            pytest.skip("the model wrote no letter to stop at")
        mark = max(letters, key=letters.__getitem__)
        stopped = await self.sample(self.root, 4, replace(self.sampling, stop=(mark,)))
        assert not any(mark in continuation.text for continuation in stopped.continuations)
        assert any(continuation.finish == "stop" for continuation in stopped.continuations)

    @on_loop
    async def test_a_seed_is_kept_or_refused(self) -> None:
        seeded = replace(self.sampling, seed=11)
        if not self.model.info.seeds:
            with pytest.raises(InputError):
                await self.model.sample(self.root, 1, seeded)
            return
        first, again = [await self.sample(self.root, 3, seeded) for _ in range(2)]
        assert _texts(first) == _texts(again)
        other = await self.sample(self.root, 3, replace(seeded, seed=12))
        assert _texts(first) != _texts(other)

    # -- many calls, and calls that end early -------------------------------------------------

    @on_loop
    async def test_many_calls_at_once_get_their_own_answers(self) -> None:
        roots = [Chain(problem) for problem in self.problems]
        alone = [(await self.sample(root, 1)).prompt_tokens for root in roots]
        at_once = await asyncio.gather(*(self.sample(root, n) for n in (1, 2, 3) for root in roots))
        assert [sampled.prompt_tokens for sampled in at_once[: len(roots)]] == alone

    @on_loop
    async def test_cancelling_a_call_stops_its_work(self) -> None:
        errors: list[asyncio.CancelledError] = []

        async def call() -> None:
            try:
                await self.model.sample(self.root, 16, replace(self.sampling, max_tokens=1024))
            except asyncio.CancelledError as error:
                errors.append(error)
                raise

        task = asyncio.ensure_future(call())
        await asyncio.sleep(0.02)
        if task.done():
            pytest.skip("a call is over before it can be cancelled")
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.done(), "a cancelled call goes on for more than ten seconds"
        assert task.cancelled()
        (error,) = errors
        spent = getattr(error, "usage", None)
        assert isinstance(spent, Usage) or (spent is None and not self.counts_cancelled)
        for _ in range(100):
            if not self.running():
                break
            await asyncio.sleep(0.01)
        assert not self.running(), "the engine goes on with a call that was cancelled"
        await self.sample(self.root, 1)

    @on_loop
    async def test_a_prompt_too_long_is_refused_and_hurts_no_other(self) -> None:
        context = self.model.info.context
        if context is None:
            pytest.skip("the engine does not say how long a prompt may be")
        endless = Chain(Problem("endless", "12 + 7 = 19 and " * context))
        refused, fine = await asyncio.gather(
            self.model.sample(endless, 2, self.sampling),
            self.sample(self.root, 2),
            return_exceptions=True,
        )
        assert isinstance(refused, PromptTooLong)
        assert isinstance(fine, Sampled)

    @on_loop
    async def test_its_state_after_a_prompt_is_a_vector(self) -> None:
        if not isinstance(self.model, Prefiller) or state_layer(self.model) is None:
            pytest.skip("it hands out no states")
        reads = [await self.model.prefill(problem) for problem in self.problems]
        for read in reads:
            assert read.state.dtype == np.float32
            assert read.state.shape == reads[0].state.shape
            assert read.state.ndim == 1
            assert np.isfinite(read.state).all()
            assert 0 <= read.cached_tokens <= read.prompt_tokens


def _texts(sampled: Sampled) -> list[str]:
    return [continuation.text for continuation in sampled.continuations]


def _check(continuation: Continuation, sampling: Sampling) -> None:
    """What holds for every continuation: of one step, or of all steps to the end."""
    assert continuation.steps
    *before, last = continuation.steps
    if sampling.until == "step":
        assert not before, "a call until the next step gave more than one"
    else:
        assert last.finish != "step", "a call to the end stopped at a step"
    assert all(step.finish == "step" for step in before)
    counts = [step.tokens for step in continuation.steps]
    if continuation.tokens is not None:
        assert continuation.tokens <= sampling.max_tokens
        known = [count for count in counts if count is not None]
        assert len(known) < len(counts) or sum(known) == continuation.tokens
    for step in continuation.steps:
        assert step.token_ids is None or len(step.token_ids) == step.tokens
        assert step.logprob is None or (math.isfinite(step.logprob) and step.logprob <= 0)
