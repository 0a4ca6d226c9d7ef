"""What one key may ask for in a minute."""

from __future__ import annotations

import time

import pytest

from router.models.errors import InputError
from router.service.errors import ServiceError
from router.service.keys import ApiKeys
from router.service.rates import Rate
from router.service.settings import Settings
from tests.service.serving import Served, served

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"
KEYS = ApiKeys.parse(f"{ALICE}\n{BOB}", "here")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_minute_has_so_many_and_then_some_come_back(clock: list[float]) -> None:
    rate = Rate(60, "requests")
    for _ in range(60):
        rate.take("a")
    with pytest.raises(ServiceError, match="60 requests a minute") as caught:
        rate.take("a")
    assert caught.value.status == 429
    assert caught.value.headers == {"Retry-After": "1"}
    rate.take("b")  # another key has its own
    clock[0] += 1
    rate.take("a")
    with pytest.raises(ServiceError):
        rate.take("a")
    clock[0] += 3600  # an hour's rest is worth a minute
    for _ in range(60):
        rate.take("a")
    with pytest.raises(ServiceError):
        rate.take("a")


def test_large_requests_wait_longer(clock: list[float]) -> None:
    rate = Rate(600, "generations")
    rate.take("a", 500)
    rate.take("a", 100)
    with pytest.raises(ServiceError) as caught:
        rate.take("a", 256)
    assert caught.value.headers == {"Retry-After": "26"}
    clock[0] += 26
    rate.take("a", 256)


def test_without_keys_nothing_is_counted() -> None:
    rate = Rate(1, "requests")
    for _ in range(5):
        rate.take(None)


def test_the_largest_budget_fits_into_a_minute() -> None:
    with pytest.raises(InputError, match="minute, 100 generations"):
        Settings(key_generations=100)
    with pytest.raises(InputError, match="key_requests"):
        Settings(key_requests=0)
    Settings(key_generations=256)


def ask(service: Served, key: str, budget: int) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return service.chat(router={"budget": budget}, headers=headers).status_code


def test_a_key_that_asks_for_too_many_generations_is_told() -> None:
    settings = Settings(keys=KEYS, budget=4, max_budget=16, key_generations=20)
    with served(settings=settings) as service:
        assert [ask(service, ALICE, 8) for _ in range(3)] == [200, 200, 429]
        assert ask(service, BOB, 8) == 200
        headers = {"Authorization": f"Bearer {ALICE}"}
        refused = service.chat(router={"budget": 16}, headers=headers, stream=True)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert "20 generations" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) > 20


def test_a_key_that_asks_too_often_is_told_whatever_it_asks() -> None:
    with served(settings=Settings(keys=KEYS, key_requests=3)) as service:
        headers = {"Authorization": f"Bearer {ALICE}"}
        paths = ("/v1/models", "/v1/table", "/nothing", "/v1/models")
        got = [service.http.get(path, headers=headers).status_code for path in paths]
        assert got == [200, 200, 404, 429]
        assert ask(service, BOB, 1) == 200
        assert service.http.get("/health").status_code == 200
