"""`router evaluate` on the fake engine: sampling, replaying, resuming, refusing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router import cli
from router.evaluation.records import Evaluation
from router.fitting.workers import LocalWorker
from router.models.errors import EngineError
from router.models.fakes import FakeGenerator, fake_problems
from router.models.types import Problem
from router.opening import Models, default_sampling
from router.rollouts.runs import Origin
from router.rollouts.store import RolloutStore
from router.verifier.sampling import sample_pools

FAKE = ("--engine", "fake", "--verifier", "fake")
TRAIN, DEV = fake_problems(24), fake_problems(16, seed=1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def evaluated(*arguments: object) -> str:
    done = run("evaluate", *arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def tables(text: str) -> list[str]:
    """The words of an evaluation's two tables."""
    words = text[: text.index("Routed by learned difficulty at")].split()
    return [word for word in words if not word.startswith("─")]


def written(path: Path, problems: list[Problem]) -> Path:
    records = [{"id": p.id, "problem": p.text, "answer": p.answer} for p in problems]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a bundle and two files of problems."""
    home = tmp_path_factory.mktemp("evaluate")
    train = written(home / "train.jsonl", TRAIN)
    written(home / "dev.jsonl", DEV)
    done = run(
        "fit", train, *FAKE, "--out", home / "bundle", "--budgets", "1,4", "--levels", "quantile:2",
        "--strategy", "best_of_n", "--strategy", "beam_search", "--merge-levels",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return home


def test_what_is_missing_is_sampled_once_and_then_replayed(home: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "r.sqlite", tmp_path / "e.json"
    given = (home / "dev.jsonl", *FAKE, "--bundle", home / "bundle", "--store", store)
    # Eight samples for the level, four to vote, one beam search of four.
    price = 16 * (8 + 4 + 4)
    assert f"to sample: {price} generations" in evaluated(*given, "--dry-run")
    assert not store.exists()
    text = " ".join(evaluated(*given, "--out", out).split())
    assert "Routed by learned difficulty at 4" in text
    assert text.endswith(f"{price} sampled now.")
    first = Evaluation.load(out)
    assert first.provenance.rollouts.sampled == price
    names = [curve.name for curve in first.curves]
    assert names[:4] == ["learned", "pilot", "prefill", "oracle"]
    assert {"vote", "best_of_n", "best_of_n(select=majority)", "beam_search"} <= set(names)
    assert "to sample: 0 generations, 0 tokens" in evaluated(*given, "--dry-run")
    for again in (
        given,
        (home / "dev.jsonl", "--bundle", home / "bundle", "--from-rollouts", store),
    ):
        found = Evaluation.from_dict(json.loads(evaluated(*again, "--json")))
        assert found.provenance.rollouts.sampled == 0
        assert found.provenance.rollouts.replayed == price
        same = ("curves", "gains", "equal", "regret", "difficulty")
        assert all(getattr(found, name) == getattr(first, name) for name in same)


def test_a_narrow_terminal_loses_no_column(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = (home / "dev.jsonl", *FAKE, "--bundle", home / "bundle", "--store", home / "r.sqlite")
    monkeypatch.setenv("COLUMNS", "300")
    wide = evaluated(*given)
    monkeypatch.setenv("COLUMNS", "40")
    narrow = evaluated(*given)
    assert "…" not in narrow
    assert sorted(tables(narrow)) == sorted(tables(wide)) != []


def test_other_strategies_are_sampled_only_where_they_are_picked(
    home: Path, tmp_path: Path
) -> None:
    store = tmp_path / "r.sqlite"
    given = (home / "dev.jsonl", *FAKE, "--bundle", home / "bundle", "--store", store)
    evaluated(*given, "--strategy", "best_of_n", "--out", tmp_path / "e.json")
    found = Evaluation.load(tmp_path / "e.json")
    assert "beam_search" not in [curve.name for curve in found.curves]
    picked = {str(s) for p in found.policies for s in found.curve(p).points[-1].choices}
    with RolloutStore.read(store) as rollouts:
        searched = sum(name == "beam_search(n=4)" for _, name in rollouts.counts())
    assert (searched > 0) == ("beam_search(n=4)" in picked)
    assert searched <= len(DEV)


def test_samples_without_scores_get_them(home: Path, tmp_path: Path) -> None:
    store = tmp_path / "r.sqlite"
    generator, sampling = FakeGenerator(), default_sampling(None)

    async def sample() -> None:
        with RolloutStore.create(store, Origin.of(generator.info, sampling)) as rollouts:
            worker = LocalWorker(Models(generator, None), sampling)
            await sample_pools(worker, DEV, 12, rollouts, lambda *_: None)

    asyncio.run(sample())
    given = (home / "dev.jsonl", *FAKE, "--bundle", home / "bundle", "--store", store)
    record = json.loads(evaluated(*given, "--json", "--strategy", "best_of_n"))
    rollouts = record["provenance"]["rollouts"]
    assert record["problems"] == len(DEV)
    assert rollouts["replayed"] == 12 * len(DEV)


def test_an_interrupted_evaluation_goes_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "r.sqlite"
    given = (home / "dev.jsonl", *FAKE, "--bundle", home / "bundle", "--store", store)
    sample, calls = FakeGenerator.sample, 0

    async def failing(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise EngineError("it broke")
        return await sample(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(FakeGenerator, "sample", failing)
        done = run("evaluate", *given, "--in-flight", 2)
        assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, "error: it broke")
    with RolloutStore.read(store) as rollouts:
        kept = sum(run.usage.generations for run in rollouts.runs())
    assert kept > 0
    record = json.loads(evaluated(*given, "--json"))
    rollouts = record["provenance"]["rollouts"]
    assert (rollouts["replayed"], rollouts["sampled"]) == (kept, 16 * 16 - kept)


def test_bad_input_is_refused_before_a_model_is_opened(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeGenerator) -> None:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(FakeGenerator, "__init__", refuse)
    bundle, dev = home / "bundle", home / "dev.jsonl"
    ungraded = written(tmp_path / "ungraded.jsonl", [Problem("a", "1 + 1?", None), *DEV])
    mixed = written(tmp_path / "mixed.jsonl", [*DEV, *TRAIN[:2]])
    (tmp_path / "empty.jsonl").write_text("\n")
    cases: tuple[tuple[tuple[object, ...], str], ...] = (
        ((ungraded, "--bundle", bundle), "1 of 17 problems in"),
        ((tmp_path / "empty.jsonl", "--bundle", bundle), "holds no problem"),
        ((tmp_path / "none.jsonl", "--bundle", bundle), "cannot read"),
        ((dev, "--bundle", tmp_path), "is no bundle"),
        ((dev, "--bundle", bundle, "--budgets", "8"), "was not fitted at budget 8"),
        ((dev, "--bundle", bundle, "--budgets", "x"), "must be whole numbers"),
        ((dev, "--bundle", bundle, "--from-rollouts", tmp_path / "no.db"), "no rollout"),
        ((mixed, "--bundle", bundle), "2 of 18 problems were used to fit"),
        ((home / "train.jsonl", "--bundle", bundle, "--drop-overlap"), "fitted on all 24"),
    )
    for arguments, message in cases:
        done = run("evaluate", *arguments, *FAKE)
        assert done.exit_code == 2, arguments
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_overlap_can_be_left_out(home: Path, tmp_path: Path) -> None:
    mixed = written(tmp_path / "mixed.jsonl", [*DEV, *TRAIN[:2]])
    done = run("evaluate", mixed, *FAKE, "--bundle", home / "bundle", "--drop-overlap", "--dry-run")
    assert "left out 2 problems that the bundle was fitted on" in done.stderr
    assert "to sample: 256 generations" in done.stdout


def test_other_sampling_than_the_bundles_is_refused(home: Path, tmp_path: Path) -> None:
    given = (home / "dev.jsonl", *FAKE, "--bundle", home / "bundle", "--store", tmp_path / "r.db")
    done = run("evaluate", *given, "--temperature", "0.3")
    assert done.exit_code == 2
    assert "temperature was 0.8 and is now 0.3" in done.stderr
