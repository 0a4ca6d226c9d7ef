"""The search benchmark on fakes: the baseline's rules, and that a stopped run goes on."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.lock_step import FORWARD_ROWS, LockStep, WholeSolutionVerifier
from benchmarks.search_speed import Cell, cells, main
from benchmarks.search_speed_results import summary
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Chain, FinishReason, Problem, Sampled, Sampling, Scored, Step
from router.models.verifiers.load import GeneratorStates, load_verifier
from tests.models.test_verifiers import save_head
from tests.problem_file import problem_file

PROBLEM = Problem("p", "any")


class Recording(FakeGenerator):
    """Remembers what each call continued, by rounds: calls that are there at once."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.rounds: list[list[Chain]] = []

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        if self.running == 0:
            self.rounds.append([])
        self.rounds[-1].append(path)
        return await super().sample(path, n, sampling)


class Whole(FakeVerifier):
    def __init__(self) -> None:
        super().__init__(noise=0.1)
        self.asked: list[tuple[int, int]] = []

    async def score(self, path: Chain, known: int = 0) -> Scored:
        self.asked.append((path.depth, known))
        return await super().score(path, known)


def writes(depth: int) -> Recording:
    """Solutions of `depth` steps, each a random digit."""

    def script(path: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        ends = path.text.count("\n\n") + 1 == depth
        return f"{rng.randrange(1, 10)}\n\n", "stop" if ends else "step"

    return Recording(script)


async def test_beams_grow_in_rounds_of_n_as_text_and_are_scored_whole_each_time() -> None:
    generator, verifier = writes(4), Whole()
    search = LockStep(generator, verifier, Sampling())
    candidates = await search.beam_search(PROBLEM, n=8, width=4, depth=10)
    assert [len(rows) for rows in generator.rounds] == [8, 8, 8, 8]
    for depth, rows in enumerate(generator.rounds):
        assert all(path.text.count("\n\n") == depth for path in rows)
        assert len({path.text for path in rows}) <= (2 if depth else 1)
        assert all(step.token_ids is None for path in rows for step in path.steps)
    assert verifier.asked == [(depth, 0) for depth in (1, 2, 3, 4) for _ in range(8)]
    assert search.usage.verifier_tokens == verifier.scored_tokens
    assert len(candidates) == 8
    assert all(len(candidate.scores or ()) == 4 for candidate in candidates)


async def test_beams_that_end_leave_and_the_others_are_copied_until_they_are_n_again() -> None:
    def script(path: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        ends = rng.random() < 0.5
        return f"{rng.random()}\n\n", "stop" if ends else "step"

    generator = Recording(script)
    search = LockStep(generator, Whole(), Sampling())
    candidates = await search.beam_search(PROBLEM, n=8, width=2, depth=6)
    assert len(generator.rounds) > 1
    assert {len(rows) for rows in generator.rounds} == {8}
    assert len(candidates) == 8


async def test_dvts_runs_all_problems_in_the_same_rounds() -> None:
    generator = writes(3)
    search = LockStep(generator, Whole(), Sampling())
    problems = [Problem(f"p{index}", f"any {index}") for index in range(3)]
    found = await search.dvts(problems, n=8, width=4, depth=10)
    assert [len(rows) for rows in generator.rounds] == [24, 24, 24]
    assert [len(candidates) for candidates in found] == [8, 8, 8]
    for problem, candidates in zip(problems, found, strict=True):
        assert all(candidate.chain.problem == problem for candidate in candidates)


def test_a_stopped_run_goes_on_and_other_settings_are_refused(tmp_path: Path) -> None:
    problems = problem_file(tmp_path / "problems.jsonl", fake_problems(20))
    output = tmp_path / "speed.json"
    common = [str(problems), "--output", str(output), "--engine", "fake", "--quick"]

    def run(*more: str) -> Any:
        return CliRunner().invoke(main, [*common, *more])

    assert run("--only", "router/dvts").exit_code == 0
    first = json.loads(output.read_text())
    assert list(first["cells"]) == ["router/dvts/16/16 of 16"]
    assert run().exit_code == 0
    record = json.loads(output.read_text())
    assert record["cells"]["router/dvts/16/16 of 16"] == first["cells"]["router/dvts/16/16 of 16"]
    assert list(record["cells"])[1:] == [
        cell.key for cell in cells(quick=True, peers=[]) if cell.key != "router/dvts/16/16 of 16"
    ]
    assert len(record["runs"]) == 2
    assert output.with_suffix(".png").stat().st_size > 10_000
    with pytest.raises(Exception, match="other settings"):
        CliRunner().invoke(main, [*common, "--depth", "3"], catch_exceptions=False)


def test_ratios_compare_the_same_strategy_at_the_same_n() -> None:
    def row(cell: Cell, seconds: float, tokens: int) -> dict[str, Any]:
        return {
            "way": cell.way,
            "strategy": cell.strategy,
            "n": cell.n,
            "in_flight": cell.in_flight,
            "problems": cell.problems,
            "seconds": seconds,
            "problems_per_hour": 3600 * cell.problems / seconds,
            "tokens_per_second": tokens / seconds,
            "sampled_tokens": tokens,
            "verifier_tokens": tokens,
        }

    rows = {
        cell.key: row(cell, seconds, tokens)
        for cell, seconds, tokens in (
            (Cell("ceiling", "best_of_n", 16, 16, 16), 10.0, 1000),
            (Cell("router", "dvts", 16, 16, 16), 10.0, 800),
            (Cell("lock step", "dvts", 16, 1, 4), 10.0, 400),
            (Cell("lock step", "dvts", 4, 1, 4), 1.0, 400),
        )
    }
    assert summary(rows) == {
        "router/dvts/16/16 of 16": {
            "of_engine_token_rate": 0.8,
            "lock step, 1 of 4": {
                "problems_per_hour": 4.0,
                "sampled_tokens_per_problem": 0.5,
                "verifier_tokens_per_problem": 0.5,
            },
        }
    }


async def test_whole_solution_scores_are_the_verifiers_and_cost_every_token(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    directory = save_head(tmp_path / "head", tiny_checkpoint)
    verifier = await load_verifier(str(directory), generator=GeneratorStates(str(tiny_checkpoint)))
    baseline = WholeSolutionVerifier.load(directory, tiny_checkpoint)
    paths = [
        Chain(Problem(f"p{index}", "What is 2 + 3?" * (index + 1))).extend(
            *(Step(f"Line {line} of {index}.\n\n", "step") for line in range(1 + index % 4))
        )
        for index in range(2 * FORWARD_ROWS + 3)
    ]
    for _ in range(2):
        whole = await asyncio.gather(*map(baseline.score, paths))
        expected = await asyncio.gather(*map(verifier.score, paths))
        for path, one, other in zip(paths, whole, expected, strict=True):
            assert one.values == pytest.approx(other.values, abs=0.02)  # bfloat16
            prompt = len(baseline._encoder.chain_ids(path))
            assert prompt - 2 <= (one.tokens or 0) <= prompt
    await verifier.aclose()
