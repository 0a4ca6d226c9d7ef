"""A verifier behind `vllm serve`, against a stand-in that answers as vLLM 0.32 does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from router.core import Router
from router.models.base import VerifierInfo
from router.models.errors import InputError, ModelError, RouterError, Unscorable, VerifierError
from router.models.fakes import FakeGenerator, FakeVerifier
from router.models.generators.endpoints import EndpointPool
from router.models.prompts import get_prompt
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Step
from router.models.verifiers.identity import Identity, identity_of_head, mark
from router.models.verifiers.load import GeneratorStates
from router.models.verifiers.load_served import load_served_verifier
from router.models.verifiers.prm import get_format
from router.models.verifiers.served import ServedVerifier
from router.models.verifiers.trained_head import shipped_head
from router.models.weights.embedded import DEFAULT
from router.testing.verifiers import VerifierConformance
from tests.models import prm_models
from tests.prm_server import Answer, PrmServer, logits, probability

PROBLEM = Problem("sheep", "A farmer has 17 sheep and sells 5. How many are left?")
STEPS = ("He sells 5 of 17 sheep.\n\n", "17 - 5 = 12\n\n", "The answer is 12.")
URL = "http://prm.test"
OTHER = "http://other.test"
FORMATS = ("qwen-prm", "self", "self-mean", "rlhflow", "math-shepherd")
Tokenizers = dict[str, Any]
Handler = Callable[[httpx.Request], Any]
Serving = Callable[[PrmServer | Handler], None]


def chain_of(*texts: str, problem: Problem = PROBLEM) -> Chain:
    return Chain(problem).extend(*(Step(text, "step") for text in texts))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.models.generators.endpoints.FIRST_DELAY", 0.001)


@pytest.fixture(scope="module")
def tokenizers(tokenizer: Any) -> Tokenizers:
    return {
        "qwen-prm": tokenizer,
        "self": tokenizer,
        "self-mean": tokenizer,
        "rlhflow": prm_models.llama_tokenizer(),
        "math-shepherd": prm_models.mistral_tokenizer(),
        "skywork": tokenizer,
    }


def server_for(format: str, **settings: Any) -> PrmServer:
    words = format in ("rlhflow", "math-shepherd")
    return PrmServer(runner="generate" if words else "pooling", **settings)


async def opened(
    server: PrmServer | Handler,
    tokenizers: Tokenizers,
    format: str = "qwen-prm",
    endpoints: tuple[str, ...] = (URL,),
    context: int = 512,
) -> ServedVerifier:
    handler = server.over_http if isinstance(server, PrmServer) else server
    pool = EndpointPool(endpoints, transport=httpx.MockTransport(handler))
    encoder = ChainEncoder(tokenizers[format], get_prompt("qwen-math"))
    prm = get_format(format)
    info = VerifierInfo("served", prm.id, prm.aggregation)
    return await ServedVerifier.load(pool, encoder, prm, info, context)


def expected(verifier: ServedVerifier, chain: Chain) -> list[float]:
    encoded = verifier._layout.encode(chain, verifier._encoder)
    if verifier.info.format == "self-mean":
        both = np.array(logits(encoded.ids))
        own = verifier._encoder.chain_ids(Chain(chain.problem))
        assert encoded.opening == len(own)
        sums = [both[r, 0] + both[len(own) : r + 1, 1].mean() for r in encoded.reads]
        return [1 / (1 + np.exp(-total)) for total in sums]
    return [probability(encoded.ids[: read + 1]) for read in encoded.reads]


@pytest.mark.parametrize("plugin", [False, True])
@pytest.mark.parametrize("format", FORMATS)
async def test_each_step_is_scored_where_the_format_reads(
    format: str, plugin: bool, tokenizers: Tokenizers
) -> None:
    verifier = await opened(server_for(format, plugin=plugin), tokenizers, format)
    chain = chain_of(*STEPS, "", "And so on.")
    values = expected(verifier, chain)
    for known in range(chain.depth):
        scored = await verifier.score(chain, known)
        assert scored.values == pytest.approx(values[known:], abs=1e-6)
    assert (await verifier.score(chain, chain.depth)).values == ()


@pytest.mark.parametrize("format", ["qwen-prm", "self", "self-mean"])
async def test_with_the_plugin_a_further_step_costs_its_own_tokens(
    format: str, tokenizers: Tokenizers
) -> None:
    verifier = await opened(PrmServer(plugin=True), tokenizers, format)
    chain, before = Chain(PROBLEM), 0
    for text in STEPS:
        chain = chain.extend(Step(text, "step"))
        length = len(verifier._layout.encode(chain, verifier._encoder).ids)
        scored = await verifier.score(chain, chain.depth - 1)
        assert scored.values == pytest.approx(expected(verifier, chain)[-1:], abs=1e-6)
        assert scored.tokens is not None
        assert scored.tokens + (scored.cached_tokens or 0) == length
        assert scored.tokens <= length - before + 4  # a part-filled block
        before = length
    again = await verifier.score(chain)
    assert again.values == pytest.approx(expected(verifier, chain), abs=1e-6)
    assert again.tokens is not None
    assert again.tokens > length  # what the cache hides is read again, and counted


async def test_without_the_plugin_each_call_costs_the_whole_chain(tokenizers: Tokenizers) -> None:
    verifier = await opened(PrmServer(), tokenizers)
    chain = chain_of(*STEPS)
    length = len(verifier._layout.encode(chain, verifier._encoder).ids)
    assert (await verifier.score(chain, 2)).tokens == length
    assert (await verifier.score(chain, 2)).cached_tokens == 0


class EarlierPlugin(PrmServer):
    """With the plugin of an earlier version, which answers under another name."""

    def __call__(self, path: str, body: dict[str, Any]) -> Answer:
        status, answer = super().__call__(path, body)
        if "data" in body:
            answer["data"]["rows"] = answer["data"].pop("logits")
        return status, answer


async def test_a_plugin_of_an_earlier_version_is_not_used(tokenizers: Tokenizers) -> None:
    server = EarlierPlugin(plugin=True)
    verifier = await opened(server, tokenizers)
    chain = chain_of(*STEPS)
    assert (await verifier.score(chain)).values == pytest.approx(expected(verifier, chain))
    assert sum("data" in body for _, body in server.seen) == 1  # the question whether it has one


async def test_a_server_that_does_not_say_what_it_cached_is_not_counted_as_0(
    tokenizers: Tokenizers,
) -> None:
    verifier = await opened(server_for("rlhflow"), tokenizers, "rlhflow")
    assert (await verifier.score(chain_of(*STEPS))).tokens is None


@pytest.mark.parametrize(
    ("format", "context"),
    # `/generative_scoring` cuts what is too long without a word, so it is never asked.
    [*((format, 200) for format in FORMATS), ("qwen-prm", 100_000), ("self", 100_000)],
)
async def test_a_chain_that_is_too_long_is_its_own_fault(
    format: str, context: int, tokenizers: Tokenizers
) -> None:
    """By what the server said at first, or says when it is asked."""
    verifier = await opened(server_for(format, context=400), tokenizers, format, context=context)
    with pytest.raises(Unscorable, match=r"200|400|199"):
        await verifier.score(chain_of("many " * 2000))
    assert (await verifier.score(chain_of(*STEPS))).values


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (PrmServer(step=True), r"scored 1 of \d+ tokens.*tok_pooling_type"),
        (PrmServer(step=True, plugin=True), r"scored 1 of \d+ tokens.*tok_pooling_type"),
        (PrmServer(runner="generate"), r"pooling answered 404.*tok_pooling_type"),
        (lambda _: httpx.Response(401, text="no key"), "answered 401: no key"),
        (lambda _: httpx.Response(500, text="broken"), r"answered 500: broken \(tried 5 times\)"),
        (lambda _: httpx.Response(200, json={"data": "?"}), "cannot be read"),
        (lambda _: httpx.Response(200, json={"data": []}), "cannot be read"),
        (lambda _: httpx.Response(200, json={"data": [{"data": "@@@"}]}), "cannot be read"),
        (lambda _: httpx.Response(200, text="<html>"), "not JSON"),
    ],
)
async def test_a_server_that_does_not_fit_shows_at_once(
    server: Any, said: str, tokenizers: Tokenizers
) -> None:
    with pytest.raises(VerifierError, match=said):
        await opened(server, tokenizers)


async def test_what_is_no_probability_is_refused(tokenizers: Tokenizers) -> None:
    for score in (1.5, float("nan"), -0.1):
        answer = json.dumps({"data": [{"index": 0, "score": score}]})
        with pytest.raises(VerifierError, match="no probability"):
            await opened(lambda _, a=answer: httpx.Response(200, text=a), tokenizers, "rlhflow")


async def test_a_format_without_an_api_is_refused(tokenizers: Tokenizers) -> None:
    with pytest.raises(InputError, match=r"skywork.*--verifier-endpoint"):
        await opened(PrmServer(), tokenizers, "skywork")


class Dying:
    """Two servers that die; the first may run the plugin."""

    def __init__(self, *, plugin: bool) -> None:
        self.servers = {"prm.test": PrmServer(plugin=plugin), "other.test": PrmServer()}
        self.dead: set[str] = set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host in self.dead:
            raise httpx.ReadError("connection reset")
        return await self.servers[request.url.host].over_http(request)


@pytest.mark.parametrize("plugin", [False, True])
async def test_a_dead_server_is_left_for_another(plugin: bool, tokenizers: Tokenizers) -> None:
    servers = Dying(plugin=plugin)
    verifier = await opened(servers, tokenizers, endpoints=(URL, OTHER))
    servers.dead = {"prm.test"}
    chain = chain_of(*STEPS)
    scored = await asyncio.gather(*(verifier.score(chain, k) for k in (0, 1, 2) * 4))
    assert scored[0].values == pytest.approx(expected(verifier, chain), abs=1e-6)
    servers.dead = {"prm.test", "other.test"}
    with pytest.raises(VerifierError, match=r"connection reset \(tried 5 times\)"):
        await verifier.score(chain)


async def test_cancelling_closes_the_request(tokenizers: Tokenizers) -> None:
    server, began, closed = PrmServer(), asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        if len(server.seen) >= 2:  # what opening asks
            began.set()
            try:
                await asyncio.sleep(60)
            finally:
                closed.set()
        return await server.over_http(request)

    verifier = await opened(slow, tokenizers)
    task = asyncio.create_task(verifier.score(chain_of(*STEPS)))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


# -- who is served ----------------------------------------------------------------------------


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Serving:
    """Makes a stand-in the server of every endpoint."""

    def serve(server: PrmServer | Handler) -> None:
        handler = server.over_http if isinstance(server, PrmServer) else server
        transport = httpx.MockTransport(handler)
        pool = partial(EndpointPool, transport=transport)
        monkeypatch.setattr("router.models.verifiers.load_served.EndpointPool", pool)

    return serve


def head() -> Path:
    found = shipped_head(DEFAULT.name)
    assert found is not None
    return found


@pytest.fixture
def exported(tokenizer: Any, tmp_path: Path) -> Path:
    """What `router verifier export` writes, but for the weights."""
    directory = tmp_path / "exported"
    tokenizer.save_pretrained(directory)
    (directory / "config.json").write_text(
        json.dumps({"model_type": "qwen2", "architectures": ["Qwen2ForProcessRewardModel"]})
    )
    mark(directory, Identity("mine@0123", "self", "mean", "qwen-math"))
    return directory


HEAD = identity_of_head(head()).name


@pytest.mark.parametrize(
    ("name", "root", "named"),
    [
        (HEAD, "/models/prm", False),
        (f"./{HEAD}/", None, False),
        ("prm", f"/models/{HEAD}", True),
    ],
)
async def test_our_own_head_is_known_by_its_name(
    serving: Serving, name: str, root: str | None, named: bool
) -> None:
    serving(PrmServer(name, root=root))
    verifier = await load_served_verifier(str(head()) if named else None, [URL])
    assert verifier.info == VerifierInfo(HEAD, "self-mean", "last")


async def test_our_own_head_is_for_its_own_generator(serving: Serving) -> None:
    serving(PrmServer(HEAD))
    for model in ("Qwen/Qwen2.5-7B-Instruct", "Qwen2.5-Coder-1.5B-Instruct"):
        with pytest.raises(
            InputError, match=f"Coder-0.5B-Instruct, and the generator is '{model}'"
        ):
            await load_served_verifier(None, [URL], generator=GeneratorStates(model))


async def test_a_directory_that_is_served_tells_what_it_is(
    serving: Serving, exported: Path
) -> None:
    serving(PrmServer(str(exported)))
    verifier = await load_served_verifier(None, [URL])
    assert verifier.info == VerifierInfo("mine@0123", "self", "mean")
    serving(PrmServer("mine@0123"))
    assert (await load_served_verifier(str(exported), [URL])).info == verifier.info


async def test_a_published_model_is_known_by_its_hub_id(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, tokenizers: Tokenizers
) -> None:
    asked: list[str] = []

    def tokenizer(home: str) -> Any:
        asked.append(home)
        return tokenizers["qwen-prm"]

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", tokenizer)
    hub = "Qwen/Qwen2.5-Math-PRM-7B"
    for server, ref in ((PrmServer(hub), None), (PrmServer("prm", root=hub), None)):
        serving(server)
        assert (await load_served_verifier(ref, [URL])).info == VerifierInfo(
            hub, "qwen-prm", "prod"
        )
    serving(PrmServer("prm"))
    assert (await load_served_verifier(hub, [URL])).info.name == hub
    assert asked == [hub] * 3
    named = await load_served_verifier("mine/prm", [URL], format="qwen-prm")
    assert named.info == VerifierInfo("mine/prm", "qwen-prm", "prod")


async def test_what_cannot_be_known_is_asked_for(serving: Serving, exported: Path) -> None:
    serving(PrmServer("prm", root="/models/prm"))
    cases: list[tuple[str | None, dict[str, Any], type[RouterError], str]] = [
        (None, {}, InputError, r"'/models/prm'.*--verifier-format"),
        (None, {"format": "qwen-prm"}, ModelError, r"no tokenizer at '/models/prm'.*--verifier"),
        (None, {"format": "qwen"}, InputError, "did you mean 'qwen-prm'"),
        (None, {"format": "self"}, InputError, "for trained heads"),
        (str(exported), {}, InputError, r"has 'prm'.*--served-model-name mine@0123"),
        (str(exported), {"format": "qwen-prm"}, InputError, "made for format 'self'"),
        (str(head()), {}, InputError, r"has 'prm'.*--served-model-name Qwen2.5-Coder"),
        (str(head()), {"format": "rlhflow"}, InputError, "trained for format 'self-mean'"),
    ]
    for ref, settings, kind, said in cases:
        with pytest.raises(kind, match=said):
            await load_served_verifier(ref, [URL], generator=GeneratorStates(), **settings)


@pytest.mark.parametrize("answer", [{}, {"data": []}, {"data": [{"id": "m"}]}, {"data": 3}])
async def test_a_server_that_is_not_vllms_is_refused(
    serving: Serving, answer: dict[str, Any]
) -> None:
    serving(lambda request: httpx.Response(200, json=answer))
    with pytest.raises(VerifierError, match=r"prm\.test.*does not say"):
        await load_served_verifier(None, [URL])


async def test_a_wrong_url_is_named() -> None:
    with pytest.raises(InputError, match="'localhost:1' is not a URL"):
        await load_served_verifier(None, ["localhost:1"])
    with pytest.raises(VerifierError, match=r"http://127\.0\.0\.1:9/v1/models failed"):
        await load_served_verifier(None, ["http://127.0.0.1:9"])


# -- what a router makes of it ----------------------------------------------------------------


async def test_a_router_opens_it_beside_any_generator(serving: Serving, exported: Path) -> None:
    server = PrmServer(str(exported))
    serving(server)
    router = Router(generator=FakeGenerator(), verifier_endpoints=[URL])
    assert router.verifier == "auto"
    solution = await router.asolve("What is 1 + 2?", 4, strategy="best_of_n(n=4, select=best)")
    assert solution.usage.verifier_tokens
    assert all(candidate.scores for candidate in solution.candidates)
    await asyncio.to_thread(router.close)


@pytest.mark.parametrize("verifier", [None, "fake", FakeVerifier()])
async def test_endpoints_go_with_what_they_serve(verifier: Any) -> None:
    router = Router(generator=FakeGenerator(), verifier=verifier, verifier_endpoints=[URL])
    with pytest.raises(InputError, match="verifier endpoints were given and the verifier is"):
        await router.asolve("What is 1 + 2?", 4)


async def test_engine_arguments_are_for_what_runs_here() -> None:
    router = Router(
        generator=FakeGenerator(), verifier_endpoints=[URL], verifier_args={"dtype": "float16"}
    )
    with pytest.raises(InputError, match=r"--verifier-arg .* runs on servers"):
        await router.asolve("What is 1 + 2?", 4)


class _Suite(VerifierConformance):
    format = "qwen-prm"
    plugin = False
    tolerance = 1e-6

    @pytest.fixture(autouse=True)
    def _tokenizers(self, tokenizers: Tokenizers) -> None:
        self.tokenizers = tokenizers

    async def open(self) -> ServedVerifier:
        server = server_for(self.format, plugin=self.plugin, context=2048)
        return await opened(server, self.tokenizers, self.format, context=2048)


class TestRows(_Suite):
    pass


class TestRowsWithThePlugin(_Suite):
    plugin = True


class TestWords(_Suite):
    format = "math-shepherd"
