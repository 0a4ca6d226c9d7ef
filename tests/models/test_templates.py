"""Chat templates of real families: arguments, no system role, strict turns, none at all."""

from __future__ import annotations

import json
import logging
from copy import copy
from dataclasses import replace
from typing import Any

import httpx
import pytest

from router.models.errors import InputError
from router.models.generators.openai import OpenAIGenerator
from router.models.prompts import PROMPTS, Prompt, get_prompt
from router.models.tokens import NEXT_TURN, ChainEncoder
from router.models.types import Chain, Message, Problem, Sampling, Step

PROBLEM = Problem("p", "What is 1+1?")
SYSTEM = get_prompt("qwen-math").system or ""

_TURNS = (
    "{% for m in messages %}<{{ 'model' if m.role == 'assistant' else m.role }}>"
    "{{ m.content | trim }}</>\n{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)
_STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% endfor %}"
)
_STRICT_AFTER_SYSTEM = (
    "{% set ns = namespace(at=0) %}{% for m in messages %}{% if m.role != 'system' %}"
    "{% if (m.role == 'user') != (ns.at % 2 == 0) %}{{ raise_exception('After the optional system "
    "message, conversation roles must alternate user and assistant roles') }}{% endif %}"
    "{% set ns.at = ns.at + 1 %}{% endif %}{% endfor %}"
)
TEMPLATES = {
    "Gemma": "{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + _STRICT + _TURNS,
    "Mistral 7B v0.1": _STRICT + _TURNS,
    "Mistral Small": _STRICT_AFTER_SYSTEM + _TURNS,
    "silent": "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}</>\n"
    "{% endfor %}<model>",
    "Qwen": _TURNS,
}
HYBRID = (
    _TURNS + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)

HISTORIES = {
    "one question": (),
    "a conversation": (Message("user", "Hello."), Message("assistant", "Hi!")),
    "two user turns": (Message("user", "Hello."), Message("user", "Are you there?")),
    "a system of its own": (Message("system", "Be kind."), Message("user", "Hello.")),
}


def with_template(tokenizer: Any, template: str | None) -> Any:
    other = copy(tokenizer)
    other.chat_template = template
    return other


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("family", TEMPLATES)
def test_nothing_that_was_said_is_lost_on_a_template(
    tokenizer: Any, family: str, history: str
) -> None:
    problem = replace(PROBLEM, history=HISTORIES[history])
    encoder = ChainEncoder(with_template(tokenizer, TEMPLATES[family]), get_prompt("qwen-math"))
    text = tokenizer.decode(encoder.prompt_ids(problem))
    for turn in get_prompt("qwen-math").messages(problem):
        assert turn.content in text
    assert text.endswith("<model>")
    assert text.rindex(PROBLEM.text) > text.index(
        get_prompt("qwen-math").messages(problem)[0].content
    )


def test_the_system_text_stays_where_it_belongs_if_it_can(tokenizer: Any) -> None:
    first = {}
    for family, template in TEMPLATES.items():
        encoder = ChainEncoder(with_template(tokenizer, template), get_prompt("qwen-math"))
        first[family] = tokenizer.decode(encoder.prompt_ids(PROBLEM))[: len("<system>")]
    assert first.pop("Qwen") == first.pop("Mistral Small") == "<system>"
    assert all(start.startswith("<user>") for start in first.values())


