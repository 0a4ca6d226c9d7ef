"""The head that comes with `router`, on the embedded model that it was trained on."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from router.models.base import Verifier
from router.models.errors import ModelError
from router.models.prompts import get_prompt
from router.models.runtime.vllm_process import CPU_BLOCK
from router.models.tokens import ChainEncoder
from router.models.training.metrics import auc
from router.models.types import Chain, Problem
from router.models.verifiers.load import load_verifier
from router.models.verifiers.prm import SELF, get_format
from router.models.verifiers.trained_head import HeadConfig, shipped_head
from router.models.weights.embedded import DEFAULT, EMBEDDED, EmbeddedModel
from router.models.weights.find import find_model
from router.verifier.data import SolutionPool, read_pools
from router.verifier.scoring import Scorer

ROLLOUTS = Path(__file__).parents[2] / "benchmarks" / "rollouts" / "verifier_train.jsonl.gz"
PROBLEM = Problem("gsm8k/train/1099", "given by the rollouts")


@pytest.fixture(scope="module")
def head() -> Path:
    directory = shipped_head(DEFAULT.name)
    assert directory is not None
    return directory


@pytest.mark.parametrize("model", EMBEDDED.values(), ids=lambda model: model.name)
def test_each_embedded_model_has_a_head_of_known_origin(model: EmbeddedModel) -> None:
    directory = shipped_head(model.name)
    assert directory is not None
    config = HeadConfig.load(directory)
    assert (config.backbone.name, config.backbone.fingerprint) == (model.name, model.fingerprint)
    assert config.prompt == model.prompt
    assert {"command", "data", "held_out", "settings"} <= config.provenance.keys()
    assert "**Limits.**" in (directory / "README.md").read_text("utf-8")


def test_other_models_have_none() -> None:
    assert shipped_head("another-model") is None


@pytest.fixture(scope="module")
def pool() -> tuple[ChainEncoder, SolutionPool]:
    """Eight solutions of one problem, five of them right."""
    try:
        model = find_model(download=False)
    except ModelError:
        pytest.skip("the embedded model is not here: `router model pull`")
    encoder = ChainEncoder(AutoTokenizer.from_pretrained(model), get_prompt(DEFAULT.prompt))
    (found,) = read_pools(ROLLOUTS, {PROBLEM.id: PROBLEM}, encoder)
    return encoder, found


TOLERANCE = 0.05
"""All compute in bfloat16, in other kernels and batches, which moves scores in [0, 1] this far."""


@pytest.mark.model
@pytest.mark.timeout(1800)
async def test_it_is_served_as_it_was_trained(
    head: Path, pool: tuple[ChainEncoder, SolutionPool], tmp_path: Path
) -> None:
    """Training's features, transformers and vLLM's pooling runner give the same scores."""
    encoder, solutions = pool
    (trained,) = Scorer.load(head, find_model()).score(
        [solutions], encoder, tmp_path, lambda *_: None
    )
    finals = [(candidate.scores or (0,))[-1] for candidate in trained.candidates]
    assert auc(finals, [candidate.correct for candidate in trained.candidates]) > 0.75
    for engine in ("transformers", "vllm"):
        if engine == "vllm" and find_spec("vllm") is None:
            continue
        verifier = await load_verifier(str(head), engine=engine)
        try:
            for candidate in trained.candidates:
                served = await verifier.score(candidate.chain(solutions.problem))
                assert served.values == pytest.approx(candidate.scores, abs=TOLERANCE)
            await costs_one_step(verifier, trained.candidates[0].chain(solutions.problem), encoder)
        finally:
            await verifier.aclose()


async def costs_one_step(verifier: Verifier, path: Chain, encoder: ChainEncoder) -> None:
    """One more step of a path that was scored costs its own tokens.

    transformers keeps every prefix; vLLM keeps whole blocks, so what fills the last one comes on
    top.
    """
    # Another problem text, so that nothing of it is in the cache.
    fresh = Chain(Problem("fresh", "Say it. " + path.problem.text))
    layout = get_format(SELF).layout
    known = 0
    for step in path.steps:
        fresh = fresh.extend(step)
        scored = await verifier.score(fresh, known=fresh.depth - 1)
        length = len(layout.encode(fresh, encoder).ids)
        if known:
            assert scored.tokens is not None
            assert length - known <= scored.tokens < length - known + CPU_BLOCK
        known = length
    assert fresh.depth > 2
