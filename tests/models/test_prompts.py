"""Prompts: what a model is told, and how an id finds it."""

from dataclasses import replace

import pytest

from router.models.errors import InputError
from router.models.generators.load import choose_prompt
from router.models.prompts import PROMPTS, Prompt, default_prompt, delimited, get_prompt
from router.models.types import Message, Problem

PROBLEM = Problem("p", r"What is \frac{1}{2} of {8}?")


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=lambda prompt: prompt.id)
def test_the_question_comes_last_and_whole(prompt: Prompt) -> None:
    last = prompt.messages(PROBLEM)[-1]
    assert last.role == "user"
    assert PROBLEM.text in last.content


def test_qwen_math_is_the_model_cards_prompt() -> None:
    system, user = get_prompt("qwen-math").messages(PROBLEM)
    assert system == Message(
        "system", r"Please reason step by step, and put your final answer within \boxed{}."
    )
    assert user == Message("user", PROBLEM.text)


def test_llama_eval_asks_for_numbered_steps() -> None:
    system = get_prompt("llama-eval").messages(PROBLEM)[0]
    assert "## Step 1:" in system.content
    assert r"Therefore, the final answer is: $\boxed{answer}$. I hope it is correct." in (
        system.content
    )


def test_worked_examples_end_in_a_box_and_use_the_delimiter() -> None:
    prompt = get_prompt("worked-examples")
    assert len(prompt.examples) == 3
    assert all(prompt.delimiter in solution for _, solution in prompt.examples)
    assert all(r"\boxed{" in solution for _, solution in prompt.examples)
    roles = [turn.role for turn in prompt.messages(PROBLEM)]
    assert roles == ["system", *["user", "assistant"] * 3, "user"]


def test_plain_adds_nothing() -> None:
    assert get_prompt("plain").messages(PROBLEM) == (Message("user", PROBLEM.text),)


def test_history_goes_between_and_its_system_text_replaces_ours() -> None:
    history = (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
    )
    turns = get_prompt("qwen-math").messages(Problem("p", "1+1?", history=history))
    assert turns == (*history, Message("user", "1+1?"))


def test_an_unknown_id_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"'qwen-maths'.*did you mean 'qwen-math'"):
        get_prompt("qwen-maths")
    with pytest.raises(InputError, match=r"known: qwen-math"):
        get_prompt("zzz")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("meta-llama/Llama-3.2-1B-Instruct", "llama-eval"),
        ("/models/Meta-Llama-3.1-8B-Instruct/", "llama-eval"),
        ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "qwen-math"),
        ("llama-3/some-other-model", "qwen-math"),
    ],
)
def test_the_default_depends_on_the_models_own_name(model: str, expected: str) -> None:
    assert default_prompt(model).id == expected


def test_unusable_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="template"):
        Prompt("bad", template="no place for it")
    with pytest.raises(InputError, match="delimiter"):
        Prompt("bad", delimiter="")


def test_an_id_may_name_the_delimiter() -> None:
    own = choose_prompt(None, "Llama-3.1-8B-Instruct")
    for delimiter in ("\n", "###", "ки\t?#"):
        for name in (None, own.id):
            prompt = choose_prompt(delimited(name, delimiter), "Llama-3.1-8B-Instruct")
            assert prompt == replace(own, id=delimited(own.id, delimiter), delimiter=delimiter)
            assert get_prompt(prompt.id) == prompt
    with pytest.raises(InputError, match="no prompt 'lama-eval'; did you mean"):
        get_prompt(delimited("lama-eval", "\n"))
    with pytest.raises(InputError, match="delimiter is empty"):
        delimited(None, "")
