"""What sets each strategy apart, checked on scripted trees."""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass

import pytest

from router.models.errors import InputError
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.types import Chain, FinishReason, Problem, Sampled, Sampling, Scored
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import Budget
from router.strategies.driver import Outcome, run_search
from router.strategies.registry import parse_strategy

PROBLEM = Problem("p", "any")


def digits(depth: int) -> FakeGenerator:
    """Each step is one random digit; a solution has `depth` of them."""

    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        digit = 0 if sampling.temperature == 0 else rng.randrange(1, 10)
        return f"{digit}\n\n", "stop" if chain.depth + 1 == depth else "step"

    return FakeGenerator(script)


class DigitVerifier(FakeVerifier):
    """A step is worth its digit over ten; remembers every text that it was asked to score."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        self.seen.append(chain.text)
        return await super().score(chain, known)

    def _value(self, text: str) -> float:
        return int(re.findall(r"\d", text)[-1]) / 10


async def search(
    text: str, generator: FakeGenerator, verifier: FakeVerifier | None = None
) -> Outcome:
    strategy = parse_strategy(text)
    return await run_search(
        strategy,
        PROBLEM,
        generator,
        verifier or DigitVerifier(),
        Budget(strategy.cost),
        Sampling(),
        seed=1,
    )


def by_depth(outcome: Outcome, depth: int) -> list[Chain]:
    """Sampled (not looked-ahead) chains of this depth, in order."""
    return [
        node.chain
        for node in outcome.trace.nodes
        if node.chain.depth == depth and node.status != "lookahead"
    ]


def value(chain: Chain) -> int:
    assert chain.step is not None
    return int(chain.step.text[0])


async def test_beam_keeps_the_best_n_over_m_and_grows_them_by_m() -> None:
    outcome = await search("beam_search(n=16, width=4)", digits(4))
    for depth in (1, 2, 3):
        level = by_depth(outcome, depth)
        assert len(level) == 16
        kept = {p.parent for p in by_depth(outcome, depth + 1)}
        assert len(kept) == 4
        best = sorted(map(value, level), reverse=True)[:4]
        assert sorted((value(p) for p in kept if p), reverse=True) == best
    assert len(outcome.candidates) == 16
    assert outcome.usage.generations == 16


async def test_finished_paths_leave_the_beam_and_count() -> None:
    """Half of the first steps end at once: the beam goes on with the other half only."""

    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        ends = chain.depth == 0 and rng.random() < 0.5
        return f"{rng.randrange(1, 10)}\n\n", "stop" if ends or chain.depth == 2 else "step"

    outcome = await search("beam_search(n=16, width=4)", FakeGenerator(script))
    early = [c for c in outcome.candidates if c.chain.depth == 1]
    assert 0 < len(early) < 16
    assert len(by_depth(outcome, 2)) == 16 - len(early)
    assert len(outcome.candidates) == 16
    assert len({id(c.chain) for c in outcome.candidates}) == 16


async def test_the_last_round_of_a_beam_samples_to_the_end() -> None:
    outcome = await search("beam_search(n=4, width=2, depth=2)", digits(6))
    assert {c.chain.depth for c in outcome.candidates} == {6}
    assert outcome.usage.generations == 4


async def test_dvts_follows_the_best_child_of_each_subtree() -> None:
    outcome = await search("dvts(n=12, width=4)", digits(3))
    first = by_depth(outcome, 1)
    assert len(first) == 12
    followed = {p.parent for p in by_depth(outcome, 2)}
    assert len(followed) == 3
    subtrees = [first[i : i + 4] for i in range(0, 12, 4)]
    for subtree in subtrees:
        (chosen,) = [p for p in subtree if p in followed]
        assert value(chosen) == max(map(value, subtree))


async def test_dvts_subtrees_do_not_wait_for_each_other() -> None:
    """One subtree is stuck in its first step; the others run to their ends meanwhile."""
    gate = asyncio.Event()
    ended: list[int] = []

    class Stuck(FakeGenerator):
        async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
            if chain.depth == 0 and self.calls == 0:
                self.calls += 1
                await gate.wait()
            elif chain.depth == 2:
                ended.append(self.calls)
                if len(ended) == 2:
                    gate.set()
            return await super().sample(chain, n, sampling)

    plain = digits(3)
    outcome = await asyncio.wait_for(search("dvts(n=6, width=2)", Stuck(plain._script)), 5)
    assert len(ended) == 3
    assert outcome.candidates


async def test_look_ahead_text_is_really_scored_and_then_dropped() -> None:
    verifier = DigitVerifier()
    outcome = await search("lookahead(n=4, width=2, k=2)", digits(5), verifier)
    ahead = [node.chain for node in outcome.trace.nodes if node.status == "lookahead"]
    inner = {chain.parent for chain in ahead}
    ends = [chain for chain in ahead if chain not in inner]
    assert ends
    assert {chain.text for chain in ends} <= set(verifier.seen)
    for candidate in outcome.candidates:
        assert "0" not in candidate.text, "greedy look-ahead text must not enter a solution"
    assert outcome.usage.generations == 12


async def test_look_ahead_decides_by_the_value_ahead() -> None:
    """A first step that looks bad but leads well beats one that looks good and leads badly."""

    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        if chain.depth == 0:
            return rng.choice(["1\n\n", "9\n\n"]), "step"
        good = chain.text.startswith("1")
        return ("8\n\n" if good else "2\n\n"), "stop" if chain.depth == 2 else "step"

    ahead = await search("lookahead(n=8, width=4, k=1)", FakeGenerator(script))
    plain = await search("beam_search(n=8, width=4)", FakeGenerator(script))
    assert {c.text[0] for c in ahead.candidates} == {"1"}
    assert {c.text[0] for c in plain.candidates} == {"9"}


async def test_one_request_serves_all_continuations_of_a_path() -> None:
    generator = digits(3)
    await search("beam_search(n=16, width=4)", generator)
    assert generator.calls == 1 + 4 + 4
    generator = digits(3)
    await search("best_of_n(n=16, select=majority)", generator)
    assert generator.calls == 1


@pytest.mark.parametrize(
    ("text", "budget", "expected"),
    [
        ("best_of_n", 7, "best_of_n(n=7)"),
        ("beam_search", 18, "beam_search(n=16)"),
        ("dvts(width=2)", 7, "dvts(n=6, width=2)"),
        ("lookahead", 16, "lookahead(n=8)"),
        ("lookahead(k=3)", 16, "lookahead(n=4, k=3)"),
        ("beam_search(n=16, width=4, select=best)", None, "beam_search(n=16, select=best)"),
        ("best_of_n(temperature=0)", 2, "best_of_n(n=2, temperature=0)"),
        ("dvts(temperature=0.3)", 4, "dvts(n=4, temperature=0.3)"),
    ],
)
def test_a_strategy_reads_and_writes_itself(text: str, budget: int | None, expected: str) -> None:
    strategy = parse_strategy(text, budget)
    assert str(strategy) == expected
    assert parse_strategy(str(strategy)) == strategy
    assert budget is None or strategy.cost <= budget


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beem_search(n=4)", "did you mean 'beam_search'"),
        ("beam_search(n=4, widht=2)", "did you mean 'width'"),
        ("beam_search(n=6, width=4)", "width must divide n"),
        ("beam_search(n=0)", "at least 1"),
        ("beam_search(n=2.5)", "whole number"),
        ("best_of_n(n=4, select=bets)", "select must be one of"),
        ("best_of_n(n=4, aggregate=median)", "aggregate must be one of"),
        ("beam_search", "needs at least 4"),
        ("best_of_n(n=4, temperature=-0.1)", "temperature must lie between 0 and 2"),
        ("best_of_n(n=4, temperature=2.5)", "temperature must lie between 0 and 2"),
        ("best_of_n(n=4, temperature=hot)", "temperature must lie between 0 and 2"),
        ("best_of_n(4)", "cannot read"),
        ("best_of_n(n=", "cannot read"),
        ("", "cannot read"),
        ("best_of_n(n=__import__('os'))", "cannot read"),
        ("(" * 900, "cannot read"),
        ("(" * 5000, "1000 characters at most"),
    ],
)
def test_a_bad_strategy_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_strategy(text, 2)


async def test_a_strategy_over_the_budget_is_refused() -> None:
    strategy = parse_strategy("lookahead(n=8, k=1)")
    with pytest.raises(InputError, match="needs 16 generations"):
        await run_search(strategy, PROBLEM, digits(2), DigitVerifier(), Budget(15), Sampling())


async def test_a_strategy_that_needs_a_verifier_says_so() -> None:
    strategy = parse_strategy("dvts(n=4)")
    with pytest.raises(InputError, match="needs a verifier"):
        await run_search(strategy, PROBLEM, digits(2), None, Budget(4), Sampling())


@pytest.mark.parametrize("text", ["best_of_n(n=4, {})", "beam_search(n=4, {})", "dvts(n=4, {})"])
async def test_a_strategy_samples_at_its_own_temperature(text: str) -> None:
    for wanted, own in ((0.25, "temperature=0.25"), (0.8, "select=weighted")):
        generator = Asked()
        strategy = parse_strategy(text.format(own))
        await run_search(strategy, PROBLEM, generator, FakeVerifier(), Budget(4), Sampling())
        assert set(generator.temperatures) == {wanted}


async def test_a_look_ahead_is_greedy_at_any_temperature() -> None:
    generator = Asked()
    strategy = parse_strategy("lookahead(n=4, temperature=1.5)")
    await run_search(strategy, PROBLEM, generator, FakeVerifier(), Budget(8), Sampling())
    assert set(generator.temperatures) == {0.0, 1.5}


class Asked(FakeGenerator):
    """Keeps the temperatures that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.temperatures: list[float] = []

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        self.temperatures.append(sampling.temperature)
        return await super().sample(chain, n, sampling)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "2"])
def test_whole_numbers_are_checked_however_they_are_annotated(value: object) -> None:
    """A module without `from __future__ import annotations` has types there, not their names."""
    mine = dataclass(frozen=True)(type("Mine", (BestOfN,), {"__annotations__": {"k": int}, "k": 1}))
    assert mine(n=2).k == 1
    with pytest.raises(InputError, match="k must be"):
        mine(n=2, k=value)
