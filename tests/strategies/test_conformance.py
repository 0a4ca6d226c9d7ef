"""Every strategy of ours keeps the public promises, and some of its own."""

from __future__ import annotations

from typing import ClassVar

from router.models.fakes import fake_problems, numbers
from router.strategies.base import Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.registry import STRATEGIES, parse_strategy
from router.testing import StrategyConformance
from router.testing.running import on_loop
from router.testing.strategies import Case, says

CONFIGURATIONS = [
    "best_of_n(n=8, select=majority)",
    "best_of_n(n=8, select=best)",
    "best_of_n(n=8)",
    "best_of_n(n=1)",
    "best_of_n(n=4, temperature=0.3)",
    "best_of_n(n=6, temperature=0.3)",
    "beam_search(n=8)",
    "beam_search(n=8, width=2, depth=3)",
    "beam_search(n=4, width=1, aggregate=min)",
    "dvts(n=8, width=4)",
    "dvts(n=8, temperature=1.2)",
    "dvts(n=8, width=2, depth=2, aggregate=mean)",
    "dvts(n=4, width=2)",
    "lookahead(n=4, k=1)",
    "lookahead(n=4, width=2, k=3, aggregate=prod)",
    "rebase(n=8)",
    "rebase(n=5, depth=2, aggregate=min)",
    "rebase(n=8, balance=0.001, temperature=1.2)",
    "rebase(n=8, balance=100, select=best)",
    "particle_filter(n=8)",
    "particle_filter(n=5, depth=3, balance=0.2)",
    "best_of_n(n=6, select=confident)",
    'best_of_n(n=7, temperatures="0.3:4, 1.2")',
    "best_of_n(n=8, lead=9)",
    "best_of_n(n=8, worth=0)",
    'best_of_n(n=6, select=majority, temperatures="0:1, 0.3:3", worth=0.1)',
    'best_of_n(n=8, select=majority, temperatures="0:1, 0.3:2", give_up=0)',
    "best_of_n(n=12, select=confident, lead=3, give_up=0.1)",
    "escalate(first=best_of_n(n=2), then=best_of_n(n=5), lead=1)",
    "escalate(first=best_of_n(n=3, select=majority), then=beam_search(n=4, width=2), lead=9)",
    "escalate(first=best_of_n(n=1), lead=0.5, give_up=0.3,"
    " then=escalate(first=best_of_n(n=4, lead=2), then=best_of_n(n=1, temperature=0), lead=3))",
]


class TestOurs(StrategyConformance):
    strategies: ClassVar[list[Strategy]] = [parse_strategy(text) for text in CONFIGURATIONS]

    @on_loop
    async def test_there_are_at_most_n_candidates(self, case: Case) -> None:
        outcome = await self.search(case)
        assert 1 <= len(outcome.candidates) <= case.n

    @on_loop
    async def test_duplicate_continuations_each_count(self, case: Case) -> None:
        outcome = await self.search(case, says("\\boxed{4}", "stop"))
        decided = isinstance(case.strategy, BestOfN) and case.strategy.anytime
        decided = decided or len(case.strategy.stages) > 1
        assert len(outcome.candidates) == case.n or decided

    @on_loop
    async def test_all_that_finished_are_candidates(self, case: Case) -> None:
        outcome = await self.search(case)
        finished = [node for node in outcome.trace.to_list() if node["status"] == "finished"]
        # What another stage was asked after has no say.
        assert len(finished) == len(outcome.candidates) or len(case.strategy.stages) > 1


def test_every_strategy_of_ours_is_tested() -> None:
    assert {strategy.name for strategy in TestOurs.strategies} == set(STRATEGIES)


def test_the_fake_answers_are_the_sums() -> None:
    for problem in fake_problems(50):
        assert str(sum(numbers(problem))) == problem.answer
