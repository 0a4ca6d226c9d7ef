"""Keys, queue, deadlines, metrics and logs of a running service."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, OpenAI

from router import Router
from router.bundle import Bundle
from router.models.base import GeneratorInfo, VerifierInfo
from router.models.errors import InputError, RouterError
from router.models.fakes import FakeVerifier
from router.models.types import Sampling
from router.models.usage import Usage
from router.service.keys import ApiKeys
from router.service.metrics import Metrics
from router.service.server import bind
from router.service.settings import Settings
from router.strategies.registry import parse_strategy
from tests.router.test_routing import bundle, only  # noqa: F401 (a fixture)
from tests.service.serving import CHAT, QUESTION, Engine, Served, bundled, served, until

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"
KEYS = ApiKeys.parse(f"{ALICE}\n{BOB} 4", "here")


class Lines(logging.Handler):
    """Keeps the facts of each request that is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [vars(record).get("facts", {}) for record in self.records]

    @property
    def text(self) -> str:
        return "\n".join(f"{vars(record)}" for record in self.records)


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("router.service")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


# -- keys ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    with served(settings=Settings(keys=KEYS)) as service:
        yield service


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {ALICE}", ALICE, "Bearer \xff"]
)
def test_a_bad_key_opens_nothing(guarded: Served, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    for method, path in (
        ("POST", CHAT),
        ("POST", "/v1/route"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/fake"),
        ("GET", "/v1/table"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
    ):
        answer = guarded.http.request(method, path, headers=headers)
        assert answer.status_code == 401, path
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/health", "/ready", "/version", "/metrics"])
def test_probes_need_no_key(guarded: Served, path: str) -> None:
    assert guarded.http.get(path).status_code == 200


def test_openai_client_with_a_key(guarded: Served) -> None:
    good = OpenAI(base_url=f"{guarded.url}/v1", api_key=ALICE)
    assert good.models.list().data
    with pytest.raises(AuthenticationError):
        OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong").models.list()


def test_a_key_has_its_own_cap(guarded: Served) -> None:
    def budget(key: str, asked: int | None) -> httpx.Response:
        return guarded.chat(
            headers={"Authorization": f"Bearer {key}"}, router={"budget": asked} if asked else {}
        )

    assert budget(ALICE, 5).status_code == 200
    assert budget(BOB, 4).status_code == 200
    assert budget(BOB, None).json()["router"]["budget"] == 4
    refused = budget(BOB, 5)
    assert refused.status_code == 400
    assert "1 to 4" in refused.json()["error"]["message"]


def test_keys_are_required_where_others_can_reach_the_service() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "router.example"):
        with pytest.raises(InputError, match="give API keys"):
            bind(host, 0, Settings())
    bind("0.0.0.0", 0, Settings(keys=KEYS)).close()
    bind("localhost", 0, Settings()).close()


def test_an_address_that_is_taken() -> None:
    with (
        bind("127.0.0.1", 0, Settings()) as taken,
        pytest.raises(RouterError, match="cannot serve on"),
    ):
        bind("127.0.0.1", taken.getsockname()[1], Settings())


def test_no_key_is_logged(guarded: Served, lines: Lines) -> None:
    guarded.chat(headers={"Authorization": f"Bearer {ALICE}"}, router={"budget": 1})
    guarded.chat(headers={"Authorization": "Bearer wrong-key"}, router={"budget": 1})
    until(lambda: len(lines.records) == 2)
    assert "alice" not in lines.text
    assert "wrong-key" not in lines.text
    alice = KEYS.client(ALICE)
    assert alice is not None
    assert lines.facts[0]["key"] == alice.key
    assert lines.facts[1]["outcome"] == "invalid_api_key"


# -- queue and deadline --------------------------------------------------------------------------


def test_a_full_queue_says_when_to_come_back() -> None:
    with served(settings=Settings(running=1, waiting=1)) as service:
        service.engine.hold()
        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(service.chat(router={"budget": 1})))
            for _ in range(2)
        ]
        threads[0].start()
        until(lambda: service.engine.waiting == 1)
        threads[1].start()
        until(lambda: service.metric("router_num_requests_waiting") == 1)
        for stream in (False, True):
            full = service.chat(stream=stream)
            assert full.status_code == 429
            assert full.json()["error"]["code"] == "queue_full"
            assert 1 <= int(full.headers["retry-after"]) <= 60
        assert service.metric("router_num_requests_running") == 1
        service.engine.go_on()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert service.metric("router_num_requests_running") == 0


