"""Thoughts are kept apart from what is said."""

from __future__ import annotations

import time

import pytest

from router.models.thoughts import opens_thought, thoughts

HARMONY = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b"


@pytest.mark.parametrize(
    ("text", "thought", "rest"),
    [
        ("b", None, "b"),
        (" b\n", None, " b\n"),
        ("<think>\na\n</think>\n\nb", "a", "b"),
        ("<think></think>b", "", "b"),
        ("a</think>b", "a", "b"),  # the template opened it
        ("a[/THINK]b", "a", "b"),
        ("<think>a", "a", ""),  # a limit of tokens came first
        ("b<think>a", "a", "b"),
        ("b <think>a</think> c <think>d</think> e", "a\n\nd", "b \n c \n e"),
        ("<think>a <think> a</think>b", "a <think> a", "b"),
        ("<think>a </thinking> a</think>b", "a </thinking> a", "b"),
        ("<Think>a</THINK>b", "a", "b"),
        ("<think>a</think>b </think> c", "a", "b </think> c"),
        ("<seed:think>a</seed:think>b", "a", "b"),
        ("[THINK]a[/THINK]b", "a", "b"),
        ("◁think▷a◁/think▷b", "a", "b"),
        ("<|channel>thought\na<channel|>b", "a", "b"),
        (HARMONY, "a", "b"),
        (HARMONY + "<|return|>", "a", "b"),
        ("<|channel|>analysis<|message|>a", "a", ""),
        ("analysisWe add.assistantfinalb", "We add.", "b"),
        ("analysis: we add", None, "analysis: we add"),
        ("Here is my thought process: a Here is my response: b", "a", "b"),
        ("Here is my response: b", None, "Here is my response: b"),
        ("b<|end|>", None, "b<|end|>"),
        ("I think <b>so</b>", None, "I think <b>so</b>"),
    ],
)
def test_thoughts(text: str, thought: str | None, rest: str) -> None:
    assert thoughts(text) == (thought, rest)


@pytest.mark.parametrize(
    "part", ["<think>", "</think>", "<", "[", "<|channel|>analysis ", "a", HARMONY]
)
def test_it_takes_linear_time(part: str) -> None:
    text = part * (200_000 // len(part))
    start = time.process_time()
    thoughts(text)
    assert time.process_time() - start < 1.0  # a tenth of a second, on an idle machine


@pytest.mark.parametrize(
    ("prompt", "inside"),
    [
        ("<|im_start|>assistant\n<think>\n", True),  # QwQ, Qwen3-Thinking, DeepSeek-R1
        ("[INST]1 + 1?[/INST][THINK]", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),  # Qwen3, told not to think
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", False),
        ("<|im_start|>assistant\n", False),
        ("", False),
    ],
)
def test_a_template_may_open_a_thought(prompt: str, inside: bool) -> None:
    assert opens_thought(prompt) == inside
