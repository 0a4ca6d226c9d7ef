"""The head that comes with `router`, on the embedded model that it was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from models.errors import ModelError
from models.prompts import get_prompt
from models.tokens import PathEncoder
from models.training.metrics import auc
from models.types import Problem
from models.verifiers.load import load_verifier
from models.verifiers.trained_head import HeadConfig, shipped_head
from models.weights.find import EMBEDDED, find_model
from router.verifier.data import SolutionPool, read_pools
from router.verifier.scoring import Scorer

ROLLOUTS = Path(__file__).parents[2] / "benchmarks" / "rollouts" / "verifier_train.jsonl.gz"
PROBLEM = Problem("gsm8k/train/1099", "given by the rollouts")


@pytest.fixture(scope="module")
def head() -> Path:
    directory = shipped_head(EMBEDDED.name)
    assert directory is not None
    return directory


def test_the_embedded_model_has_a_head_of_known_origin(head: Path) -> None:
    config = HeadConfig.load(head)
    assert config.backbone.name == EMBEDDED.name
    assert config.prompt == EMBEDDED.prompt
    assert {"command", "data", "held_out", "settings"} <= config.provenance.keys()
    assert shipped_head("another-model") is None


@pytest.fixture(scope="module")
def pool() -> tuple[PathEncoder, SolutionPool]:
    """Eight solutions of one problem, five of them right."""
    try:
        model = find_model(download=False)
    except ModelError:
        pytest.skip("the embedded model is not here: `router model pull`")
    encoder = PathEncoder(AutoTokenizer.from_pretrained(model), get_prompt(EMBEDDED.prompt))
    (found,) = read_pools(ROLLOUTS, {PROBLEM.id: PROBLEM}, encoder)
    return encoder, found


@pytest.mark.model
async def test_it_is_served_as_it_was_trained(
    head: Path, pool: tuple[PathEncoder, SolutionPool], tmp_path: Path
) -> None:
    """The engine's scores are those of the training features, but for bfloat16's rounding."""
    encoder, solutions = pool
    scorer = Scorer.load(head, find_model())
    (trained,) = scorer.score([solutions], encoder, tmp_path, lambda *_: None)
    verifier = await load_verifier(str(head), engine="transformers")
    for candidate in trained.candidates:
        served = await verifier.score(candidate.path(solutions.problem))
        assert served.values == pytest.approx(candidate.scores, abs=0.05)
    path = solutions.candidates[0].path(solutions.problem)
    again = await verifier.score(path, known=path.depth - 1)
    assert again.tokens is not None
    assert again.tokens < 100  # one step's own tokens, of some 350
    await verifier.aclose()
    finals = [(candidate.scores or (0,))[-1] for candidate in trained.candidates]
    assert auc(finals, [candidate.correct for candidate in trained.candidates]) > 0.75
