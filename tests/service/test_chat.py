"""Chat completions, by the clients that people use."""

from __future__ import annotations

import json
import subprocess

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, NotFoundError, OpenAI
from pydantic import SecretStr

from router.models.types import Message
from tests.service.serving import CHAT, QUESTION, Served


@pytest.fixture
def client(service: Served) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def test_openai_client(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="fake",
        messages=[{"role": "user", "content": QUESTION}],
        seed=0,
        extra_body={"router": {"budget": 8, "strategy": "auto", "tolerance": 0}},
    )
    assert answer.object == "chat.completion"
    assert answer.model == "fake"
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content is not None
    assert "\\boxed{54}" in choice.message.content
    assert choice.finish_reason == "stop"
    router = answer.model_extra["router"]  # type: ignore[index]
    assert router["answer"] == "54"
    assert router["decision"]["strategy"] == "best_of_n(n=8)"
    assert router["usage"]["generations"] == 8
    assert sum(vote["count"] for vote in router["votes"]) == 8
    assert len(router["candidates"]) == 8


def test_usage_is_the_whole_searchs_with_the_winners_own_in_the_details(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="fake@8", messages=[{"role": "user", "content": QUESTION}], seed=0
    )
    usage = answer.usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert usage.prompt_tokens_details is not None
    own = len((answer.choices[0].message.content or "").encode())  # the fake's token is a byte
    assert usage.completion_tokens_details.model_extra == {"winner_tokens": own}
    assert usage.completion_tokens_details.reasoning_tokens == usage.completion_tokens - own
    assert usage.completion_tokens > 7 * own
    assert usage.prompt_tokens == 8 * len(QUESTION)
    assert usage.prompt_tokens_details.cached_tokens == 7 * len(QUESTION)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_openai_client_streams(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="fake@8",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert {(chunk.id, chunk.created, chunk.model) for chunk in chunks} == {
        (chunks[0].id, chunks[0].created, "fake@8")
    }
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "\\boxed{" in text
    *_, finish, usage = chunks
    assert finish.choices[0].finish_reason == "stop"
    assert finish.model_extra["router"]["usage"]["generations"] == 8  # type: ignore[index]
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_async_openai_client(service: Served) -> None:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        answer = await client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": QUESTION}]
        )
        names = [model.id async for model in await client.models.list()]
    assert answer.choices[0].message.content
    assert names == ["fake", "fake@1", "fake@4", "fake@16", "fake@64", "fake@256"]


def test_models_can_be_looked_up(client: OpenAI) -> None:
    assert client.models.retrieve("fake@16").id == "fake@16"
    with pytest.raises(NotFoundError) as caught:
        client.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


def test_langchain(service: Served) -> None:
    model = ChatOpenAI(
        model="fake@4", base_url=f"{service.url}/v1", api_key=SecretStr("none"), temperature=0.5
    )
    turns = [
        SystemMessage("Be brief."),
        HumanMessage("What is 1 + 1?"),
        AIMessage("2"),
        HumanMessage(QUESTION),
    ]
    answer = model.invoke(turns)
    assert "\\boxed{54}" in str(answer.content)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] > 0
    assert "\\boxed{54}" in "".join(str(piece.content) for piece in model.stream(turns))
    history = service.engine.prompts[0].problem.history
    assert history == (
        Message("system", "Be brief."),
        Message("user", "What is 1 + 1?"),
        Message("assistant", "2"),
    )
    assert service.engine.samplings[0].temperature == 0.5


def test_curl(service: Served) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    done = subprocess.run(
        [
            "curl",
            "-sSN",
            f"{service.url}{CHAT}",
            "-H",
            "Content-Type: application/json",
            "-d",
            "@-",
        ],
        input=json.dumps(body),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("data: [DONE]\n\n")


def test_settings_reach_the_sampling(service: Served) -> None:
    answer = service.chat(
        temperature=0.25, top_p=0.5, max_completion_tokens=20, stop=["xyz", "!"], seed=7
    )
    assert answer.status_code == 200
    sampling = service.engine.samplings[0]
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.25, 0.5, 20)
    assert sampling.stop == ("xyz", "!")
    assert sampling.seed is not None
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert answer.json()["usage"]["completion_tokens_details"]["winner_tokens"] == 20


def test_equal_seeds_seed_equal_calls(service: Served) -> None:
    seeds = []
    for seed in (1, 1, 2):
        service.engine.samplings.clear()
        service.chat(seed=seed)
        seeds.append({sampling.seed for sampling in service.engine.samplings})
    assert seeds[0] == seeds[1] != seeds[2]
    assert len(seeds[0]) == 16


@pytest.mark.parametrize(
    ("model", "headers", "router", "budget"),
    [
        ("fake", {}, {}, 16),
        ("fake@2", {}, {}, 2),
        ("fake@2", {"x-router-budget": "3"}, {}, 3),
        ("fake@2", {"x-router-budget": "3"}, {"budget": 5}, 5),
    ],
)
def test_budget_by_body_then_header_then_name(
    service: Served, model: str, headers: dict[str, str], router: dict[str, int], budget: int
) -> None:
    answer = service.chat(model=model, headers=headers, router=router).json()
    assert answer["model"] == model
    assert answer["router"]["budget"] == budget
    assert answer["router"]["usage"]["generations"] == budget


def test_strategy_and_token_cap_of_the_request(service: Served) -> None:
    answer = service.chat(router={"budget": 8, "strategy": "beam_search(n=8, width=2)"}).json()
    assert answer["router"]["decision"]["strategy"] == "beam_search(n=8, width=2)"
    capped = service.chat(router={"budget": 8, "token_cap": 60}).json()
    assert capped["router"]["ended"] == "tokens"
    assert capped["router"]["usage"]["sampled_tokens"] <= 60


def test_route_decides_and_samples_nothing(service: Served) -> None:
    answer = service.http.post("/v1/route", json={"problem": QUESTION, "budget": 4})
    assert answer.status_code == 200
    assert answer.json()["budget"] == 4
    assert answer.json()["decision"]["strategy"] == "best_of_n(n=4)"
    assert service.engine.prompts == []


def test_large_candidates_come_without_their_texts(service: Served) -> None:
    small = service.chat(router={"budget": 4}).json()["router"]["candidates"]
    assert all("text" in candidate for candidate in small)
    question = "Add " + " + ".join(["123456789"] * 8)
    large = service.chat(question, router={"budget": 256}).json()["router"]["candidates"]
    assert len(large) == 256
    assert all("text" not in candidate for candidate in large)
