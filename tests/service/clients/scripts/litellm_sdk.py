"""LiteLLM, as a library."""

import asyncio

import litellm
from trying import ANSWER, MODEL, QUESTION, URL, run

API = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": "none"}
ASK = {**API, "messages": [{"role": "user", "content": QUESTION}]}


def chat():
    assert ANSWER in litellm.completion(**ASK).choices[0].message.content


def streamed():
    chunks = litellm.completion(**ASK, stream=True)
    assert ANSWER in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def later():
    assert ANSWER in asyncio.run(litellm.acompletion(**ASK)).choices[0].message.content


def responses():
    answer = litellm.responses(**API, input=QUESTION)
    assert ANSWER in answer.output[0].content[0].text


def completions():
    answer = litellm.text_completion(
        **{**API, "model": f"text-completion-openai/{MODEL}"}, prompt=QUESTION
    )
    assert ANSWER in answer.choices[0].text


run(
    "litellm",
    {
        "chat": chat,
        "chat, streamed": streamed,
        "chat, async": later,
        "responses": responses,
        "completions": completions,
    },
)
