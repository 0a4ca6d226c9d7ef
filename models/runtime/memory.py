"""Which cards the models of a process get, and how much of each: arithmetic before any loads.

What vLLM 0.32 makes of `gpu_memory_utilization`, read in its source (paths below `vllm/`):

- An engine asks for that share of the card's *total* memory, and refuses to start where less than
  that is free (`v1/worker/utils.py:724-770`). It looks when its worker has its CUDA context
  (`v1/worker/gpu_worker.py:534-538`): the context comes on top of the share.
- What it has itself taken since then, and the peak of a dry run, are within its share; the cache
  gets the rest of the share, whoever else is on the card (`v1/worker/gpu_worker.py:740-744`,
  `utils/mem_utils.py:312-321`). Nothing may be freed meanwhile by others (`gpu_worker.py:719-727`).
- The default, 0.92 (`config/cache.py:102`), leaves a second engine nothing.

So engines are started one after the other, in any order, each with a share of its own, such that
all shares and all contexts together fit what is free before the first one starts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from router.models.errors import InputError

Role = Literal["generator", "verifier"]

OPTIONS: Final[Mapping[str, str]] = {"generator": "--engine-arg", "verifier": "--verifier-arg"}
"""The option that gives a model's engine its arguments."""

WORKING_BYTES: Final = 3 << 29
"""Of one engine, for activations and CUDA graphs: 1.5 GiB. vLLM's authors measured a peak of
1.1 GiB at 128 requests and 1.7 GiB at 256 (vllm-project/vllm#9003), 1.26 GiB for an 8B model
(#10511); vLLM's default here is 128 (`config/scheduler.py`), and graphs take some tenths. vLLM
measures it itself when it starts: where this is wrong, the cache gets more or less."""

CONTEXT_BYTES: Final = 1 << 29
"""Of one process on a card, for its CUDA context and libraries: 0.5 GiB, outside of its share."""

USABLE: Final = 0.92
"""Share of a card's total memory that its engines get together: vLLM's default for one."""

LEAST_CONTEXT: Final = 4096
"""Tokens of prompt plus answer that a model must have room for unless fewer are asked for."""

_DTYPES: Final[Mapping[str, int]] = {"float": 4, "float32": 4}
"""Bytes of a number in the types that take more than two. `auto` is never one of them: vLLM loads
float32 checkpoints in 16 bits (`config/model.py:2405-2446`)."""

_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})
"""What safetensors calls the types that are cast when they are loaded; others are packed."""

_QUANTIZED: Final[Mapping[str, float]] = {
    "fp8_per_tensor": 1,
    "fp8_per_block": 1,
    "fp8_per_channel": 1,
    "int8_per_channel_weight_only": 1,
    "mxfp8": 1.03,
    "nvfp4_per_token": 0.57,
}
"""Bytes of a weight, scales included, where vLLM quantizes a checkpoint while it loads it, layer by
layer (`model_executor/layers/quantization/online`): all matrices but the embeddings."""

