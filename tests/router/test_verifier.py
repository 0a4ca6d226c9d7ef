"""Verifier data and evaluation on made-up solutions, whose figures are known by construction."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from router.fitting.workers import LocalWorker
from router.models.errors import EngineError, InputError
from router.models.fakes import FakeGenerator, fake_problems
from router.models.training.lora import LoraSettings
from router.models.types import Chain, Problem, Sampled, Sampling
from router.models.verifiers.trained_head import Backbone, HeadConfig
from router.opening import Models
from router.rollouts.runs import Origin, StoredCandidate
from router.rollouts.store import RolloutStore
from router.strategies.tasks import get_task
from router.verifier.data import SolutionPool, check_trainable, data_digest
from router.verifier.evaluation import measure
from router.verifier.report import reads, render, save_pictures
from router.verifier.sampling import is_complete, sample_completions, sample_pools
from router.verifier.training import left_out


def candidate(answer: str | None, *scores: float, gold: str = "1") -> StoredCandidate:
    steps = (*(f"step {index}\n\n" for index in range(len(scores) - 1)), f"{answer}")
    return StoredCandidate(steps, "stop", answer, answer == gold, scores=scores)


def pool(identifier: int, *candidates: StoredCandidate) -> SolutionPool:
    return SolutionPool(Problem(str(identifier), f"problem {identifier}", "1"), candidates)


def minority_right(identifier: int, good: float = 0.9, bad: float = 0.2) -> SolutionPool:
    """One right solution among three, outvoted by two equal wrong ones."""
    return pool(
        identifier,
        candidate("1", 0.5, good),
        candidate("2", 0.5, bad),
        candidate("2", 0.5, bad),
    )


# -- evaluation -------------------------------------------------------------------------------


def test_a_perfect_verifier_reaches_the_oracle_and_gains_all_that_majority_loses() -> None:
    report = measure([minority_right(index) for index in range(10)])
    assert report.auc["last"].value == report.within["last"].value == 1.0
    assert report.sizes == (1, 2, 3)
    weighted, majority = report.curve("weighted", "last"), report.curve("majority")
    assert report.curve("oracle").accuracy[-1].value == 1.0
    assert (weighted.accuracy[-1].value, majority.accuracy[-1].value) == (1.0, 0.0)
    assert weighted.gain[-1].low == 1.0
    assert report.best_aggregation == "last"


def test_one_sample_is_pass_at_1_whatever_selects() -> None:
    report = measure([minority_right(index) for index in range(10)])
    for curve in report.curves:
        assert curve.accuracy[0].value == pytest.approx(1 / 3)
        assert curve.gain[0].value == pytest.approx(0.0)


def test_majority_breaks_ties_at_random_so_two_samples_are_no_worse_than_one() -> None:
    pools = [pool(i, candidate("1", 0.5), candidate("-7", 0.5)) for i in range(200)]
    assert measure(pools).curve("majority").accuracy[1].value == pytest.approx(0.5, abs=0.03)


def test_scores_that_are_wrong_lose_and_the_interval_says_so() -> None:
    pools = [
        pool(i, candidate("1", 0.1), candidate("1", 0.1), candidate("2", 0.9)) for i in range(10)
    ]
    report = measure(pools)
    assert report.within["last"].value == 0.0
    assert report.curve("weighted", "last").gain[-1].high == -1.0


def test_intervals_widen_where_problems_disagree() -> None:
    mixed = [minority_right(i) if i % 2 else minority_right(i, 0.1, 0.3) for i in range(20)]
    gain = measure(mixed).curve("weighted", "last").gain[-1]
    assert gain.value == pytest.approx(0.5)
    assert gain.low < 0.4 < 0.6 < gain.high


def test_positions_are_told_apart() -> None:
    """Scores that know the outcome at the last step only."""
    pools = [
        pool(
            i,
            candidate("1", 0.5, 0.5, 0.5, 0.5, 0.9),
            candidate("2", 0.5, 0.5, 0.5, 0.5, 0.1),
        )
        for i in range(10)
    ]
    report = measure(pools)
    assert [figure.value for figure in report.by_position] == [0.5, 0.5, 0.5, 0.5, 1.0]


def test_solutions_without_an_answer_never_win() -> None:
    pools = [pool(i, candidate(None, 0.99), candidate("1", 0.1)) for i in range(4)]
    assert measure(pools).curve("weighted", "last").accuracy[-1].value == 1.0


def test_nothing_to_tell_apart_is_refused() -> None:
    with pytest.raises(InputError, match="2 problems of which 0 have both"):
        measure([pool(0, candidate("1", 0.5)), pool(1, candidate("2", 0.5))])


def test_the_page_stands_alone_and_pictures_are_written(tmp_path: Path) -> None:
    report = measure([minority_right(index) for index in range(10)])
    config = HeadConfig("toy <1>", "self", 3, "plain", "last", Backbone("toy", "abc", 8))
    page = render(report, config.name, reads(config))
    assert "toy &lt;1&gt;" in page
    assert "100.0%" in page
    assert page.count("<svg") == 8  # four pictures, wide and narrow
    assert "http" not in page.replace("http-equiv", "")
    assert render(report, config.name, reads(config)) == page
    assert [file.stat().st_size > 5000 for file in save_pictures(report, tmp_path)] == [True] * 4


# -- data -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pools", "says"),
    [
        ([minority_right(0)], "at least two"),
        ([pool(0, candidate(None, 0.5)), pool(1, candidate(None, 0.5))], "--max-tokens"),
        ([pool(0, candidate("1", 0.5)), pool(1, candidate("2", 0.5))], "1 have only right ones"),
    ],
)
def test_rollouts_that_teach_nothing_are_refused(pools: list[SolutionPool], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_trainable(pools)


def test_labels_come_from_samples_and_completions_of_the_same_prefix() -> None:
    own = pool(0, candidate("1", 0.5, 0.5), candidate("2", 0.5, 0.5))
    assert own.labels() == [(0.5, 1.0), (0.5, 0.0)]
    more = SolutionPool(own.problem, own.candidates, ((candidate("1", 0.5, 0.5), 1),))
    assert more.labels()[0][0] == pytest.approx(2 / 3)


def test_of_solutions_that_end_alike_one_is_read() -> None:
    mixed, alike = minority_right(0), pool(1, candidate("2", 0.5), candidate("2", 0.5))
    assert mixed.worth_reading is mixed
    assert alike.worth_reading.candidates == alike.candidates[:1]
    completed = replace(alike, completions=((candidate("1", 0.5, 0.5), 1),))
    assert completed.worth_reading is completed


def test_a_digest_names_the_data_in_any_order() -> None:
    pools = [minority_right(0), minority_right(1)]
    assert data_digest(pools) == data_digest(pools[::-1])
    assert data_digest(pools) != data_digest([minority_right(0), minority_right(2)])


@pytest.mark.parametrize(
    ("answers", "suspect"),
    [
        (["2", "2", "2", "2"], True),
        (["2", "2.0", "\\frac{4}{2}", "2", "2", "2", "3", None], True),
        (["2", "2", "2", "2", "2", "2", "3", "1"], False),  # one is right
        (["2", "2", "2", "2", "2", "3", "3", None], False),  # too few agree
        (["2", "2", "2"], False),  # too few
        ([None, None, None, None], False),
        (["1", "1", "1", "1"], False),
    ],
)
def test_a_gold_answer_that_solutions_agree_against_is_suspect(
    answers: list[str | None], suspect: bool
) -> None:
    assert pool(0, *(candidate(answer, 0.5) for answer in answers)).suspect is suspect


@pytest.mark.parametrize("mixed", [0, 3, 19])
def test_what_fine_tuning_leaves_out_can_be_measured(mixed: int) -> None:
    pools = [pool(i, candidate("1", 0.5), candidate("1", 0.6)) for i in range(20)]
    pools[mixed] = minority_right(mixed)
    out = left_out(pools, LoraSettings(rank=1))
    assert mixed in out or any(pools[index].mixed for index in out)
    assert 2 <= len(out) <= 3
    measure([pools[index] for index in out])


# -- sampling ---------------------------------------------------------------------------------


def worker_of(generator: FakeGenerator, sampling: Sampling = Sampling()) -> LocalWorker:
    return LocalWorker(Models(generator, None), sampling)


async def test_a_store_is_complete_when_no_model_is_needed_any_more(tmp_path: Path) -> None:
    generator, file = FakeGenerator(), tmp_path / "rollouts.sqlite"
    problems, sampling = fake_problems(3), Sampling(max_tokens=200)
    origin = Origin.of(generator.info, sampling)
    worker = worker_of(generator, sampling)
    assert not is_complete(file, origin, problems, 2, 0)
    with RolloutStore.create(file, origin) as store:
        await sample_pools(worker, problems, 2, store, lambda *_: None)
        assert is_complete(file, origin, problems, 2, 0)
        assert not is_complete(file, origin, problems, 2, 1)
        await sample_completions(worker, problems, 1, store, lambda *_: None)
        whole = {p.id: [c.chain(p).steps for c in pool] for p, pool in store.samples()}
        completions = [r for r in store.runs() if r.configuration.startswith("completions(")]
    assert len(completions) == sum(len(steps) - 1 for pool in whole.values() for steps in pool)
    for run in completions:
        index, depth = map(int, re.findall(r"\d+", run.configuration))
        (completed,) = run.candidates
        begun = tuple(step.text for step in whole[run.problem][index][:depth])
        assert completed.steps[:depth] == begun
        assert run.usage.generations == 1
    assert is_complete(file, origin, problems, 2, 1)
    assert is_complete(file, origin, problems[1:], 1, 1)
    assert not is_complete(file, origin, problems, 3, 0)
    assert not is_complete(file, origin, fake_problems(4), 2, 0)
    assert not is_complete(file, origin, [replace(problems[0], answer="0")], 2, 0)
    hotter = Origin.of(generator.info, replace(sampling, temperature=1.0))
    assert not is_complete(file, hotter, problems, 2, 0)


async def test_what_a_task_asks_for_is_said_and_what_it_reads_is_graded(tmp_path: Path) -> None:
    asked: list[Problem] = []

    class Listening(FakeGenerator):
        async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
            asked.append(path.problem)
            return await super().sample(path, n, sampling)

    generator, sampling = Listening(), Sampling(max_tokens=200)
    problems = [replace(problem, task="text") for problem in fake_problems(2)]
    origin = Origin.of(generator.info, sampling)
    with RolloutStore.create(tmp_path / "r.sqlite", origin) as store:
        worker = worker_of(generator, sampling)
        await sample_pools(worker, problems, 2, store, lambda *_: None)
        await sample_completions(worker, problems, 1, store, lambda *_: None)
        pools = list(store.samples())
    assert {problem.ask for problem in asked} == {get_task("text").ask}
    assert [problem for problem, _ in pools] == problems
    right = [c for problem, pool in pools for c in pool if c.answer == problem.answer]
    assert right
    assert all(candidate.correct for candidate in right)


async def test_sampling_reports_its_progress_and_resumes(tmp_path: Path) -> None:
    problems, seen = fake_problems(20), []
    origin = Origin.of(FakeGenerator().info, Sampling())
    with RolloutStore.create(tmp_path / "r.sqlite", origin) as store:
        broken = worker_of(FakeGenerator(fail_after=3))
        with pytest.raises(EngineError):
            await sample_pools(broken, problems, 2, store, lambda *_: None)
        kept = {problem.id for problem, _ in store.samples()}
        again = worker_of(FakeGenerator())
        await sample_pools(again, problems, 2, store, lambda *row: seen.append(row))
        assert all(len(pool) == 2 for _, pool in store.samples())
    assert seen[-1] == ("sampling solutions", 20 - len(kept), 20 - len(kept))
