"""Fixtures that several packages' tests share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from router.models.weights.find import find_model

if TYPE_CHECKING:
    from router.bundle import Bundle
    from router.evaluation.records import Evaluation


@pytest.fixture(scope="session")
def tokenizer_dir() -> Path:
    """A directory with the embedded model's real tokenizer."""
    return find_model(None)


@pytest.fixture(scope="session")
def tokenizer(tokenizer_dir: Path) -> Any:
    """The embedded model's, which takes more than a second to load: change a copy of it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_dir)


@pytest.fixture(scope="session")
def tiny_checkpoint(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 checkpoint (2 layers, hidden 128, bfloat16) with the real tokenizer.

    Attention heads have 64 dimensions, the least that vLLM's CPU build takes. Its text is noise,
    so tests on it choose a common letter for the step delimiter.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    directory = tmp_path_factory.mktemp("tiny") / "tiny-qwen2"
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        initializer_range=0.1,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def simulated_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Fitted on simulated rollouts, for pages of reports."""
    from tests.router.test_report import fitted

    return fitted(tmp_path_factory.mktemp("simulated") / "r.db")


@pytest.fixture(scope="session")
async def simulated_evaluation(
    simulated_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    """Of that bundle, on other simulated rollouts."""
    from tests.router.test_report import evaluated

    return await evaluated(simulated_bundle, tmp_path_factory.mktemp("unseen") / "r.db")