_EMBEDDINGS: Final = ("embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True, slots=True)
class GraphicsCard:
    """One GPU; bytes, as `torch.cuda.mem_get_info` says."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """A model that will be loaded: what it takes of each of its cards, and what was asked for it.

    weights: bytes; token: bytes of cache that one token takes; longest: context in tokens that
    the model was made for; count: cards that it is spread over; context: tokens, if asked for;
    utilization: share of each card's memory, if asked for; device_ids: its cards, if asked for.
    """

    role: Role
    name: str
    weights: int
    token: int
    longest: int
    count: int = 1
    context: int | None = None
    utilization: float | None = None
    device_ids: tuple[int, ...] = ()

    @property
    def least(self) -> int:
        """Tokens that its cache must hold."""
        return self.context or min(self.longest, LEAST_CONTEXT)


@dataclass(frozen=True, slots=True)
class Share:
    """What a tenant gets.

    cards: indices of them; utilization: `gpu_memory_utilization`; context: tokens, the longest
    that one chain may be by this arithmetic. vLLM measures, and may find a little more or less.
    """

    cards: tuple[int, ...]
    utilization: float
    context: int


def tenant(
    role: Role,
    name: str,
    tensors: Iterable[tuple[str, str, Sequence[int]]],
    config: Any,
    args: Mapping[str, Any],
) -> Tenant:
    """A model by what its checkpoint says.

    tensors: name, type (as safetensors calls it) and shape of each stored tensor.
    config: of the text model; has the attributes of transformers' configurations.
    args: the engine arguments that were asked for.
    """
    size = _DTYPES.get(str(args.get("dtype")).removeprefix("torch."), 2)
    quantized = _QUANTIZED.get(str(args.get("quantization")), size)
    tied = getattr(config, "tie_word_embeddings", False)
    weights = 0.0
    for tensor, kind, shape in tensors:
        if tied and tensor.endswith("lm_head.weight"):
            continue
        matrix = len(shape) > 1 and not tensor.endswith(_EMBEDDINGS)
        weights += math.prod(shape) * _item_bytes(kind, quantized if matrix else size)
    split, stages = (int(args.get(f"{way}_parallel_size") or 1) for way in ("tensor", "pipeline"))
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    stored = 1 if str(args.get("kv_cache_dtype")).startswith(("fp8", "int8")) else size
    layers = math.ceil(config.num_hidden_layers / stages)
    longest = int(config.max_position_embeddings)
    asked = args.get("max_model_len")
    utilization = args.get("gpu_memory_utilization")
    return Tenant(
        role,
        name,
        weights=math.ceil(weights / (split * stages)),
        token=layers * math.ceil(heads / split) * width * 2 * stored,
        longest=longest,
        count=split * stages * int(args.get("data_parallel_size") or 1),
        context=asked if isinstance(asked, int) and asked > 0 else None,
        utilization=None if utilization is None else float(utilization),
        device_ids=tuple(args.get("device_ids") or ()),
    )


def share_cards(cards: Sequence[GraphicsCard], tenants: Sequence[Tenant]) -> tuple[Share, ...]:
    """What each tenant gets, in their order.

    Each gets cards of its own where there are enough, else they share the first ones. The memory
    of a card goes to weights and working memory, then to caches for the context that each must
    have, and what is left to caches in which equally many tokens fit: the chains of a search lie in
    all of them. A tenant whose utilization was asked for gets that, and is not refused.

    Raises:
        InputError: more cards are asked for than there are, or the tenants do not fit.
    """
    places = _place(len(cards), tenants)
    caches: list[list[tuple[float, float]]] = [[] for _ in tenants]
    for index, card in enumerate(cards):
        here = [number for number, place in enumerate(places) if index in place]
        for number, part in zip(
            here, _divide(index, card, [tenants[number] for number in here]), strict=True
        ):
            caches[number].append(part)
    shares = []
    for one, place, parts in zip(tenants, places, caches, strict=True):
        cache = min(cache for _, cache in parts)
        longest = max(int(cache / one.token), 0)
        context = one.context or min(one.longest, longest)
        utilization = min(utilization for utilization, _ in parts)
        shares.append(Share(place, utilization, context))
    return tuple(shares)


def _item_bytes(kind: str, size: float) -> float:
    """Bytes of one number of a stored type, where floats are cast to `size`."""
    if kind in _FLOATS:
        return size
    return int("".join(filter(str.isdigit, kind.partition("_")[0])) or 8) / 8


def _place(count: int, tenants: Sequence[Tenant]) -> list[tuple[int, ...]]:
    for one in tenants:
        option = OPTIONS[one.role]
        if one.count > count:
            raise InputError(
                f"{one.role} {one.name} is to be spread over {one.count} cards, and there are "
                f"{count}; lower {option} tensor_parallel_size"
            )
        if one.device_ids and not set(one.device_ids) <= set(range(count)):
            raise InputError(
                f"{option} device_ids={list(one.device_ids)}: the cards here are 0 to {count - 1}"
            )
    taken = {index for one in tenants for index in one.device_ids}
    left = [index for index in range(count) if index not in taken]
    apart = sum(one.count for one in tenants if not one.device_ids) <= len(left)
    places = []
    for one in tenants:
        if one.device_ids:
            places.append(one.device_ids)
        elif apart:
            places.append(tuple(left[: one.count]))
            del left[: one.count]
        else:
            places.append(tuple(range(one.count)))
    return places


def _divide(index: int, card: GraphicsCard, tenants: Sequence[Tenant]) -> list[tuple[float, float]]:
    """Utilization of each tenant, and bytes of its cache."""
    if not tenants:
        return []
    usable = min(card.free - len(tenants) * CONTEXT_BYTES, int(USABLE * card.total))
    given = sum(one.utilization * card.total for one in tenants if one.utilization is not None)
    others = [one for one in tenants if one.utilization is None]
    needed = sum(one.weights + WORKING_BYTES + one.least * one.token for one in others)
    spare = usable - given - needed
    if others and spare < 0:
        raise InputError(_refusal(index, card, tenants, usable))
    more = spare / max(sum(one.token for one in others), 1)
    parts = []
    for one in tenants:
        fixed = one.weights + WORKING_BYTES
        if one.utilization is not None:
            parts.append((one.utilization, one.utilization * card.total - fixed))
        else:
            cache = (one.least + more) * one.token
            # Rounded down, so that all of them still fit.
            parts.append((math.floor((fixed + cache) / card.total * 1e4) / 1e4, cache))
    return parts


def _refusal(index: int, card: GraphicsCard, tenants: Sequence[Tenant], usable: int) -> str:
    names = " and ".join(f"{one.role} {one.name}" for one in tenants)
    parts = [
        f"{one.role} "
        + (
            f"{_gb(one.weights)} of weights, {_gb(one.least * one.token)} of cache for "
            f"{one.least:,} tokens, {_gb(WORKING_BYTES)} to compute with"
            if one.utilization is None
            else f"{_gb(one.utilization * card.total)} by gpu_memory_utilization"
        )
        for one in tenants
    ]
    options = [OPTIONS[one.role] for one in tenants]
    ways = [
        "free the card (what else runs on it?)" if card.free < USABLE * card.total else "",
        f"quantize ({options[-1]} quantization=fp8_per_tensor)",
        f"a shorter context ({' or '.join(options)} max_model_len=…)",
        f"several cards ({options[-1]} tensor_parallel_size=2)",
        "a smaller model, or one behind a server (--endpoint)",
    ]
    verb = "do not fit" if len(tenants) > 1 else "does not fit"
    return (
        f"{names} {verb} on card {index}, of whose {_gb(card.total)} {_gb(card.free)} are free and "
        f"{_gb(max(usable, 0))} can be used: {'; '.join(parts)}. "
        f"What helps: {', '.join(way for way in ways if way)}"
    )


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
