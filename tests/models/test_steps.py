"""Where a step ends; and that it ends there too when steps are sampled one at a time."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.models.prompts import Prompt
from router.models.steps import LONGEST_BLOCK, first_end, split_text, step_ends, step_stops
from router.models.tokens import ChainEncoder
from router.models.types import Step

AMOUNTS = "\\begin{aligned}\nx &= 1 \\\\[2pt]\n\ny &= 2\n\\end{aligned}"


def steps(text: str, delimiter: str = "\n\n") -> list[str]:
    return [step.text for step in split_text(text, "stop", delimiter)]


@pytest.mark.parametrize(
    "parts",
    [
        ["a\n\n", "b\n\n", "c"],
        ["a\r\n\r\n", "b\r\nc\r\n\r\n", "d"],
        ["Step 1: a\n", "Step 2: b\nmore of b\n", "Step 3: c"],
        ["Step 1. a\r\n", "Step 2. b"],
        ["First.\n", "**Step 2:** b\n", "## Step 3\nc\n", "### Step 4. d\n", "> Step 5"],
        ["Step 9: a\n", "Step 10: b"],
        ["Step 1: a\n\n", "Step 2: b\n\n\n", "Step 3: c"],
        ["步骤1：a\n", "步骤 2：b\n", "**步骤3** c"],
        ["第一步，a\n", "第二步，b\n", "第3步：c"],
        ["Step 1 and Step 2 are one.\nSee Step 2 for more.\nSteps 3.\nstep 4\nStep-wise."],
        ["第一个数是 3。\n第二个数是 4。"],
        ["a\n \nb\n- c\n- d"],
        ["```python\na = 1\n\nStep 2\n\nb = 2\n```\n\n", "c"],
        ["a:\n~~~\nb\n\nc\n~~~\n\n", "d"],
        ["In `x` and ``y``\n\n", "z"],
        ["So \\[\na\n\n= b\n\\]\n\n", "c"],
        ["So $$a\n\n= b$$\n\n", "c"],
        [f"So {AMOUNTS}\n\n", "c"],
        [f"\\[ f = \\begin{{cases}} 1 \\\\\n\n {AMOUNTS} \n\n \\end{{cases}} \\]\n\n", "c"],
        ["\\begin{pmatrix}1\n\n2\\end{pmatrix}\n\n", "c"],
        ["a \\\\[2pt] b\n\n", "c costs \\$$5\n\n", "d"],
    ],
)
def test_steps(parts: list[str]) -> None:
    assert steps("".join(parts)) == parts


@pytest.mark.parametrize("opens", ["```python\n", "\\[", "$$", "\\begin{align*}"])
def test_a_block_that_is_never_closed_ends_somewhere(opens: str) -> None:
    text = f"{opens}\na\n\n" + "b " * (LONGEST_BLOCK // 2) + "\n\nc\n\nd"
    assert steps(text)[1:] == ["c\n\n", "d"]


def test_other_delimiters() -> None:
    text = "a\nb\r\n```\nc\n\nd\n```\nStep 1: e\n"
    assert steps(text, "\n") == ["a\n", "b\r\n", "```\nc\n\nd\n```\n", "Step 1: e\n"]
    assert steps("a ки b ки\nStep 2", "ки") == ["a ки", " b ки\n", "Step 2"]
    assert steps("a\n\nStep 2: b", "###") == ["a\n\nStep 2: b"]


def test_it_takes_bounded_time() -> None:
    for part in ("\n\na", "\nStep 1", "```\n\n", "\\[\n\n", "$$", "\r\n", "\\begin{a}\n\n"):
        text = part * (100_000 // len(part))
        started = time.process_time()
        split_text(text, "stop", "\n\n")
        assert time.process_time() - started < 3


# -- step by step -------------------------------------------------------------------------------

WORDS = "a|Step |1|2|:|**|## |步骤|第|二|步|x = 2|é|漢|👩\u200d👩\u200d👧"
MARKS = "```|\\[|\\]|$$|\\begin{cases}|\\end{cases}|\\"
pieces = st.sampled_from(["\n", "\n\n", "\r\n", " ", *WORDS.split("|"), *MARKS.split("|")])
texts = st.lists(pieces | st.text(max_size=3), max_size=40).map("".join)
relaxed = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def one_at_a_time(encoder: ChainEncoder, ids: list[int]) -> Iterator[Step]:
    """What an engine samples that writes these tokens, as it stops at every stop string."""
    delimiter, ahead, start, pending = encoder.prompt.delimiter, "", 0, False
    for end in range(1, len(ids) + 1):
        sampled = encoder.decode(ids[start:end])
        before = encoder.decode(ids[start : end - 1])
        stopped = any(
            sampled.find(stop, max(0, len(before) - len(stop) + 1)) >= 0
            for stop in step_stops(delimiter)
        )
        # Engines hold back what is not a whole character yet.
        held_back = sampled.endswith("\N{REPLACEMENT CHARACTER}")
        pending = pending or stopped
        if pending and not held_back and first_end(ahead + sampled, delimiter):
            *_, last = found = encoder.split(ids[start:end], "step", ahead=ahead)
            yield from found
            ahead, start, pending = last.ahead, end, False
    yield from encoder.split(ids[start:], "stop", ahead=ahead)


@relaxed
@given(text=texts, delimiter=st.sampled_from(["\n\n", "\n"]))
def test_steps_are_the_same_one_at_a_time(tokenizer: Any, text: str, delimiter: str) -> None:
    encoder = ChainEncoder(tokenizer, Prompt("p", delimiter=delimiter))
    ids = tokenizer.encode(text)
    whole = encoder.split(ids, "stop")
    single = list(one_at_a_time(encoder, ids))
    assert "".join(step.text for step in single) == "".join(step.text for step in whole)
    assert [t for step in single for t in step.token_ids or ()] == ids
    # Blank text between two steps may be the end of one or the beginning of the other.
    assert [s.text.strip() for s in single if s.text.strip()] == [
        s.text.strip() for s in whole if s.text.strip()
    ]


@relaxed
@given(text=texts)
def test_text_is_cut_as_its_tokens_are(tokenizer: Any, text: str) -> None:
    text = unicodedata.normalize("NFC", text)  # which is what the tokenizer reads
    encoder = ChainEncoder(tokenizer, Prompt("p"))
    by_tokens = encoder.split(tokenizer.encode(text), "stop")
    assert "".join(step.text for step in by_tokens) == text
    if [step.tokens for step in by_tokens[:-1]] == [
        len(tokenizer.encode(step.text)) for step in by_tokens[:-1]
    ]:  # no token spans two steps
        assert [step.text for step in by_tokens] == steps(text)


def test_a_heading_told_of_is_the_next_steps(tokenizer: Any) -> None:
    encoder = ChainEncoder(tokenizer, Prompt("p"))
    told = tokenizer.encode("Step 1: a\n**Step ")
    [first] = encoder.split(told, "step")
    assert (first.text, first.ahead, first.finish) == ("Step 1: a\n", "**Step ", "step")
    assert first.token_ids == tuple(told)
    [last] = encoder.split(tokenizer.encode("2:** b"), "stop", ahead=first.ahead)
    assert (last.text, last.ahead) == ("**Step 2:** b", "")


def test_ends_are_told_by_what_is_before_them() -> None:
    text = "Step 1: a\nStep 2: b\n\n\nc\n\\[d\n\ne\\]\n\nf"
    for end in step_ends(text, "\n\n"):
        assert [e.at for e in step_ends(text[: end.known] + "x", "\n\n")][-1] == end.at
