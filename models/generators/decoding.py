"""Continuous batched decoding with transformers: rows join and leave the batch between tokens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from router.models.errors import EngineError
from router.models.generators.grouped_attention import use_grouped_attention
from router.models.runtime.kv_cache import BatchCache, Layers, PrefixCache, layers_of, positions
from router.models.types import FinishReason

MAX_ROWS = 64
"""Sequences decoded at once; further ones wait for a free row."""

_LIKELY = 1024
"""Tokens among which a nucleus is looked for first."""

CACHE_BYTES = 1 << 30
"""Keys and values kept for later calls."""

Ended = Callable[[list[int]], FinishReason | None]
"""Says, after every sampled token, whether the tokens sampled so far end the row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sampled sequence.

    ids, logprobs: its tokens, and their log-probabilities under the model itself (temperature 1).
    states: if asked for, hidden states of the prompt's last token and of every sampled token that
        was fed back, each (hidden,); the last token's is missing when it is an end-of-text token.
    """

    ids: list[int]
    logprobs: list[float]
    states: list[Tensor]
    finish: FinishReason


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one request gave: n rows, and prompt tokens in all and from the cache."""

    rows: tuple[Row, ...]
    prompt_tokens: int
    cached_tokens: int


@dataclass(eq=False)
class Request:
    """n sequences that continue the same tokens.

    ended: builds the test that ends one row; called once a row.
    limit: sampled tokens at most, a row.
    """

    ids: Sequence[int]
    n: int
    limit: int
    temperature: float
    top_p: float
    seed: int | None
    ended: Callable[[], Ended]
    result: Future[Decoded] = field(default_factory=Future)
    withdrawn: bool = False
    """Nobody waits for it any more: its rows leave before the next token."""
    prefix: Layers | None = None
    cached: int = 0
    extra: int = 0
    rows: dict[int, Row] = field(default_factory=dict)


class _Live:
    """A row in the batch, or waiting for a place in it.

    `finish` is set when it ended; a row that stays after that feeds its last token only to learn
    its state.
    """

    def __init__(self, request: Request, index: int) -> None:
        self.request = request
        self.index = index
        self.ended = request.ended()
        self.rng = np.random.default_rng(None if request.seed is None else (request.seed, index))
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.states: list[Tensor] = []
        self.finish: FinishReason | None = None

    @property
    def next_input(self) -> int:
        return self.ids[-1] if self.ids else self.request.ids[-1]


