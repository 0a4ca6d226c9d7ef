"""Labels, metrics and head training on data made for the purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from router.models.training.head import Examples, HeadSettings, train_head
from router.models.training.labels import Graded, step_labels
from router.models.training.lora import PROJECTIONS, Labelled, LoraSettings, tune
from router.models.training.mean_head import train_mean_head
from router.models.training.metrics import auc, auc_within, expected_calibration_error, reliability
from router.models.types import Chain, Problem, Step
from router.models.verifiers.prm import Encoded
from router.models.verifiers.reward_heads import RewardHead

PROBLEM = Problem("p", "What is 2 + 2?", "4")
OTHER = Problem("q", "What is 2 + 2?", "4")
FAST = HeadSettings(folds=4, learning_rate=3e-3, weight_decay=0.01, batch=32)


def solution(*texts: str, problem: Problem = PROBLEM) -> Chain:
    steps = [Step(text, "step") for text in texts[:-1]] + [Step(texts[-1], "stop")]
    return Chain(problem).extend(*steps)


# -- labels -----------------------------------------------------------------------------------


def test_a_step_gets_the_share_of_right_solutions_that_run_through_it() -> None:
    labels = step_labels(
        [
            Graded(solution("a", "b"), correct=True),
            Graded(solution("a", "c"), correct=False),
            Graded(solution("a", "b"), correct=False),
        ]
    )
    assert labels == [(1 / 3, 0.5), (1 / 3, 0.0), (1 / 3, 0.5)]


def test_the_same_step_after_another_prefix_or_in_another_problem_is_another_step() -> None:
    labels = step_labels(
        [
            Graded(solution("a", "x"), correct=True),
            Graded(solution("b", "x"), correct=False),
            Graded(solution("a", "x", problem=OTHER), correct=False),
        ]
    )
    assert labels == [(1.0, 1.0), (0.0, 0.0), (0.0, 0.0)]


def test_a_completion_counts_from_the_prefix_it_started_from_and_gets_no_label_itself() -> None:
    labels = step_labels(
        [
            Graded(solution("a", "b", "c"), correct=False),
            Graded(solution("a", "b", "d"), correct=True, start=2),
            Graded(solution("a", "b", "e"), correct=True, start=2),
        ]
    )
    assert labels == [(0.0, 2 / 3, 0.0)]


# -- metrics ----------------------------------------------------------------------------------


def test_auc_equals_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.3
    scores = np.round(rng.random(200) + 0.3 * right, 1)
    assert auc(scores, right) == pytest.approx(roc_auc_score(right, scores))


def test_auc_of_one_kind_only_is_unknown() -> None:
    assert np.isnan(auc([0.1, 0.9], [True, True]))


def test_auc_within_gives_no_credit_for_telling_problems_apart() -> None:
    scores = [0.9, 0.8, 0.2, 0.1]
    right = [False, True, False, True]
    groups = ["easy", "easy", "hard", "hard"]
    assert auc(scores, right) == 0.25
    assert auc_within(scores, right, groups) == 0.0
    assert auc_within([*scores, 0.5], [*right, True], [*groups, "all right"]) == 0.0


def test_calibration_error_of_scores_that_are_the_truth_and_of_ones_that_are_not() -> None:
    right = [1.0] * 8 + [0.0] * 2
    assert expected_calibration_error(reliability([0.8] * 10, right)) == pytest.approx(0.0)
    assert expected_calibration_error(reliability([0.3] * 10, right)) == pytest.approx(0.5)
    assert [b.count for b in reliability([0.0, 0.05, 1.0], [0, 0, 1])] == [2, 1]


# -- head -------------------------------------------------------------------------------------


def examples(
    signal: float,
    problems: int = 40,
    seed: int = 0,
    hidden: int = 32,
    in_mean: bool = False,
) -> Examples:
    """Two-step solutions whose outcome shows along one direction, as strongly as `signal`."""
    rng = np.random.default_rng(seed)
    outcomes = np.repeat(rng.random((problems, 8)) < 0.4, 2)
    direction = np.zeros(hidden)
    direction[3] = signal
    own = rng.normal(size=(len(outcomes), hidden)) + np.outer(2.0 * outcomes - 1, direction)
    states = np.stack((own, rng.normal(size=own.shape)), axis=1)
    return Examples(
        # Scale and offset must not matter: training standardises.
        (5 * (states[:, ::-1] if in_mean else states) + 2).astype(np.float16),
        outcomes.astype(np.float32),
        np.repeat(np.arange(problems), 16),
        np.tile([False, True], problems * 8),
        np.full(len(outcomes), 2),
        np.ones(len(outcomes), np.int64),
    )


def test_a_head_finds_the_signal_on_problems_it_never_saw() -> None:
    trained = train_head(examples(2.0), FAST)
    fresh = examples(2.0, seed=1)
    scores = trained.head.probabilities(torch.from_numpy(fresh.states[:, 0])).numpy()
    assert auc(scores, fresh.labels > 0.5) > 0.9
    assert auc(trained.held_out, examples(2.0).labels > 0.5) > 0.9


@pytest.mark.parametrize("in_mean", [False, True])
def test_a_head_that_pools_finds_it_in_both_states(in_mean: bool) -> None:
    data = examples(2.0, in_mean=in_mean)
    trained = train_mean_head(data, FAST)
    fresh = examples(2.0, seed=1, in_mean=in_mean)
    states = torch.from_numpy(fresh.states).float()
    scores = trained.head.probabilities(states)
    assert auc(scores.numpy(), fresh.labels > 0.5) > 0.9
    assert auc(trained.held_out, data.labels > 0.5) > 0.9
    assert trained.held_out.mean() == pytest.approx(data.labels.mean(), abs=0.1)
    # What one server row of each token gives, pooled, is the same.
    each = trained.head.forward(states.reshape(-1, 32)).reshape(-1, 2, 2)
    means = (each[:, 0, 1] + each[:, 1, 1]) / 2
    pooled = trained.head.forward(states.mean(1))[:, 1]
    assert torch.allclose(means, pooled, atol=1e-3)


def test_a_head_that_pools_ranks_inside_problems_whatever_tells_problems_apart() -> None:
    """One direction says how easy a problem is, and inside it which solutions are wrong."""
    rng = np.random.default_rng(0)
    data = examples(0.0)
    ease = np.repeat(rng.random(40), 16)
    outcomes = np.repeat(rng.random(320) < ease[::2], 2)
    states = data.states.astype(np.float32)
    states[:, 0, 3] = 8 * (ease - 0.5) - 2.0 * outcomes + rng.normal(size=640)
    data = replace(data, states=states.astype(np.float16), labels=outcomes.astype(np.float32))

    def inside(settings: HeadSettings) -> float:
        scores = train_mean_head(data, settings).held_out
        return auc_within(scores, data.labels > 0.5, data.groups)

    assert inside(replace(FAST, pairs=0.0)) < 0.45
    assert inside(replace(FAST, pairs=1.0)) > 0.55


def test_held_out_scores_of_noise_are_no_better_than_chance() -> None:
    data = examples(0.0)
    trained = train_head(data, FAST)
    assert 0.4 < auc(trained.held_out, data.labels > 0.5) < 0.6


def test_scores_are_calibrated() -> None:
    data = examples(0.5, problems=80)
    overconfident = HeadSettings(
        folds=4, learning_rate=1e-2, weight_decay=0.0, epochs=12, patience=99
    )
    trained = train_head(data, overconfident)
    assert expected_calibration_error(reliability(trained.held_out, data.labels)) < 0.05


def test_the_same_seed_gives_the_same_head_and_reports_progress() -> None:
    seen: list[tuple[int, int]] = []
    first = train_head(examples(1.0), FAST, lambda done, total: seen.append((done, total)))
    second = train_head(examples(1.0), FAST)
    assert np.array_equal(first.held_out, second.held_out)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_more_folds_than_problems_leaves_out_one_problem_at_a_time() -> None:
    trained = train_head(examples(1.0, problems=3), FAST)
    assert len(trained.epochs) == 3
    assert np.isfinite(trained.held_out).all()


def test_the_weight_of_a_solution_is_one_whatever_its_length() -> None:
    """A one-step solution and a long one with the opposite outcome balance each other."""
    labels = np.tile(np.array([1.0, *[0.0] * 9], dtype=np.float32), 20)
    data = Examples(
        np.random.default_rng(0).normal(size=(200, 2, 32)).astype(np.float16) * 0.01,
        labels,
        np.repeat(np.arange(20), 10),
        np.tile([True, *[False] * 8, True], 20),
        np.tile([1, *[9] * 9], 20),
        np.ones(200, np.int64),
    )
    for train in (train_head, train_mean_head):
        assert train(data, FAST).held_out.mean() == pytest.approx(0.5, abs=0.1)


def test_a_solution_weighs_as_much_as_those_that_it_stands_for() -> None:
    data = examples(1.0, problems=80)
    counts = np.where(data.labels > 0.5, 3, 1)
    trained = train_mean_head(replace(data, solutions=counts), FAST)
    share = np.average(data.labels, weights=counts)
    assert np.average(trained.held_out, weights=counts) == pytest.approx(share, abs=0.05)
    assert share > data.labels.mean() + 0.15


# -- fine-tuning ------------------------------------------------------------------------------


def labelled(count: int, seed: int) -> list[Labelled]:
    """Solutions of noise; the right ones are read at a token that the wrong ones do not have."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        right = bool(rng.random() < 0.5)
        ids = rng.integers(1000, 2000, size=12)
        ids[[7, 11]] = 77 if right else 78
        encoded = Encoded(tuple(ids.tolist()), (7, 11))
        found.append(Labelled(encoded, (float(right),) * 2, left_out=index % 4 == 0))
    return found


