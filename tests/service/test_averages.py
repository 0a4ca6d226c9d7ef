"""`router serve --average`: what is really spent is held, whatever comes and however it ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest

from router import Pair, Price, Router
from router.averages import Controller
from router.bundle import Bundle
from router.difficulty.base import NOTHING, Evidence, Needs
from router.difficulty.levels import Levels
from router.models.errors import EngineError, InputError
from router.models.fakes import FakeGenerator
from router.models.types import Chain, FinishReason, Problem, Sampled, Sampling
from router.records import Decision
from router.rollouts.runs import Origin
from router.service.averages import Averages
from router.service.jobs import Job
from router.service.keys import ApiKeys
from router.service.metrics import Metrics
from router.service.searching import Feed
from router.service.settings import Settings
from router.service.state import Service
from router.strategies.best_of_n import BestOfN
from tests.router.test_averages import TABLE
from tests.service.serving import Served, served

EASY, MIDDLING, HOPELESS = "easy", "middling", "hopeless"
PRICES = {"small": 1, "large": 3}
KEYS = ("the-first-key-of-two", "the-other-key-of-two")


@dataclass(frozen=True)
class ByWord:
    """Tells the level by the problem's first word."""

    needs: Needs = NOTHING

    def levels(self, problem: Problem, evidence: Evidence) -> Sequence[float]:
        word = problem.text.split()[0]
        return [float(word == level) for level in (EASY, MIDDLING, HOPELESS)]

    def known(self, evidence: Evidence) -> str:
        return "its first word"


class Slow(FakeGenerator):
    """Answers at once, in words, a moment later; so that many searches are in flight.

    fails: how many calls fail.
    """

    def __init__(self) -> None:
        super().__init__(_short)
        self.fails = 0

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        await asyncio.sleep(0.002)
        if self.fails:
            self.fails -= 1
            raise EngineError("a glitch")
        return await super().sample(path, n, sampling)


