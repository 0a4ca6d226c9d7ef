"""What needs a card: both models on one, divided as `models.runtime.memory` says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("vllm")

import torch

from router.models.placement import measure_cards
from router.models.runtime.memory import USABLE
from router.models.types import Chain, Problem, Sampling
from router.models.verifiers.checkpoint import save_checkpoint
from router.models.verifiers.reward_heads import RewardHead
from router.opening import Models, load_models
from router.pairs import Pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.model,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]

SUM = Problem("sum", "What is 2 + 2?")


@pytest.fixture(scope="module")
def prm(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A process reward model of the tiny generator's first layer."""
    directory = tmp_path_factory.mktemp("gpu") / "tiny-prm"
    save_checkpoint(tiny_checkpoint, 1, RewardHead(128), directory)
    return directory


async def open_both(model: Path, prm: Path, engine: str = "vllm") -> Models:
    pair = Pair(str(model), engine, prompt="plain", verifier=str(prm), verifier_format="qwen-prm")
    return await load_models({"": pair})


def test_asking_for_memory_leaves_nothing_on_the_cards() -> None:
    before = torch.cuda.is_initialized()
    cards = measure_cards()
    assert len(cards) == torch.cuda.device_count()
    assert all(0 < card.free <= card.total for card in cards)
    assert torch.cuda.is_initialized() == before


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
async def test_generator_and_verifier_open_together_by_default(
    tiny_checkpoint: Path, prm: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One card, whatever this machine has.
    monkeypatch.setattr("router.models.placement.measure_cards", lambda: measure_cards()[:1])
    models = await open_both(tiny_checkpoint, prm, engine)
    try:
        assert models.generator.info.engine == engine
        assert models.generator.info.context == 2048  # all that the model has
        root = Chain(SUM)
        sampled = await models.generator.sample(root, 2, Sampling(max_tokens=32))
        chain = root.extend(*sampled.continuations[0].steps)
        assert models.verifier is not None
        scored = await models.verifier.score(chain)
        assert len(scored.values) == chain.depth
        [card, *_] = measure_cards()
        assert card.total - card.free <= (USABLE + 0.08) * card.total
    finally:
        await models.aclose()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
async def test_on_two_cards_each_model_has_its_own(tiny_checkpoint: Path, prm: Path) -> None:
    models = await open_both(tiny_checkpoint, prm)
    try:
        assert all(card.free < 0.5 * card.total for card in measure_cards()[:2])
    finally:
        await models.aclose()
