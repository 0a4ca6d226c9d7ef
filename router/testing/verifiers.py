"""What every verifier promises: `models.base.Verifier`, as far as it shows from outside."""

from __future__ import annotations

import asyncio
from typing import ClassVar, get_args

import pytest

from router.models.base import Aggregation, Verifier, VerifierInfo
from router.models.errors import Unscorable
from router.models.types import Chain, Problem, Scored, Step
from router.testing.running import ModelSuite, on_loop

_SUM = Problem("sum", "What is 12 + 35 + 7 + 1?")
_STEPS = (
    "12 + 35 = 47\n\n",
    "47 + 7 = 54\n\n",
    "54 + 1 = 55\n\n",
    "The answer is \\boxed{55}.",
)
_ODD = {
    "empty step": ("12 + 35 = 47\n\n", ""),
    "no word": ("\n\n", "\\boxed{}"),
    "other scripts": ("十二加三十五是四十七。\n\n", "Ответ 🙂 \\boxed{55}"),
    "very long": ("1 + 1 = 2 and " * 20_000 + "\n\n", "\\boxed{2}"),
}


class VerifierConformance(ModelSuite[Verifier]):
    """Puts a verifier through what a search asks of it. Write `open`; the rest is optional.

    tolerance: how far two scores of one step may lie apart, as batches round differently.
    """

    tolerance: ClassVar[float] = 0.02

    def chain(self, *texts: str) -> Chain:
        """A chain of these steps, the last of which ends it; with token ids if yours needs them."""
        *before, last = texts
        steps = [Step(text, "step") for text in before]
        return Chain(_SUM).extend(*steps, Step(last, "stop"))

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        """One call, of which everything that holds for all calls is checked."""
        scored = await self.model.score(chain, known)
        assert len(scored.values) == chain.depth - known
        assert all(0.0 <= value <= 1.0 for value in scored.values)  # false for NaN too
        assert scored.tokens is None or scored.tokens >= 0
        assert scored.cached_tokens is None or scored.cached_tokens >= 0
        return scored

    @on_loop
    async def test_it_says_what_it_is(self) -> None:
        assert isinstance(self.model, Verifier)
        info = self.model.info
        assert isinstance(info, VerifierInfo)
        assert info.name
        assert info.format
        assert info.aggregation in get_args(Aggregation)
        assert info.parameters is None or info.parameters > 0

    @on_loop
    async def test_each_step_gets_a_probability(self) -> None:
        chain = self.chain(*_STEPS)
        for prefix in chain.ancestors():
            if prefix.depth:
                await self.score(prefix)

    @on_loop
    async def test_steps_that_are_known_are_left_out(self) -> None:
        chain = self.chain(*_STEPS)
        whole = await self.score(chain)
        for known in range(1, chain.depth):
            rest = await self.score(chain, known)
            assert rest.values == pytest.approx(whole.values[known:], abs=self.tolerance)

    @on_loop
    async def test_a_step_is_judged_by_what_is_before_it(self) -> None:
        """As a search relies on, which never asks for the score of a step again."""
        chain = self.chain(*_STEPS)
        values = (await self.score(chain)).values
        for prefix in chain.ancestors():
            if prefix.depth:
                own = await self.score(prefix, prefix.depth - 1)
                expected = values[prefix.depth - 1]
                assert own.values == pytest.approx([expected], abs=self.tolerance)

    @on_loop
    async def test_many_calls_at_once_get_their_own_answers(self) -> None:
        chains = [self.chain(*_STEPS[start:]) for start in range(len(_STEPS))]
        chains += [self.chain(*_STEPS[start:], "And so on.") for start in range(len(_STEPS))]
        alone = [(await self.score(chain)).values for chain in chains]
        at_once = await asyncio.gather(*(self.score(chain) for chain in chains))
        for scored, expected in zip(at_once, alone, strict=True):
            assert scored.values == pytest.approx(expected, abs=self.tolerance)

    @pytest.mark.parametrize("odd", _ODD.values(), ids=_ODD.keys())
    @on_loop
    async def test_an_odd_path_is_scored_or_its_own_fault(self, odd: tuple[str, ...]) -> None:
        """It raises nothing but Unscorable, and a call beside it is none the worse for it."""
        chain = self.chain(*_STEPS)
        expected = (await self.score(chain)).values
        found, fine = await asyncio.gather(
            self.score(self.chain(*odd)), self.score(chain), return_exceptions=True
        )
        if isinstance(found, BaseException) and not isinstance(found, Unscorable):
            raise found
        assert not isinstance(fine, BaseException)
        assert fine.values == pytest.approx(expected, abs=self.tolerance)

    @on_loop
    async def test_a_cancelled_call_hurts_no_other(self) -> None:
        chain = self.chain(*_STEPS)
        expected = (await self.score(chain)).values
        cancelled = asyncio.ensure_future(self.score(self.chain(*_STEPS[1:])))
        kept = asyncio.ensure_future(self.score(chain))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled], timeout=10)
        assert cancelled.done(), "a cancelled call goes on for more than ten seconds"
        await asyncio.wait([kept])
        assert not kept.cancelled(), "a call was cancelled along with another"
        assert kept.result().values == pytest.approx(expected, abs=self.tolerance)
