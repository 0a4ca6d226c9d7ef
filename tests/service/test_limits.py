"""`GET /v1/router/limits`: what a client may ask for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from router import Router
from router.service.keys import ApiKeys
from router.service.settings import Settings
from router.strategies.registry import parse_strategy
from tests.service.serving import Engine, Served, served

KEYS = "small-key-of-some-length 8\nlarge-key-of-some-length"


def limits(service: Served, key: str | None = None) -> Any:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    response = service.http.get("/v1/router/limits", headers=headers)
    assert response.status_code == httpx.codes.OK
    return response.json()


def test_limits_are_those_of_the_server_and_the_key() -> None:
    settings = Settings(keys=ApiKeys.parse(KEYS, "test"), max_budget=32, deadline=90)
    with served(settings=settings) as service:
        assert service.http.get("/v1/router/limits").status_code == httpx.codes.UNAUTHORIZED
        small, large = (
            limits(service, f"{size}-key-of-some-length") for size in ("small", "large")
        )
    assert small["budget"] == {"default": 8, "most": 8}
    assert large["budget"] == {"default": 16, "most": 32}
    assert large["deadline"] == {"default": 90, "most": 90}
    assert large["model"] == "fake"
    assert {"maths", "choice", "text", "open"} <= {*large["tasks"]}


@pytest.mark.parametrize("most", [1, 2, 7, 64])
def test_every_strategy_that_is_offered_runs_at_its_least_budget(most: int) -> None:
    with served(settings=Settings(budget=1, max_budget=most)) as service:
        offers = limits(service)["strategies"]
        assert offers[0]["strategy"] == "auto"
        for offer in offers:
            assert offer["least"] <= most
            router = {"strategy": offer["strategy"], "budget": offer["least"]}
            answer = service.chat(router=router)
            assert answer.status_code == httpx.codes.OK, answer.text
            assert answer.json()["router"]["usage"]["generations"] <= offer["least"]
    least = {offer["strategy"]: offer["least"] for offer in offers}
    assert least["best_of_n(select=majority)"] == 1
    assert ("beam_search" in least) == (most >= 4)
    assert ("lookahead" in least) == (most >= 8)


def test_what_needs_a_verifier_is_not_offered_without_one() -> None:
    engine = Engine()
    with served(engine, router=Router(generator=engine, verifier=None)) as service:
        found = limits(service)
        asked = [offer["strategy"] for offer in found["strategies"]]
    assert found["verifier"] is None
    assert asked == ["auto", "best_of_n(select=majority)", "best_of_n(select=confident)"]


def test_fields_can_be_written_into_the_text() -> None:
    with served() as service:
        offers = {offer["strategy"]: offer for offer in limits(service)["strategies"]}
    beam = offers["beam_search"]["fields"]
    assert beam["width"] == {"type": "int", "default": 4}
    assert beam["temperature"] == {"type": "float", "default": None}
    assert beam["select"]["choices"] == ["majority", "best", "weighted", "confident"]
    assert "n" not in beam
    for name, offer in offers.items():
        for field, about in offer["fields"].items():
            if about["default"] is not None:
                parse_strategy(f"{name.partition('(')[0]}({field}={about['default']})", 64)
