"""The OpenAI-compatible generator against servers that misbehave, without a network."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from router.models.errors import EngineError, InputError, PromptTooLong
from router.models.generators.endpoints import EndpointPool
from router.models.generators.openai import OpenAIGenerator
from router.models.prompts import Prompt
from router.models.steps import step_stops
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Sampling

PROMPT = Prompt("test", system="Solve it.")
ROOT = Chain(Problem("p", "What is 2 + 2?"))
Reply = Callable[[dict[str, Any]], Any]


def choice(text: str, finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {"index": 0, "text": text, "finish_reason": finish, **more}


class Server:
    """Answers like vLLM (`exact`) or like a plain server; `replies` come first, in turn."""

    def __init__(self, *replies: Any, exact: bool = True, hosts: tuple[str, ...] = ()) -> None:
        self.replies = list(replies)
        self.exact = exact
        self.dead = set(hosts)
        self.seen: list[tuple[str, str, dict[str, Any]]] = []
        self.models: list[dict[str, Any]] = [{"id": "tiny", "max_model_len": 64}]
        self.headers: list[httpx.Headers] = []

    @property
    def completions(self) -> list[dict[str, Any]]:
        """Bodies of completion requests after the probe."""
        return [body for _, path, body in self.seen if path.endswith("completions")][1:]

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        self.seen.append((request.url.host, request.url.path, body))
        self.headers.append(request.headers)
        if request.url.host in self.dead:
            raise httpx.ConnectError("connection refused")
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"object": "list", "data": self.models})
        if request.url.path == "/tokenize":
            if not self.exact:
                return httpx.Response(404, text="not found")
            return httpx.Response(200, json={"tokens": [1, 2, 3], "count": 3})
        if len(self.completions) > 0 and self.replies:
            reply = self.replies.pop(0)
            if callable(reply):
                reply = await reply(body)
            if isinstance(reply, Exception):
                raise reply
            return reply if isinstance(reply, httpx.Response) else httpx.Response(200, json=reply)
        return httpx.Response(200, json=self.answer(body))

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        extra = {"token_ids": [7, 8], "stop_reason": None} if self.exact else {}
        return {
            "choices": [choice("The answer is 4.", **extra) for _ in range(body["n"])],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2 * body["n"]},
        }


class WordTokenizer:
    """One token a word, with just what `ChainEncoder` needs."""

    chat_template = "yes"
    bos_token = "<s>"

    def apply_chat_template(self, chat: Any, **_: Any) -> list[int]:
        return [0, len(chat)]

    def decode(self, ids: list[int], **_: Any) -> str:
        return "<s>" + "rendered:" * (len(ids) > 1)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("router.models.generators.endpoints.FIRST_DELAY", 0.001)


async def load(server: Server, *urls: str, **options: Any) -> OpenAIGenerator:
    return await OpenAIGenerator.load(
        urls or ("http://a:1/v1",),
        model=options.pop("model", None),
        prompt=PROMPT,
        transport=httpx.MockTransport(server),
        seeds=options.pop("seeds", True),
        **options,
    )


async def load_text(server: Server, monkeypatch: Any) -> OpenAIGenerator:
    encoder = ChainEncoder(WordTokenizer(), PROMPT)  # type: ignore[arg-type]
    monkeypatch.setattr("router.models.generators.openai._local_tokenizer", lambda *_: encoder)
    return await load(server, tokenizer="words")


async def test_exact_request_and_answer():
    server = Server()
    generator = await load(server)
    sampled = await generator.sample(
        ROOT, 2, Sampling("step", temperature=0.5, top_p=0.9, max_tokens=40, stop=("END",), seed=4)
    )
    (body,) = server.completions
    assert body["prompt"] == [1, 2, 3]
    assert (body["model"], body["n"], body["seed"]) == ("tiny", 2, 4)
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 0.9, 40)
    assert body["stop"] == [*step_stops("\n\n")[:3], "END"]  # as many as vLLM takes
    assert body["return_token_ids"] is True
    assert body["include_stop_str_in_output"] is True
    rendered = next(body for _, path, body in server.seen[-2:] if path == "/tokenize")
    assert rendered["messages"] == [
        {"role": "system", "content": "Solve it."},
        {"role": "user", "content": "What is 2 + 2?"},
    ]
    assert sampled.prompt_tokens == 3
    assert sampled.cached_tokens is None
    assert [c.tokens for c in sampled.continuations] == [2, 2]
    (step,) = sampled.continuations[0].steps
    assert (step.text, step.finish, step.token_ids) == ("The answer is 4.", "stop", (7, 8))
    assert generator.info.seeds
    assert generator.info.context == 64


async def test_a_seed_is_sent_to_no_server_of_which_it_was_not_said_that_it_takes_one():
    """vLLM's CPU build dies of one."""
    server = Server()
    generator = await load(server, seeds=False)
    assert not generator.info.seeds
    with pytest.raises(InputError, match="seed=4"):
        await generator.sample(ROOT, 2, Sampling(seed=4))
    assert all("seed" not in body for _, _, body in server.seen)


