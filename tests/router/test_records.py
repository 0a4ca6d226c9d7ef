"""Records survive the way through JSON."""

from __future__ import annotations

import json

import pytest

from router.models.usage import Usage
from router.records import Considered, Decision, Finished, Solution
from router.strategies.beam_search import BeamSearch
from router.strategies.dvts import DVTS
from router.strategies.selection import Vote


def solution() -> Solution:
    return Solution(
        problem_id="p1",
        answer="4",
        text="2 + 2 = 4",
        decision=Decision(
            BeamSearch(4),
            (0.25, 0.75),
            0.5,
            "wins at level 2",
            (Considered(BeamSearch(4), 4, 0.5, (0.4, 0.6)), Considered(DVTS(4), 4)),
        ),
        usage=Usage(generations=4, sampled_tokens=12, prompt_tokens_cached=None, flops=None),
        ended="deadline",
        selection="weighted",
        votes=(Vote("4", 2, 1.5, 0.9), Vote("5", 1, 0.1, 0.1)),
        candidates=(
            Finished("4", (0.5, 0.9), 6, "stop", "2 + 2 = 4"),
            Finished(None, None, None, "length", "", "well"),
        ),
        correct=True,
        notes=("a note",),
        thoughts="two and two",
    )


def test_solution_survives_json() -> None:
    original = solution()
    assert Solution.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_json_uses_the_words_of_the_design() -> None:
    record = solution().to_dict()
    assert record["answer"] == "4"
    assert record["usage"]["generations"] == 4
    assert record["decision"]["strategy"] == "beam_search(n=4)"
    assert record["decision"]["parameters"]["name"] == "beam_search"
    assert record["decision"]["parameters"]["width"] == 4
    assert record["candidates"][0]["scores"] == (0.5, 0.9)


def test_what_is_not_known_is_null_not_zero() -> None:
    usage = solution().to_dict()["usage"]
    assert usage["prompt_tokens_cached"] is None
    assert usage["prompt_tokens_computed"] is None
    assert usage["flops"] is None


def test_another_record_is_no_solution() -> None:
    with pytest.raises(KeyError):
        Solution.from_dict({"id": "p1", "problem": "2 + 2?"})
