"""What is read from the final lines of many models, in many languages: `readings.txt`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from router.strategies.tasks import get_task

MATHS = get_task("maths")
LINES = [
    line
    for line in Path(__file__).with_name("readings.txt").read_text().splitlines()
    if " ⇒ " in line and not line.startswith("# ")
]


def test_there_are_enough() -> None:
    assert len(set(LINES)) == len(LINES) >= 150


@pytest.mark.parametrize("line", LINES)
def test_reading(line: str) -> None:
    text, _, answer = line.replace("⏎", "\n").rpartition(" ⇒ ")
    truncated = text.endswith("✂")
    read = MATHS.read(text.removesuffix("✂"), truncated)
    assert read == (None if answer == "∅" else answer)


@pytest.mark.parametrize(
    "part",
    [
        *("<think>", "</think>", "\n", "\n\n* ", "\nQuestion: ", "\nHuman: ", "答案是", "<answer>"),
        *(
            "1",
            "1 ",
            "1,1",
            "1 1/",
            "1:",
            "$1 ",
            "-",
            "**",
            "May 1 ",
            r"\frac{1}{",
            r"\( ",
            r"\[ 1 ",
        ),
        *("the answer is 1 and ", "answer in x ", "is 5 ", r"the answer is \( "),
    ],
)
def test_reading_takes_linear_time(part: str) -> None:
    for task in ("maths", "choice", "text"):
        text = part * (200_000 // len(part))
        start = time.process_time()
        get_task(task).read(text)
        assert time.process_time() - start < 1.5  # a quarter of a second, on an idle machine
