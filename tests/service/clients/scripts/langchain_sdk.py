"""LangChain's clients of OpenAI's API."""

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel
from trying import ANSWER, MODEL, QUESTION, URL, run

API = {"model": MODEL, "base_url": f"{URL}/v1", "api_key": "none"}
model = ChatOpenAI(**API)


class Sum(BaseModel):
    total: int


def conversation():
    turns = [SystemMessage("Be brief."), HumanMessage("1 + 1?"), AIMessage("2")]
    answer = model.invoke([*turns, HumanMessage(QUESTION)])
    assert ANSWER in answer.content
    assert answer.usage_metadata["total_tokens"] > 0


def streamed():
    assert ANSWER in "".join(chunk.content for chunk in model.stream(QUESTION))


def batch():
    assert all(ANSWER in answer.content for answer in model.batch([QUESTION] * 4))


def structured():
    for method in ("json_schema", "json_mode"):
        asked = model.with_structured_output(
            Sum if method == "json_schema" else None, method=method
        )
        found = asked.invoke(QUESTION)
        assert found == (Sum(total=54) if method == "json_schema" else {"answer": "54"})


def responses():
    newer = ChatOpenAI(**API, use_responses_api=True)
    assert ANSWER in newer.invoke(QUESTION).text
    assert ANSWER in "".join(chunk.text for chunk in newer.stream(QUESTION))


def completions():
    older = OpenAI(**API)
    assert ANSWER in older.invoke(QUESTION)
    assert len(older.generate([QUESTION, QUESTION]).generations) == 2
    assert ANSWER in "".join(older.stream(QUESTION))


run(
    "langchain-openai",
    {
        "a conversation": conversation,
        "chat, streamed": streamed,
        "a batch": batch,
        "structured output": structured,
        "responses, whole and streamed": responses,
        "completions, several and streamed": completions,
    },
)
