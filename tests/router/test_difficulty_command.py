"""`router difficulty` through the command line, and the estimator inside a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.simulated import simulated_store
from router import cli
from router.bundle import Bundle
from router.difficulty.base import UNOBSERVED
from router.difficulty.text_estimator import TextEstimator
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import MAJORITY, configurations
from router.models.errors import InputError
from router.models.types import Problem
from router.rollouts.store import RolloutStore

BUDGETS = (1, 2)
STRATEGIES = configurations(BUDGETS, [MAJORITY], verifier=True)
EASY, MEDIUM, HARD = (f"Simulated problem 100 of kind {kind}" for kind in range(3))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of a world whose problems say how hard they are."""
    path = tmp_path_factory.mktemp("store") / "r.db"
    simulated_store(path, 120, STRATEGIES)
    with RolloutStore.read(path) as store:
        return fit_bundle(store, FitSettings(BUDGETS, STRATEGIES, levels="absolute", merge=True))


@pytest.fixture(scope="module")
def directory(fitted: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundles") / "bundle"
    fitted.save(directory)
    return directory


def run(*args: str, stdin: str | bytes | None = None) -> Result:
    done = CliRunner().invoke(cli.main, ["difficulty", *args], input=stdin)
    assert "Traceback" not in done.stderr
    return done


def levels(text: str, directory: Path) -> list[float]:
    done = run(text, "--bundle", str(directory), "--json")
    assert done.exit_code == 0, done.stderr
    found: list[float] = json.loads(done.stdout)["levels"]
    return found


def test_levels_are_told_apart(directory: Path) -> None:
    easy, hard = levels(EASY, directory), levels(HARD, directory)
    assert sum(easy) == pytest.approx(1)
    assert easy[0] > 2 * hard[0]
    assert hard[-1] > 2 * easy[-1]


def test_the_bundle_keeps_its_estimator(fitted: Bundle, directory: Path) -> None:
    problem = Problem("1", MEDIUM)
    loaded = Bundle.load(directory)
    assert fitted.estimator is not None
    assert loaded.by_text.levels(problem, UNOBSERVED) == fitted.estimator.levels(problem)
    assert loaded.by_text.levels(problem, UNOBSERVED) != loaded.prior


def test_people_see_bars_reasons_and_time(directory: Path) -> None:
    done = run("-", "--bundle", str(directory), stdin=HARD)
    assert done.exit_code == 0
    assert "level 1" in done.stdout
    assert "hardest" in done.stdout
    assert "smallest_number" in done.stdout
    assert "harder" in done.stdout
    assert " ms" in done.stdout


def test_json_explains_in_full(directory: Path) -> None:
    found = json.loads(run(EASY, "--bundle", str(directory), "--json").stdout)
    assert found["contributions"][0].keys() == {"feature", "value", "effect"}
    assert found["milliseconds"] > 0


def test_a_bundle_without_an_estimator_is_refused(fitted: Bundle, tmp_path: Path) -> None:
    replace(fitted, estimator=None).save(tmp_path / "bundle")
    done = run(EASY, "--bundle", str(tmp_path / "bundle"))
    assert done.exit_code == 2
    assert "no difficulty estimator" in done.stderr
    assert "router fit" in done.stderr


def test_an_estimator_of_other_levels_is_refused(fitted: Bundle, tmp_path: Path) -> None:
    assert fitted.estimator is not None
    texts = [f"What is 1 + {i}?" for i in range(4)]
    other = TextEstimator.fit(texts, np.ones(4, np.int64), np.linspace(0, 1, 4))
    replace(fitted, estimator=other).save(tmp_path / "bundle")
    with pytest.raises(InputError, match="estimates 1 levels, but the bundle has"):
        Bundle.load(tmp_path / "bundle")


def test_changed_trees_are_refused(fitted: Bundle, tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    fitted.save(directory)
    trees = directory / "difficulty" / "estimator.txt"
    trees.write_text(trees.read_text().replace("num_leaves=4", "num_leaves=5", 1))
    done = run(EASY, "--bundle", str(directory))
    assert done.exit_code == 2
    assert "changed since the fit" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["What?", "--bundle", "nowhere"], "nowhere is no bundle"),
        (["  ", "--bundle", "nowhere"], "the problem is empty"),
        (["", "--bundle", "nowhere"], "the problem is empty"),
        (["What?", "--file", "a.txt", "--bundle", "nowhere"], "not both"),
    ],
)
def test_bad_input_is_one_line(args: list[str], message: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""
