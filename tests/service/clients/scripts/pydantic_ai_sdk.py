"""Pydantic AI's agents."""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from trying import ANSWER, MODEL, QUESTION, URL, run

provider = OpenAIProvider(base_url=f"{URL}/v1", api_key="none")
chat = OpenAIChatModel(MODEL, provider=provider)
responses = OpenAIResponsesModel(MODEL, provider=provider)


class Sum(BaseModel):
    total: int


async def streamed(model):
    async with Agent(model).run_stream(QUESTION) as result:
        assert ANSWER in await result.get_output()


def asked(model):
    result = Agent(model, instructions="Be brief.").run_sync(QUESTION)
    assert ANSWER in result.output
    again = Agent(model).run_sync(QUESTION, message_history=result.all_messages())
    assert ANSWER in again.output


def structured(model):
    agent = Agent(model, output_type=NativeOutput(Sum))
    assert agent.run_sync(QUESTION).output == Sum(total=54)


run(
    "pydantic-ai-slim",
    {
        "an agent, and its next turn": lambda: asked(chat),
        "an agent, streamed": lambda: asyncio.run(streamed(chat)),
        "structured output (`NativeOutput`)": lambda: structured(chat),
        "responses, and the next turn": lambda: asked(responses),
        "responses, streamed": lambda: asyncio.run(streamed(responses)),
        "responses, structured": lambda: structured(responses),
    },
)
