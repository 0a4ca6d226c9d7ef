"""Paths as tokens: exact joins, and cuts that lose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.models.errors import InputError, PromptTooLong
from router.models.prompts import Prompt, get_prompt
from router.models.steps import split_text, step_ends
from router.models.tokens import ChainEncoder, room
from router.models.types import Chain, Problem, Step

PROBLEM = Problem("p", "What is 1+1?")
END = "<|im_end|>"

pieces = st.sampled_from(
    [
        "\n",
        "\n\n",
        " \n",
        "\n\n\n",
        ".\n\n",
        "a",
        " the",
        "1",
        "é",
        "漢",
        "🙂",
        "👩‍👩‍👧",
        "\\[",
        "\t",
        END,
    ]
)
texts = st.lists(pieces | st.text(max_size=4), max_size=30).map("".join)
# Single bytes and halves of characters: what a model at a high temperature does sample.
token_lists = st.lists(st.integers(0, 300) | st.integers(0, 151_642), max_size=40)
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> ChainEncoder:
    return ChainEncoder(tokenizer, get_prompt("qwen-math"))


def assert_nothing_is_lost(encoder: ChainEncoder, ids: list[int], steps: tuple[Step, ...]) -> None:
    assert [token for step in steps for token in step.token_ids or ()] == ids
    assert sum(step.tokens or 0 for step in steps) == len(ids)
    assert "".join(step.text for step in steps) == encoder.decode(ids)
    assert [step.finish for step in steps[:-1]] == ["step"] * (len(steps) - 1)


def test_the_prompt_is_the_chat_template_up_to_the_answer(
    encoder: ChainEncoder, tokenizer: Any
) -> None:
    text = tokenizer.decode(encoder.prompt_ids(PROBLEM))
    assert text == (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within "
        "\\boxed{}.<|im_end|>\n<|im_start|>user\nWhat is 1+1?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_tokenizer_without_a_chat_template_gets_paragraphs(tokenizer: Any) -> None:
    base = copy(tokenizer)
    base.chat_template = None
    ids = ChainEncoder(base, get_prompt("plain")).prompt_ids(PROBLEM)
    assert base.decode(ids) == "What is 1+1?\n\n"


def test_a_template_that_refuses_the_turns_is_an_input_error(tokenizer: Any) -> None:
    strict = copy(tokenizer)
    strict.chat_template = "{{ raise_exception('no system turn here') }}"
    with pytest.raises(InputError, match=r"qwen-math.*no system turn here"):
        ChainEncoder(strict, get_prompt("qwen-math")).prompt_ids(PROBLEM)


def test_a_path_starts_with_its_parents_tokens(encoder: ChainEncoder) -> None:
    # Tokenised as text, "1" + "0" would merge into other tokens than these.
    parent = Chain(PROBLEM).extend(Step("So 1", "step", 2, (4416, 16)))
    child = parent.extend(Step("0 =", "step", 2, (15, 284)))
    assert encoder.chain_ids(parent) == [*encoder.prompt_ids(PROBLEM), 4416, 16]
    assert encoder.chain_ids(child) == [*encoder.chain_ids(parent), 15, 284]


def test_text_is_encoded_only_where_there_are_no_token_ids(
    encoder: ChainEncoder, tokenizer: Any
) -> None:
    path = Chain(PROBLEM).extend(Step("by hand", "step"), Step("?", "step", 1, (0,)))
    tail = encoder.chain_ids(path)[len(encoder.prompt_ids(PROBLEM)) :]
    assert tail == [*tokenizer.encode("by hand"), 0]


def test_steps_end_with_the_token_that_completes_the_delimiter(
    encoder: ChainEncoder, tokenizer: Any
) -> None:
    ids = tokenizer.encode("\n\nFirst 🙂.\n\n\n\nThen\n\n  \nso\n\n漢字\n\n" + END)
    steps = encoder.split(ids, "stop")
    assert [step.text for step in steps] == [
        "\n\nFirst 🙂.\n\n\n\n",
        "Then\n\n  \n",
        "so\n\n",
        "漢字\n\n",
    ]
    assert steps[-1].finish == "stop"
    assert steps[-1].token_ids is not None
    assert steps[-1].token_ids[-1] == tokenizer.convert_tokens_to_ids(END)
    assert_nothing_is_lost(encoder, ids, steps)


@relaxed
@given(text=texts)
def test_cutting_text_loses_nothing_and_makes_no_empty_step(
    encoder: ChainEncoder, tokenizer: Any, text: str
) -> None:
    ids = tokenizer.encode(text)
    steps = encoder.split(ids, "length")
    assert_nothing_is_lost(encoder, ids, steps)
    assert steps[-1].finish == "length"
    if len(steps) > 1:
        assert all(step.text.strip() for step in steps)
    for step in steps[:-1]:
        assert "\n\n" in step.text
        assert step.text.strip().count("\n\n") == 0 or END in text


@relaxed
@given(ids=token_lists)
def test_cutting_any_tokens_loses_nothing(encoder: ChainEncoder, ids: list[int]) -> None:
    assert_nothing_is_lost(encoder, ids, encoder.split(ids, "stop"))


@relaxed
@given(ids=token_lists, data=st.data())
def test_any_delimiter_cuts_any_tokens(
    encoder: ChainEncoder, ids: list[int], data: st.DataObject
) -> None:
    text = encoder.decode(ids)
    delimiter = data.draw(st.sampled_from(text)) if text else "x"
    other = ChainEncoder(encoder.tokenizer, Prompt("other", delimiter=delimiter))
    steps = other.split(ids, "stop")
    assert_nothing_is_lost(other, ids, steps)
    assert all(delimiter in step.text for step in steps[:-1])


@relaxed
@given(ids=token_lists | texts)
def test_a_step_ends_with_the_first_token_that_completes_it(
    encoder: ChainEncoder, tokenizer: Any, ids: list[int] | str
) -> None:
    tokens = tokenizer.encode(ids) if isinstance(ids, str) else ids
    text = encoder.decode(tokens)
    prefixes = [encoder.decode(tokens[:count]) for count in range(len(tokens) + 1)]
    expected = []
    for end in [step.known for step in step_ends(text, "\n\n")]:
        whole = (c for c, p in enumerate(prefixes) if len(p) >= end and text.startswith(p))
        count = next(whole)
        if text[len(prefixes[count]) :].strip() and count not in expected:
            expected.append(count)
    steps = encoder.split(tokens, "stop")
    ends = list(accumulate(step.tokens or 0 for step in steps))
    assert ends == [*expected, len(tokens)]


def test_cutting_costs_as_much_per_token_however_long_the_text(tokenizer: Any) -> None:
    decoded = 0

    class Counting(ChainEncoder):
        def decode(self, token_ids: Sequence[int]) -> str:
            nonlocal decoded
            decoded += len(token_ids)
            return super().decode(token_ids)

    encoder = Counting(tokenizer, get_prompt("qwen-math"))
    ids = tokenizer.encode("So 12 + 30 = 42 apples are left.\n\n")
    costs = []
    for steps in (20, 200):
        decoded = 0
        assert len(encoder.split(ids * steps, "stop")) == steps
        costs.append(decoded / steps)
    assert costs[1] < 1.1 * costs[0]


def test_no_tokens_are_one_empty_step(encoder: ChainEncoder) -> None:
    assert encoder.split([], "length") == (Step("", "length", 0, ()),)


def test_a_stop_string_cuts_the_text_and_finishes_but_every_token_counts(
    encoder: ChainEncoder, tokenizer: Any
) -> None:
    ids = tokenizer.encode("One.\n\nTwo ```python\n\nthree")
    steps = encoder.split(ids, "length", stop=("```",))
    assert [step.text for step in steps] == ["One.\n\n", "Two "]
    assert steps[-1].finish == "stop"
    assert sum(step.tokens or 0 for step in steps) == len(ids)


def test_steps_carry_their_own_mean_log_probability(encoder: ChainEncoder, tokenizer: Any) -> None:
    ids = tokenizer.encode("One\n\nTwo")
    assert len(ids) == 3
    first, second = encoder.split(ids, "stop", logprobs=[-1.0, -2.0, -5.0])
    assert first.logprob == -1.5
    assert second.logprob == -5.0


def test_text_is_cut_by_the_same_rules(encoder: ChainEncoder, tokenizer: Any) -> None:
    text = "\n\nA\n\n\n\nB\n\n \nC\n\n"
    by_text = split_text(text, "stop", "\n\n")
    by_tokens = encoder.split(tokenizer.encode(text), "stop")
    assert [step.text for step in by_text] == [step.text for step in by_tokens]
    assert [step.finish for step in by_text] == ["step", "step", "stop"]


def test_a_marker_as_delimiter() -> None:
    assert [end.at for end in step_ends("a ###\n### b ###", "###")] == [9]


def test_room_is_cut_to_the_context() -> None:
    assert room(10, context=100, max_tokens=50) == 50
    assert room(80, context=100, max_tokens=50) == 20
    assert room(99, context=100, max_tokens=50) == 1
    with pytest.raises(PromptTooLong, match=r"100 tokens.*context of 100 .*shorten the problem$"):
        room(100, context=100, max_tokens=50)


def test_a_path_may_have_more_steps_than_the_stack_has_frames() -> None:
    steps = [Step("a\n\n", "step", 2, (64, 271)) for _ in range(3000)]
    path = Chain(PROBLEM).extend(*steps)
    assert path.depth == 3000
    assert path.steps == tuple(steps)
    assert path.tokens == 6000


def test_special_tokens_that_mark_a_thought_stay_in_the_text(tokenizer_dir: Path) -> None:
    """As Magistral's `[THINK]`: without them nobody could tell its thought from its answer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]", "[IMG]"]})
    encoder = ChainEncoder(tokenizer, get_prompt("qwen-math"))
    text = "[THINK]Is it 46?\n\nNo.[/THINK]It is 54.[IMG]"
    ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
    assert encoder.decode(ids) == text.removesuffix("[IMG]")
    assert_nothing_is_lost(encoder, ids, encoder.split(ids, "stop"))


def test_an_encoder_knows_that_its_template_opens_a_thought(tokenizer: Any) -> None:
    tokenizer = copy(tokenizer)
    assert not ChainEncoder(tokenizer, get_prompt("qwen-math")).thinks
    tokenizer.chat_template += "{{ '<think>\\n' }}"
    assert ChainEncoder(tokenizer, get_prompt("qwen-math")).thinks
