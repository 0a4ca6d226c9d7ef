"""`router fit` through the command line, on fakes: price, result, and every kind of bad input."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router import cli
from router.bundle import Bundle
from router.commands.sampling import sampling_progress
from router.models.fakes import FakeGenerator, FakeVerifier, fake_problems
from router.models.types import Sampling
from router.opening import default_sampling
from router.rollouts.export import export_store
from router.rollouts.runs import Origin
from router.rollouts.store import RolloutStore
from tests.problem_file import problem_file

FAKE = ("--engine", "fake", "--verifier", "fake")
SMALL = ("--budgets", "1,2,4", "--levels", "quantile:2", "--merge-levels")
ORIGIN = Origin.of(FakeGenerator().info, Sampling(), FakeVerifier().info)


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return problem_file(tmp_path / "p.jsonl", fake_problems(12))


def run(*args: Any) -> Result:
    done = CliRunner().invoke(cli.main, ["fit", *map(str, args)])
    assert "Traceback" not in done.stderr
    return done


def fitted(*args: Any) -> dict[str, Any]:
    """Run what must work; its JSON."""
    done = run(*args, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def refused(*args: Any) -> str:
    """Run what must be refused as bad input; its message."""
    done = run(*args)
    assert done.exit_code == 2
    assert done.stdout == ""
    return done.stderr


def test_no_fit_without_a_verifier_takes_rollouts_that_one_has_scored(
    problems: Path, tmp_path: Path
) -> None:
    bundle, store = tmp_path / "b", tmp_path / "s.sqlite"
    out = ("--out", bundle, *SMALL, "--allocation", "grid")
    fitted(problems, *out, "--store", store, *FAKE)
    written = (bundle / "manifest.json").read_bytes()
    none = ("--engine", "fake", "--verifier", "none")
    only = ("--strategy", "best_of_n(select=majority)")
    for source in (("--store", store), ("--from-rollouts", store)):
        for more in ((), only):
            said = refused(problems, *out, *none, *source, *more)
            assert "scored by verifier 'fake'" in said
            assert "--store" in said
    assert (bundle / "manifest.json").read_bytes() == written
    fitted(problems, *out, *none, "--store", tmp_path / "other.sqlite")
    assert json.loads((bundle / "manifest.json").read_text())["origin"]["verifier"] is None


def test_what_is_fitted_at_a_temperature_is_used_at_it(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "b"
    at, only = ("--temperature", 0.5, "--max-tokens", 200), ("--strategy", "best_of_n(n=1)")
    fitted(problems, "--out", bundle, "--budgets", 1, *SMALL[2:], *FAKE, *only, *at)
    sample, used = FakeGenerator.sample, set()

    async def recording(self: FakeGenerator, path: Any, n: int, sampling: Sampling) -> Any:
        used.add((sampling.temperature, sampling.max_tokens))
        return await sample(self, path, n, sampling)

    monkeypatch.setattr(FakeGenerator, "sample", recording)

    def solved(*options: Any) -> dict[str, Any]:
        command = ["solve", "1 + 2", *FAKE, "--bundle", bundle, "-n", 1, "--json", *options]
        done = CliRunner().invoke(cli.main, [*map(str, command)])
        return json.loads(done.stdout)["decision"]

    assert solved()["expected_accuracy"] is not None
    assert used == {(0.5, 200)}
    used.clear()
    decision = solved("--temperature", 0.8)
    assert used == {(0.8, 200)}
    assert decision["expected_accuracy"] is None
    assert "temperature 0.8, not 0.5" in decision["why"]


# -- the price ------------------------------------------------------------------------------------


def test_a_dry_run_says_what_is_unknown_and_leaves_nothing(problems: Path, tmp_path: Path) -> None:
    done = run(problems, *SMALL, *FAKE, "--dry-run", "--max-tokens", "100")
    # 8 + 4 samples, 4 colder ones, a greedy one, one beam of 4; 12 problems.
    assert "at most 252 generations" in done.stdout
    assert "at most 25,200 tokens" in done.stdout
    price = fitted(problems, *SMALL, *FAKE, "--dry-run")
    assert price == {
        "generations": 252,
        "tokens": None,
        "hours": None,
        "others": {},
        "at_most": True,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["p.jsonl"]


def test_what_was_sampled_sets_the_price_of_the_rest(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    assert fitted(problems, "--out", out, *SMALL, *FAKE, "--max-generations", 30) == {
        "bundle": None
    }
    assert not out.exists()
    price = fitted(problems, "--out", out, *SMALL, *FAKE, "--allocation", "grid", "--dry-run")
    assert price["generations"] == 252 - 24  # the pools of two problems
    assert price["tokens"] > price["generations"]
    assert price["hours"] > 0
    assert not price["at_most"]


def test_a_fit_saves_its_bundle_and_a_second_one_samples_nothing(
    problems: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    result = fitted(problems, "--out", out, *SMALL, *FAKE, "--allocation", "grid")
    assert result == {"bundle": str(out), "cells": 6, "problems": 12, "samples": 144}
    price = fitted(problems, "--out", out, *SMALL, *FAKE, "--allocation", "grid", "--dry-run")
    assert price["generations"] == 0


# -- rollouts that are there ----------------------------------------------------------------------


def test_a_store_and_its_export_give_the_same_table(problems: Path, tmp_path: Path) -> None:
    fitted(problems, "--out", tmp_path / "first", *SMALL, *FAKE)
    path = tmp_path / "first.rollouts.sqlite"
    with RolloutStore.read(path) as store:
        export_store(store, tmp_path / "rollouts.jsonl.gz")
    tables = []
    for name in (path, tmp_path / "rollouts.jsonl.gz"):
        out = tmp_path / f"from-{name.name}"
        fitted("--from-rollouts", name, "--out", out, *SMALL)
        tables.append(Bundle.load(out).table)
    assert tables[0] == tables[1] == Bundle.load(tmp_path / "first").table


def test_without_a_verifier_the_defaults_that_need_none_are_fitted(
    problems: Path, tmp_path: Path
) -> None:
    fitted(problems, "--out", tmp_path / "b", *SMALL, "--engine", "fake", "--verifier", "none")
    strategies = Bundle.load(tmp_path / "b").manifest["settings"]["strategies"]
    votes = [f"best_of_n(n={n}, select=majority)" for n in (1, 2, 4)]
    colder = [vote.replace(")", ", temperature=0.3)") for vote in votes]
    anytime = [
        f'best_of_n(n={n}, select=majority, temperatures="0:1, 0.3:3"{rule})'
        for rule in ("", ", worth=0.03", ", worth=0.05", ", worth=0.1")
        for n in (2, 4)
    ]
    greedy = "best_of_n(n=1, select=majority, temperature=0)"
    assert strategies == [*votes, greedy, *colder, *anytime]


def test_rollouts_of_no_such_strategy_are_named(problems: Path, tmp_path: Path) -> None:
    plain = ("--engine", "fake", "--verifier", "none")
    fitted(problems, "--out", tmp_path / "first", *SMALL, *plain)
    path = tmp_path / "first.rollouts.sqlite"
    message = refused("--from-rollouts", path, "--out", tmp_path / "b", "--strategy", "dvts")
    assert "dvts needs a verifier and there is none" in message
    assert "no rollout store at" in refused("--from-rollouts", tmp_path / "no", "--out", "b")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "other"}, "model was 'other' and is now 'fake'"),
        ({"prompt": "llama-eval"}, "prompt was 'llama-eval' and is now 'plain'"),
        ({"prompt_digest": "0"}, "prompt_digest was '0'"),
        ({"temperature": 0.1}, "temperature was 0.1 and is now 0.8"),
        ({"verifier": "other"}, "verifier was 'other' and is now 'fake'"),
    ],
)
def test_a_store_of_other_origin_is_refused(
    change: dict[str, Any], named: str, problems: Path, tmp_path: Path
) -> None:
    # A fit with the fake engine samples the embedded model's length.
    origin = replace(ORIGIN, max_tokens=default_sampling(None).max_tokens, **change)
    RolloutStore.create(tmp_path / "r.db", origin).close()
    message = refused(problems, "--out", "b", "--store", tmp_path / "r.db", *SMALL, *FAKE)
    assert named in message
    assert "give another store" in message


def test_a_store_of_another_schema_or_none_at_all_is_refused(
    problems: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.db"
    RolloutStore.create(old, ORIGIN).close()
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    connection.close()
    options = (*SMALL, *FAKE, "--out", tmp_path / "b")
    assert "has schema 99, and this version reads 1" in refused(problems, "--store", old, *options)
    assert "has schema 99" in refused("--from-rollouts", old, *options)
    message = refused(problems, "--store", problems, *options)
    assert "cannot be opened as a rollout store" in message


def test_two_fits_on_one_store_at_once_are_refused(problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    fitted(problems, "--out", out, *SMALL, *FAKE, "--max-generations", 30)
    path = tmp_path / "bundle.rollouts.sqlite"
    with RolloutStore.read(path) as store:
        origin = store.origin
    with RolloutStore.create(path, origin):
        message = refused(problems, "--out", out, *SMALL, *FAKE)
        assert f"another process is writing {path}" in message
        # Its price may be asked meanwhile.
        assert fitted(problems, "--out", out, *SMALL, *FAKE, "--dry-run")["generations"]
    assert fitted(problems, "--out", out, *SMALL, *FAKE)["problems"] == 12


def test_a_problem_that_changed_is_refused(problems: Path, tmp_path: Path) -> None:
    fitted(problems, "--out", tmp_path / "bundle", *SMALL, *FAKE)
    changed = [replace(p, answer="0") for p in fake_problems(12)]
    problem_file(problems, changed)
    message = refused(problems, "--out", tmp_path / "bundle", *SMALL, *FAKE)
    assert "problem 'fake/0/0' is in" in message
    assert "with another text or answer" in message


# -- problems -------------------------------------------------------------------------------------


def test_problems_without_gold_answers_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"id": "a", "problem": "1 + 1?"}\n{"id": "b", "problem": "?", "answer": 2}\n')
    message = refused(file, "--out", tmp_path / "b", *FAKE)
    assert "1 of 2 problems" in message
    assert "no gold answer (first: 'a', line 1)" in message


def test_a_gold_answer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"problem": "1 + 1?", "answer": "1 + 1 = 2.\\n#### 2"}\n'
        '{"problem": "?", "answer": "He buys some.\\nHe sells some."}\n'
    )
    message = refused(file, "--out", tmp_path / "b", *FAKE)
    assert "no answer can be read in the gold answer of problem '2'" in message


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"id": "a", "problem": "1 + 1?", "answer": 2}\n{"id": "b"\n')
    assert "line 2: it is not JSON" in refused(file, "--out", tmp_path / "b", *FAKE)
    assert "cannot read" in refused(tmp_path / "none.jsonl", "--out", tmp_path / "b", *FAKE)


def test_too_few_problems_are_refused_before_anything_is_sampled(
    problems: Path, tmp_path: Path
) -> None:
    message = refused(problems, "--out", tmp_path / "b", *FAKE, "--levels", "quantile:5")
    assert "needs at least 20 problems (4 a level), and there are 12" in message
    assert "--merge-levels" in message
    assert [file.name for file in tmp_path.iterdir()] == ["p.jsonl"]
    merged = ("--levels", "quantile:5", "--merge-levels")
    fitted(problems, "--out", tmp_path / "b", "--budgets", "1,2", *FAKE, *merged)
    assert Bundle.load(tmp_path / "b").levels.count <= 3


@pytest.mark.parametrize(
    ("temperature", "gold", "named"),
    [(0, None, "every sample of all 12"), (0.8, "-1", "no sample of all 12")],
)
def test_problems_that_are_all_solved_or_none_have_no_levels(
    temperature: float, gold: str | None, named: str, tmp_path: Path
) -> None:
    known = [replace(p, answer=gold or p.answer) for p in fake_problems(12)]
    file = problem_file(tmp_path / "p.jsonl", known)
    options = (*SMALL, *FAKE, "--temperature", temperature)
    message = refused(file, "--out", tmp_path / "b", *options)
    assert named in message
    assert "there is no difficulty to tell apart" in message
    assert not (tmp_path / "b").exists()


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--budgets", "2,1"), "budgets must rise, without repeats, not 2,1"),
        (("--budgets", "1,2,2"), "budgets must rise, without repeats, not 1,2,2"),
        (("--budgets", "0,1"), "at least 1, not 0"),
        (("--budgets", "1,two"), "not '1,two'"),
        (("--budgets", ""), "not ''"),
        (("--levels", "quantile:0"), "not 'quantile:0'"),
        (("--levels", "thirds"), "not 'thirds'"),
        (("--strategy", "beam_serch"), "did you mean 'beam_search'"),
        (("--strategy", "beam_search(n=64)"), "costs more than 16"),
        (("--strategy", "best_of_n(n=4)"), "no strategy costs at most 1, the first of the budgets"),
        (("--workers", "2"), "--workers is for --ray"),
        (
            ("--budgets", "4", "--strategy", "dvts", "--level-samples", "0"),
            "no whole sample would tell how hard",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: tuple[str, ...], named: str, problems: Path, tmp_path: Path
) -> None:
    sane = ("--out", tmp_path / "b", "--levels", "quantile:2", *FAKE)
    assert named in refused(problems, *sane, *options)
    assert not list(tmp_path.glob("*.sqlite"))


def test_ray_that_is_not_installed_is_named(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    message = refused(problems, "--out", tmp_path / "b", *SMALL, *FAKE, "--ray", "local")
    assert "pip install 'compute-optimal-router[ray]'" in message


def test_a_log_that_has_ended_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    with sampling_progress(4) as tick:
        tick(4)
        tick(0)  # a prompt was read
    assert capsys.readouterr().err.count("4 of 4 generations") == 1


def test_a_log_gets_a_line_now_and_then(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (problems, "--out", tmp_path / "b", *SMALL, *FAKE, "--allocation", "grid")
    log = run(*options, "--max-generations", 48).stderr
    assert "48 of 48 generations, 0 minutes left" in log
    assert "24 of 48 generations" not in log
    monkeypatch.setattr("router.commands.sampling.LOG_SECONDS", 0.0)
    log = run(*options).stderr
    # The pools of ten problems, and the searches of each kind on each of twelve.
    assert log.count(" of 204 generations") == 10 + 12 * 3