def _short(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
    return r"So \boxed{4}.", "stop"


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The bundle that routers load; what its table expects to be spent is a fifth too little."""
    cells = [
        cell.model_copy(
            update={
                "entries": tuple(
                    entry.model_copy(
                        update={
                            "cost": entry.cost.model_copy(
                                update={"generations": max(1.0, 0.8 * entry.strategy.n)}
                            )
                        }
                    )
                    for entry in cell.entries
                )
            }
        )
        for cell in TABLE.cells
    ]
    bundle = Bundle(
        TABLE.model_copy(update={"cells": tuple(cells)}),
        Levels("quantile:3", (0.6, 0.2)),
        (1 / 3, 1 / 3, 1 / 3),
        Origin.of(FakeGenerator().info, Sampling(), None),
        {"data": {"texts": []}, "settings": {}},
        estimator=ByWord(),  # type: ignore[arg-type]
        mix=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    )
    monkeypatch.setattr(Bundle, "load", lambda _: bundle)
    return bundle


def router(average: float | None = 4.0) -> Router:
    return Router(generator=Slow(), verifier=None, bundle=Path("fitted"), average=average)


def job(word: str, *, key: str | None = None, strategy: str = "auto", budget: int = 16) -> Job:
    return Job(
        key=key,
        problem=Problem.of_text(f"{word} problem"),
        field="prompt",
        generations=budget,
        strategy=strategy,
        tolerance=0.0,
        sampling=Sampling(),
        seed=None,
        token_cap=None,
        give_up_at=time.monotonic() + 60,
        form=None,
    )


async def searched(
    service: Service, jobs: Sequence[Job], *, at_once: int = 100, leaving: float = 0.0
) -> list[float]:
    """Generations of each of these searches, as many in flight; some are left in the middle."""
    rng = random.Random(0)
    room = asyncio.Semaphore(at_once)
    spent: list[float] = []

    async def one(asked: Job) -> None:
        feed = Feed(trace=False)
        async with room:
            task = service.searches.start(asked, feed)
            if rng.random() < leaving:
                await asyncio.sleep(0.003)
                task.cancel()
            await asyncio.wait({task})
        if feed.usage is not None:
            spent.append(feed.usage.generations)

    await asyncio.gather(*map(one, jobs))
    return spent


def run(jobs: Sequence[Job], settings: Settings | None = None, leaving: float = 0.0) -> list[float]:
    """What these searches spend in a service of their own."""

    async def work() -> list[float]:
        asking = router()
        service = Service.of(asking, settings or Settings(), lambda error: pytest.fail(str(error)))
        service.engine.start()
        try:
            while not service.engine.ready:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            return await searched(service, jobs, leaving=leaving)
        finally:
            await service.engine.stop()
            await asking.aclose()

    return asyncio.run(work())


def mixed(*shares: tuple[int, float, float, float]) -> list[str]:
    rng = random.Random(1)
    words = EASY, MIDDLING, HOPELESS
    return [word for count, *p in shares for word in rng.choices(words, p, k=count)]


@pytest.mark.usefixtures("fitted")
def test_the_mean_is_held_when_the_mix_changes_in_the_middle() -> None:
    """A hundred are in flight, clients leave, and what the table expects is too little."""
    words = mixed((500, 0.8, 0.1, 0.1), (500, 0.1, 0.8, 0.1))
    spent = run([job(word) for word in words], leaving=0.05)
    assert len(spent) > 900
    assert mean(spent) == pytest.approx(4.0, rel=0.05)


@pytest.mark.usefixtures("fitted")
def test_requests_that_come_at_once_are_not_all_decided_as_the_first() -> None:
    spent = run([job(MIDDLING) for _ in range(64)])
    assert mean(spent) < 6.5  # the price of the fit's mix buys each of them 8


@pytest.mark.usefixtures("fitted")
def test_what_clients_choose_themselves_counts_and_others_make_up_for_it() -> None:
    asked = [
        job(MIDDLING, strategy="best_of_n(n=16, select=majority)" if at % 10 == 0 else "auto")
        for at in range(240)
    ]
    spent = run(asked)
    assert spent.count(16) >= 24
    assert mean(spent) == pytest.approx(4.0, rel=0.05)


@pytest.mark.usefixtures("fitted")
def test_each_key_has_its_own_average_where_that_is_asked_for() -> None:
    """One key's hard problems take nothing from the other's."""
    keys = ApiKeys.parse("\n".join(KEYS), "here")
    asked = [job(EASY if at % 2 else MIDDLING, key="b" if at % 2 else "a") for at in range(160)]
    together = run(asked, Settings(keys=keys))
    apart = run(asked, Settings(keys=keys, average_per_key=True))
    assert max(mean(together), mean(apart)) < 4.4
    # The first key's 80 problems alone may cost 4 on average; easy ones cannot use theirs up.
    assert together.count(8) + together.count(16) > apart.count(8) + apart.count(16)


@pytest.fixture
def serving(fitted: Bundle) -> Served:
    with served(router=router()) as service:
        yield service


def test_it_is_told_in_metrics_and_limits(serving: Served) -> None:
    assert serving.metric("router_average_asked") == 4
    for _ in range(3):
        serving.chat("middling problem", router={"budget": 4})
    state = serving.http.get("/v1/router/limits").json()["average"]
    assert (state["asked"], state["per_key"], state["in_flight"]) == (4, False, 0)
    assert state["spent"] == serving.metric("router_average_spent") == 4
    assert state["prices"] == [1e-5, 1]
    assert serving.metric("router_average_price") == pytest.approx(state["price"])
    route = serving.http.post("/v1/route", json={"problem": "easy problem", "budget": 4}).json()
    assert "one generation more must add" in route["decision"]["why"]


def test_a_search_that_fails_counts_what_it_spent(serving: Served) -> None:
    serving.server.service.engine.models.generator.fails = 1  # type: ignore[union-attr]
    assert serving.chat("middling problem", router={"budget": 4}).status_code == 503
    state = serving.server.service.averages.state(None)
    assert state is not None
    assert (state["spent"], state["in_flight"]) == (4, 0)


def test_without_an_average_nothing_is_held(fitted: Bundle) -> None:
    with served(router=router(None)) as service:
        assert service.http.get("/v1/router/limits").json()["average"] is None
        assert "router_average" not in service.http.get("/metrics").text


@pytest.mark.usefixtures("fitted")
def test_an_average_that_cannot_be_had_is_refused_before_anything_is_served() -> None:
    refused: list[Exception] = []

    async def work() -> None:
        asking = router(0.5)
        service = Service.of(asking, Settings(), refused.append)
        service.engine.start()
        while not refused:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await service.engine.stop()
        await asking.aclose()

    asyncio.run(work())
    assert isinstance(refused[0], InputError)
    assert "an average of 0.5 is too little" in str(refused[0])


def test_a_named_search_of_a_dearer_model_is_booked_at_what_it_costs() -> None:
    pairs = {n: Pair(generator=FakeGenerator(), price=Price(0, p)) for n, p in PRICES.items()}
    averages = Averages(Router(models=pairs, average=4, bundle=None), Settings(), Metrics())
    named = Decision(BestOfN(2, "majority", model="large"), None, None, "asked for")
    averages.decided(None, named)
    booked = Controller(4, 0.0)
    booked.decided(2 * 3)
    state = averages.state(None)
    assert state is not None
    assert state["price"] == booked.price
