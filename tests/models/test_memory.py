"""Which cards models get and how much of them, by computation: no GPU is needed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from router.models import placement
from router.models.errors import InputError, ModelError
from router.models.placement import Wanted, measure_cards, placed
from router.models.runtime.memory import (
    CONTEXT_BYTES,
    LEAST_CONTEXT,
    USABLE,
    WORKING_BYTES,
    GraphicsCard,
    Tenant,
    share_cards,
    tenant,
)

GB = 10**9

QWEN = SimpleNamespace(
    hidden_size=1536,
    intermediate_size=8960,
    max_position_embeddings=32_768,
    num_attention_heads=12,
    num_hidden_layers=28,
    num_key_value_heads=2,
    tie_word_embeddings=True,
    vocab_size=151_936,
)
"""config.json of Qwen/Qwen2.5-1.5B-Instruct, as published."""

PRM = SimpleNamespace(
    hidden_size=3584,
    intermediate_size=18_944,
    max_position_embeddings=4096,
    num_attention_heads=28,
    num_hidden_layers=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
    vocab_size=152_064,
)
"""config.json of Qwen/Qwen2.5-Math-PRM-7B, as published."""

Tensors = list[tuple[str, str, Sequence[int]]]


def qwen2(config: Any, kind: str = "BF16") -> Tensors:
    """The tensors that a Qwen2 checkpoint of these sizes holds, without an output embedding."""
    hidden, inner = config.hidden_size, config.intermediate_size
    keys = hidden // config.num_attention_heads * config.num_key_value_heads

    def shapes() -> Iterator[tuple[str, Sequence[int]]]:
        yield "model.embed_tokens.weight", (config.vocab_size, hidden)
        for layer in range(config.num_hidden_layers):
            at = f"model.layers.{layer}."
            for name, width in (("q", hidden), ("k", keys), ("v", keys)):
                yield f"{at}self_attn.{name}_proj.weight", (width, hidden)
                yield f"{at}self_attn.{name}_proj.bias", (width,)
            yield f"{at}self_attn.o_proj.weight", (hidden, hidden)
            yield f"{at}mlp.gate_proj.weight", (inner, hidden)
            yield f"{at}mlp.up_proj.weight", (inner, hidden)
            yield f"{at}mlp.down_proj.weight", (hidden, inner)
            yield f"{at}input_layernorm.weight", (hidden,)
            yield f"{at}post_attention_layernorm.weight", (hidden,)
        yield "model.norm.weight", (hidden,)

    return [(name, kind, shape) for name, shape in shapes()]


def head(config: Any) -> Tensors:
    size = config.hidden_size
    return [
        ("score.0.weight", "BF16", (size, size)),
        ("score.0.bias", "BF16", (size,)),
        ("score.2.weight", "BF16", (2, size)),
        ("score.2.bias", "BF16", (2,)),
    ]


def generator(**args: Any) -> Tenant:
    return tenant("generator", "Qwen2.5-1.5B-Instruct", qwen2(QWEN), QWEN, args)


def verifier(**args: Any) -> Tenant:
    return tenant("verifier", "Qwen2.5-Math-PRM-7B", [*qwen2(PRM), *head(PRM)], PRM, args)


def empty(size: float) -> GraphicsCard:
    """A card of that many GB, of which the driver keeps some."""
    return GraphicsCard(int(size * GB), int(size * GB) - GB // 2)


def starts(card: GraphicsCard, tenants: Sequence[Tenant], order: Sequence[int]) -> None:
    """Let vLLM 0.32 start them in that order: what its sources ask for (see `memory`)."""
    shares = share_cards([card], tenants)
    free = card.free
    for index in order:
        share, one = shares[index], tenants[index]
        free -= CONTEXT_BYTES
        requested = card.total * share.utilization
        assert free >= requested, "free memory is less than the desired utilization"
        cache = requested - one.weights - WORKING_BYTES
        assert cache >= share.context * one.token * 0.99, "the context does not fit the cache"
        free -= int(requested)
    assert sum(share.utilization for share in shares) <= USABLE


def test_sizes_are_those_of_the_published_models() -> None:
    assert generator().weights == 2 * 1_543_714_304
    assert verifier().weights == 2 * 7_083_474_946
    assert generator().token == 28 * 2 * 128 * 2 * 2
    assert verifier().token == 28 * 4 * 128 * 2 * 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("size", [24, 25.3, 48, 80])
def test_a_generator_and_a_7b_prm_share_a_card_of_24_gb(size: float, order: Sequence[int]) -> None:
    tenants = [generator(), verifier()]
    starts(empty(size), tenants, order)
    ours, theirs = share_cards([empty(size)], tenants)
    assert ours.cards == theirs.cards == (0,)
    assert theirs.context == PRM.max_position_embeddings
    assert 8192 <= ours.context <= QWEN.max_position_embeddings


def test_what_is_left_goes_to_caches_in_which_equally_many_tokens_fit() -> None:
    card, tenants = empty(80), [generator(), verifier()]
    tokens = [
        (share.utilization * card.total - one.weights - WORKING_BYTES) / one.token
        for share, one in zip(share_cards([card], tenants), tenants, strict=True)
    ]
    assert tokens[0] == pytest.approx(tokens[1], rel=0.01)
    used = sum(share.utilization for share in share_cards([card], tenants))
    assert used == pytest.approx(USABLE, abs=0.001)


def test_12_gb_are_too_few_and_the_numbers_say_why() -> None:
    with pytest.raises(InputError) as refused:
        share_cards([empty(12)], [generator(), verifier()])
    said = str(refused.value)
    for part in (
        "generator Qwen2.5-1.5B-Instruct and verifier Qwen2.5-Math-PRM-7B do not fit on card 0",
        "12.0 GB 11.5 GB are free and 10.4 GB can be used",
        "generator 3.1 GB of weights, 0.1 GB of cache for 4,096 tokens, 1.6 GB to compute with",
        "verifier 14.2 GB of weights, 0.2 GB of cache",
        "--verifier-arg quantization=fp8_per_tensor",
        "--engine-arg or --verifier-arg max_model_len=…",
        "--verifier-arg tensor_parallel_size=2",
        "--endpoint",
    ):
        assert part in said
    assert "what else runs" not in said


def test_what_others_hold_of_the_card_is_not_divided() -> None:
    busy = GraphicsCard(24 * GB, 12 * GB)
    with pytest.raises(InputError, match=r"12\.0 GB are free .*free the card"):
        share_cards([busy], [generator(), verifier()])
    starts(busy, [generator()], [0])


def test_the_way_out_that_is_named_is_one() -> None:
    with pytest.raises(InputError, match="quantization=fp8_per_tensor"):
        share_cards([empty(16)], [generator(), verifier()])
    starts(empty(16), [generator(), verifier(quantization="fp8_per_tensor")], (0, 1))


def test_a_context_that_was_asked_for_is_made_room_for() -> None:
    card, wish = empty(24), 32_768
    ours, theirs = share_cards([card], [generator(max_model_len=wish), verifier()])
    assert ours.context == wish
    assert theirs.context < wish
    starts(card, [generator(max_model_len=wish), verifier()], (0, 1))
    with pytest.raises(InputError, match=r"cache for 100,000 tokens"):
        share_cards([card], [generator(max_model_len=100_000), verifier()])
    # Fewer than usual is enough, if that is what was asked for.
    tight = GraphicsCard(24 * GB, 21_800_000_000)
    with pytest.raises(InputError):
        share_cards([tight], [generator(), verifier()])
    share_cards([tight], [generator(max_model_len=512), verifier(max_model_len=512)])


def test_a_utilization_that_was_asked_for_is_kept_and_the_other_gets_the_rest() -> None:
    card = empty(24)
    ours, theirs = share_cards([card], [generator(gpu_memory_utilization=0.25), verifier()])
    assert ours.utilization == 0.25
    assert theirs.utilization == pytest.approx(USABLE - 0.25, abs=0.001)
    with pytest.raises(InputError, match=r"generator 12\.0 GB by gpu_memory_utilization"):
        share_cards([card], [generator(gpu_memory_utilization=0.5), verifier()])
    # Who says both numbers knows better than this arithmetic.
    both = [generator(gpu_memory_utilization=0.1), verifier(gpu_memory_utilization=0.5)]
    assert [share.utilization for share in share_cards([card], both)] == [0.1, 0.5]


def test_one_model_alone_gets_what_vllm_would_take() -> None:
    [share] = share_cards([empty(24)], [generator()])
    assert share.utilization == pytest.approx(USABLE, abs=0.0002)
    assert share.context == QWEN.max_position_embeddings


def test_each_model_gets_its_own_card() -> None:
    cards = [empty(24), empty(24)]
    ours, theirs = share_cards(cards, [generator(), verifier()])
    assert (ours.cards, theirs.cards) == ((0,), (1,))
    assert ours.utilization == pytest.approx(USABLE, abs=0.0002)
    # A card of 16 GB is enough for each, and not for both.
    share_cards([empty(8), empty(20)], [generator(), verifier()])


def test_tensor_parallelism_takes_several_cards() -> None:
    cards = [empty(16)] * 3
    halves = verifier(tensor_parallel_size=2)
    assert halves.weights == verifier().weights // 2
    assert halves.token == verifier().token // 2
    ours, theirs = share_cards(cards, [generator(), halves])
    assert (ours.cards, theirs.cards) == ((0,), (1, 2))
    with pytest.raises(InputError, match=r"verifier .*4 cards, and there are 3.*--verifier-arg"):
        share_cards(cards, [generator(), verifier(tensor_parallel_size=4)])


def test_too_few_cards_are_shared() -> None:
    pair = [generator(), verifier(tensor_parallel_size=2)]
    ours, theirs = share_cards([empty(24), empty(24)], pair)
    assert (ours.cards, theirs.cards) == ((0,), (0, 1))
    # vLLM takes one number for all its cards: that of the card with less to spare.
    assert ours.utilization + theirs.utilization <= USABLE
    both = [generator(tensor_parallel_size=2), verifier(tensor_parallel_size=2)]
    assert {share.cards for share in share_cards([empty(24)] * 2, both)} == {(0, 1)}


def test_cards_that_were_asked_for_are_kept_free_for_it() -> None:
    cards = [empty(24)] * 2
    ours, theirs = share_cards(cards, [generator(), verifier(device_ids=[0])])
    assert (ours.cards, theirs.cards) == ((1,), (0,))
    with pytest.raises(InputError, match=r"--verifier-arg device_ids=\[2\]: .* 0 to 1"):
        share_cards(cards, [generator(), verifier(device_ids=[2])])


@pytest.mark.parametrize(
    ("kind", "args", "size"),
    [
        ("BF16", {}, 2),
        ("F32", {}, 2),
        ("F32", {"dtype": "float32"}, 4),
        ("BF16", {"dtype": "float"}, 4),
        ("BF16", {"dtype": "half"}, 2),
        ("F8_E4M3", {}, 1),
        ("I32", {"dtype": "half"}, 4),
    ],
)
def test_weights_take_what_they_are_loaded_as(kind: str, args: dict[str, Any], size: int) -> None:
    one = tenant("generator", "m", [("a.weight", kind, (10, 10))], QWEN, args)
    assert one.weights == 100 * size


def test_quantizing_while_loading_leaves_embeddings_and_vectors() -> None:
    tensors: Tensors = [
        ("model.embed_tokens.weight", "BF16", (10, 10)),
        ("model.layers.0.mlp.up_proj.weight", "BF16", (10, 10)),
        ("model.norm.weight", "BF16", (10,)),
    ]
    one = tenant("generator", "m", tensors, QWEN, {"quantization": "fp8_per_tensor"})
    assert one.weights == 200 + 100 + 20


def test_caches_take_what_their_type_and_heads_say() -> None:
    assert generator(kv_cache_dtype="fp8").token == generator().token // 2
    # Two heads cannot be split over four cards: each has a whole one.
    assert generator(tensor_parallel_size=4).token == generator().token // 2
    own = SimpleNamespace(**vars(QWEN), head_dim=256)
    assert tenant("generator", "m", [], own, {}).token == 2 * generator().token
    del own.num_key_value_heads
    assert tenant("generator", "m", [], own, {}).token == 12 * generator().token


def test_a_model_of_a_short_context_needs_no_more() -> None:
    assert generator().least == LEAST_CONTEXT
    assert replace(generator(), longest=2048).least == 2048


# -- reading checkpoints and cards ----------------------------------------------------------


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "measure_cards", lambda: (empty(24), empty(24)))


@pytest.mark.usefixtures("two_cards")
def test_engines_get_their_share_and_keep_what_was_asked(tiny_checkpoint: Path) -> None:
    generator, verifier = placed(
        [
            Wanted("generator", "g", tiny_checkpoint, "vllm", {"dtype": "half"}),
            Wanted("verifier", "v", tiny_checkpoint, "vllm", {"gpu_memory_utilization": 0.2}),
        ]
    )
    assert generator.pop("gpu_memory_utilization") == pytest.approx(USABLE, abs=0.001)
    assert generator == {"dtype": "half", "device_ids": [0]}
    assert verifier == {"gpu_memory_utilization": 0.2, "device_ids": [1]}


def test_one_card_needs_no_number(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "measure_cards", lambda: (empty(24),))
    (args,) = placed([Wanted("generator", "g", tiny_checkpoint, "vllm", {})])
    assert args.keys() == {"gpu_memory_utilization"}


@pytest.mark.usefixtures("two_cards")
def test_a_model_on_transformers_holds_the_first_card(tiny_checkpoint: Path) -> None:
    verifier, generator = placed(
        [
            Wanted("verifier", "v", tiny_checkpoint, "vllm", {}),
            Wanted("generator", "g", tiny_checkpoint, "transformers", {}),
        ]
    )
    assert verifier["device_ids"] == [1]
    assert generator == {}


def test_without_vllm_nothing_is_measured(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "measure_cards", lambda: pytest.fail("measured"))
    wanted = [Wanted("generator", "g", tiny_checkpoint, "transformers", {})]
    assert placed(wanted) == [{}]


@pytest.mark.usefixtures("two_cards")
def test_a_number_that_is_none_is_refused(tiny_checkpoint: Path) -> None:
    wanted = [Wanted("generator", "g", tiny_checkpoint, "vllm", {"tensor_parallel_size": "two"})]
    with pytest.raises(InputError, match=r"generator g: .*'two'"):
        placed(wanted)


def test_cards_are_asked_for_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Sequence[str], **_: Any) -> SimpleNamespace:
        assert "mem_get_info" in command[-1]
        return SimpleNamespace(stdout=f"a warning\n{json.dumps([[1, 2], [3, 4]])}\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert measure_cards() == (GraphicsCard(total=2, free=1), GraphicsCard(total=4, free=3))

    def fail(command: Sequence[str], **_: Any) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="Traceback\nno driver")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(ModelError, match=r"cards' memory: no driver"):
        measure_cards()