def test_a_refusal_of_every_form_keeps_the_reason(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    begins = replace(PROBLEM, history=(Message("assistant", "Hello!"),))
    encoder = ChainEncoder(with_template(tokenizer, TEMPLATES["Gemma"]), get_prompt("plain"))
    with (
        caplog.at_level(logging.INFO, logger="router"),
        pytest.raises(InputError, match=r"'plain' with turns \(assistant, user\).*must alternate"),
    ):
        encoder.prompt_ids(begins)
    assert "must alternate" in caplog.text


@pytest.mark.parametrize("thinks", [True, False])
def test_arguments_reach_the_template(tokenizer: Any, thinks: bool) -> None:
    prompt = get_prompt("qwen-math").with_args({"enable_thinking": thinks})
    encoder = ChainEncoder(with_template(tokenizer, HYBRID), prompt)
    assert tokenizer.decode(encoder.prompt_ids(PROBLEM)).endswith("<think></think>") != thinks


def test_arguments_are_part_of_a_prompts_id() -> None:
    plain = get_prompt("plain")
    told = plain.with_args({"enable_thinking": False, "budget": [1, "a&b=c?"]})
    assert told.id != plain.id
    assert get_prompt(told.id) == told
    assert get_prompt(told.id).template_args == told.template_args
    assert plain.with_args({}) is plain
    assert plain == PROMPTS["plain"]
    assert repr(told) == repr(plain).replace("'plain'", repr(told.id))  # digests of old ones hold


@pytest.mark.parametrize("name", ["add_generation_prompt", "tokenize", "messages", "chat_template"])
def test_what_we_set_ourselves_is_no_argument(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' is set by"):
        get_prompt("plain").with_args({name: True})


@pytest.mark.parametrize("text", ["plain?", "plain?a", "plain?a=", "plain?a=b"])
def test_an_id_that_names_no_arguments_is_refused_or_plain(text: str) -> None:
    if text.endswith("b"):
        with pytest.raises(InputError, match="names no arguments"):
            get_prompt(text)
    else:
        assert get_prompt(text) == PROMPTS["plain"]


def test_an_argument_that_the_template_does_not_use_is_said(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ChainEncoder(tokenizer, Prompt("p").with_args({"enable_thinkng": False}))
    assert "does not use enable_thinkng" in caplog.text


# -- base models ------------------------------------------------------------------------------


def test_a_base_model_stops_where_it_begins_the_next_turn(tokenizer: Any) -> None:
    encoder = ChainEncoder(with_template(tokenizer, None), get_prompt("plain"))
    root = Chain(PROBLEM)
    whole = "It is 2.\n\nThe answer is \\boxed{2}.\n\n"
    for run_on in ("Human: What is 2+2?\n\n4", "Problem 2: …", "Question: …", "User: ok"):
        ids = tokenizer.encode(whole + run_on)
        steps = encoder.split(ids, "length", encoder.stops(root))
        assert "".join(step.text for step in steps).strip() == whole.strip()
        assert steps[-1].finish == "stop"
        # Step by step, the line has already ended when the next turn begins.
        chain = root.extend(Step(whole, "step"))
        (step,) = encoder.split(tokenizer.encode(run_on), "step", encoder.stops(chain))
        assert (step.text, step.finish) == ("", "stop")
    assert ChainEncoder(tokenizer, get_prompt("plain")).stops(root) == ()


class BaseServer:
    """vLLM's server of a model without a chat template."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "base", "max_model_len": 999}]})
        body = json.loads(request.content)
        if request.url.path == "/tokenize":
            if "messages" in body:
                why = (
                    "As of transformers v4.44, default chat template is no longer allowed, so you"
                    " must provide a chat template if the tokenizer does not define one."
                )
                error = {"message": why, "type": "BadRequestError", "param": None, "code": 400}
                return httpx.Response(400, json={"error": error})
            return httpx.Response(200, json={"tokens": list(body["prompt"].encode())})
        self.sent.append(body)
        said = {"text": "2", "finish_reason": "stop", "stop_reason": None, "token_ids": [50]}
        return httpx.Response(200, json={"choices": [said]})


async def test_a_base_model_behind_a_server_gets_paragraphs_and_stop_strings() -> None:
    server = BaseServer()
    generator = await OpenAIGenerator.load(
        ["http://a:1"],
        model=None,
        prompt=get_prompt("plain"),
        transport=httpx.MockTransport(server),
    )
    await generator.sample(Chain(PROBLEM), 1, Sampling(stop=("END",)))
    assert bytes(server.sent[-1]["prompt"]) == b"What is 1+1?\n\n"
    assert server.sent[-1]["stop"] == ["END", *NEXT_TURN]
    assert "no chat template" in generator.rendering
    await generator.aclose()
