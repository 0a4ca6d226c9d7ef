"""OpenAI's responses and completions, by its own client; and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from openai import APIError, BadRequestError, OpenAI

from router import Router
from router.models.types import Message
from tests.router.test_thinking import SAID, THOUGHT, writes
from tests.service.serving import QUESTION, Served, served

RESPONSES, COMPLETIONS = "/v1/responses", "/v1/completions"


@pytest.fixture
def client(service: Served) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


# -- responses -----------------------------------------------------------------------------------


def test_text_in_and_text_out(client: OpenAI, service: Served) -> None:
    answer = client.responses.create(
        model="fake@8",
        input=QUESTION,
        instructions="Be brief.",
        max_output_tokens=90,
        store=True,
        metadata={"a": "b"},
    )
    assert answer.object == "response"
    assert answer.status == "completed"
    assert "\\boxed{54}" in answer.output_text
    assert answer.usage is not None
    assert answer.usage.output_tokens > answer.usage.output_tokens_details.reasoning_tokens > 0
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.metadata == {"a": "b"}
    assert answer.model_extra["router"]["usage"]["generations"] == 8  # type: ignore[index]
    assert service.engine.prompts[0].problem.history == (Message("system", "Be brief."),)
    assert service.engine.samplings[0].max_tokens == 90


def test_a_conversation(client: OpenAI, service: Served) -> None:
    first = client.responses.create(model="fake@1", input=QUESTION)
    items: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": []},
        *(item.model_dump() for item in first.output),
        {"role": "user", "content": QUESTION},
    ]
    service.engine.prompts.clear()
    assert client.responses.create(model="fake@1", input=items).output_text
    history = service.engine.prompts[0].problem.history
    assert [turn.role for turn in history] == ["system", "user", "assistant"]
    assert history[2].content == first.output_text


def test_a_stream_has_the_apis_events_in_their_order(client: OpenAI) -> None:
    with client.responses.stream(model="fake@8", input=QUESTION) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "\\boxed{54}" in final.output_text
    assert final.usage is not None


def test_what_a_limit_cuts_is_incomplete(client: OpenAI) -> None:
    answer = client.responses.create(model="fake@2", input=QUESTION, max_output_tokens=20)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    *_, last = client.responses.create(
        model="fake@2", input=QUESTION, max_output_tokens=20, stream=True
    )
    assert last.type == "response.incomplete"


def test_structured_output(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    answer = client.responses.create(
        model="fake@8",
        input=QUESTION,
        text={"format": {"type": "json_schema", "name": "sum", "schema": schema}},
    )
    assert answer.output_text == '{"sum": 54}'


def test_thoughts_are_an_item_of_their_own_or_reasoning_content() -> None:
    with served(router=Router(generator=writes(*THOUGHT, SAID), verifier=None)) as service:
        client = OpenAI(base_url=f"{service.url}/v1", api_key="none")
        thought, message = client.responses.create(model="fake@1", input="1 + 2").output
        assert thought.type == "reasoning"
        assert thought.content is not None
        assert "1 + 2" in thought.content[0].text
        assert message.type == "message"
        events = list(client.responses.create(model="fake@1", input="1 + 2", stream=True))
        told = [e.delta for e in events if e.type == "response.reasoning_text.delta"]
        assert "".join(told) == thought.content[0].text
        chat = service.chat("1 + 2").json()["choices"][0]["message"]
        assert chat["content"] == SAID
        assert chat["reasoning_content"] == thought.content[0].text
        [*chunks, _] = client.chat.completions.create(
            model="fake@1", messages=[{"role": "user", "content": "1 + 2"}], stream=True
        )
        deltas = [chunk.choices[0].delta.model_dump() for chunk in chunks]
        assert "".join(d.get("reasoning_content") or "" for d in deltas) == "".join(told)
        assert "".join(d["content"] or "" for d in deltas) == SAID


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"role": "robot", "content": "1"}]}, "input[0].role"),
        ({"input": [{"content": "1"}]}, "input[0].role"),
        ({"input": [{"type": "reasoning"}]}, "input"),
        ({"input": [{"type": "function_call_output", "output": "1"}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "1"}]}, "input[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].input_image",
        ),
        ({"input": [{"role": "assistant", "content": "1"}]}, "input[0].role"),
        ({"reasoning": {"effort": "hard"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"router": {"trace": True}, "stream": True}, "router.trace"),
    ],
    ids=str,
)
def test_responses_refuse(service: Served, body: dict[str, Any], param: str) -> None:
    answer = service.http.post(RESPONSES, json={"model": "fake", "input": QUESTION, **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert error["code"] in ("invalid_value", "unsupported_value")


def test_what_agents_send_with_every_request(service: Served) -> None:
    body = {
        "background": False,
        "include": ["reasoning.encrypted_content"],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "low", "summary": "auto"},
        "service_tier": "auto",
        "store": False,
        "stream_options": {"include_obfuscation": False},
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "truncation": "auto",
    }
    answer = service.http.post(RESPONSES, json={"model": "fake", "input": QUESTION, **body})
    assert answer.status_code == 200, answer.text
    assert answer.json()["router"]["budget"] == 4


# -- completions ---------------------------------------------------------------------------------


def test_a_prompt(client: OpenAI) -> None:
    answer = client.completions.create(model="fake@8", prompt=QUESTION, max_tokens=90)
    [choice] = answer.choices
    assert "\\boxed{54}" in choice.text
    assert choice.finish_reason == "stop"
    assert choice.model_extra["router"]["answer"] == "54"  # type: ignore[index]
    stream = client.completions.create(
        model="fake@8", prompt=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    *chunks, usage = stream
    assert "\\boxed{54}" in "".join(chunk.choices[0].text for chunk in chunks)
    assert usage.usage is not None


def test_several_prompts_have_a_search_each(client: OpenAI) -> None:
    prompts = [f"What is {number} + 1?" for number in range(5)]
    answer = client.completions.create(model="fake@8", prompt=prompts)
    assert [choice.index for choice in answer.choices] == list(range(5))
    for number, choice in enumerate(answer.choices):
        assert f"\\boxed{{{number + 1}}}" in choice.text
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 8 * sum(map(len, prompts))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt[0]"),
        ({"prompt": [[1, 2], [3]]}, "prompt[0]"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["1 + 1", " "]}, "prompt[1]"),
        ({"prompt": ["1"] * 65}, "prompt"),
        ({"prompt": ["1", "2"], "stream": True}, "stream"),
        ({"echo": True}, "echo"),
        ({"best_of": 4}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 1}, "logprobs"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_completions_refuse(service: Served, body: dict[str, Any], param: str) -> None:
    answer = service.http.post(COMPLETIONS, json={"model": "fake", "prompt": QUESTION, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_one_prompt_that_fails_ends_the_others(service: Served) -> None:
    prompts = [QUESTION, "1 + 1 = " * 3000]
    answer = service.http.post(COMPLETIONS, json={"model": "fake", "prompt": prompts})
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert service.metric("router_num_requests_running") == 0


def test_a_failure_in_mid_stream_is_told_in_each_apis_words() -> None:
    with served() as service:
        client = OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
        service.engine.hold()
        responses = client.responses.create(model="fake", input=QUESTION, stream=True)
        completions = client.completions.create(model="fake", prompt=QUESTION, stream=True)
        service.engine.dead = True
        service.engine.go_on()
        with pytest.raises(APIError, match="the engine failed"):
            list(responses)
        with pytest.raises(APIError, match="the engine failed"):
            list(completions)


# -- effort --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effort", "budget"), [("none", 1), ("minimal", 1), ("low", 4), ("medium", 16), ("high", 64)]
)
def test_an_effort_is_a_budget(client: OpenAI, effort: Any, budget: int) -> None:
    chat = client.chat.completions.create(
        model="fake", messages=[{"role": "user", "content": QUESTION}], reasoning_effort=effort
    )
    response = client.responses.create(model="fake", input=QUESTION, reasoning={"effort": effort})
    for answer in (chat, response):
        assert answer.model_extra is not None
        assert answer.model_extra["router"]["budget"] == budget


def test_a_budget_is_before_an_effort(service: Served) -> None:
    answer = service.chat(model="fake@2", reasoning_effort="high").json()
    assert answer["router"]["budget"] == 2


def test_an_unknown_effort_is_refused(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match=r"reasoning\.effort must be 'none'"):
        client.responses.create(model="fake", input=QUESTION, reasoning={"effort": "x"})  # type: ignore[typeddict-item]
