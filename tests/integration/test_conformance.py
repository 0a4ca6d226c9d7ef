"""Real engines on small random models keep the promises of every generator and verifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from router.models.base import GeneratorInfo, VerifierInfo
from router.models.generators.transformers import TransformersGenerator
from router.models.prompts import Prompt
from router.models.tokens import ChainEncoder
from router.models.types import Chain
from router.models.verifiers.prm import get_format
from router.models.verifiers.transformers import TransformersVerifier
from router.testing import GeneratorConformance, VerifierConformance
from tests.models import prm_models

pytestmark = pytest.mark.model

PROMPT = Prompt("test", system="Solve it.", delimiter="e")
"""The tiny model writes noise: a common letter makes steps of a few tokens."""


class TestTransformersGenerator(GeneratorConformance):
    counts_cancelled = True
    state_layer: ClassVar[int | None] = None

    @pytest.fixture(autouse=True)
    def _weights(self, tiny_checkpoint: Path) -> None:
        self.checkpoint = tiny_checkpoint

    async def open(self) -> TransformersGenerator:
        model: Any = AutoModelForCausalLM.from_pretrained(self.checkpoint, dtype=torch.float32)
        encoder = ChainEncoder(AutoTokenizer.from_pretrained(self.checkpoint), PROMPT)
        info = GeneratorInfo("tiny", "transformers", PROMPT.id, context=2048, seeds=True)
        return TransformersGenerator(model.eval(), encoder, info, self.state_layer)

    def prompt_ids(self, path: Chain) -> Sequence[int]:
        return self.model._encoder.chain_ids(path)  # type: ignore[attr-defined]

    def running(self) -> int:
        return len(self.model._decoder._live)  # type: ignore[attr-defined]


class TestTransformersGeneratorWithStates(TestTransformersGenerator):
    state_layer = 1


class PrmConformance(VerifierConformance):
    """A random PRM of one family."""

    family: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _weights(self, checkpoints: dict[str, Path]) -> None:
        self.checkpoint = checkpoints[self.family]

    async def open(self) -> TransformersVerifier:
        prm = get_format(self.family)
        info = VerifierInfo(self.family, prm.id, prm.aggregation)
        return TransformersVerifier.load(self.checkpoint, prm, info, dtype="float32")


class TestMathShepherd(PrmConformance):
    family = "math-shepherd"


class TestRlhflow(PrmConformance):
    family = "rlhflow"


class TestSkywork(PrmConformance):
    family = "skywork"


class TestQwenPrm(PrmConformance):
    family = "qwen-prm"


@pytest.fixture(scope="module")
def checkpoints(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("prm")
    return {
        "math-shepherd": prm_models.save_math_shepherd(root / "math-shepherd"),
        "rlhflow": prm_models.save_rlhflow(root / "rlhflow"),
        "skywork": prm_models.save_skywork(root / "skywork", tokenizer_dir),
        "qwen-prm": prm_models.save_qwen_prm(root / "qwen-prm", tokenizer_dir),
    }