def test_a_deadline_passes_in_the_queue() -> None:
    with served(settings=Settings(running=1, waiting=1)) as service:
        service.engine.hold()
        first = threading.Thread(target=service.chat)
        first.start()
        until(lambda: service.engine.waiting > 0)
        late = service.chat(router={"deadline": 0.2})
        assert late.status_code == 504
        assert late.headers["x-should-retry"] == "false"  # a retry would cost as much again
        service.engine.go_on()
        first.join()


def test_what_is_found_by_the_deadline_answers() -> None:
    def varied(path: Any, sampling: Sampling, rng: Any) -> Any:
        return "1" * rng.choice((1, 400)) + " \\boxed{1}", "stop"

    engine = Engine(seconds_per_token=0.02)
    engine._script = varied
    with served(engine) as service:
        answer = service.chat(router={"budget": 16, "deadline": 2}).json()
        assert answer["router"]["ended"] == "deadline"
        assert 0 < len(answer["router"]["candidates"]) < 16


def test_nothing_is_found_by_the_deadline() -> None:
    with served(settings=Settings(deadline=0.3)) as service:
        service.engine.hold()
        for router in ({}, {"deadline": 3600}):
            answer = service.chat(router=router)
            assert answer.status_code == 504
            assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert service.http.get("/ready").status_code == 200


# -- metrics, logs, status -----------------------------------------------------------------------


def test_metrics(service: Served) -> None:
    def sample(name: str) -> float:
        return service.metric(f"router_{name}")

    ok = f'requests_total{{outcome="ok",route="{CHAT}"}}'
    names = (
        ok,
        "generations_total",
        "generations_budgeted_total",
        'tokens_total{kind="sampled"}',
        'tokens_total{kind="verifier"}',
        'decisions_total{level="none",strategy="beam_search"}',
        'searches_total{ended="completed"}',
        "request_queue_time_seconds_count",
        f'e2e_request_latency_seconds_count{{route="{CHAT}"}}',
        "verifier_seconds_total",
    )
    before = {name: sample(name) for name in names}
    answer = service.chat(router={"budget": 8, "strategy": "beam_search(n=4, width=2)"}).json()
    change = {name: sample(name) - before[name] for name in names}
    usage = answer["router"]["usage"]
    assert change.pop("verifier_seconds_total") > 0
    spent = [usage["generations"], 8, usage["sampled_tokens"], usage["verifier_tokens"]]
    assert list(change.values()) == [1, *spent, 1, 1, 1, 1]
    assert usage["generations"] <= 4
    assert sample('info{engine="fake",model="fake",verifier="fake"}') == 1
    assert sample("ready") == 1
    assert sample("num_requests_running") == 0


def test_money_is_counted_of_models_that_have_a_price() -> None:
    metrics = Metrics()
    models = {"a": Usage(generations=2, money=0.5), "b": Usage(generations=1, money=None)}
    metrics.searched("completed", None, Usage(generations=3, models=models), 8)
    told = metrics.render().decode()
    assert 'router_money_total{model="a"} 0.5' in told
    assert 'router_money_total{model="b"}' not in told


def test_metrics_hold_no_path_prompt_or_id(service: Served) -> None:
    service.http.get("/a-secret-path", headers={"x-request-id": "a-secret-id"})
    service.chat("a secret prompt", router={"budget": 1})
    text = service.http.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "secret" not in text.text
    assert 'route="other"' in text.text


