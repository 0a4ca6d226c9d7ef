"""`router solve` on the embedded model: the command people run, and every strategy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("vllm")

import psutil

from router import Router, cli
from router.models.types import Chain, Problem, Sampling
from router.opening import Models

pytestmark = [pytest.mark.model, pytest.mark.timeout(1200)]

PROBLEM = "A shop sells pens at 3 dollars each. What do 7 pens cost, in dollars?"
SHORT = "64"
"""Tokens of a solution where its answer does not matter."""


class Kept(Router):
    """A router that outlives the commands that use it, so that they share one engine."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Iterator[Router]:
    from tests.models.prm_models import save_qwen_prm

    prm = save_qwen_prm(tmp_path_factory.mktemp("prm") / "qwen-prm", tokenizer_dir)
    router = Kept(engine="vllm", verifier=str(prm))
    yield router
    Router.close(router)


@pytest.fixture
def command(shared: Router, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `router solve` on the shared engine; gives the solution that it prints."""

    def build(*args: Any, sampling: Any, **options: Any) -> Router:
        shared.asked = sampling
        return shared

    monkeypatch.setattr("router.commands.common.Router", build)

    def run(*args: str) -> dict[str, Any]:
        done = CliRunner().invoke(
            cli.main, ["solve", "--json", "--max-tokens", SHORT, *args], input=PROBLEM
        )
        assert done.exit_code == 0 or "no answer in" in done.stderr, done.stderr
        solution: dict[str, Any] = json.loads(done.stdout)
        return solution

    return run


def test_the_command_prints_one_solution_and_leaves_no_process() -> None:
    """The whole way, in a process of its own, with the engine that `auto` picks."""
    options = ("--budget", "4", "--max-tokens", "256", "--json", "--bundle", "none")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "solve", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stdout, stderr = process.communicate(PROBLEM, timeout=900)
    assert process.returncode == 0, stderr
    assert "on vllm, prompt qwen-math, verifier Qwen2.5-Coder-0.5B-Instruct-self" in stderr
    (line,) = stdout.splitlines()
    solution = json.loads(line)
    assert solution["answer"] is not None
    assert solution["ended"] == "completed"
    assert solution["selection"] == "weighted"
    assert all(candidate["scores"] for candidate in solution["candidates"])
    usage = solution["usage"]
    assert usage["generations"] == 4
    assert usage["sampled_tokens"] == sum(c["tokens"] for c in solution["candidates"])
    assert usage["prompt_tokens"] == usage["prompt_tokens_cached"] + usage["prompt_tokens_computed"]
    end = time.monotonic() + 10
    while left := [p for p in psutil.process_iter() if _session(p) == process.pid]:
        assert time.monotonic() < end, f"still running: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize(
    "strategy",
    [
        "best_of_n(select=majority)",
        "best_of_n(select=weighted)",
        "beam_search(width=4, depth=4)",
        "dvts(width=4, depth=4)",
        "lookahead(width=4, depth=4, k=1)",
    ],
)
def test_every_strategy_stays_in_its_budget_and_is_scored(strategy: str, command: Any) -> None:
    solution = command("--budget", "8", "--strategy", strategy)
    usage = solution["usage"]
    assert 1 <= usage["generations"] <= 8
    assert usage["sampled_tokens"] >= sum(c["tokens"] for c in _distinct(solution)) > 0
    scored = "majority" not in strategy
    assert (usage["verifier_tokens"] > 0) == scored  # a PRM with a backbone of its own
    for candidate in solution["candidates"]:
        assert (candidate["scores"] is not None) == scored
        assert candidate["tokens"] <= int(SHORT) + 4  # at least one token for each step
    assert sum(vote["count"] for vote in solution["votes"]) == sum(
        candidate["answer"] is not None for candidate in solution["candidates"]
    )


def test_token_cap_ends_a_real_search(command: Any) -> None:
    majority = ("--strategy", "best_of_n(select=majority)")
    capped = command("--budget", "16", "--token-cap", "150", *majority)
    assert capped["ended"] == "tokens"
    assert capped["usage"]["sampled_tokens"] <= 150


def test_eight_problems_at_once_take_well_under_eight_times_one(
    shared: Router, capsys: pytest.CaptureFixture[str]
) -> None:
    def seconds(count: int, start: int) -> float:
        """Time for `count` new problems of 4 samples with 64 tokens each, all at once."""
        problems = [
            Problem(str(number), f"A shelf holds {number} books; {number // 2} are sold. How many?")
            for number in range(start, start + count)
        ]

        async def sample(models: Models) -> float:
            generator, sampling = models.generator, Sampling(max_tokens=64)
            began = time.monotonic()
            await asyncio.gather(*(generator.sample(Chain(p), 4, sampling) for p in problems))
            return time.monotonic() - began

        return shared.run(sample)

    seconds(1, 10)
    one = min(seconds(1, 20), seconds(1, 30))
    eight = seconds(8, 40)
    with capsys.disabled():
        print(f"\n8 problems at once: {eight:.1f} s, one: {one:.1f} s, ratio {eight / one:.2f}")
    assert eight / one < 5


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def _distinct(solution: dict[str, Any]) -> list[dict[str, Any]]:
    """Candidates of a tree share steps; one of them is sampled as a whole."""
    if solution["decision"]["strategy"].startswith("best_of_n"):
        return list(solution["candidates"])
    return [max(solution["candidates"], key=lambda candidate: candidate["tokens"])]


def test_check_says_what_works(shared: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.commands.common.Router", lambda *_, **__: shared)
    done = CliRunner().invoke(cli.main, ["check"])
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) <= 10
    assert "Qwen2.5-Coder-0.5B-Instruct on vllm" in done.stdout
    assert "qwen-math, written by the model's chat template" in done.stdout
    assert "format qwen-prm" in done.stdout
    assert done.stdout.endswith("works\n")
