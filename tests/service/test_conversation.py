"""How conversations become problems."""

from __future__ import annotations

import pytest

from router.models.prompts import PROMPTS
from router.models.types import Message
from router.service.conversation import Turn, problem_of
from router.service.errors import ServiceError
from router.service.protocol import ChatMessage


def turn(role: str, content: object) -> Turn:
    message = ChatMessage.model_validate({"role": role, "content": content})
    return message.turn("messages[0]")


def test_the_last_message_is_the_problem() -> None:
    problem = problem_of([turn("user", "1 + 1?")], "Reason step by step.")
    assert problem.text == "1 + 1?"
    assert problem.history == ()  # the prompt's own system text stands


def test_nothing_that_was_said_is_dropped() -> None:
    problem = problem_of(
        [
            turn("system", "Be brief."),
            turn("user", [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1?"}]),
            turn("assistant", "2"),
            turn("developer", "In German."),
            turn("user", "And 2 + 2?"),
        ],
        "Reason step by step.",
    )
    assert problem.history == (
        Message("system", "Be brief.\n\nIn German.\n\nReason step by step."),
        Message("user", "1 + 1?"),
        Message("assistant", "2"),
    )
    rendered = PROMPTS["qwen-math"].messages(problem)
    assert [message.role for message in rendered] == ["system", "user", "assistant", "user"]
    assert rendered[-1].content == "And 2 + 2?"


def test_other_conversations_have_other_ids() -> None:
    plain = problem_of([turn("user", "1 + 1?")], None)
    with_system = problem_of([turn("system", "Be brief."), turn("user", "1 + 1?")], None)
    assert plain.id != with_system.id
    assert plain.id == problem_of([turn("user", "1 + 1?")], None).id


@pytest.mark.parametrize(
    ("turns", "param"),
    [
        ([turn("user", "1 + 1?"), turn("assistant", "2")], "messages[0].role"),
        ([turn("system", "Be brief.")], "messages[0].role"),
        ([turn("user", " \n")], "messages[0].content"),
        ([turn("user", [])], "messages[0].content"),
    ],
)
def test_a_conversation_without_a_problem_is_refused(turns: list[Turn], param: str) -> None:
    with pytest.raises(ServiceError) as caught:
        problem_of(turns, None)
    assert caught.value.status == 400
    assert caught.value.param == param