def test_a_request_is_one_line_without_its_prompt(service: Served, lines: Lines) -> None:
    answer = service.chat(router={"budget": 2}, headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    until(lambda: bool(lines.records))
    [facts] = lines.facts
    assert facts["request_id"] == "mine"
    assert facts["route"] == CHAT
    assert (facts["status"], facts["outcome"]) == (200, "ok")
    assert (facts["budget"], facts["generations"]) == (2, 2)
    assert facts["strategy"] == "best_of_n(n=2)"
    assert QUESTION not in lines.text
    assert "boxed" not in lines.text


def test_prompts_are_logged_where_that_is_asked_for(lines: Lines) -> None:
    with served(settings=Settings(log_prompts=True)) as service:
        service.chat(router={"budget": 1})
        service.chat(router={"budget": 1}, stream=True)
    facts = [facts for facts in lines.facts if facts.get("route") == CHAT]
    assert [f["problem"] for f in facts] == [QUESTION] * 2
    assert all(f"\\boxed{{{f['answer']}}}" in f["text"] for f in facts)


@pytest.mark.parametrize("stream", [False, True])
def test_a_bug_is_logged_and_not_shown(lines: Lines, stream: bool) -> None:
    with served() as service:
        service.engine.bug = True
        answer = service.chat(stream=stream)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.json()["error"]["type"] == "server_error"
        assert service.http.get("/ready").status_code == 200
    failed = next(record for record in lines.records if record.exc_info)
    assert "a secret inside" in str(failed.exc_info)
    assert vars(failed)["facts"]["request_id"] == answer.headers["x-request-id"]


def test_status(service: Served) -> None:
    assert service.http.get("/health").json() == {"status": "ok"}
    assert service.http.get("/ready").json() == {"status": "ready"}
    assert service.http.get("/version").json()["version"]
    assert service.http.get("/v1/table").json() == {
        "model": "fake",
        "table": None,
        "provenance": None,
    }
    tolerant = service.chat(router={"tolerance": 0.1})
    assert tolerant.status_code == 400
    assert "needs a bundle" in tolerant.json()["error"]["message"]


def test_a_bundle_decides_and_shows_its_table(
    bundle: Bundle,  # noqa: F811
    tmp_path: Path,
) -> None:
    generator = Engine()
    router = bundled(bundle, generator, tmp_path / "bundle")
    with served(generator, router=router) as service:
        shown = service.http.get("/v1/table").json()
        for cell, record in zip(bundle.table.cells, shown["table"]["cells"], strict=True):
            best = bundle.table.best(cell.level, cell.budget)
            assert cell.entries[record.pop("winner")] == best
            for entry, fields in zip(cell.entries, record["entries"], strict=True):
                assert fields.pop("parameters") == entry.strategy.to_dict()
        assert shown["table"] == bundle.table.to_dict()
        assert shown["provenance"]["origin"]["model"] == "fake"
        assert "files" not in shown["provenance"]
        # As it was fitted, less the digests of all its problems.
        expected = {k: v for k, v in bundle.manifest["data"].items() if k != "texts"}
        assert bundle.manifest["data"]["texts"]
        assert shown["provenance"]["data"] == expected
        asked = {"problem": QUESTION, "budget": 8}
        best = service.http.post("/v1/route", json=asked).json()["decision"]
        assert sum(best["levels"]) == pytest.approx(1)
        assert len(best["considered"]) > 1
        for one in (best, *best["considered"]):
            assert one["parameters"] == parse_strategy(one["strategy"]).to_dict()
        cheap = service.http.post("/v1/route", json={**asked, "tolerance": 1}).json()["decision"]
        assert cheap["considered"][0]["cost"] < best["considered"][0]["cost"]
        answer = service.chat(router={"budget": 8, "tolerance": 1.0}).json()
        assert answer["router"]["decision"] == cheap
        level = best["levels"].index(max(best["levels"])) + 1
        name = cheap["strategy"].partition("(")[0]
        labels = f'{{level="{level}",strategy="{name}"}}'
        assert service.metric(f"router_decisions_total{labels}") == 1


def test_a_temperature_that_the_request_names_is_used(
    bundle: Bundle,  # noqa: F811
    tmp_path: Path,
) -> None:
    generator = Engine()
    colder = only("best_of_n(n=8, temperature=0.3)", bundle)
    router = bundled(colder, generator, tmp_path / "bundle")
    with served(generator, router=router) as service:
        for asked, used in (({}, 0.3), ({"temperature": 0.6}, 0.6)):
            generator.samplings.clear()
            answer = service.chat(router={"budget": 8}, **asked).json()
            assert {sampling.temperature for sampling in generator.samplings} == {used}
            strategy = answer["router"]["decision"]["strategy"]
            assert ("temperature=0.3" in strategy) == (not asked)


class Stranger(Engine):
    @property
    def info(self) -> GeneratorInfo:
        return replace(super().info, model="stranger")


def test_a_bundle_of_another_model_ends_the_service(
    bundle: Bundle,  # noqa: F811
    tmp_path: Path,
) -> None:
    from router.service.server import Server

    bundle.save(tmp_path / "bundle")
    judge = FakeVerifier()
    assert isinstance(judge.info, VerifierInfo)
    router = Router(generator=Stranger(), verifier=judge, bundle=tmp_path / "bundle")
    with bind("127.0.0.1", 0, Settings()) as bound, pytest.raises(InputError, match="stranger"):
        Server(router, Settings(), 1.0).serve_on(bound)


def test_the_page_and_its_files(guarded: Served) -> None:
    page = guarded.http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    script = guarded.http.get("/page/api.js")
    assert script.status_code == 200
    assert "javascript" in script.headers["content-type"]
    assert script.headers["x-content-type-options"] == "nosniff"
    assert guarded.http.get("/page/nothing.js").status_code == 404
