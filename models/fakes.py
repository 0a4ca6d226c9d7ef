"""A deterministic generator and verifier without any model: for tests, demos and load tests.

`FakeGenerator` adds up the numbers of a problem, one addition a step, and slips more often the
longer the numbers are; a slip is carried to the end, as in real solutions. `FakeVerifier` checks
each step's arithmetic. So difficulty, search and verification all mean something, for free.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from weakref import WeakSet

import numpy as np

from router.models.base import Aggregation, GeneratorInfo, VerifierInfo
from router.models.errors import EngineError, InputError, PromptTooLong, VerifierError
from router.models.types import (
    Chain,
    Continuation,
    FinishReason,
    Prefill,
    Problem,
    Sampled,
    Sampling,
    Scored,
    Step,
)
from router.models.usage import Usage

Script = Callable[[Chain, Sampling, random.Random], tuple[str, FinishReason]]
"""Writes the next step of a chain: its text, and `step` or `stop`."""

_SUM = re.compile(r"(\d+) \+ (\d+) = (\d+)")


class FakeGenerator:
    """Follows a script, one step at a time; a token is one byte of text.

    Args:
        script: writes the next step; by default the sum of the problem's numbers.
        seconds_per_token: how long a call takes, so that concurrency can be seen.
        fail_after: raise EngineError from this call on; None never fails.
        seeds: whether calls may carry a seed, as `info.seeds` says.
        context: longest prompt in tokens.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        seconds_per_token: float = 0.0,
        fail_after: int | None = None,
        seeds: bool = True,
        context: int = 16_384,
    ) -> None:
        self._script = script or slipping_sum()
        self._seconds_per_token = seconds_per_token
        self._fail_after = fail_after
        self._info = GeneratorInfo("fake", "fake", "plain", context, parameters=1_000, seeds=seeds)
        self._served: WeakSet[Chain] = WeakSet()
        self._calls_on: Counter[str] = Counter()
        self.calls = 0
        self.running = 0
        self.sampled_tokens = 0

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        self.calls += 1
        if self._fail_after is not None and self.calls > self._fail_after:
            raise EngineError(f"fake generator fails from call {self._fail_after + 1} on")
        if sampling.seed is not None and not self._info.seeds:
            raise InputError("this fake generator takes no seeds")
        prompt = _size(chain.problem.text) + chain.tokens
        if self._info.context is not None and prompt >= self._info.context:
            raise PromptTooLong(
                f"problem {chain.problem.id} has {prompt} tokens, over the context of"
                f" {self._info.context}"
            )
        # A seed fixes what one call gives; without one, each call gives something else.
        calls_on = self._calls_on if sampling.seed is None else Counter[str]()
        continuations = tuple(self._continue(chain, sampling, calls_on) for _ in range(n))
        lengths = [continuation.tokens or 0 for continuation in continuations]
        self.running += 1
        started = time.monotonic()
        try:
            await asyncio.sleep(max(lengths) * self._seconds_per_token)
        except asyncio.CancelledError as error:
            each = int((time.monotonic() - started) / self._seconds_per_token)
            done = sum(min(each, length) for length in lengths)
            self.sampled_tokens += done
            error.usage = Usage.of_generator(done, prompt, 0, self._info.parameters)  # type: ignore[attr-defined]
            raise
        finally:
            self.running -= 1
        self.sampled_tokens += sum(lengths)
        cached = 0
        for ancestor in chain.ancestors():
            if ancestor in self._served:
                cached = _size(chain.problem.text) + ancestor.tokens
                break
        self._served.add(chain)
        return Sampled(continuations, prompt_tokens=prompt, cached_tokens=cached)

    @property
    def state_layer(self) -> int | None:
        return 1

    async def prefill(self, problem: Problem) -> Prefill:
        """Its state is what decides how often it slips: the terms, and how long they are."""
        lengths = [len(str(number)) for number in numbers(problem)]
        state = np.array([len(lengths), sum(lengths), max(lengths)], np.float32)
        return Prefill(state, _size(problem.text), cached_tokens=0)

    async def aclose(self) -> None:
        pass

    def _continue(self, chain: Chain, sampling: Sampling, calls_on: Counter[str]) -> Continuation:
        key = f"{sampling.seed}/{chain.problem.text}/{chain.text}"
        calls_on[key] += 1
        rng = random.Random(f"{key}/{calls_on[key]}")
        steps: list[Step] = []
        room = sampling.max_tokens
        while True:
            text, finish = self._script(chain, sampling, rng)
            ends = [text.index(mark) for mark in sampling.stop if mark in text]
            if ends:
                text, finish = text[: min(ends)], "stop"
            if _size(text) >= room:
                text, finish = text.encode()[:room].decode(errors="ignore"), "length"
            step = Step(text, finish, _size(text), tuple(text.encode()), logprob=-0.5)
            steps.append(step)
            room -= _size(text)
            chain = chain.extend(step)
            if sampling.until == "step" or finish != "step":
                return Continuation(tuple(steps), sum(s.tokens or 0 for s in steps))


