"""Questions with lettered options."""

from __future__ import annotations

import time

import pytest

from router.strategies.tasks import get_task

CHOICE = get_task("choice")


def test_what_is_asked() -> None:
    assert CHOICE.ask == "Answer with the letter of the correct option."


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b.",
        "(B)",
        "B) 42",
        "B. Forty-two",
        "[B]",
        "**B**",
        "Option B",
        "Option (B)",
        r"\textbf{(B)}\ 42",
        r"$\textbf{(B)}\ 42$",
        "The correct option is B.",
        "The correct answer is option B.",
        "The answer is clearly (B).",
        "The right choice is **B**, since 6 * 7 = 42.",
        "The answer is B because 6 * 7 is 42, not 41 (A).",
        "Answer: B",
        "Answer: b) 42",
        "**Answer:** (B) 42",
        r"The answer is \(B\).",
        r"\boxed{B}",
        r"\boxed{\text{B}}",
        r"\boxed{\textbf{(B)}}",
        r"\boxed{\text{B) } 42}",
        "A man has 6 boxes of 7.\n\n6 * 7 = 42\n\nB",
        "A) is too small, as 6 * 7 = 42.\n\nSo option B fits.",
        "6 * 7 = 42, which is (B)",
        "The answer is A, I thought at first. But no: the answer is B.",
        "B\n\nBecause 6 * 7 is 42.",
        "所以答案是 (B)。",
        r"The value is \boxed{42}, so the answer is B.",
    ],
)
def test_a_letter_is_read(text: str) -> None:
    assert CHOICE.read(text) == "B"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "A train leaves at noon.",
        "I do not know.",
        "The answer is a mystery to me",
        "The answer is A mystery",
        "The answer is 42.",
        r"\boxed{42}",
        "E = mc^2, so it is 42",
    ],
)
def test_words_and_numbers_are_no_letters(text: str) -> None:
    assert CHOICE.read(text) is None


def test_a_word_that_is_a_letter_may_be_an_option() -> None:
    assert CHOICE.read("The answer is A because it rains.") == "A"
    assert CHOICE.read("The answer is A.") == "A"
    assert CHOICE.read("The answer is (I).") == "I"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"so \boxed{B} bec", "B"),
        ("the correct option is B, bec", "B"),
        ("the correct option is B", None),  # perhaps `Both`, but for the cut
        ("We try option B", None),
        ("B) 42 is too sm", None),
    ],
)
def test_a_cut_text_is_read_only_where_it_states_an_answer(text: str, letter: str | None) -> None:
    assert CHOICE.read(text, truncated=True) == letter


async def test_letters_are_equal_however_they_are_written() -> None:
    answers = ["B", "(B)", r"\text{B}", "B) 42", "b", "C", None]
    assert (await CHOICE.group(answers)).representatives == ("B", *["B"] * 4, "C", None)
    assert await CHOICE.correct("B", r"\textbf{(B)}\ 42")
    assert not await CHOICE.correct("B", "C")
    assert not await CHOICE.correct(None, "C")


@pytest.mark.parametrize(
    "part", [r"\boxed{", "the answer is ", "option ", r"\text{", "(B", "B) x\n", "#### A\n"]
)
def test_reading_takes_linear_time(part: str) -> None:
    text = part * (100_000 // len(part))
    start = time.process_time()
    CHOICE.read(text)
    assert time.process_time() - start < 0.5
