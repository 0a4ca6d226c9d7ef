"""What a model thinks is apart from what it says, from the engine to the command line."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from click.testing import CliRunner

from router import Router, cli
from router.models.fakes import FakeGenerator
from router.models.types import Chain, FinishReason, Sampling
from router.records import Solution

QUESTION = "1 + 2"
THOUGHT = ("<think>\n1 + 2 = \\boxed{4}?\n\n", "No.\n</think>\n\n")
SAID = "So it is \\boxed{3}."


def writes(*steps: str, end: FinishReason = "stop") -> FakeGenerator:
    """A generator that writes these steps, then ends so."""

    def script(chain: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        last = chain.depth == len(steps) - 1
        return steps[chain.depth], end if last else "step"

    return FakeGenerator(script)


def opened(*steps: str, end: FinishReason) -> FakeGenerator:
    """The same, where the chat template has opened the thought."""
    generator = writes(*steps, end=end)
    generator._info = replace(generator.info, thinks=True)
    return generator


def solved(steps: Sequence[str], end: FinishReason = "stop") -> Solution:
    with Router(generator=writes(*steps, end=end), verifier=None) as router:
        return router.solve(QUESTION, budget=2)


def test_thoughts_are_apart() -> None:
    solution = solved([*THOUGHT, SAID])
    assert (solution.answer, solution.text) == ("3", SAID)
    assert solution.thoughts == "1 + 2 = \\boxed{4}?\n\nNo."
    [one, _] = solution.candidates
    assert (one.text, one.thoughts) == (SAID, solution.thoughts)
    assert solution.trace is not None
    assert [n.chain.step.text for n in solution.trace.nodes[1:4] if n.chain.step] == [
        *THOUGHT,
        SAID,
    ]


def test_who_does_not_think_has_no_thoughts() -> None:
    solution = solved(["1 + 2 = 3.\n\n", SAID])
    assert solution.thoughts is None
    assert solution.text == "1 + 2 = 3.\n\n" + SAID


def test_a_cut_thought_is_no_text() -> None:
    solution = solved([THOUGHT[0], "So 3"], end="length")
    assert solution.text == ""
    assert solution.thoughts == "1 + 2 = \\boxed{4}?\n\nSo 3"


@pytest.mark.parametrize(
    ("steps", "end", "answer", "thought", "said"),
    [
        (["It is 4?\n\n", "No.\n</think>\n\n", SAID], "stop", "3", "It is 4?\n\nNo.", SAID),
        (["It is 4?\n\n", "It may be 5."], "length", None, "It is 4?\n\nIt may be 5.", ""),
        (["<think>4?</think>", SAID], "stop", "3", "<think>4?", SAID),
    ],
)
def test_a_thought_that_the_template_opened(
    steps: list[str], end: FinishReason, answer: str | None, thought: str, said: str
) -> None:
    with Router(generator=opened(*steps, end=end), verifier=None) as router:
        solution = router.solve(QUESTION, budget=1)
    assert (solution.answer, solution.thoughts, solution.text) == (answer, thought, said)


def test_the_command_folds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def load(*args: object, **options: object) -> FakeGenerator:
        return writes(*THOUGHT, SAID)

    monkeypatch.setattr("router.models.generators.load.load_generator", load)
    command = ["solve", QUESTION, "--verifier", "none", "--budget", "1"]
    folded = CliRunner().invoke(cli.main, command).stdout
    assert "No." not in folded
    assert "23 characters; --thoughts shows them" in folded
    assert "No." in CliRunner().invoke(cli.main, [*command, "--thoughts"]).stdout
    record = json.loads(CliRunner().invoke(cli.main, [*command, "--json"]).stdout)
    assert (record["text"], record["thoughts"]) == (SAID, "1 + 2 = \\boxed{4}?\n\nNo.")
