"""The vLLM generator on a real engine with a tiny random model."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

pytest.importorskip("vllm")

import numpy as np
import psutil
import torch
from prometheus_client import REGISTRY
from scipy.stats import chisquare

from router.models.base import GeneratorInfo
from router.models.errors import EngineError, InputError, ModelError, PromptTooLong
from router.models.generators.vllm import VLLMGenerator
from router.models.generators.vllm_states import States
from router.models.prompts import Prompt, get_prompt
from router.models.runtime.vllm_process import CPU_BLOCK, FIT
from router.models.states import rms_normalised
from router.models.steps import first_end
from router.models.tokens import ChainEncoder, text_ends
from router.models.training.features import StateReader
from router.models.types import Chain, Problem, Sampling
from router.models.verifiers.prm import Encoded

pytestmark = [
    pytest.mark.model,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(1200),
]

PROMPT = Prompt("test", system="Solve it.", delimiter="e")
"""The tiny model writes noise: a common letter makes steps of a few tokens."""

LAYER = 1
"""The one whose states the tiny model's steps carry."""

LONG = Problem("long", "A farmer has 17 sheep, sells 5, buys 3 and finds 2. " * 12 + "How many?")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tapped(tiny_checkpoint: Path) -> AsyncIterator[VLLMGenerator]:
    engine = await VLLMGenerator.load(
        tiny_checkpoint, name="tiny", prompt=PROMPT, state_layer=LAYER, disable_log_stats=False
    )
    yield engine
    await engine.aclose()


@pytest.fixture(scope="module")
def generator(tapped: VLLMGenerator) -> VLLMGenerator:
    """One without states on the same engine, since each engine takes the better part of a minute
    to start."""
    return VLLMGenerator(tapped._engine, tapped._encoder, tapped.info)


def engine_count(name: str) -> float:
    """The engine's own metric, over all labels."""
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == f"vllm:{name}"
    )


async def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 (nothing to wait on)
        await asyncio.sleep(0.05)
    return condition()


async def test_info_says_what_the_engine_is(generator: VLLMGenerator) -> None:
    info = generator.info
    assert (info.model, info.engine, info.prompt) == ("tiny", "vllm", "test")
    assert info.context == 2048
    assert info.parameters is not None
    assert info.parameters > 151_936 * 128  # the output head and the layers; the input is looked up


async def test_counts_are_the_engines_own(generator: VLLMGenerator) -> None:
    metrics = ("generation_tokens_total", "prompt_tokens_total", "prompt_tokens_cached_total")
    before = [engine_count(name) for name in metrics]
    calls = [
        generator.sample(Chain(LONG), 5, Sampling(until="step", max_tokens=64)),
        generator.sample(Chain(Problem("q", "What is 2 + 2?")), 3, Sampling(max_tokens=40)),
        generator.sample(Chain(LONG), 2, Sampling(max_tokens=7, stop=("a",))),
    ]
    results = await asyncio.gather(*calls)
    sampled = sum(part.tokens or 0 for result in results for part in result.continuations)
    prompts = sum(result.prompt_tokens or 0 for result in results)
    cached = sum(result.cached_tokens or 0 for result in results)
    ours = [sampled, prompts, cached]

    def theirs() -> list[float]:
        return [engine_count(name) - old for name, old in zip(metrics, before, strict=True)]

    assert await eventually(lambda: theirs() == ours), f"{ours} is not the engine's {theirs()}"
    for result in results:
        for part in result.continuations:
            assert part.tokens == sum(step.tokens or 0 for step in part.steps)
            assert part.tokens == sum(len(step.token_ids or ()) for step in part.steps)


async def test_a_longer_path_finds_its_parents_sampled_tokens_in_the_cache(
    generator: VLLMGenerator,
) -> None:
    root = Chain(Problem("join", LONG.text + " And why?"))
    first = await generator.sample(root, 1, Sampling(max_tokens=300))
    child = root.extend(*first.continuations[0].steps)
    second = await generator.sample(child, 1, Sampling(max_tokens=1))
    assert first.prompt_tokens is not None
    assert first.continuations[0].tokens is not None
    total = first.prompt_tokens + first.continuations[0].tokens
    assert second.prompt_tokens == total
    # The last sampled token was never run through the model, so its block may be missing.
    assert second.cached_tokens == (total - 1) // CPU_BLOCK * CPU_BLOCK
    assert second.cached_tokens > first.prompt_tokens


