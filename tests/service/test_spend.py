"""What was spent is counted and logged, however a search ends."""

from __future__ import annotations

import asyncio
import time

import pytest

from router.models.errors import EngineError
from router.models.types import Chain, Sampled, Sampling
from tests.service.serving import CHAT, Engine, Served, served, until
from tests.service.test_operation import Lines, lines  # noqa: F401 (a fixture)
from tests.service.test_streaming import leave


class OneOff(Engine):
    """An engine whose fourth call is not as the others: it hangs, or it fails.

    searched_tokens: sampled for searches, so without the probes.
    """

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self._fails = fails
        self._searched = 0
        self.searched_tokens = 0

    async def sample(self, chain: Chain, n: int, sampling: Sampling) -> Sampled:
        if chain.problem.id == "probe":
            return await super().sample(chain, n, sampling)
        self._searched += 1
        if self._searched == 4:
            await asyncio.sleep(0.1 if self._fails else 3600)
            raise EngineError("a glitch")
        sampled = await super().sample(chain, n, sampling)
        self.searched_tokens += sum(one.tokens or 0 for one in sampled.continuations)
        return sampled


def counted(service: Served, ended: str) -> tuple[float, float, float]:
    """Searches that ended so; and generations and tokens of all searches."""
    return (
        service.metric(f'router_searches_total{{ended="{ended}"}}'),
        service.metric("router_generations_total"),
        service.metric('router_tokens_total{kind="sampled"}'),
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_search_that_fails_is_counted(lines: Lines, stream: bool) -> None:  # noqa: F811
    engine = OneOff(fails=True)
    with served(engine) as service:
        service.chat(router={"budget": 4}, stream=stream)
        assert engine.searched_tokens > 0
        assert counted(service, "failed") == (1, 4, engine.searched_tokens)
        until(lambda: any(facts.get("route") == CHAT for facts in lines.facts))
    facts = next(facts for facts in lines.facts if facts.get("route") == CHAT)
    assert facts["outcome"] == "engine_failed"
    assert (facts["generations"], facts["sampled_tokens"]) == (4, engine.searched_tokens)
    assert facts["lower_bound"]  # the engine did not say what the failed call had done


@pytest.mark.parametrize("stream", [False, True])
def test_a_search_that_is_left_is_counted(lines: Lines, stream: bool) -> None:  # noqa: F811
    engine = Engine(seconds_per_token=0.02)
    with served(engine) as service:
        started = time.monotonic()
        leave(service, stream, once=lambda: engine.running > 0 and time.monotonic() > started + 0.5)
        until(lambda: counted(service, "left")[0] == 1)
        assert engine.sampled_tokens > 0
        assert counted(service, "left") == (1, 16, engine.sampled_tokens)
        until(lambda: any(facts.get("route") == CHAT for facts in lines.facts))
    facts = next(facts for facts in lines.facts if facts.get("route") == CHAT)
    assert facts["outcome"] == "client_gone"
    assert (facts["generations"], facts["sampled_tokens"]) == (16, engine.sampled_tokens)
    assert not facts["lower_bound"]


def test_a_search_that_waits_or_is_refused_is_none(lines: Lines) -> None:  # noqa: F811
    with served() as service:
        assert service.chat(router={"strategy": "best_of_n(n=99)"}).status_code == 400
        until(lambda: any(facts.get("route") == CHAT for facts in lines.facts))
        assert "router_searches_total{" not in service.http.get("/metrics").text
    facts = next(facts for facts in lines.facts if facts.get("route") == CHAT)
    assert "generations" not in facts


@pytest.mark.parametrize("stream", [False, True])
def test_a_lower_bound_is_told(lines: Lines, stream: bool) -> None:  # noqa: F811
    with served(OneOff(fails=False)) as service:
        answer = service.chat(router={"budget": 4, "deadline": 1.0}, stream=stream)
        if stream:
            assert '"lower_bound": true' in answer.text
        else:
            assert answer.json()["router"]["usage"]["lower_bound"]
        whole = service.chat(router={"budget": 4})
        assert not whole.json()["router"]["usage"]["lower_bound"]
        until(lambda: len([f for f in lines.facts if f.get("route") == CHAT]) == 2)
    told = [facts["lower_bound"] for facts in lines.facts if facts.get("route") == CHAT]
    assert told == [True, False]
