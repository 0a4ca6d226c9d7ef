"""The OpenAI-compatible generator against a real `vllm serve` on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from router import cli
from router.models.generators.endpoints import EndpointPool
from router.models.generators.openai import OpenAIGenerator
from router.models.generators.rendering import LocalText
from router.models.prompts import Prompt
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Sampled, Sampling
from tests.vllm_server import VllmServer

pytestmark = [
    pytest.mark.model,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="session"),
]

PROMPT = Prompt("test", system="Solve it.", delimiter="e")
"""The tiny model writes noise: a common letter makes steps of a few tokens."""

# Longer than two blocks of the server's prefix cache (128 tokens on a CPU).
PROBLEM = Problem("p", "A farmer has 17 sheep, sells 5, buys 3 and finds 2. " * 14 + "How many?")
STEP = Sampling("step", temperature=1.0, max_tokens=64)


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server."""
    pytest.importorskip("vllm")
    arguments = (
        *("--served-model-name", "tiny", "--max-model-len", "1024"),
        "--enable-prompt-tokens-details",
    )
    log = tmp_path_factory.mktemp("serve") / "log"
    with VllmServer(tiny_checkpoint, log, *arguments) as started:
        yield started.wait()


@pytest.fixture
async def generator(server: str) -> AsyncIterator[OpenAIGenerator]:
    engine = await OpenAIGenerator.load([server], model=None, prompt=PROMPT)
    yield engine
    await engine.aclose()


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> ChainEncoder:
    return ChainEncoder(tokenizer, PROMPT)


def check_tokens(sampled: Sampled, encoder: ChainEncoder) -> None:
    """Every continuation's token ids are all it sampled, and decode to its text."""
    for continuation in sampled.continuations:
        ids = [token for step in continuation.steps for token in step.token_ids or ()]
        assert continuation.tokens == len(ids)
        # A character that the limit of tokens cut in two may be shown or not.
        assert encoder.decode(ids).rstrip("�") == continuation.text.rstrip("�")
        assert sum(step.tokens or 0 for step in continuation.steps) == len(ids)
        assert all(step.logprob is not None and step.logprob < 0 for step in continuation.steps)


async def test_load_asks_the_server(generator, server):
    assert generator.info.model == "tiny"
    assert generator.info.context == 1024
    by_url = await OpenAIGenerator.load([f"{server}/v1/"], model="tiny", prompt=PROMPT)
    await by_url.aclose()


async def test_steps_join_token_by_token_and_hit_the_prefix_cache(generator, encoder):
    path = Chain(PROBLEM)
    prompts = []
    for _ in range(3):
        sampled = await generator.sample(path, 3, STEP)
        check_tokens(sampled, encoder)
        # The server counts the very tokens that the local tokenizer and the path hold.
        assert sampled.prompt_tokens == len(encoder.chain_ids(path))
        for continuation in sampled.continuations:
            (step,) = continuation.steps
            assert step.finish == "step"
            assert "e" in step.text
        prompts.append(encoder.chain_ids(path))
        path = path.extend(*sampled.continuations[0].steps)
    assert sampled.cached_tokens is not None
    assert sampled.cached_tokens >= 128
    assert prompts[2][: len(prompts[1])] == prompts[1]


async def test_whole_solutions_are_cut_into_steps(generator, encoder):
    sampled = await generator.sample(Chain(PROBLEM), 4, Sampling(temperature=1.0, max_tokens=48))
    check_tokens(sampled, encoder)
    for continuation in sampled.continuations:
        assert continuation.tokens == 48
        assert continuation.finish == "length"
        assert len(continuation.steps) > 2
        assert all("e" in step.text for step in continuation.steps[:-1])


async def test_greedy_step_by_step_equals_one_go(generator):
    whole = await generator.sample(Chain(PROBLEM), 1, Sampling(temperature=0.0, max_tokens=24))
    path = Chain(PROBLEM)
    while path.tokens < 12:
        step = await generator.sample(path, 1, Sampling("step", temperature=0.0, max_tokens=24))
        path = path.extend(*step.continuations[0].steps)
    assert path.depth > 1
    assert whole.continuations[0].text.startswith(path.text[:20])


async def test_counts_equal_the_servers_own(generator, server):
    before = await metrics(server)
    sampled = await asyncio.gather(*(generator.sample(Chain(PROBLEM), 2, STEP) for _ in range(3)))
    after = await metrics(server)
    tokens = sum(c.tokens or 0 for one in sampled for c in one.continuations)
    assert after["generation_tokens_total"] - before["generation_tokens_total"] == tokens


async def test_text_mode_gives_steps_their_delimiter_back(generator, server, encoder):
    """The same server, spoken to as if it knew nothing beyond the common API."""
    text = LocalText(encoder)
    plain = OpenAIGenerator(EndpointPool([server]), PROMPT, generator.info, text, exact=False)
    path = Chain(PROBLEM)
    for _ in range(2):
        sampled = await plain.sample(path, 1, STEP)
        (step,) = sampled.continuations[0].steps
        assert (step.finish, step.text[-1], step.token_ids) == ("step", "e", None)
        # A delimiter at the start of a step ends nothing: the server is asked again.
        if not step.text.lstrip().startswith("e"):
            assert sampled.prompt_tokens == len(encoder.chain_ids(path))
        path = path.extend(step)
    await plain.aclose()


async def test_cancelling_a_call_ends_the_servers_work(generator, server):
    before = (await metrics(server))["generation_tokens_total"]
    task = asyncio.create_task(generator.sample(Chain(PROBLEM), 8, Sampling(max_tokens=700)))
    await wait_for_running(server, lambda running: running > 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_for_running(server, lambda running: running == 0)
    assert (await metrics(server))["generation_tokens_total"] - before < 8 * 700


async def test_check_says_what_the_server_can_do(server):
    done = await asyncio.to_thread(
        CliRunner().invoke, cli.main, ["check", "--endpoint", server, "--verifier", "none"]
    )
    assert done.exit_code == 0, done.stderr
    assert "tiny on openai" in done.stdout
    assert "the server's chat template; token ids" in done.stdout
    assert "1,024 tokens" in done.stdout
    assert "log-probs  yes" in done.stdout


async def metrics(server: str) -> dict[str, float]:
    """The server's counters and gauges, by name without prefix and labels."""
    async with httpx.AsyncClient() as client:
        lines = (await client.get(f"{server}/metrics")).text.splitlines()
    values = [line.rsplit(" ", 1) for line in lines if line.startswith("vllm:")]
    return {name.split("{")[0].removeprefix("vllm:"): float(value) for name, value in values}


async def wait_for_running(server: str, wanted: Callable[[float], bool]) -> None:
    async with asyncio.timeout(60):
        while not wanted((await metrics(server))["num_requests_running"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
