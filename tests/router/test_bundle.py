from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.simulated import ORIGIN, SEARCHES, simulated_store, state
from router.bundle import Bundle
from router.choosing import ByTable
from router.cli import main
from router.difficulty.base import UNOBSERVED, Evidence
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations
from router.models.base import GeneratorInfo, VerifierInfo
from router.models.errors import InputError
from router.models.fakes import FakeGenerator, fake_problems
from router.models.types import Problem, Sampling
from router.rollouts.runs import Origin
from router.rollouts.store import RolloutStore
from router.strategies.budget import Budget

BUDGETS = (1, 2, 4, 8)
SETTINGS = FitSettings(BUDGETS, configurations(BUDGETS, SEARCHES, verifier=True), "quantile:3")
PROBLEM = Problem("p", "1 + 1?")
GENERATOR = GeneratorInfo("simulated", "fake", "plain")
VERIFIER = VerifierInfo("simulated", "fake", "last")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "r.db"
    simulated_store(path, 60, SETTINGS.strategies)
    return path


@pytest.fixture(scope="module")
def bundle(store: Path) -> Bundle:
    with RolloutStore.read(store) as rollouts:
        return fit_bundle(rollouts, SETTINGS)


def test_a_bundle_survives_its_directory(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    assert loaded.table == bundle.table
    assert loaded.levels == bundle.levels
    assert loaded.prior == bundle.prior
    assert loaded.origin == bundle.origin == ORIGIN
    manifest = loaded.manifest
    assert manifest["data"]["problems"] == 60
    assert manifest["data"]["samples"] == 60 * 16
    assert manifest["settings"]["budgets"] == [1, 2, 4, 8]
    assert {"table.json", "levels.json"} <= manifest["files"].keys()


def test_a_fit_is_a_pure_function_of_the_rollouts(bundle: Bundle, store: Path) -> None:
    with RolloutStore.read(store) as rollouts:
        again = fit_bundle(rollouts, SETTINGS)
    assert again.table == bundle.table
    created = {"created": None}
    assert again.manifest | created == bundle.manifest | created


def test_a_fit_may_use_some_of_the_problems(store: Path) -> None:
    with RolloutStore.read(store) as rollouts:
        some = rollouts.problems()[::2]
        found = fit_bundle(rollouts, SETTINGS, some)
        assert found.manifest["data"]["problems"] == 30
        with pytest.raises(InputError, match="holds no samples"):
            fit_bundle(rollouts, SETTINGS, fake_problems(30))


def test_a_save_replaces_a_bundle_and_nothing_else(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "b")
    bundle.save(tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="exists and is no bundle"):
        bundle.save(tmp_path / "other")


def test_other_models_are_refused_and_the_way_out_is_named(bundle: Bundle) -> None:
    bundle.check(GENERATOR, VERIFIER)
    bundle.check(replace(GENERATOR, engine="vllm"), VERIFIER)
    bundle.check(replace(GENERATOR, parameters=7), replace(VERIFIER, parameters=7))
    with pytest.raises(InputError, match=r"model was 'simulated' and is now 'other'.*router fit"):
        bundle.check(replace(GENERATOR, model="other"), VERIFIER)
    with pytest.raises(
        InputError, match=r"verifier was 'simulated' and is now 'other'.*router fit"
    ):
        bundle.check(GENERATOR, replace(VERIFIER, name="other"))
    with pytest.raises(InputError, match="there is none; give it with --verifier"):
        bundle.check(GENERATOR, None)


def test_damaged_bundles_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b"
    with pytest.raises(InputError, match="is no bundle"):
        Bundle.load(path)
    bundle.save(path)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 9}))
    with pytest.raises(InputError, match="schema 9, and this version reads 1; refit"):
        Bundle.load(path)
    (path / "manifest.json").write_text('{"schema_version": 1}')
    with pytest.raises(InputError, match="is damaged"):
        Bundle.load(path)
    (path / "manifest.json").write_text(json.dumps(manifest))
    levels = (path / "levels.json").read_text()
    (path / "levels.json").write_text(levels.replace("0.", "0.0", 1))
    with pytest.raises(InputError, match="was changed since the fit"):
        Bundle.load(path)
    (path / "levels.json").unlink()
    with pytest.raises(InputError, match=r"lacks levels\.json"):
        Bundle.load(path)


