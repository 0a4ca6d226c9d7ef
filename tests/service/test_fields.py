"""What clients send though it changes nothing is taken, alone and together."""

from __future__ import annotations

from typing import Any

import pytest

from router.models.types import Message
from tests.service.serving import CHAT, QUESTION, Served

ASK = [{"role": "user", "content": QUESTION}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
HARMLESS: dict[str, Any] = {
    "n": 1,
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "functions": [],
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "response_format": {"type": "text"},
    "presence_penalty": 0.0,
    "frequency_penalty": 0,
    "repetition_penalty": 1.0,
    "min_p": 0,
    "top_k": -1,
    "max_tokens": -1,
    "max_completion_tokens": None,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "verbosity": "low",
    "user": "me",
    "metadata": {"a": "b"},
    "store": True,
    "seed": None,
    "service_tier": "auto",
    "safety_identifier": "x",
    "prompt_cache_key": "x",
    "prompt_cache_retention": "24h",
    "modalities": ["text"],
    "audio": None,
    "prediction": None,
    "web_search_options": None,
    "temperature": None,
    "top_p": 1,
    "stop": [],
    "stream": False,
    "an_unknown_field": None,
}


def test_everything_at_once(service: Served) -> None:
    answer = service.chat(**HARMLESS, router={"budget": 1})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"top_k": 0},
        {"tools": [TOOL], "tool_choice": "none"},
        {"functions": [{"name": "add"}], "function_call": "none"},
        {"logit_bias": None, "tools": None},
        {"max_tokens": -1, "max_completion_tokens": 90},
        {"stop": ["x"]},
        {"stream_options": None},
        {"stream": True, "stream_options": {"include_obfuscation": True}},
    ],
    ids=str,
)
def test_harmless(service: Served, body: dict[str, Any]) -> None:
    answer = service.chat(**body, router={"budget": 1})
    assert answer.status_code == 200, answer.text


PART = {"type": "text", "text": QUESTION}
ECHOED = {"role": "assistant", "content": "54"}


@pytest.mark.parametrize(
    ("turns", "history"),
    [
        ([{**ASK[0], "name": "Ann"}], []),
        ([*ASK, {"role": "assistant", "content": None}, *ASK], [QUESTION, ""]),
        ([*ASK, {"role": "assistant"}, *ASK], [QUESTION, ""]),
        ([*ASK, {"role": "assistant", "content": []}, *ASK], [QUESTION, ""]),
        ([*ASK, {"role": "assistant", "content": ""}], []),
        ([*ASK, {"role": "assistant", "content": None, "name": "Bob"}], []),
        ([*ASK, {**ECHOED, "tool_calls": None, "refusal": None}, *ASK], [QUESTION, "54"]),
        ([*ASK, {"role": "assistant", "content": None, "refusal": "no"}, *ASK], [QUESTION, ""]),
        (
            [{"role": "user", "content": [{**PART, "cache_control": {"type": "ephemeral"}}]}],
            [],
        ),
        ([*ASK, {**ECHOED, "reasoning_content": "hm", "tool_calls": []}, *ASK], [QUESTION, "54"]),
    ],
)
def test_turns_that_clients_send(
    service: Served, turns: list[dict[str, Any]], history: list[str]
) -> None:
    answer = service.http.post(CHAT, json={"model": "fake@1", "messages": turns})
    assert answer.status_code == 200, answer.text
    said = service.engine.prompts[0].problem.history
    assert said == tuple(map(Message, ("user", "assistant"), history))


def test_an_answer_may_be_sent_back_as_it_came(service: Served) -> None:
    message = service.chat(router={"budget": 1}).json()["choices"][0]["message"]
    answer = service.http.post(CHAT, json={"model": "fake@1", "messages": [*ASK, message, *ASK]})
    assert answer.status_code == 200


def test_one_sample_at_temperature_zero_and_a_note(service: Served) -> None:
    found = service.chat(temperature=0, router={"budget": 16}).json()["router"]
    assert found["usage"]["generations"] == len(found["candidates"]) == 1
    assert found["notes"] == ["at temperature 0 all samples are equal, so one was drawn"]
    own = {"budget": 4, "strategy": "best_of_n(n=4, temperature=0.5)"}
    found = service.chat(temperature=0, router=own).json()["router"]
    assert found["usage"]["generations"] == 4  # the strategy's own temperature
    assert {sampling.temperature for sampling in service.engine.samplings[1:]} == {0.5}
