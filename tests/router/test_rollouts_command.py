"""`router rollouts` as a user meets it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from router.cli import main
from router.models.base import GeneratorInfo
from router.models.fakes import fake_problems
from router.models.types import Problem, Sampling
from router.rollouts.runs import Origin
from router.rollouts.store import RolloutStore
from tests.problem_file import problem_file


def rollouts(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["rollouts", *map(str, arguments)])


def test_a_store_travels_through_a_file(tmp_path: Path) -> None:
    store, file, again = (tmp_path / name for name in ("a.sqlite", "a.jsonl.gz", "b.sqlite"))
    origin = Origin.of(GeneratorInfo("tiny", "vllm", "plain"), Sampling())
    with RolloutStore.create(store, origin) as opened:
        opened.add_problems([Problem("p", "1 + 1?", "2")])
    assert rollouts("export", store, file).exit_code == 0
    assert rollouts("import", file, again).exit_code == 0
    with RolloutStore.read(again) as opened:
        assert opened.problems() == [Problem("p", "1 + 1?", "2")]
        assert opened.origin == origin


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    missing = rollouts("export", tmp_path / "none.sqlite", tmp_path / "a.jsonl")
    assert (missing.exit_code, "no rollout store at" in missing.stderr) == (2, True)
    named = rollouts("export", tmp_path / "none.sqlite", tmp_path / "a.csv")
    assert (named.exit_code, "must end in .jsonl" in named.stderr) == (2, True)


def test_solutions_are_sampled_into_a_store_with_their_log_probabilities(tmp_path: Path) -> None:
    problems, store = tmp_path / "problems.jsonl", tmp_path / "s.sqlite"
    problems.write_text('{"id": "p", "problem": "1 + 1", "answer": "2"}\n', encoding="utf-8")
    for wanted in (2, 3):  # the second run goes on from the first
        arguments = ("sample", problems, store, "--samples", wanted, "--engine", "fake")
        result = rollouts(*arguments, "--prompt", "qwen-math")
        assert result.exit_code == 0, result.stderr
        with RolloutStore.read(store) as opened:
            [(_, pool)] = opened.samples()
        assert len(pool) == wanted
    for candidate in pool:
        assert candidate.logprobs is not None
        assert len(candidate.logprobs) == len(candidate.steps)


def test_rollouts_of_one_verifier_serve_a_fit_with_another(tmp_path: Path) -> None:
    problems = problem_file(tmp_path / "p.jsonl", fake_problems(12))
    store, file, again = (tmp_path / name for name in ("a.sqlite", "a.jsonl", "b.sqlite"))
    options = ("--engine", "fake", "--verifier", "fake", "--levels", "quantile:2", "--budgets", 4)
    strategies = ("--strategy", "best_of_n", "--strategy", "best_of_n(temperature=0.3)")

    def fit(out: str, *more: object) -> None:
        arguments = ("fit", problems, "--out", tmp_path / out, *options, *strategies, *more)
        result = CliRunner().invoke(main, [*map(str, arguments)])
        assert result.exit_code == 0, result.stderr

    fit("a", "--store", store, "--strategy", "beam_search")
    assert rollouts("export", store, file, "--unscored").exit_code == 0
    assert rollouts("import", file, again).exit_code == 0
    with RolloutStore.read(store) as before, RolloutStore.read(again) as after:
        assert after.origin == before.origin.unscored
        kept = {run.configuration for run in after.runs()}
        assert {run.configuration for run in before.runs()} - kept == {"beam_search(n=4)"}
        assert all(c.scores is None for run in after.runs() for c in run.candidates)
    fit("b", "--store", again)
    with RolloutStore.read(store) as before, RolloutStore.read(again) as after:
        for configuration in kept:
            [first, second] = [list(s.runs(configuration)) for s in (before, after)]
            assert [run.candidates for run in second] == [run.candidates for run in first]
        assert after.origin == before.origin