def test_a_bundle_of_scored_samples_tells_levels_by_a_pilot(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    assert loaded.pilot is not None
    assert loaded.pilot == bundle.pilot
    # Simulated scores are near 2/3 where right and 1/3 where wrong.
    assert loaded.pilot.predict(np.array([0.65, 0.35]), 8).tolist() == [1, 3]


def test_a_bundle_of_stored_states_tells_levels_by_them(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    assert loaded.prefill is not None
    for kind in range(3):
        levels = loaded.prefill.levels(PROBLEM, Evidence(state=np.array(state(kind), np.float32)))
        assert int(np.argmax(levels)) == kind
    file = tmp_path / "b" / "prefill" / "projection.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="was changed since the fit"):
        Bundle.load(tmp_path / "b")


def test_a_table_may_be_edited_by_hand_while_it_makes_sense(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b"
    bundle.save(path)
    record = json.loads((path / "table.json").read_text())
    record["cells"][0]["held_out"] = None
    (path / "table.json").write_text(json.dumps(record))
    assert Bundle.load(path).table.cells[0].held_out is None
    record["cells"][0]["entries"][0]["estimate"]["accuracy"] = 2
    (path / "table.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"table\.json: cells\.0\.entries\.0\.estimate\.accuracy"):
        Bundle.load(path)


def test_the_table_decides_by_the_prior_without_an_estimator(bundle: Bundle) -> None:
    plain = replace(bundle, estimator=None)
    decision = ByTable.of(plain).choose(PROBLEM, UNOBSERVED, Budget(8))
    chosen = plain.table.choose(plain.prior, 8)
    assert replace(decision, why=chosen.why) == chosen
    assert "how common each level is" in decision.why
    assert decision.levels == pytest.approx(plain.prior)
    cheap = ByTable.of(plain, tolerance=1.0).choose(PROBLEM, UNOBSERVED, Budget(8))
    assert cheap.considered[0].cost == 1


# -- the command line -------------------------------------------------------------------------


def _cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _problems(path: Path, count: int = 24, **fields: object) -> Path:
    lines = [
        {"id": p.id, "problem": p.text, "answer": p.answer, **fields} for p in fake_problems(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


FAKE = ("--engine", "fake", "--verifier", "fake", "--budgets", "1,2,4", "--levels", "quantile:2")


def test_fit_prices_samples_and_shows(tmp_path: Path) -> None:
    problems = _problems(tmp_path / "p.jsonl")
    out = tmp_path / "bundle"
    priced = _cli("fit", problems, "--out", out, *FAKE, "--dry-run")
    assert priced.exit_code == 0
    assert "known once something is sampled" in priced.output
    assert not out.exists()
    fitted = _cli("fit", problems, "--out", out, *FAKE)
    assert fitted.exit_code == 0, fitted.output
    assert "fitted 6 cells on 24 problems" in fitted.output
    priced = _cli("fit", problems, "--out", out, *FAKE, "--dry-run", "--allocation", "grid")
    assert "at the pace so far" in priced.output
    for columns in ("40", "80", "120"):  # a narrow terminal loses no budget
        shown = CliRunner(env={"COLUMNS": columns}).invoke(main, ["table", "show", str(out)])
        assert shown.exit_code == 0
        assert max(map(len, shown.output.splitlines())) <= max(80, int(columns))
        rows = [line.split() for line in shown.output.splitlines()]
        assert {"1", "2", "4"} <= {word for row in rows for word in row}
        assert "pass@1" in shown.output
    as_json = json.loads(_cli("table", "show", out, "--json").output)
    assert as_json["budgets"] == [1, 2, 4]
    again = _cli(
        "fit", "--from-rollouts", f"{out}.rollouts.sqlite", "--out", tmp_path / "c", *FAKE[4:]
    )
    assert again.exit_code == 0, again.output
    assert json.loads(_cli("table", "show", tmp_path / "c", "--json").output) == as_json


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--budgets", "4,2"), "budgets must rise"),
        (("--budgets", "0,2"), "at least 1, not 0"),
        (("--budgets", "two"), "whole numbers"),
        (("--levels", "quantile:9"), "needs at least 36 problems"),
        (("--levels", "many"), "quantile:K"),
        (("--strategy", "beem_search"), "did you mean"),
        (("--from-rollouts", "missing.db"), "no rollout store at missing.db"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sampled(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    problems = _problems(tmp_path / "p.jsonl")
    result = _cli("fit", problems, "--out", tmp_path / "b", *FAKE, *arguments)
    assert result.exit_code == 2, result.output
    assert named in result.output
    assert not list(tmp_path.glob("*.sqlite"))


def test_problems_without_gold_answers_are_refused(tmp_path: Path) -> None:
    problems = _problems(tmp_path / "p.jsonl", answer=None)
    result = _cli("fit", problems, "--out", tmp_path / "b", *FAKE)
    assert result.exit_code == 2
    assert "24 of 24 problems" in result.output
    assert "no gold answer" in result.output


def test_problems_that_are_never_solved_are_refused(tmp_path: Path) -> None:
    problems = _problems(tmp_path / "p.jsonl", answer="-1")
    result = _cli("fit", problems, "--out", tmp_path / "b", *FAKE)
    assert result.exit_code == 2
    assert "no sample of all 24 problems is correct" in result.output
    assert "add easier problems" in result.output


def test_a_fit_on_the_store_of_another_model_is_refused(tmp_path: Path, store: Path) -> None:
    problems = _problems(tmp_path / "p.jsonl")
    result = _cli("fit", problems, "--out", tmp_path / "b", *FAKE, "--store", store)
    assert result.exit_code == 2
    assert "model was 'simulated' and is now 'fake'" in result.output


def test_two_fits_on_one_store_at_once_are_refused(tmp_path: Path) -> None:
    problems = _problems(tmp_path / "p.jsonl")
    origin = Origin.of(FakeGenerator().info, Sampling())
    with RolloutStore.create(tmp_path / "r.db", origin):
        result = _cli("fit", problems, "--out", tmp_path / "b", *FAKE, "--store", tmp_path / "r.db")
    assert result.exit_code == 2
    assert "another process is writing" in result.output