async def test_prompt_of_a_longer_path_starts_with_its_parents_tokens():
    step = choice("One.\n\n", token_ids=[7, 8], stop_reason="\n\n")
    usage = {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
    server = Server({"choices": [step], "usage": usage})
    generator = await load(server)
    first = await generator.sample(ROOT, 1, Sampling("step"))
    assert first.continuations[0].finish == "step"
    assert first.cached_tokens == 2
    await generator.sample(ROOT.extend(*first.continuations[0].steps), 1, Sampling("step"))
    assert server.completions[1]["prompt"] == [1, 2, 3, 7, 8]
    # The problem was rendered once, beside the probe.
    assert sum(path == "/tokenize" for _, path, _ in server.seen) == 2


async def test_exact_solutions_are_cut_into_steps_with_their_tokens():
    strings = ["One", ".\n\n", "Two", " é", "\n", "\n", "Three", "<eos>"]
    whole = choice(
        "One.\n\nTwo é\n\nThree",
        token_ids=list(range(8)),
        logprobs={"tokens": strings, "token_logprobs": [-1.0] * 4 + [-3.0] * 4},
    )
    generator = await load(Server({"choices": [whole]}))
    sampled = await generator.sample(ROOT, 1, Sampling("end"))
    steps = sampled.continuations[0].steps
    assert [step.text for step in steps] == ["One.\n\n", "Two é\n\n", "Three"]
    assert [step.token_ids for step in steps] == [(0, 1), (2, 3, 4, 5), (6, 7)]
    assert [step.finish for step in steps] == ["step", "step", "stop"]
    assert [step.logprob for step in steps] == [-1.0, -2.0, -3.0]
    assert sampled.prompt_tokens is None


async def test_a_step_keeps_the_whole_token_that_completes_it():
    """vLLM cuts the text after the stop string, but not the token that it is in."""
    strings = ["One", ".\n", "\n\n"]
    cut = choice(
        "One.\n\n",
        token_ids=[1, 2, 3],
        stop_reason="\n\n",
        logprobs={"tokens": strings, "token_logprobs": [-1.0] * 3},
    )
    generator = await load(Server({"choices": [cut]}))
    sampled = await generator.sample(ROOT, 1, Sampling("step"))
    assert sampled.continuations[0].steps[0].text == "One.\n\n\n"


async def test_what_ends_no_step_keeps_the_whole_token_too():
    """A solution that begins with the delimiter, in a token that says more than that."""

    def said(text: str, *strings: str) -> dict[str, Any]:
        values = {"tokens": list(strings), "token_logprobs": [-1.0] * len(strings)}
        ids = [len(string) for string in strings]
        return choice(text, token_ids=ids, stop_reason="\n\n", logprobs=values)

    first, rest = said("\n\n", "\n\n\n"), said("One.\n\n", "One", ".\n\n\n\n")
    server = Server({"choices": [first]}, {"choices": [rest]})
    sampled = await (await load(server)).sample(ROOT, 1, Sampling("step"))
    (step,) = sampled.continuations[0].steps
    assert step.text == "\n\n\nOne.\n\n\n\n"
    assert step.token_ids == (3, 3, 5)


async def test_a_delimiter_inside_the_last_token_cuts_nothing():
    whole = choice(
        "One.\n\nTwo.\n\nEnd",
        token_ids=[1, 2, 3, 4],
        logprobs={"tokens": ["One", ".\n\n", "Two", ".\n\nEnd"], "token_logprobs": [-1.0] * 4},
    )
    generator = await load(Server({"choices": [whole]}))
    steps = (await generator.sample(ROOT, 1, Sampling("end"))).continuations[0].steps
    assert [step.text for step in steps] == ["One.\n\n", "Two.\n\nEnd"]
    assert [step.token_ids for step in steps] == [(1, 2), (3, 4)]


async def test_a_delimiter_at_the_start_is_no_step():
    blank = choice("\n\n", token_ids=[5], stop_reason="\n\n")
    rest = choice("One.\n\n", token_ids=[7, 8], stop_reason="\n\n")
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    server = Server({"choices": [blank], "usage": usage}, {"choices": [rest], "usage": usage})
    generator = await load(server)
    sampled = await generator.sample(ROOT, 1, Sampling("step", max_tokens=20))
    (step,) = sampled.continuations[0].steps
    assert (step.text, step.token_ids, step.tokens) == ("\n\nOne.\n\n", (5, 7, 8), 3)
    assert (server.completions[1]["prompt"], server.completions[1]["max_tokens"]) == (
        [1, 2, 3, 5],
        19,
    )
    assert sampled.prompt_tokens == 6


async def test_stop_strings_of_the_caller_end_the_solution_and_are_cut_off():
    stopped = choice("Four END", token_ids=[5, 6], stop_reason="END")
    generator = await load(Server({"choices": [stopped]}))
    sampled = await generator.sample(ROOT, 1, Sampling("step", stop=("END",)))
    (step,) = sampled.continuations[0].steps
    assert (step.text, step.finish, step.token_ids) == ("Four ", "stop", (5, 6))


async def test_text_servers_get_text_and_their_steps_get_the_delimiter_back(monkeypatch):
    answers = [
        {"choices": [choice("One.")], "usage": {"prompt_tokens": 9, "completion_tokens": 3}},
        {"choices": [choice("")]},
        {"choices": [choice("Cut", "length")]},
        {"choices": [choice("A.\n\nB."), choice("C.")], "usage": {"completion_tokens": 7}},
    ]
    server = Server(*answers, exact=False)
    generator = await load_text(server, monkeypatch)
    first = await generator.sample(ROOT, 1, Sampling("step"))
    (step,) = first.continuations[0].steps
    assert (step.text, step.finish, step.tokens, step.token_ids) == ("One.\n\n", "step", 3, None)
    assert server.completions[0]["prompt"] == "rendered:"
    path = ROOT.extend(step)
    ended = await generator.sample(path, 1, Sampling("step"))
    assert server.completions[1]["prompt"] == "rendered:One.\n\n"
    assert path.extend(*ended.continuations[0].steps).finished
    assert not path.extend(*ended.continuations[0].steps).truncated
    assert (await generator.sample(path, 1, Sampling("step"))).continuations[0].finish == "length"
    whole = await generator.sample(ROOT, 2, Sampling("end"))
    assert [step.text for step in whole.continuations[0].steps] == ["A.\n\n", "B."]
    # One sum for two choices tells nothing about each.
    assert [c.tokens for c in whole.continuations] == [None, None]


async def test_servers_that_ignore_n_are_asked_for_the_rest():
    async def one(body: dict[str, Any]) -> dict[str, Any]:
        text = f"seed {body['seed']}"
        usage = {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}
        return {"choices": [choice(text, token_ids=[7])], "usage": usage}

    server = Server(*[one] * 4)
    generator = await load(server)
    sampled = await generator.sample(ROOT, 4, Sampling(seed=10))
    assert [body["n"] for body in server.completions] == [4, 1, 1, 1]
    assert [c.text for c in sampled.continuations] == ["seed 10", "seed 11", "seed 12", "seed 13"]
    assert (sampled.prompt_tokens, sampled.cached_tokens) == (12, 4)


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ConnectError("connection refused"), "connection refused"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (httpx.Response(500, text="CUDA error"), "500: CUDA error"),
        (httpx.Response(429, text="slow down"), "429: slow down"),
    ],
)
async def test_passing_failures_are_tried_again_and_lasting_ones_are_named(failure, words):
    server = Server(failure, failure)
    generator = await load(server)
    assert (await generator.sample(ROOT, 1, Sampling())).continuations[0].finish == "stop"
    assert len(server.completions) == 3
    server.replies = [failure] * 5
    with pytest.raises(EngineError, match="tried 5 times") as caught:
        await generator.sample(ROOT, 1, Sampling())
    assert words in str(caught.value)
    assert "http://a:1/v1/completions" in str(caught.value)
    if isinstance(failure, Exception):
        assert caught.value.__cause__ is failure


