"""What is read from the final lines of many models, in many languages: `readings.txt`."""

from __future__ import annotations

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
