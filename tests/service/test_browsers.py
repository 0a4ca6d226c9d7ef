"""Pages of other origins: what a browser asks before it sends, and what it may read."""

from __future__ import annotations

import pytest

from router.models.errors import InputError
from router.service.keys import ApiKeys
from router.service.settings import Settings
from tests.service.serving import CHAT, QUESTION, served

ORIGIN = "https://app.example"
ASKS = {
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}


def test_a_page_that_is_allowed_can_ask_with_a_key() -> None:
    keys = ApiKeys.parse("a-key-of-16-chars", "test")
    with served(settings=Settings(keys=keys, origins=(ORIGIN,))) as service:
        asked = service.http.options(CHAT, headers=ASKS)  # browsers send no key with it
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == ORIGIN
        assert "x-stainless-lang" in asked.headers["access-control-allow-headers"]
        sent = {"Origin": ORIGIN, "Authorization": "Bearer a-key-of-16-chars"}
        answer = service.chat(QUESTION, headers=sent)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        refused = service.chat(QUESTION, headers={"Origin": ORIGIN})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == ORIGIN  # or the page reads nothing
        assert "x-request-id" in refused.headers["access-control-expose-headers"]
        other = service.http.options(CHAT, headers={**ASKS, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_no_page_is_allowed_unless_it_is_named() -> None:
    with served() as service:
        asked = service.http.options(CHAT, headers=ASKS)
        assert asked.status_code == 405
        assert "access-control-allow-origin" not in asked.headers


def test_all_pages() -> None:
    with served(settings=Settings(origins=("*",))) as service:
        answer = service.http.get("/v1/models", headers={"Origin": "null"})
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", ["", "app.example", "https://app.example/", "https://a b/c"])
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(InputError, match="is no origin"):
        Settings(origins=(origin,))