class Decoder:
    """Owns a causal language model and decodes for many requests at once, in one thread.

    state_layer: decoder layer, counted from 1, whose output (before any final norm) is recorded.
    """

    def __init__(
        self, model: PreTrainedModel, eos: frozenset[int], state_layer: int | None = None
    ) -> None:
        use_grouped_attention(model)
        self._model = model
        self._eos = eos
        self._prefixes = PrefixCache(CACHE_BYTES)
        self._waiting: deque[_Live] = deque()
        self._live: list[_Live] = []
        self._batch = BatchCache()
        self._state: Tensor | None = None
        self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        self.state_layer = state_layer
        if state_layer is not None:
            layer = model.get_decoder().layers[state_layer - 1]
            layer.register_forward_hook(self._record)

    async def decode(self, request: Request) -> Decoded:
        """Run a request; cancelling it takes its rows out of the batch before the next token.

        Raises:
            EngineError: the model failed on it, or the engine was closed.
        """
        if self._closed:
            raise EngineError("the transformers engine is closed")
        request.result.set_running_or_notify_cancel()
        self._waiting.extend([_Live(request, index) for index in range(request.n)])
        try:
            # One turn of the event loop, so that tasks which are ready together share a batch.
            await asyncio.sleep(0)
            self._worker.submit(self._run)
            return await asyncio.wrap_future(request.result)
        finally:
            request.withdrawn = True

    async def aclose(self) -> None:
        """End the thread; what is still running fails."""
        self._closed = True
        await asyncio.to_thread(self._worker.shutdown)

    def _record(self, _module: torch.nn.Module, _args: Any, output: Any) -> None:
        self._state = output[0] if isinstance(output, tuple) else output

    @torch.inference_mode()
    def _run(self) -> None:
        """Decode until nothing is left; nothing to do when an earlier call did it all."""
        while self._waiting or self._live:
            try:
                if self._closed:
                    raise RuntimeError("the engine was closed")
                self._admit()
                if self._live:
                    self._advance()
            except Exception as error:
                self._abandon(error)

    def _abandon(self, error: Exception) -> None:
        """Fail all rows in the batch, whose tensors may be half updated; keep the engine."""
        lost, self._live, self._batch = self._live, [], BatchCache()
        if self._closed:
            lost += self._waiting
            self._waiting.clear()
        for live in lost:
            _fail(live.request, error)

    def _admit(self) -> None:
        """Drop rows of withdrawn requests, then fill free rows in order of arrival."""
        self._retain([i for i, live in enumerate(self._live) if not live.request.withdrawn])
        while self._waiting and len(self._live) < MAX_ROWS:
            request = self._waiting[0].request
            group: list[_Live] = []
            while (
                self._waiting
                and self._waiting[0].request is request
                and len(self._live) + len(group) < MAX_ROWS
            ):
                group.append(self._waiting.popleft())
            if request.withdrawn:
                continue
            try:
                if request.prefix is None:
                    request.prefix = self._prefill(request)
                self._batch.append(request.prefix, len(group))
            except Exception as error:
                _fail(request, error)
            else:
                self._live += group

    def _prefill(self, request: Request) -> Layers:
        """Tensors of all prompt tokens but the last, which every row feeds itself."""
        known = max(len(request.ids) - 1, 1)
        reused, layers = self._prefixes.longest(request.ids[:known])
        if layers is None or reused < known:
            cache = DynamicCache(layers)
            device = self._model.device
            self._model.get_decoder()(
                input_ids=torch.tensor([request.ids[reused:known]], device=device),
                attention_mask=torch.ones(1, known, dtype=torch.long, device=device),
                position_ids=torch.arange(reused, known, device=device)[None],
                past_key_values=cache,
                use_cache=True,
            )
            layers = layers_of(cache)
            self._prefixes.add(request.ids[:known], layers)
        request.cached = min(reused, len(request.ids) - 1)
        return positions(layers, 0, len(request.ids) - 1)

    def _advance(self) -> None:
        """Feed one token to every row, and sample the next one of those that go on."""
        device = self._model.device
        mask, position_ids = self._batch.inputs()
        output = self._model(
            input_ids=torch.tensor([[live.next_input] for live in self._live], device=device),
            attention_mask=mask.to(device),
            position_ids=position_ids.to(device),
            past_key_values=self._batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._batch.grew()
        if self._state is not None:
            for live, state in zip(self._live, self._state[:, -1].float().cpu(), strict=True):
                live.states.append(state)
        self._sample(output.logits[:, -1].float())
        self._finish()

    def _sample(self, logits: Tensor) -> None:
        """Give every row that goes on its next token. logits: (rows, vocabulary)."""
        going = [i for i, live in enumerate(self._live) if live.finish is None]
        rows = [self._live[i] for i in going]
        if not rows:
            return
        tokens, logprobs = pick(
            logits[going],
            np.array([live.request.temperature for live in rows]),
            np.array([live.request.top_p for live in rows]),
            np.array([live.rng.random() for live in rows]),
        )
        for live, token, logprob in zip(rows, tokens, logprobs, strict=True):
            live.ids.append(token)
            live.logprobs.append(logprob)

    def _finish(self) -> None:
        """End rows, and take those out of the batch that need no further forward pass."""
        staying = []
        for index, live in enumerate(self._live):
            if live.finish is not None:
                self._retire(index)
                continue
            live.finish = self._end_of(live)
            if live.finish is None:
                staying.append(index)
            elif self.state_layer is not None and live.ids[-1] not in self._eos:
                live.request.extra += 1
                staying.append(index)
            else:
                self._retire(index)
        self._retain(staying)

    def _end_of(self, live: _Live) -> FinishReason | None:
        if live.ids[-1] in self._eos:
            return "stop"
        if (finish := live.ended(live.ids)) is not None:
            return finish
        return "length" if len(live.ids) >= live.request.limit else None

    def _retire(self, index: int) -> None:
        """Hand a finished row to its request, and keep its tensors if it will be continued."""
        live = self._live[index]
        request = live.request
        assert live.finish is not None
        request.rows[live.index] = Row(live.ids, live.logprobs, live.states, live.finish)
        if live.finish == "step":
            layers = self._batch.row(index)
            computed = layers[0][0].shape[2]
            self._prefixes.add([*request.ids, *live.ids][:computed], layers)
        if len(request.rows) == request.n:
            request.result.set_result(
                Decoded(
                    rows=tuple(request.rows[i] for i in range(request.n)),
                    prompt_tokens=len(request.ids) + request.extra,
                    cached_tokens=request.cached,
                )
            )

    def _retain(self, indices: list[int]) -> None:
        if len(indices) < len(self._live):
            self._live = [self._live[index] for index in indices]
            self._batch.keep(indices)


def _fail(request: Request, cause: Exception) -> None:
    request.withdrawn = True
    error = EngineError(f"the transformers engine failed: {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    if not request.result.done():
        request.result.set_exception(error)


def pick(
    logits: Tensor,
    temperature: npt.NDArray[np.float64],
    top_p: npt.NDArray[np.float64],
    uniform: npt.NDArray[np.float64],
) -> tuple[list[int], list[float]]:
    """Next token of each row, and its log-probability at temperature 1 without `top_p`.

    Inverts the cumulative distribution at `uniform`, so that a row's token depends on its own
    logits and its own random number only. Temperature 0 takes the most likely token.

    logits: (rows, vocabulary), float32; the others: (rows,).
    """
    greedy = torch.tensor(temperature == 0, device=logits.device)
    scale = torch.tensor(np.where(temperature == 0, 1, temperature), device=logits.device)
    probabilities = (logits / scale[:, None].float()).softmax(-1)
    for row in np.flatnonzero(top_p < 1):
        probabilities[row] = _nucleus(probabilities[row], float(top_p[row]))
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    target = torch.tensor(uniform, device=logits.device)[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0]
    tokens = torch.where(greedy, logits.argmax(-1), drawn.clamp(max=logits.shape[-1] - 1))
    chosen = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    return tokens.tolist(), chosen.tolist()


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Probabilities with all but the most likely tokens of total mass `top_p` set to 0."""
    # Sorting a whole vocabulary takes longer than a forward pass of a small model on a CPU.
    for count in (min(_LIKELY, len(probabilities)), len(probabilities)):
        ordered, order = probabilities.topk(count)
        before = ordered.cumsum(-1) - ordered
        if before[-1] >= top_p:
            break
    kept = order[before < top_p]
    return torch.zeros_like(probabilities).index_copy(0, kept, probabilities[kept])
