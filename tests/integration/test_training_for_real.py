"""`router verifier` on the embedded model, from problems to the score of a new solution."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from router.cli import main
from router.models.types import Chain, Problem, Step
from router.models.verifiers.load import load_verifier
from router.models.weights.find import find_model

pytestmark = [pytest.mark.model, pytest.mark.timeout(3600)]

PROBLEMS = Path(__file__).parents[2] / "benchmarks" / "problems" / "fit.jsonl"
SHORT = ("/chain_sum/", "/products/")
"""The kinds of problems with the shortest solutions: a sixth are right within 96 tokens."""
NEW = Problem("new", "Tom has 3 boxes of 4 pens and gives 5 pens away. How many has he left?")


async def test_twenty_problems_make_a_verifier_that_scores_a_new_solution(tmp_path: Path) -> None:
    """20 problems x 4 samples: 80 solutions sampled, read, and a head trained on them."""
    find_model()
    problems = tmp_path / "problems.jsonl"
    lines = PROBLEMS.read_text().splitlines(keepends=True)
    short = [line for line in lines if any(kind in line for kind in SHORT)]
    problems.write_text("".join(short[:20]))
    head = tmp_path / "head"
    command = ["verifier", "train", str(problems), "--out", str(head), "--samples", "4"]
    command += ["--max-tokens", "96"]
    # In a thread, as the command runs an event loop of its own.
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert result.exit_code == 0, result.output
    assert "weighted@4" in result.stdout

    verifier = await load_verifier(str(head), engine="transformers")
    path = Chain(NEW).extend(
        Step("There are 3 * 4 = 12 pens.\n\n", "step"),
        Step("He has 12 - 5 = 7 left: \\boxed{7}.", "stop"),
    )
    scored = await verifier.score(path)
    await verifier.aclose()
    assert len(scored.values) == 2
    assert all(0 < value < 1 for value in scored.values)
