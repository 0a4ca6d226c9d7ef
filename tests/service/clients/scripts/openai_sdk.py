"""OpenAI's own client for Python."""

import asyncio

import openai
from pydantic import BaseModel
from trying import ANSWER, MODEL, QUESTION, URL, run

ASK = [{"role": "user", "content": QUESTION}]
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)


class Sum(BaseModel):
    total: int


def chat():
    answer = client.chat.completions.create(model=MODEL, messages=ASK)
    assert ANSWER in answer.choices[0].message.content
    assert answer.usage.total_tokens > 0


def chat_streamed():
    chunks = client.chat.completions.create(model=MODEL, messages=ASK, stream=True)
    assert ANSWER in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def chat_streamed_by_its_helper():
    with client.chat.completions.stream(model=MODEL, messages=ASK) as stream:
        assert ANSWER in stream.get_final_completion().choices[0].message.content


def chat_async():
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key="none") as later:
            answer = await later.chat.completions.create(model=MODEL, messages=ASK)
            assert ANSWER in answer.choices[0].message.content

    asyncio.run(ask())


def structured():
    answer = client.chat.completions.parse(model=MODEL, messages=ASK, response_format=Sum)
    assert answer.choices[0].message.parsed == Sum(total=54)
    answer = client.responses.parse(model=MODEL, input=QUESTION, text_format=Sum)
    assert answer.output_parsed == Sum(total=54)


def effort():
    answer = client.chat.completions.create(model="fake", messages=ASK, reasoning_effort="low")
    assert answer.model_extra["router"]["budget"] == 4


def responses():
    assert ANSWER in client.responses.create(model=MODEL, input=QUESTION).output_text


def responses_streamed():
    with client.responses.stream(model=MODEL, input=QUESTION) as stream:
        assert ANSWER in "".join(e.delta for e in stream if e.type == "response.output_text.delta")
        assert ANSWER in stream.get_final_response().output_text


def completions():
    answer = client.completions.create(model=MODEL, prompt=[QUESTION, QUESTION])
    assert [ANSWER in choice.text for choice in answer.choices] == [True, True]


def models():
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def refusals():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    try:
        client.chat.completions.create(model=MODEL, messages=ASK, tools=[tool])
    except openai.BadRequestError as error:
        refused = error
    assert (refused.param, refused.code) == ("tools", "unsupported_value")


run(
    "openai",
    {
        "chat": chat,
        "chat, streamed": chat_streamed,
        "chat, streamed by its helper": chat_streamed_by_its_helper,
        "chat, async": chat_async,
        "structured output": structured,
        "`reasoning_effort`": effort,
        "responses": responses,
        "responses, streamed": responses_streamed,
        "completions of two prompts": completions,
        "models": models,
        "refusals": refusals,
    },
)
