"""The reference's rule of beam search, beside ours, on fakes."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.refilling import Refilled, main
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Chain, FinishReason, Problem, Sampled, Sampling
from router.strategies.beam_search import BeamSearch
from router.strategies.budget import Budget
from router.strategies.driver import run_search
from tests.problem_file import problem_file


class Counting(FakeGenerator):
    """Half of the paths end at every step; counts the continuations asked for in each round."""

    def __init__(self) -> None:
        super().__init__(half_end)
        self.asked: Counter[int] = Counter()
        self.continued: defaultdict[int, set[str]] = defaultdict(set)

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        self.asked[path.depth] += n
        self.continued[path.depth].add(path.text)
        return await super().sample(path, n, sampling)


def half_end(path: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
    return f"{rng.random()}\n\n", "stop" if rng.random() < 0.5 else "step"


async def test_one_rule_fills_every_round_and_the_other_only_what_is_still_open() -> None:
    asked = {}
    for rule in (Refilled(n=8, width=2, depth=6), BeamSearch(n=8, width=2, depth=6)):
        generator = Counting()
        found = await run_search(
            rule, Problem("p", "any"), generator, FakeVerifier(), Budget(48), Sampling(), seed=1
        )
        assert len(found.candidates) == 8
        assert all(len(paths) <= 8 // 2 for paths in generator.continued.values())
        asked[rule.name] = list(generator.asked.values())
    assert len(asked["refilled"]) > 1
    assert set(asked["refilled"]) == {8}
    narrowing = asked["beam_search"]
    assert narrowing == sorted(narrowing, reverse=True)
    assert narrowing[1] < 8


def test_the_command_compares_both_rules_on_the_same_problems(tmp_path: Path) -> None:
    output = tmp_path / "refilling.json"
    problems = problem_file(tmp_path / "problems.jsonl", fake_problems(14))
    done = CliRunner().invoke(
        main, [str(problems), "--output", str(output), "--engine", "fake", "--count", "12"]
    )
    assert done.exit_code == 0, done.output
    record = json.loads(output.read_text())
    ours, refilled = record["beam_search"], record["refilled"]
    assert len(ours["right"]) == len(refilled["right"]) == len(record["problems"]) == 12
    assert ours["value"] == sum(ours["right"]) / 12 > 0.5
    assert record["difference"]["value"] == pytest.approx(ours["value"] - refilled["value"])