class FakeVerifier:
    """Scores a step by its arithmetic: near 1 while every sum so far holds, near 0 after a slip.

    Args:
        noise: half-width of the uniform error added to each score, fixed by the text.
        constant: give every step this score instead.
        seconds: how long a call takes.
    """

    def __init__(
        self,
        *,
        noise: float = 0.0,
        constant: float | None = None,
        aggregation: Aggregation = "last",
        seconds: float = 0.0,
    ) -> None:
        self._noise = noise
        self._constant = constant
        self._seconds = seconds
        self._info = VerifierInfo("fake", "fake", aggregation, parameters=1_000)
        self.calls = 0
        self.scored_tokens = 0

    @property
    def info(self) -> VerifierInfo:
        return self._info

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        if not chain.steps:
            raise VerifierError("a chain without steps has nothing to score")
        self.calls += 1
        await asyncio.sleep(self._seconds)
        values, text = [], ""
        for step in chain.steps:
            text += step.text
            values.append(self._value(text))
        sizes = [_size(step.text) for step in chain.steps]
        tokens = sum(sizes[known:])
        self.scored_tokens += tokens
        return Scored(tuple(values[known:]), tokens, cached_tokens=sum(sizes[:known]))

    async def aclose(self) -> None:
        pass

    def _value(self, text: str) -> float:
        if self._constant is not None:
            return self._constant
        right = all(int(a) + int(b) == int(c) for a, b, c in _SUM.findall(text))
        noise = self._noise * (2 * random.Random(text).random() - 1)
        return min(1.0, max(0.0, (0.85 if right else 0.15) + noise))


def slipping_sum(slip: float = 0.06) -> Script:
    """Add the problem's numbers from left to right; each digit of an addend may cause a slip.

    slip: probability of a wrong sum for each digit of the longer number.
    """

    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        terms = numbers(chain.problem)
        sums = _SUM.findall(chain.text)
        total = int(sums[-1][2]) if sums else terms[0]
        if len(sums) == len(terms) - 1:
            return f"The answer is \\boxed{{{total}}}.", "stop"
        addend = terms[len(sums) + 1]
        result = total + addend
        chance = min(0.9, slip * len(str(max(total, addend))))
        if sampling.temperature > 0 and rng.random() < chance:
            result += rng.choice((-10, -1, 1, 10))
        return f"{total} + {addend} = {max(0, result)}\n\n", "step"

    return script


def knowing(chances: Mapping[int, float]) -> Script:
    """State the sum in one step, rightly by a chance that the problem's number of terms decides.

    So the strength of a model on each sort of problem is known. Wrong sums are seldom equal.
    """

    def script(chain: Chain, _: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        terms = numbers(chain.problem)
        wrong = rng.random() >= chances[len(terms)]
        return f"The answer is \\boxed{{{sum(terms) + wrong * rng.randint(1, 999)}}}.", "stop"

    return script


def numbers(problem: Problem) -> list[int]:
    """The numbers to add: those in the text (at most 8), or three drawn from its hash."""
    found = [int(digits[:9]) for digits in re.findall(r"\d+", problem.text)][:8]
    if len(found) > 1:
        return found
    digest = hashlib.sha256(problem.text.encode()).digest()
    return [10 + byte for byte in digest[:3]]


def fake_problems(count: int, seed: int = 0) -> list[Problem]:
    """Sums of mixed difficulty with their gold answers: two to six terms of one to six digits."""
    rng = random.Random(seed)
    problems = []
    for index in range(count):
        digits = rng.randint(1, 6)
        terms = [rng.randint(10 ** (digits - 1), 10**digits - 1) for _ in range(rng.randint(2, 6))]
        text = f"What is {' + '.join(map(str, terms))}?"
        problems.append(Problem(f"fake/{seed}/{index}", text, str(sum(terms)), "fake"))
    return problems


def _size(text: str) -> int:
    return len(text.encode())
