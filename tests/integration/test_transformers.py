"""The transformers generator against straight-line computations on a tiny random model.

In float32, where the order of a batch's rows cannot flip a greedy choice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from router.models.base import GeneratorInfo
from router.models.errors import EngineError, InputError, PromptTooLong
from router.models.generators.decoding import Request, pick
from router.models.generators.transformers import TransformersGenerator
from router.models.prompts import Prompt
from router.models.states import rms_normalised
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Sampling

pytestmark = pytest.mark.model

PROMPT = Prompt("test", system="Solve it.", delimiter="e")
"""The tiny model writes noise: a common letter makes steps of a few tokens."""

PROBLEMS = [
    Problem("short", "What is 2 + 2?"),
    Problem("long", "A farmer has 17 sheep, sells 5, buys 3 and finds 2. " * 4 + "How many?"),
    Problem("other", "Name the largest prime below 100."),
]
GREEDY = Sampling(temperature=0.0, max_tokens=48)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def plain(tiny_checkpoint: Any) -> Any:
    """The same weights with transformers' plainest attention, for straight-line computations."""
    return AutoModelForCausalLM.from_pretrained(
        tiny_checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> ChainEncoder:
    return ChainEncoder(tokenizer, PROMPT)


def build(
    model: Any, encoder: ChainEncoder, state_layer: int | None = None, context: int = 2048
) -> TransformersGenerator:
    info = GeneratorInfo("tiny", "transformers", PROMPT.id, context=context, seeds=True)
    return TransformersGenerator(model, encoder, info, state_layer)


@pytest.fixture
async def generator(model: Any, encoder: ChainEncoder) -> AsyncIterator[TransformersGenerator]:
    engine = build(model, encoder)
    yield engine
    await engine.aclose()


def reference(model: Any, ids: list[int], tokens: int) -> list[int]:
    """Greedy continuation by transformers' own generate, without batch or shared prefix."""
    output = model.generate(
        torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, pad_token_id=0
    )
    return output[0, len(ids) :].tolist()


def sampled_ids(chain: Chain) -> list[int]:
    return [token for step in chain.steps for token in step.token_ids or ()]


async def test_batched_greedy_equals_each_prompt_alone(generator, plain, encoder):
    answers = await asyncio.gather(
        *(generator.sample(Chain(problem), n=3, sampling=GREEDY) for problem in PROBLEMS)
    )
    for problem, answer in zip(PROBLEMS, answers, strict=True):
        ids = encoder.chain_ids(Chain(problem))
        expected = reference(plain, ids, 48)
        for continuation in answer.continuations:
            assert sampled_ids(Chain(problem).extend(*continuation.steps)) == expected
            assert continuation.tokens == len(expected)
            assert continuation.text == encoder.decode(expected)
        assert answer.prompt_tokens == len(ids)


async def test_rows_that_join_late_leave_the_others_alone(generator, plain, encoder):
    """Three lengths of prompt join a running batch between tokens, and leave it one by one."""

    async def late(problem: Problem, delay: float, tokens: int) -> list[int]:
        await asyncio.sleep(delay)
        sampling = Sampling(temperature=0.0, max_tokens=tokens)
        answer = await generator.sample(Chain(problem), 1, sampling)
        return sampled_ids(Chain(problem).extend(*answer.continuations[0].steps))

    plan = [(PROBLEMS[0], 0.0, 80), (PROBLEMS[1], 0.05, 30), (PROBLEMS[2], 0.1, 60)]
    got = await asyncio.gather(*(late(*entry) for entry in plan))
    for (problem, _, tokens), ids in zip(plan, got, strict=True):
        assert ids == reference(plain, encoder.chain_ids(Chain(problem)), tokens)


async def test_step_by_step_equals_one_go_and_pays_only_new_tokens(generator, plain, encoder):
    chain = Chain(PROBLEMS[1])
    expected = reference(plain, encoder.chain_ids(chain), 48)
    step = Sampling(until="step", temperature=0.0, max_tokens=48)
    while len(sampled_ids(chain)) < 40:
        answer = await generator.sample(chain, 1, step)
        prompt = len(encoder.chain_ids(chain))
        assert answer.prompt_tokens == prompt
        if chain.depth:
            assert answer.cached_tokens == prompt - 1
        (only,) = answer.continuations[0].steps
        assert only.finish == "step"
        assert "e" in only.text
        chain = chain.extend(only)
    assert chain.depth > 3
    assert sampled_ids(chain) == expected[: len(sampled_ids(chain))]


async def test_a_step_ends_with_the_first_token_that_completes_the_delimiter(generator, encoder):
    answer = await generator.sample(
        Chain(PROBLEMS[0]), 16, Sampling(until="step", temperature=1.0, seed=3, max_tokens=64)
    )
    for continuation in answer.continuations:
        *before, _last = continuation.steps[0].token_ids
        assert "e" not in encoder.decode(before).lstrip()
        assert "e" in continuation.text


@pytest.mark.parametrize("state_layer", [1, 2])
async def test_states_equal_a_fresh_forward_of_the_whole_path(model, plain, encoder, state_layer):
    generator = build(model, encoder, state_layer=state_layer)
    recorded: list[torch.Tensor] = []
    chain = Chain(PROBLEMS[0])
    step = Sampling(until="step", temperature=1.0, seed=5, max_tokens=32)
    for _ in range(3):
        answer = await generator.sample(chain, 2, step)
        # The last token of each of the two steps was fed only for its state.
        assert answer.prompt_tokens == len(encoder.chain_ids(chain)) + 2
        chain = chain.extend(*answer.continuations[1].steps)
    rest = await generator.sample(chain, 1, Sampling(temperature=1.0, seed=5, max_tokens=24))
    chain = chain.extend(*rest.continuations[0].steps)
    prefill = await generator.prefill(chain.problem)
    assert generator.state_layer == state_layer
    await generator.aclose()

    hook = plain.model.layers[state_layer - 1].register_forward_hook(
        lambda module, args, output: recorded.append(output)
    )
    with torch.inference_mode():
        plain(torch.tensor([encoder.chain_ids(chain)]))
    hook.remove()
    position = len(encoder.prompt_ids(chain.problem)) - 1
    assert prefill.cached_tokens == position
    after = recorded[-1][0, position].numpy()
    np.testing.assert_allclose(prefill.state, after, rtol=1e-4, atol=1e-4)
    assert chain.depth > 4
    for one in chain.steps:
        own = recorded[-1][0, position + 1 : position + 1 + one.tokens]
        position += one.tokens
        assert one.state.last.dtype == one.state.total.dtype == np.float32
        assert one.state.tokens == one.tokens
        np.testing.assert_allclose(one.state.last, own[-1].numpy(), rtol=1e-4, atol=1e-4)
        total = rms_normalised(own).sum(0).numpy()
        np.testing.assert_allclose(one.state.total, total, rtol=1e-4, atol=1e-3)


async def test_state_of_a_solution_that_ends_is_of_its_last_text_token(model, plain, encoder):
    """The end-of-text token costs no pass of its own."""
    chain = Chain(PROBLEMS[0])
    ids = encoder.chain_ids(chain)
    greedy = reference(plain, ids, 6)
    old = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [old, greedy[5]]
    try:
        generator = build(model, encoder, state_layer=2)
        answer = await generator.sample(chain, 1, GREEDY)
        await generator.aclose()
        with torch.inference_mode():
            states: list[torch.Tensor] = []
            hook = plain.model.layers[1].register_forward_hook(lambda m, a, o: states.append(o))
            plain(torch.tensor([[*ids, *greedy]]))
            hook.remove()
    finally:
        model.generation_config.eos_token_id = old
    last = answer.continuations[0].steps[-1]
    assert (last.finish, answer.continuations[0].tokens) == ("stop", 6)
    assert answer.prompt_tokens == len(ids)
    np.testing.assert_allclose(last.state.last, states[0][0, -2].numpy(), rtol=1e-4, atol=1e-4)
    assert sum(step.state.tokens for step in answer.continuations[0].steps) == 5


async def test_a_seed_fixes_the_text_whatever_else_is_in_the_batch(generator):
    seeded = Sampling(temperature=1.0, seed=11, max_tokens=24)
    alone = await generator.sample(Chain(PROBLEMS[0]), 3, seeded)
    crowd = await asyncio.gather(
        generator.sample(Chain(PROBLEMS[1]), 2, Sampling(temperature=1.0, max_tokens=40)),
        generator.sample(Chain(PROBLEMS[0]), 3, seeded),
        generator.sample(Chain(PROBLEMS[2]), 5, Sampling(temperature=0.5, max_tokens=10)),
    )
    texts = [continuation.text for continuation in alone.continuations]
    assert [continuation.text for continuation in crowd[1].continuations] == texts
    assert len(set(texts)) == 3
    other = await generator.sample(
        Chain(PROBLEMS[0]), 3, Sampling(temperature=1.0, seed=12, max_tokens=24)
    )
    assert {continuation.text for continuation in other.continuations}.isdisjoint(texts)


async def test_logprobs_are_the_models_own(generator, plain, encoder):
    chain = Chain(PROBLEMS[0])
    sampling = Sampling(until="step", temperature=0.7, top_p=0.9, seed=1, max_tokens=32)
    answer = await generator.sample(chain, 1, sampling)
    (step,) = answer.continuations[0].steps
    ids = encoder.chain_ids(chain)
    with torch.inference_mode():
        logits = plain(torch.tensor([[*ids, *step.token_ids]])).logits[0]
    logprobs = logits.log_softmax(-1)[len(ids) - 1 : -1]
    expected = logprobs[range(len(step.token_ids)), list(step.token_ids)].mean()
    assert step.logprob == pytest.approx(float(expected), abs=1e-3)


async def test_stop_strings_keep_the_text_before_them(generator, plain, encoder):
    expected = encoder.decode(reference(plain, encoder.chain_ids(Chain(PROBLEMS[0])), 48))
    stop = expected[60:63]
    answer = await generator.sample(
        Chain(PROBLEMS[0]), 1, Sampling(temperature=0.0, max_tokens=48, stop=(stop,))
    )
    assert answer.continuations[0].text == expected[: expected.index(stop)]
    assert answer.continuations[0].finish == "stop"


async def test_cancelling_a_call_frees_its_rows_at_once(generator, plain, encoder):
    endless = Sampling(temperature=1.0, max_tokens=1900)
    task = asyncio.create_task(generator.sample(Chain(PROBLEMS[1]), 32, endless))
    while not any(row.ids for row in generator._decoder._live):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as left:
        await task
    assert 0 < left.value.usage.sampled_tokens < 32 * 1900
    answer = await asyncio.wait_for(generator.sample(Chain(PROBLEMS[0]), 1, GREEDY), 30)
    ids = encoder.chain_ids(Chain(PROBLEMS[0]))
    chain = Chain(PROBLEMS[0]).extend(*answer.continuations[0].steps)
    assert sampled_ids(chain) == reference(plain, ids, 48)
    assert generator._decoder._live == []


async def test_more_rows_than_fit_wait_for_their_turn(generator, monkeypatch):
    monkeypatch.setattr("router.models.generators.decoding.MAX_ROWS", {"cpu": 3})
    seeded = Sampling(temperature=1.0, seed=2, max_tokens=8)
    answers = await asyncio.gather(
        *(generator.sample(Chain(problem), 5, seeded) for problem in PROBLEMS)
    )
    assert [len(answer.continuations) for answer in answers] == [5, 5, 5]
    monkeypatch.undo()
    again = await generator.sample(Chain(PROBLEMS[1]), 5, seeded)
    assert [c.text for c in again.continuations] == [c.text for c in answers[1].continuations]


async def test_a_failing_request_fails_alone(generator):
    def explode() -> Any:
        return lambda ids: 1 / 0

    bad = Request([1, 2, 3], 1, 8, 0.0, 1.0, None, explode)
    with pytest.raises(EngineError, match="ZeroDivisionError") as caught:
        await generator._decoder.decode(bad)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    unknown = Request([10**9, 2], 1, 8, 0.0, 1.0, None, lambda: lambda ids: None)
    fine = generator.sample(Chain(PROBLEMS[0]), 1, GREEDY)
    failed, answer = await asyncio.gather(
        generator._decoder.decode(unknown), fine, return_exceptions=True
    )
    assert isinstance(failed, EngineError)
    assert answer.continuations[0].tokens == 48


async def test_a_request_says_what_was_done_for_it_however_it_ends(generator, encoder, monkeypatch):
    monkeypatch.setattr("router.models.generators.decoding.MAX_ROWS", {"cpu": 3})
    ids = encoder.chain_ids(Chain(PROBLEMS[1]))

    def request(n: int, limit: int = 1900, ended: Any = lambda _: None) -> Request:
        return Request(ids, n, limit, 1.0, 1.0, None, lambda: ended)

    def done(request: Request) -> tuple[int, int, int]:
        return request.sampled_tokens, request.prompt_tokens, request.cached_tokens

    def fails_at_the_third(ids: list[int]) -> None:
        if len(ids) == 3:
            raise ZeroDivisionError

    failed = request(2, ended=fails_at_the_third)
    with pytest.raises(EngineError):
        await generator._decoder.decode(failed)
    assert done(failed) == (6, len(ids), 0)

    ten_each = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tells_of_the_tenth(ids: list[int]) -> None:
        if len(ids) == 10:
            loop.call_soon_threadsafe(ten_each.set)

    running, waiting = request(3, ended=tells_of_the_tenth), request(2)
    tasks = [asyncio.create_task(generator._decoder.decode(one)) for one in (running, waiting)]
    await asyncio.wait_for(ten_each.wait(), 60)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
    sampled, prompt, cached = done(running)
    assert (prompt, cached) == (len(ids), len(ids) - 1)
    assert 30 <= sampled < 3 * 1900
    assert done(waiting) == (0, 0, 0)

    finished = request(2, limit=4)
    await generator._decoder.decode(finished)
    assert done(finished) == (8, len(ids), len(ids) - 1)
    # Nothing but what the pass that ran at the time sampled has been added to the cancelled one.
    assert running.sampled_tokens <= sampled + 3


async def test_context_is_respected(model, encoder):
    generator = build(model, encoder, context=60)
    prompt = len(encoder.chain_ids(Chain(PROBLEMS[0])))
    answer = await generator.sample(Chain(PROBLEMS[0]), 1, GREEDY)
    assert answer.continuations[0].finish == "length"
    assert answer.continuations[0].tokens == 60 - prompt
    with pytest.raises(PromptTooLong, match="60"):
        await generator.sample(Chain(PROBLEMS[1]), 1, GREEDY)
    with pytest.raises(InputError, match="-1"):
        await generator.sample(Chain(PROBLEMS[0]), 1, Sampling(seed=-1))
    await generator.aclose()


async def test_closing_fails_what_runs(model, encoder):
    generator = build(model, encoder)
    # More rows than are decoded at once: some run, some wait.
    task = asyncio.create_task(generator.sample(Chain(PROBLEMS[0]), 70, Sampling(max_tokens=1900)))
    await asyncio.sleep(0.5)
    await asyncio.wait_for(generator.aclose(), 60)
    with pytest.raises(EngineError, match="closed"):
        await task
    with pytest.raises(EngineError, match="closed"):
        await generator.sample(Chain(PROBLEMS[0]), 1, GREEDY)


async def test_load_reads_a_checkpoint_and_refuses_what_is_none(tiny_checkpoint, tmp_path):
    generator = await TransformersGenerator.load(tiny_checkpoint, name="tiny", prompt=PROMPT)
    info = generator.info
    assert (info.model, info.engine, info.prompt) == ("tiny", "transformers", "test")
    assert (info.context, info.seeds) == (2048, True)
    model = generator._decoder._model
    looked_up = model.get_input_embeddings().weight.numel()
    assert info.parameters == sum(p.numel() for p in model.parameters()) - looked_up
    answer = await generator.sample(Chain(PROBLEMS[0]), 2, Sampling(max_tokens=5))
    assert [c.tokens for c in answer.continuations] == [5, 5]
    await generator.aclose()
    with pytest.raises(InputError, match="layers 1 to 2, not 3"):
        await TransformersGenerator.load(tiny_checkpoint, name="t", prompt=PROMPT, state_layer=3)


def test_pick_follows_the_distribution():
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(1000, 1)
    ones = np.ones(1000)
    grid = (np.arange(1000) + 0.5) / 1000
    tokens, logprobs = pick(logits, ones, ones, grid)
    assert np.bincount(tokens).tolist() == [100, 200, 300, 400]
    assert logprobs[0] == pytest.approx(np.log(0.1), abs=1e-5)
    # Nucleus of 0.6: the most likely tokens whose mass before them is below 0.6.
    nucleus, _ = pick(logits, ones, 0.6 * ones, grid)
    assert set(nucleus) == {2, 3}
    assert np.bincount(nucleus)[3] == pytest.approx(1000 * 4 / 7, abs=1)
    sharp, _ = pick(logits, 0.5 * ones, ones, grid)
    assert np.bincount(sharp)[3] == pytest.approx(1000 * 0.16 / 0.30, abs=1)
    assert set(pick(logits, 0 * ones, ones, grid)[0]) == {3}
    assert all(left <= right for left, right in pairwise(tokens))