async def test_retry_after_is_honoured():
    server = Server(httpx.Response(429, headers={"Retry-After": "0.3"}))
    generator = await load(server)
    start = time.monotonic()
    await generator.sample(ROOT, 1, Sampling())
    assert 0.3 <= time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (httpx.Response(200, text="<html>proxy</html>"), "not JSON: '<html>proxy"),
        (httpx.Response(200, text="[1]"), "not an object"),
        ({"choices": []}, "no choices"),
        ({"error": "overloaded"}, "no choices"),
        ({"choices": [{"text": None, "finish_reason": "stop"}]}, "text 'None'"),
        ({"choices": [choice("half", "abort")]}, "'abort'"),
        ({"choices": [choice("a"), choice("b")]}, "2 choices for n=1"),
        (httpx.Response(400, text="bad stop"), "400: bad stop"),
        (httpx.Response(401, text="no key"), "401: no key"),
    ],
)
async def test_nonsense_and_refusals_are_errors_at_once(reply, words):
    server = Server(reply)
    generator = await load(server)
    with pytest.raises(EngineError) as caught:
        await generator.sample(ROOT, 1, Sampling())
    assert words in str(caught.value)
    assert len(server.completions) == 1


async def test_load_is_spread_over_endpoints():
    started = asyncio.Event()

    async def hold(body: dict[str, Any]) -> dict[str, Any]:
        await started.wait()
        return {"choices": [choice("4", token_ids=[7])]}

    server = Server(*[hold] * 6)
    generator = await load(server, "http://a:1/v1", "http://b:1")
    before = len(server.seen)
    tasks = [asyncio.create_task(generator.sample(ROOT, 1, Sampling())) for _ in range(6)]
    await asyncio.sleep(0.05)
    started.set()
    await asyncio.gather(*tasks)
    hosts = [host for host, path, _ in server.seen[before:] if path.endswith("completions")]
    assert (hosts.count("a"), hosts.count("b")) == (3, 3)