@pytest.mark.model
def test_fine_tuning_learns_and_changes_the_last_layers_alone(tiny_checkpoint: Path) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    head = RewardHead(128)
    before = {name: weight.clone() for name, weight in head.state_dict().items()}
    solutions = labelled(64, seed=0)
    settings = LoraSettings(rank=4, layers=1, learning_rate=3e-3, epochs=4)
    seen: list[tuple[int, int]] = []
    tuned = tune(tiny_checkpoint, 2, head, solutions, settings, lambda *row: seen.append(row))
    right = [label > 0.5 for s in solutions if s.left_out for label in s.labels]
    assert auc(tuned.scores, right) > 0.7
    assert tuned.epochs > 0
    assert seen[-1] == (24, 24)
    assert all(name.startswith("model.layers.1.") for name in tuned.weights)
    stored = load_file(tiny_checkpoint / "model.safetensors")
    changed = {name for name, w in tuned.weights.items() if not torch.equal(w, stored[name])}
    assert {name.split(".")[-2] for name in changed} == set(PROJECTIONS)
    assert all(torch.equal(before[name], weight) for name, weight in head.state_dict().items())


@pytest.mark.model
def test_fine_tuning_that_does_not_pay_changes_nothing(tiny_checkpoint: Path) -> None:
    pytest.importorskip("peft")
    torch.manual_seed(0)
    settings = LoraSettings(rank=2, layers=1, learning_rate=10.0, epochs=1)
    tuned = tune(tiny_checkpoint, 2, RewardHead(128), labelled(16, 1), settings, lambda *_: None)
    assert tuned.epochs == 0
    stored = load_file(tiny_checkpoint / "model.safetensors")
    assert all(torch.equal(weight, stored[name]) for name, weight in tuned.weights.items())
