"""Verifiers on vLLM's pooling runner, against transformers, on small random checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import torch

pytest.importorskip("vllm")

from router.models.base import VerifierInfo
from router.models.errors import Unscorable
from router.models.prompts import get_prompt
from router.models.runtime.vllm_process import CPU_BLOCK
from router.models.types import Chain, Problem, Step
from router.models.verifiers.checkpoint import save_checkpoint
from router.models.verifiers.prm import OWN, SELF, get_format
from router.models.verifiers.reward_heads import PooledHead, RewardHead
from router.models.verifiers.transformers import TransformersVerifier
from router.models.verifiers.vllm import VLLMVerifier

pytestmark = [
    pytest.mark.model,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(1200),
]

TOLERANCE = 1e-3
"""Both compute in float32, with different attention kernels."""

PRM = get_format("qwen-prm")
INFO = VerifierInfo("tiny", PRM.id, PRM.aggregation)
PROMPT = get_prompt("qwen-math")
LAYER = 1
FLOCK = Problem("flock", "A farmer has 17 sheep, sells 5, buys 3 and finds 2. " * 4 + "How many?")
STEPS = (
    "He had 17 sheep and sold 5 of them, which leaves 17 - 5 = 12 sheep on the farm.\n\n",
    "Then he bought 3 sheep and found 2 more, so that makes 12 + 3 + 2 = 17 sheep in all.\n\n",
    "The answer is 17.",
)


@pytest.fixture(scope="module")
def head() -> PooledHead:
    torch.manual_seed(0)
    head = PooledHead(128)
    with torch.no_grad():
        head.score[0].weight *= 4  # so that scores differ visibly between reads
        # A second output that is linear, as a mean over tokens needs it: relu(wx) - relu(-wx).
        head.score[0].weight[1] = -head.score[0].weight[0]
        head.score[0].bias[:2] = 0
        head.score[2].weight[1] = 0
        head.score[2].weight[1, :2] = torch.tensor([0.2, -0.2])
    return head


@pytest.fixture(scope="module")
def checkpoint(
    tiny_checkpoint: Path, head: PooledHead, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The first of the tiny generator's two layers, with a head."""
    directory = tmp_path_factory.mktemp("prm") / "tiny-prm"
    save_checkpoint(tiny_checkpoint, LAYER, head, directory)
    return directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def verifier(checkpoint: Path) -> AsyncIterator[VLLMVerifier]:
    loaded = await VLLMVerifier.load(checkpoint, PRM, INFO, prompt=PROMPT, dtype="float32")
    yield loaded
    await loaded.aclose()


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> TransformersVerifier:
    return TransformersVerifier.load(checkpoint, PRM, INFO, dtype="float32")


def path_of(*texts: str, problem: Problem = FLOCK) -> Chain:
    return Chain(problem).extend(*(Step(text, "step") for text in texts))


async def test_agrees_with_transformers(
    verifier: VLLMVerifier, reference: TransformersVerifier
) -> None:
    paths = [
        path_of(*STEPS),
        path_of(STEPS[0], "So he has 12."),
        path_of("It is 4.", problem=Problem("sum", "What is 2 + 2? <extra_0>")),
    ]
    wanted = [await reference.score(path) for path in paths]
    scored = await asyncio.gather(*(verifier.score(path) for path in paths))
    for ours, theirs in zip(scored, wanted, strict=True):
        assert ours.values == pytest.approx(theirs.values, abs=TOLERANCE)
    assert max(wanted[0].values) - min(wanted[0].values) > 10 * TOLERANCE


@pytest.mark.parametrize("form", OWN)
async def test_a_self_verifier_agrees_with_the_generators_own_layers(
    form: str, verifier: VLLMVerifier, tiny_checkpoint: Path, head: PooledHead
) -> None:
    prm, read = get_format(form), head
    if form == SELF:
        read = RewardHead(128)
        read.load_state_dict(head.state_dict())
    own = TransformersVerifier.load_on(
        tiny_checkpoint, LAYER, read, PROMPT, prm, INFO, dtype="float32"
    )
    served = VLLMVerifier(verifier._engine, verifier._encoder, prm, INFO)
    path = path_of(*STEPS)
    ours, theirs = await served.score(path), await own.score(path)
    assert ours.values == pytest.approx(theirs.values, abs=TOLERANCE)
    assert max(ours.values) - min(ours.values) > 10 * TOLERANCE
    for known in range(1, path.depth):
        for one in (served, own):
            assert (await one.score(path, known)).values == pytest.approx(
                theirs.values[known:], abs=TOLERANCE
            )


async def test_a_further_step_costs_its_own_tokens(
    verifier: VLLMVerifier, reference: TransformersVerifier
) -> None:
    problem = Problem("further", FLOCK.text + " Say it.")
    at_once = await reference.score(path_of(*STEPS, problem=problem))
    assert at_once.tokens is not None
    path = path_of(STEPS[0], problem=problem)
    values = list((await verifier.score(path)).values)
    for step in STEPS[1:]:
        before = len(PRM.layout.encode(path, verifier._encoder).ids)
        path = path.extend(Step(step, "step"))
        length = len(PRM.layout.encode(path, verifier._encoder).ids)
        scored = await verifier.score(path, known=path.depth - 1)
        assert scored.tokens is not None
        assert length - before <= scored.tokens < length - before + CPU_BLOCK
        assert scored.tokens + (scored.cached_tokens or 0) == length
        values += scored.values
    assert values == pytest.approx(at_once.values, abs=TOLERANCE)


async def test_steps_that_the_cache_hides_are_read_again(verifier: VLLMVerifier) -> None:
    first = await verifier.score(path_of(*STEPS))
    again = await verifier.score(path_of(*STEPS))
    assert again.values == pytest.approx(first.values, abs=TOLERANCE)
    assert again.cached_tokens == 0


async def test_a_path_beyond_the_context_is_its_own_fault(verifier: VLLMVerifier) -> None:
    with pytest.raises(Unscorable, match="2048"):
        await verifier.score(path_of("many " * 2100))