async def test_a_dead_endpoint_costs_no_call(monkeypatch):
    monkeypatch.setattr("router.models.generators.endpoints.FIRST_DELAY", 5.0)
    server = Server()
    generator = await load(server, "http://a:1", "http://b:1")
    server.dead = {"a"}
    before = len(server.seen)
    start = time.monotonic()
    for _ in range(4):
        await generator.sample(ROOT, 1, Sampling())
    assert time.monotonic() - start < 4
    assert [host for host, _, _ in server.seen[before:]].count("a") <= 1


async def test_calls_in_flight_are_bounded(monkeypatch):
    monkeypatch.setattr("router.models.generators.endpoints.CONCURRENCY", 2)
    running, peak = 0, 0

    async def handler(request: httpx.Request) -> httpx.Response:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.01)
        running -= 1
        return httpx.Response(200, json={})

    pool = EndpointPool(["http://a:1"], transport=httpx.MockTransport(handler))
    await asyncio.gather(*(pool.call("GET", "health") for _ in range(8)))
    assert peak == 2


async def test_cancelling_a_call_closes_its_requests():
    closed = []

    async def hang(body: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            closed.append(body["n"])

    single = {"choices": [choice("4", token_ids=[7])]}
    server = Server(single, hang, hang)
    generator = await load(server)
    task = asyncio.create_task(generator.sample(ROOT, 3, Sampling()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == [1, 1]


async def test_too_long_a_prompt_is_refused_before_it_is_sent():
    server = Server()
    server.models[0]["max_model_len"] = 3
    with pytest.raises(PromptTooLong):
        await load(server)


async def test_model_names_are_checked():
    server = Server()
    server.models = [{"id": "Qwen2.5-0.5B"}, {"id": "other"}]
    with pytest.raises(InputError, match=r"did you mean 'Qwen2\.5-0\.5B'"):
        await load(server, model="Qwen2.5-0.5b")
    with pytest.raises(InputError, match=r"name the model to use; the server has: Qwen2\.5"):
        await load(server)
    generator = await load(server, model="other")
    assert generator.info.model == "other"


async def test_servers_that_cannot_render_need_a_tokenizer():
    with pytest.raises(InputError, match="give the model's tokenizer"):
        await load(Server(exact=False))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a", "http://", ""])
async def test_malformed_endpoints_are_named(url):
    with pytest.raises(InputError, match="is not a URL"):
        await load(Server(), url)


@pytest.mark.parametrize(
    ("url", "key", "header"),
    [
        ("http://a:1/v1", "sk-secret", "Bearer sk-secret"),
        ("http://user:secret@a:1/v1", None, "Basic dXNlcjpzZWNyZXQ="),
    ],
)
async def test_secrets_are_sent_but_never_shown(url, key, header):
    server = Server()
    generator = await load(server, url, api_key=key)
    assert server.headers[-1]["authorization"] == header
    server.dead = {"a"}
    with pytest.raises(EngineError) as caught:
        await generator.sample(ROOT, 1, Sampling())
    shown = repr(generator) + str(caught.value)
    assert "secret" not in shown
    assert "http://a:1" in shown
