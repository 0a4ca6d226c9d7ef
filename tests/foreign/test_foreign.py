"""A strategy of another package goes wherever one of ours goes, by its entry point alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from router import Router, Solution, Strategy, cli, parse_strategy, strategy_names
from router.bundle import Bundle
from router.models.fakes import fake_problems
from router.strategies import registry
from tests.problem_file import problem_file
from tests.service.serving import served

SITE = Path(__file__).parent / "site"
"""What `pip install rebase-like` would put into site-packages."""

FAKE = ("--engine", "fake", "--verifier", "fake")
PROBLEM = "What is 17 + 25 + 38?"


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SITE)
        registry._foreign.cache_clear()
        yield
    registry._foreign.cache_clear()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fitted on a few sums, to nothing but the foreign strategy."""
    directory = tmp_path_factory.mktemp("foreign")
    problems = problem_file(directory / "p.jsonl", fake_problems(12))
    sizes = ("--budgets", "1,4", "--levels", "quantile:2", "--merge-levels")
    out = directory / "bundle"
    run("fit", problems, "--out", out, *sizes, *FAKE, "--strategy", "rebase_like(balance=0.2)")
    return out


def run(*args: Any) -> str:
    """What a command that must work says."""
    done = CliRunner().invoke(cli.main, [*map(str, args)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_object_of_it_is_solved_with() -> None:
    mine: Strategy = import_module("rebase_like").RebaseLike(n=8)
    with Router(engine="fake", verifier="fake") as router:
        solution = router.solve(PROBLEM, 8, strategy=mine)
    assert solution.answer == "80"
    assert solution.decision.strategy is mine
    assert 0 < solution.usage.generations <= 8
    assert Solution.from_dict(json.loads(json.dumps(solution.to_dict()))).answer == "80"


def test_its_name_is_known() -> None:
    assert strategy_names() == [*registry.STRATEGIES, "rebase_like"]
    assert str(parse_strategy("rebase_like", 6)) == "rebase_like(n=6)"
    answer = json.loads(run("solve", "--strategy", "rebase_like(n=8)", PROBLEM, *FAKE, "--json"))
    assert answer["decision"]["parameters"]["balance"] == 0.1
    assert answer["answer"] == "80"


def test_a_table_is_fitted_to_it_shown_and_gone_by(bundle: Path) -> None:
    winner = Bundle.load(bundle).table.best(2, 4).strategy
    assert str(winner) == f"rebase_like(n={winner.n}, balance=0.2)"
    assert "rebase like" in run("table", "show", bundle)
    explained = run("solve", PROBLEM, *FAKE, "--bundle", bundle, "--budget", 4, "--explain")
    assert "Why rebase_like(n=" in explained


def test_it_is_served(bundle: Path) -> None:
    router = Router(engine="fake", verifier="fake", bundle=bundle)
    with served(router=router) as service:
        decided = service.http.post("/v1/route", json={"problem": PROBLEM, "budget": 4}).json()
        assert decided["decision"]["parameters"]["name"] == "rebase_like"
        shown = service.http.get("/v1/table").json()["table"]["cells"][0]["entries"][0]
        assert shown["strategy"].startswith("rebase_like(")
        asked = service.chat(router={"budget": 4, "strategy": "rebase_like(n=4)"}).json()
        assert asked["router"]["decision"]["strategy"] == "rebase_like(n=4)"


def test_it_is_reported(bundle: Path, tmp_path: Path) -> None:
    run("report", bundle, "--out", tmp_path / "page.html")
    assert "rebase like" in (tmp_path / "page.html").read_text()


def test_its_own_tests_run_in_plain_pytest(tmp_path: Path) -> None:
    """Three lines of somebody who has neither our settings nor pytest-asyncio."""
    paths = [str(Path(__file__).parents[2]), str(SITE)]
    code = f"import sys, pytest; sys.path[:0] = {paths}; sys.exit(pytest.main(sys.argv[1:]))"
    plain = ["-p", "no:asyncio", "-p", "no:timeout", "-p", "no:cacheprovider", "-c", "/dev/null"]
    file = SITE / "check_rebase_like.py"
    done = subprocess.run(
        [sys.executable, "-c", code, *plain, f"--rootdir={tmp_path}", str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("other = rebase_like:RebaseLike", "named 'rebase_like' by its class"),
        ("rebase = rebase_like:RebaseLike", "not the first of that name"),
        ("rebase_like = rebase_like:candidates", "no Strategy"),
        ("rebase_like = rebase_like:Missing", "cannot be loaded"),
        ("rebase_like = no_such_module:Mine", "cannot be loaded"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_left_out(
    entry: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[router.strategies]\n{entry}\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._foreign.cache_clear()
    try:
        with caplog.at_level("WARNING", logger="router"):
            assert strategy_names() == [*registry.STRATEGIES, "rebase_like"]
        assert why in caplog.text
        assert str(parse_strategy("rebase(n=2)")) == "rebase(n=2)"
    finally:
        registry._foreign.cache_clear()
