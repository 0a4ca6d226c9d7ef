"""Which answers are equal, and which are not: `pairs.txt`, each pair both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.strategies.tasks import get_task

MATHS = get_task("maths")
_LINES = Path(__file__).with_name("pairs.txt").read_text().splitlines()
_PAIRS = [line for line in _LINES if line and not line.startswith("#")]
DIFFERENT = [tuple(line.split(" ≠ ")) for line in _PAIRS if " ≠ " in line]
EQUAL = [tuple(line.rsplit(" = ", 1)) for line in _PAIRS if " ≠ " not in line]


def test_there_are_enough() -> None:
    assert len(set(_PAIRS)) == len(_PAIRS) >= 250


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal(a: str, b: str) -> None:
    assert MATHS.correct_sync(a, b) is True
    assert MATHS.correct_sync(b, a) is True
    assert (
        MATHS.group_sync([a, b]).representatives[0] == MATHS.group_sync([b, a]).representatives[0]
    )


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert MATHS.correct_sync(a, b) is False
    assert MATHS.correct_sync(b, a) is False
    assert len(set(MATHS.group_sync([a, b]).representatives)) == 2


@pytest.mark.parametrize("share", range(8))
def test_equality_is_transitive(share: int) -> None:
    """Among all answers of a share of the table no chain of equal ones joins what differs."""
    equal, different = EQUAL[share::8], DIFFERENT[share::8]
    answers = sorted({answer for pair in equal + different for answer in pair})
    groups = dict(zip(answers, MATHS.group_sync(answers).representatives, strict=True))
    assert [pair for pair in different if groups[pair[0]] == groups[pair[1]]] == []
    assert [pair for pair in equal if groups[pair[0]] != groups[pair[1]]] == []
