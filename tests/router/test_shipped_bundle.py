"""The bundle that comes with `router`: it fits the embedded model, and its rollouts give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router import Router
from router.bundle import Bundle, shipped_bundle
from router.evaluation.records import Evaluation
from router.fitting.build import FitSettings, fit_bundle
from router.models.errors import NotInstalled
from router.models.types import Problem
from router.models.verifiers.trained_head import HeadConfig, head_digest, shipped_head
from router.models.weights.embedded import DEFAULT
from router.problem_files import read_problems
from router.rollouts.export import open_rollouts
from router.strategies.registry import parse_strategy

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    directory = shipped_bundle(DEFAULT.name)
    assert directory is not None
    return Bundle.load(directory)


def test_it_belongs_to_the_shipped_verifier_and_prompt(shipped: Bundle) -> None:
    head = shipped_head(DEFAULT.name)
    assert head is not None
    assert shipped.origin.model == DEFAULT.name
    assert shipped.origin.prompt == DEFAULT.prompt
    assert shipped.origin.max_tokens == DEFAULT.max_tokens
    assert shipped.origin.verifier == f"{HeadConfig.load(head).name}@{head_digest(head)}"
    assert shipped.prefill is not None
    assert shipped.prefill.layer == HeadConfig.load(head).layer


def test_it_decides_by_default(shipped: Bundle) -> None:
    decision = Router().decide(Problem("p", "What is 17 + 25?"), 8)
    assert decision.levels is not None
    assert len(decision.levels) == shipped.levels.count


def test_without_lightgbm_it_is_left_out_and_says_so_and_one_asked_for_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "router.models.extras.find_spec", lambda name: None if name == "lightgbm" else object()
    )
    decision = Router().decide("What is 17 + 25?", 8)
    assert decision.levels is None
    assert "left out" in decision.why
    assert "needs lightgbm: pip install 'compute-optimal-router[fit]'" in decision.why
    directory = shipped_bundle(DEFAULT.name)
    with pytest.raises(NotInstalled, match=r"compute-optimal-router\[fit\]"):
        Router(bundle=str(directory)).decide("What is 17 + 25?", 8)


def _rounded(value: Any) -> Any:
    """Without the last digits of its numbers, which differ from one CPU to another."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 9) if isinstance(value, float) else value


def test_its_rollouts_give_it_again(shipped: Bundle) -> None:
    """The numbers that are shipped are those that the committed rollouts hold."""
    told = shipped.manifest["settings"]
    strategies = tuple(parse_strategy(text) for text in told["strategies"])
    settings = FitSettings(**{**told, "budgets": tuple(told["budgets"]), "strategies": strategies})
    with open_rollouts(BENCHMARKS / "rollouts" / "fit.jsonl.gz") as rollouts:
        again = fit_bundle(rollouts, settings)
    assert _rounded(again.table.model_dump()) == _rounded(shipped.table.model_dump())
    assert again.levels == shipped.levels
    assert again.prior == shipped.prior
    assert again.manifest["data"] == shipped.manifest["data"]


def test_it_saw_no_problem_that_it_is_evaluated_on(shipped: Bundle) -> None:
    files = [BENCHMARKS / "problems" / f"{name}.jsonl" for name in ("evaluate", "mixed_dev")]
    unseen = [problem for file in files for problem in read_problems(file).problems]
    assert not [problem.id for problem in unseen if shipped.fitted_on(problem)]
    evaluation = Evaluation.load(BENCHMARKS / "results" / "choosing" / "evaluation.json")
    assert evaluation.provenance.model == DEFAULT.name
    assert evaluation.provenance.bundle_problems == shipped.manifest["data"]["problems"]
