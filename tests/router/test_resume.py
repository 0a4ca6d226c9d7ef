"""`router solve --resume`: goes on with the same settings and problems, and with nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.simulated import SEARCHES, simulated_store
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations
from router.models.fakes import FakeGenerator, fake_problems
from router.rollouts.store import RolloutStore
from tests.problem_file import problem_file
from tests.router.test_solve_command import FAKE, jsonl, refused, run, use

BUNDLE = "BUNDLE"
"""Stands for a bundle's directory, which a test knows only when it runs."""

BUDGETS = (1, 2, 4, 8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("resume")
    settings = FitSettings(BUDGETS, configurations(BUDGETS, SEARCHES, verifier=True), "quantile:3")
    simulated_store(home / "r.db", 60, settings.strategies)
    with RolloutStore.read(home / "r.db") as store:
        fit_bundle(store, settings).save(home / "bundle")
    return home / "bundle"


def started(tmp_path: Path, *options: str, problems: int = 3) -> tuple[str, ...]:
    """A batch of which all but the last problem are solved; the options that go on with it."""
    file, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    some = fake_problems(problems)
    args = ("--file", str(file), "--out", str(out), *FAKE, "--budget", "2", *options)
    problem_file(file, some[:-1])
    assert run(*args).exit_code == 0
    problem_file(file, some)
    return (*args, "--resume")


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        ("", "--budget 4", "budget was 2 and is now 4"),
        ("", "--strategy best_of_n(select=majority)", "strategy was 'auto' and is now 'best_of"),
        ("", "--temperature 0.2", "temperature was 0.8 and is now 0.2"),
        ("", "--top-p 0.5", "top_p was 1.0 and is now 0.5"),
        ("", "--max-tokens 99", "max_tokens was 512 and is now 99"),
        ("", "--model other/model", "model was 'Qwen2.5-Coder-0.5B-Instruct' and is now 'other/"),
        ("", "--prompt plain", "prompt was 'qwen-math@"),
        ("", "--engine-arg dtype=half", "engine_args was {} and is now {'dtype': 'half'}"),
        ("", "--verifier-arg dtype=half", "verifier_args was {} and is now {'dtype': 'half'}"),
        ("", "--verifier fake", "verifier was None and is now 'fake'"),
        ("--verifier fake", "--verifier none", "verifier was 'fake' and is now None"),
        ("--bundle none", f"--bundle {BUNDLE} --verifier fake", "bundle was None and is now '"),
        (
            f"--bundle {BUNDLE} --verifier fake",
            f"--bundle {BUNDLE} --verifier fake --tolerance 0.1",
            "tolerance was 0.0 and is now 0.1",
        ),
        (
            f"--bundle {BUNDLE} --verifier fake",
            f"--bundle {BUNDLE} --verifier fake --difficulty pilot",
            "difficulty was 'text' and is now 'pilot'",
        ),
        ("", "--seed 1", "seed was 0 and is now 1"),
        ("", "--token-cap 900", "token_cap was None and is now 900"),
        ("", "--deadline 60", "deadline was None and is now 60.0"),
        ("--deadline 60", "--deadline 60 --in-flight 2", "in_flight was 32 and is now 2"),
        ("", "--budget 4 --seed 1", "seed was 0 and is now 1; budget was 2 and is now 4"),
    ],
)
def test_resume_with_other_settings_is_refused_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bundle: Path,
    was: str,
    now: str,
    message: str,
) -> None:
    monkeypatch.setattr("router.bundle.Bundle.check", lambda *_: None)
    go_on = started(tmp_path, *was.replace(BUNDLE, str(bundle)).split())
    before = (tmp_path / "out.jsonl").read_bytes()
    error = refused(*go_on, *now.replace(BUNDLE, str(bundle)).split())
    assert "out.jsonl was made with other settings: " in error
    assert message in error
    assert "take another --out" in error
    assert error.count("\n") == 1
    assert (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("harmless", ["--in-flight 2", "--endpoint-key secret", "--tolerance 0"])
def test_resume_with_what_changes_no_solution_goes_on(tmp_path: Path, harmless: str) -> None:
    go_on = started(tmp_path)
    done = run(*go_on, *harmless.split())
    assert done.exit_code == 0
    assert "3 problems solved" in done.stderr
    assert "secret" not in (tmp_path / "out.jsonl").read_text()


def test_resume_on_another_model_behind_the_same_options_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(FakeGenerator):
        def __init__(self) -> None:
            super().__init__(context=99)
            self._info = replace(self.info, model="other")

    go_on = started(tmp_path)
    use(monkeypatch, Other())
    before = (tmp_path / "out.jsonl").read_bytes()
    error = run(*go_on)
    assert error.exit_code == 2
    assert "served_model was 'fake' and is now 'other'" in error.stderr
    assert "context was 16384 and is now 99" in error.stderr
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_weights_that_were_changed_in_place_are_other_weights(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save = {"model.layers.0.weight": torch.zeros(2, 2)}
    save_file(save, tmp_path / "model" / "model.safetensors")
    go_on = started(tmp_path, "--model", str(tmp_path / "model"))
    save_file({"model.layers.0.weight": torch.ones(2, 2)}, tmp_path / "model/model.safetensors")
    assert "model was 'model@" in refused(*go_on)


@pytest.mark.parametrize("changed", [{"problem": "What is 1 + 1?"}, {"answer": "7"}])
def test_problem_that_changed_under_its_id_is_refused_by_name(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    go_on = started(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    jsonl(tmp_path / "p.jsonl", records[0], records[1] | changed, records[2])
    before = (tmp_path / "out.jsonl").read_bytes()
    assert f"problem {records[1]['id']!r} has another text or gold answer" in refused(*go_on)
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_solutions_of_an_earlier_version_are_not_gone_on_with(tmp_path: Path) -> None:
    go_on = started(tmp_path)
    out = tmp_path / "out.jsonl"
    records = [json.loads(line) for line in out.read_text().splitlines()]
    for record in records:
        del record["settings"], record["settings_digest"], record["problem_digest"]
    jsonl(out, *records)
    assert "line 1 does not say which settings and problem it was made from" in refused(*go_on)


def test_every_line_says_what_made_it(tmp_path: Path) -> None:
    started(tmp_path)
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {record["settings"]["budget"] for record in records} == {2}
    assert len({record["settings_digest"] for record in records}) == 1
    assert len({record["problem_digest"] for record in records}) == 2


def test_trace_goes_on_with_its_solutions(tmp_path: Path) -> None:
    trace, out = tmp_path / "trace.jsonl", tmp_path / "out.jsonl"
    go_on = started(tmp_path, "--trace", str(trace), problems=5)
    # As if killed between a trace and its solution, and while it wrote the next trace.
    out.write_text("".join(out.read_text().splitlines(keepends=True)[:2]))
    lines = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join(lines[:3]) + lines[3][:50])
    assert run(*go_on).exit_code == 0
    assert ids(trace) == ids(out)
    assert len(ids(trace)) == 5


def test_solutions_without_a_trace_are_told(tmp_path: Path) -> None:
    go_on = started(tmp_path)
    done = run(*go_on, "--trace", str(tmp_path / "trace.jsonl"))
    assert done.exit_code == 0
    assert "2 of the earlier solutions have no trace" in done.stderr
    assert ids(tmp_path / "trace.jsonl") == ids(tmp_path / "out.jsonl")[2:]


def ids(file: Path) -> list[str]:
    return [json.loads(line)["problem_id"] for line in file.read_text().splitlines()]
