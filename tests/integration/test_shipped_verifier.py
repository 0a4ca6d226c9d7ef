"""The head that comes with `router`, on the embedded model that it was trained on."""

from __future__ import annotations

import pytest

from models.base import Verifier
from models.errors import ModelError
from models.heads import HeadConfig, shipped_head
from models.types import Path, Problem, Step
from models.verifiers import load_verifier
from models.weights import EMBEDDED, find_model

PROBLEM = Problem("pens", "A shop sells pens at 3 dollars each. What do 7 pens cost, in dollars?")


def solution(first: str, last: str) -> Path:
    return Path(PROBLEM).extend(Step(f"{first}\n\n", "step"), Step(last, "stop"))


RIGHT = solution(
    "Each pen costs 3 dollars, so 7 pens cost \\(7 \\times 3 = 21\\) dollars.",
    "Therefore, 7 pens cost \\(\\boxed{21}\\) dollars.",
)
WRONG = solution(
    "Each pen costs 3 dollars, so 7 pens cost \\(7 + 3 = 10\\) dollars.",
    "Therefore, 7 pens cost \\(\\boxed{10}\\) dollars.",
)


def test_the_embedded_model_has_a_head_of_known_origin() -> None:
    directory = shipped_head(EMBEDDED.name)
    assert directory is not None
    config = HeadConfig.load(directory)
    assert config.backbone.name == EMBEDDED.name
    assert config.prompt == EMBEDDED.prompt
    assert {"command", "data", "held_out", "settings"} <= config.provenance.keys()
    assert shipped_head("another-model") is None


@pytest.fixture(scope="module")
async def verifier() -> Verifier:
    try:
        find_model(download=False)
    except ModelError:
        pytest.skip("the embedded model is not here: `router model pull`")
    return await load_verifier(str(shipped_head(EMBEDDED.name)), engine="transformers")


@pytest.mark.model
@pytest.mark.asyncio(loop_scope="module")
async def test_it_ranks_a_right_solution_over_a_wrong_one(verifier: Verifier) -> None:
    right, wrong = await verifier.score(RIGHT), await verifier.score(WRONG)
    assert len(right.values) == len(wrong.values) == 2
    assert right.values[-1] > wrong.values[-1]


@pytest.mark.model
@pytest.mark.asyncio(loop_scope="module")
async def test_one_more_step_costs_only_its_own_tokens(verifier: Verifier) -> None:
    assert RIGHT.parent is not None
    first = await verifier.score(RIGHT.parent)
    more = await verifier.score(RIGHT, known=1)
    assert first.values == pytest.approx((await verifier.score(RIGHT)).values[:1], abs=0.02)
    assert more.tokens is not None
    assert more.tokens < 30