async def test_a_step_ends_with_the_token_that_completes_the_delimiter(
    generator: VLLMGenerator,
) -> None:
    path = Chain(LONG)
    for _ in range(4):
        result = await generator.sample(path, 4, Sampling(until="step", max_tokens=400))
        # A model may also end its answer, or write a step that is too long: not what is asked here.
        found = [part.steps[0] for part in result.continuations]
        steps = [step for step in found if step.finish == "step"]
        assert steps == [step for step in found if first_end(step.text, PROMPT.delimiter)]
        assert steps
        for step in steps:
            assert step.token_ids is not None
            assert PROMPT.delimiter in step.text
            before = generator._encoder.decode(step.token_ids[:-1])
            assert first_end(before, PROMPT.delimiter) is None
        path = path.extend(steps[0])
    assert path.depth == 4


async def test_states_equal_a_fresh_forward_of_the_whole_path(
    tapped: VLLMGenerator, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Of every step of every path, while many are sampled at once."""
    step = Sampling(until="step", temperature=1.0, max_tokens=48)

    async def grow(index: int) -> list[Chain]:
        root = Chain(Problem(f"p{index}", LONG.text * (1 + index % 3)))
        first, second = (await tapped.sample(root, 2, step)).continuations
        path = root.extend(*second.steps)
        rest = await tapped.sample(path, 1, Sampling(temperature=1.0, max_tokens=30))
        return [root.extend(*first.steps), path.extend(*rest.continuations[0].steps)]

    paths = [path for group in await asyncio.gather(*map(grow, range(8))) for path in group]
    prefills = await asyncio.gather(*(tapped.prefill(path.problem) for path in paths))
    assert tapped.state_layer == LAYER
    reader = StateReader(tiny_checkpoint, (LAYER,), tmp_path)
    special = set(tapped._encoder.tokenizer.all_special_ids)
    for path, prefill in zip(paths, prefills, strict=True):
        ids = tapped._encoder.chain_ids(path)
        before = len(ids) - path.tokens - 1
        reads = (before, *(before + end for end in text_ends(path.steps, special)))
        expected = reader.read([Encoded(tuple(ids), reads, before + 1)])[LAYER]
        states = [step.state for step in path.steps if step.state is not None]
        given = np.stack([prefill.state, *(state.last for state in states)])
        assert given.shape == (1 + path.depth, 128)
        counts = np.cumsum([state.tokens for state in states])
        assert counts.tolist() == [read - before for read in reads[1:]]
        means = np.cumsum([state.total for state in states], axis=0) / counts[:, None]
        assert np.sqrt(((means - expected[1:, 1]) ** 2).mean(-1)).max() < 0.05
        assert prefill.prompt_tokens == before + 1 > prefill.cached_tokens > 0
        # Both compute in bfloat16, in batches of other shapes, so single numbers may differ by
        # some of its units; a state is 1 long (rms), another token's is about 1 away from it.
        error = (rms_normalised(torch.tensor(given)) - expected[:, 0]).pow(2).mean(-1).sqrt()
        assert error.max() < 0.05


async def test_a_layer_that_is_not_there_is_refused(tapped: VLLMGenerator) -> None:
    with pytest.raises(EngineError, match="layer 3"):
        await States.of_layer(tapped._engine, 3)


async def test_continuations_are_independent(generator: VLLMGenerator) -> None:
    result = await generator.sample(Chain(LONG), 8, Sampling(max_tokens=24, temperature=1.0))
    assert len({part.text for part in result.continuations}) == 8


@pytest.mark.parametrize(("logprobs", "known"), [("raw_logprobs", True), ("processed", False)])
async def test_a_worker_of_vllm_serve_draws_so_once_it_has_its_model(
    logprobs: str, known: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker of `docs/deploy.md`, which nobody calls anything of from outside."""
    from router.models.generators.vllm_served_worker import ServedWorker

    usual = lambda *_: None  # noqa: E731
    drawing = SimpleNamespace(forward=usual, logprobs_mode=logprobs)
    loaded = SimpleNamespace(sampler=SimpleNamespace(topk_topp_sampler=drawing))
    monkeypatch.setattr(
        ServedWorker.__mro__[2],
        "load_model",
        lambda worker, **_: setattr(worker, "model_runner", loaded),
    )
    object.__new__(ServedWorker).load_model()
    assert (drawing.forward is not usual) == known
    assert ("draws tokens slowly" in caplog.text) != known


async def test_tokens_come_as_often_as_the_models_chances_say(generator: VLLMGenerator) -> None:
    """One random number a token (`vllm_draws`) draws from vLLM's own log-probabilities."""
    from vllm import SamplingParams

    assert await generator._engine.collective_rpc("draw_by_inversion") == [True]
    draws, temperature = 400, 0.1
    settings = SamplingParams(temperature=temperature, max_tokens=1, logprobs=20)

    async def one() -> tuple[int, dict[int, float]]:
        prompt: Any = {"prompt_token_ids": list(range(100, 140))}
        async for output in generator._engine.generate(prompt, settings, str(uuid4())):
            [sampled] = output.outputs
        assert sampled.logprobs is not None
        return sampled.token_ids[0], {t: p.logprob for t, p in sampled.logprobs[0].items()}

    found = await asyncio.gather(*(one() for _ in range(draws)))
    known = {token: chance for _, chances in found for token, chance in chances.items()}
    chances = np.exp((np.array(list(known.values())) - max(known.values())) / temperature)
    expected = dict(zip(known, chances / chances.sum() * draws, strict=True))
    common = [token for token, count in expected.items() if count >= 5]
    counts = [sum(token == drawn for drawn, _ in found) for token in common]
    due = [expected[token] for token in common]
    assert len(common) > 1
    result = chisquare([*counts, draws - sum(counts)], [*due, draws - sum(due)])
    assert result.pvalue > 1e-4


async def test_greedy_continuations_are_equal(generator: VLLMGenerator) -> None:
    result = await generator.sample(Chain(LONG), 3, Sampling(max_tokens=16, temperature=0.0))
    assert len({part.text for part in result.continuations}) == 1


async def test_log_probabilities_are_the_models_own_at_any_temperature(
    generator: VLLMGenerator,
) -> None:
    greedy = await generator.sample(Chain(LONG), 1, Sampling(temperature=0.0, max_tokens=40))
    [continuation] = greedy.continuations
    assert all(step.logprob is not None and step.logprob < 0 for step in continuation.steps)
    hot = await generator.sample(Chain(LONG), 8, Sampling(temperature=2.0, max_tokens=40))
    likelier = [s.logprob for c in hot.continuations for s in c.steps if s.logprob is not None]
    assert np.mean(likelier) < np.mean([s.logprob for s in continuation.steps if s.logprob])


async def test_a_limit_of_tokens_is_kept_and_named(generator: VLLMGenerator) -> None:
    result = await generator.sample(Chain(LONG), 1, Sampling(max_tokens=12))
    assert result.continuations[0].tokens == 12
    assert result.continuations[0].finish == "length"


async def test_a_stop_string_finishes_the_solution(generator: VLLMGenerator) -> None:
    sampling = Sampling(until="step", max_tokens=400, stop=("a", "o"))
    result = await generator.sample(Chain(LONG), 8, sampling)
    stopped = [part for part in result.continuations if part.finish == "stop"]
    assert stopped
    assert not any("a" in part.text or "o" in part.text for part in stopped)


async def test_cancelling_takes_the_work_off_the_engine(generator: VLLMGenerator) -> None:
    task = asyncio.create_task(generator.sample(Chain(LONG), 8, Sampling(max_tokens=1500)))
    assert await eventually(lambda: engine_count("num_requests_running") == 8)
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as left:
        await task
    assert generator._engine.get_num_unfinished_requests() == 0
    # What was done until then is known to the token.
    usage = left.value.usage  # type: ignore[attr-defined]
    assert not usage.lower_bound
    assert 8 <= usage.sampled_tokens < 8 * 1500
    # The engine says what it runs whenever it steps, so give it something to do.
    await generator.sample(Chain(LONG), 1, Sampling(max_tokens=3))
    assert await eventually(lambda: engine_count("num_requests_running") == 0, seconds=5)


async def test_cancelling_at_any_moment_leaves_nothing(generator: VLLMGenerator) -> None:
    for turns in range(12):
        task = asyncio.create_task(generator.sample(Chain(LONG), 2, Sampling(max_tokens=1500)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert generator._engine.get_num_unfinished_requests() == 0


async def test_what_does_not_fit_the_context_is_refused(generator: VLLMGenerator) -> None:
    with pytest.raises(PromptTooLong, match=r"context of 2048 .*--engine-arg max_model_len"):
        await generator.sample(Chain(Problem("huge", "word " * 3000)), 1, Sampling())
    words = Problem("nearly", "word " * 2000)
    left = 2048 - len(generator._encoder.chain_ids(Chain(words)))
    result = await generator.sample(Chain(words), 1, Sampling(max_tokens=2048))
    assert 0 < left < 48
    assert result.continuations[0].tokens == left
    assert result.continuations[0].finish == "length"


async def test_a_seed_that_the_engine_cannot_take_leaves_it_alive(
    generator: VLLMGenerator,
) -> None:
    if generator.info.seeds:
        pytest.skip("this build takes seeds")
    with pytest.raises(InputError, match="seed=1"):
        await generator.sample(Chain(LONG), 2, Sampling(seed=1))
    result = await generator.sample(Chain(LONG), 1, Sampling(max_tokens=2))
    assert result.continuations[0].tokens == 2


async def test_a_directory_that_is_no_model_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        await VLLMGenerator.load(tmp_path, name="none", prompt=PROMPT)


async def test_vllm_says_which_context_fits_its_cache(tiny_checkpoint: Path) -> None:
    """As on a GPU, where this is the default: the cache decides, and what it decided is known."""
    token = 2 * 2 * 64 * 4  # two layers, keys and values, one head, float32
    generator = await VLLMGenerator.load(
        tiny_checkpoint,
        name="tiny",
        prompt=PROMPT,
        max_model_len=FIT,
        kv_cache_memory_bytes=1024 * token,
        dtype="float32",
    )
    try:
        context = generator.info.context
        assert context is not None
        assert 1024 - 2 * CPU_BLOCK <= context <= 1024  # vLLM keeps a block for itself
        with pytest.raises(PromptTooLong, match=f"context of {context}"):
            await generator.sample(Chain(Problem("huge", "word " * 1100)), 1, Sampling())
        assert (await generator.sample(Chain(LONG), 1, Sampling(max_tokens=4))).continuations
    finally:
        await generator.aclose()


class ScriptedEngine:
    """Answers requests with prepared outputs: (token ids, finish reason, stop reason)."""

    model_config = SimpleNamespace(max_model_len=2048)

    def __init__(self, *script: tuple[list[int], str, str | None]) -> None:
        self.script = list(script)
        self.asked: list[tuple[list[int], int]] = []

    async def generate(self, prompt: Any, params: Any, request_id: str) -> AsyncIterator[Any]:
        self.asked.append((prompt["prompt_token_ids"], params.max_tokens))
        token_ids, finish, reason = self.script.pop(0)
        output = SimpleNamespace(
            token_ids=token_ids, logprobs=None, finish_reason=finish, stop_reason=reason
        )
        yield SimpleNamespace(
            request_id=request_id,
            outputs=[output],
            prompt_token_ids=prompt["prompt_token_ids"],
            num_cached_tokens=16,
        )


def scripted(
    tokenizer: Any, *script: tuple[list[int], str, str | None]
) -> tuple[VLLMGenerator, ScriptedEngine]:
    engine = ScriptedEngine(*script)
    encoder = ChainEncoder(tokenizer, get_prompt("plain"))
    return VLLMGenerator(engine, encoder, GeneratorInfo("fake", "vllm", "plain")), engine


BLANK, WORD, WORD_AND_BLANK = [271], [9454], [9454, 382]  # "\n\n", "Yes", "Yes.\n\n"


async def test_a_blank_beginning_is_not_a_step(tokenizer: Any) -> None:
    generator, engine = scripted(
        tokenizer, (BLANK, "stop", "\n\n"), (WORD_AND_BLANK, "stop", "\n\n")
    )
    path = Chain(LONG)
    result = await generator.sample(path, 1, Sampling(until="step", max_tokens=50))
    [step] = result.continuations[0].steps
    assert (step.text, step.finish, step.tokens) == ("\n\nYes.\n\n", "step", 3)
    prompt = generator._encoder.chain_ids(path)
    assert engine.asked == [(prompt, 50), (prompt + BLANK, 49)]
    assert (result.prompt_tokens, result.cached_tokens) == (2 * len(prompt) + 1, 32)


async def test_what_ends_no_step_is_sampled_past(tokenizer: Any) -> None:
    encode = tokenizer.encode
    script = [
        (encode("From Step "), "stop", "Step "),
        (encode("1 on:\n```\nx\n\n"), "stop", "\n\n"),
        (encode("y\n```\n**Step "), "stop", "Step "),
        (encode("2:** z"), "stop", None),
    ]
    generator, engine = scripted(tokenizer, *script)
    first = await generator.sample(Chain(LONG), 1, Sampling(until="step", max_tokens=50))
    [step] = first.continuations[0].steps
    assert (step.text, step.finish) == ("From Step 1 on:\n```\nx\n\ny\n```\n", "step")
    path = Chain(LONG).extend(step)
    second = await generator.sample(path, 1, Sampling(until="step", max_tokens=50))
    [last] = second.continuations[0].steps
    assert (last.text, last.finish) == ("**Step 2:** z", "stop")
    written = [token for ids, _, _ in script[:3] for token in ids]
    assert engine.asked[-1][0] == generator._encoder.chain_ids(Chain(LONG)) + written


async def test_blanks_up_to_the_limit_end_by_length(tokenizer: Any) -> None:
    blank = (BLANK, "stop", "\n\n")
    generator, _ = scripted(tokenizer, blank, blank)
    result = await generator.sample(Chain(LONG), 1, Sampling(until="step", max_tokens=2))
    assert (result.continuations[0].finish, result.continuations[0].tokens) == ("length", 2)


async def test_a_step_that_uses_up_its_own_limit_is_still_a_step(tokenizer: Any) -> None:
    generator, _ = scripted(tokenizer, (WORD_AND_BLANK, "stop", "\n\n"))
    result = await generator.sample(Chain(LONG), 1, Sampling(until="step", max_tokens=2))
    assert result.continuations[0].finish == "step"


async def test_the_delimiter_as_a_stop_string_finishes_a_whole_solution(tokenizer: Any) -> None:
    generator, _ = scripted(tokenizer, (WORD_AND_BLANK, "stop", "\n\n"))
    result = await generator.sample(Chain(LONG), 1, Sampling(stop=("\n\n",)))
    assert (result.continuations[0].text, result.continuations[0].finish) == ("Yes.", "stop")


@pytest.mark.parametrize("reason", ["abort", "error"])
async def test_a_request_that_the_engine_gave_up_is_never_an_answer(
    tokenizer: Any, reason: str
) -> None:
    generator, _ = scripted(tokenizer, (WORD, reason, None))
    with pytest.raises(EngineError, match=reason):
        await generator.sample(Chain(LONG), 1, Sampling())


OWNER = """
import asyncio, sys
from pathlib import Path
from router.models.prompts import Prompt
from router.models.generators.vllm import VLLMGenerator

async def main():
    await VLLMGenerator.load(Path(sys.argv[1]), name="tiny", prompt=Prompt("p"))
    print("ready", flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


def alive(process: psutil.Process) -> bool:
    # Where the first process of a container reaps nothing, the dead stay listed.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("moment", ["starting", "ready"])
async def test_a_killed_owner_leaves_no_process_behind(
    moment: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    root = Path(__file__).parents[2]
    with subprocess.Popen(  # noqa: ASYNC220 (returns at once)
        [sys.executable, str(script), str(tiny_checkpoint)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as owner:
        process = psutil.Process(owner.pid)
        if moment == "ready":
            assert owner.stdout is not None
            # Loading says nothing on stdout: the first line is the script's own.
            assert await asyncio.to_thread(owner.stdout.readline) == "ready\n"
        else:
            assert await eventually(lambda: len(process.children(recursive=True)) >= 2, 600)
        left = process.children(recursive=True)
        assert len(left) >= 2
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        # A process that was still importing dies as soon as it reads its configuration.
        seconds = 10 if moment == "ready" else 300
        assert await eventually(lambda: not any(map(alive, left)), seconds)


async def test_a_dead_engine_is_an_error_with_its_cause(generator: VLLMGenerator) -> None:
    """The last test of the shared engine."""
    call = asyncio.create_task(generator.sample(Chain(LONG), 2, Sampling(max_tokens=1500)))
    assert await eventually(lambda: generator._engine.get_num_unfinished_requests() == 2)
    [core] = [
        process
        for process in psutil.Process().children()
        if process.status() != psutil.STATUS_ZOMBIE  # an earlier engine's, not yet waited for
        and "EngineCore" in " ".join(process.cmdline())
    ]
    core.kill()
    with pytest.raises(EngineError) as failure:
        await call
    assert failure.value.__cause__ is not None
    with pytest.raises(EngineError):
        await generator.sample(Chain(LONG), 1, Sampling(max_tokens=2))
