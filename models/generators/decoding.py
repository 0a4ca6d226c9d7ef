"""Continuous batched decoding with transformers: rows join and leave the batch between tokens.

transformers' own engine (`transformers.generation.continuous_batching`, 5.19) is no substitute: it
samples 31 % fewer tokens in a CPU second at 8 rows and 59 % fewer at 64
(`benchmarks/results/continuous_batching.json`), and has no seed, count of continuations or
temperature 0 of a request's own, no stop strings, no log-probabilities before the temperature, no
count of cached tokens and no hidden states; one failing request fails all others.
"""

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
from transformers import PreTrainedModel

from router.models.errors import EngineError
from router.models.generators.grouped_attention import use_grouped_attention
from router.models.runtime.kv_cache import BatchCache, Layers, PrefixCache, layers_of, positions
from router.models.types import FinishReason

MAX_ROWS = {"cpu": 64, "cuda": 256}
"""Sequences decoded at once, by device; further ones wait for a free row. On a GPU a row more costs
memory (of a 1.5B model 28 KB a token) and hardly any time."""

_LIKELY = 1024
"""Tokens among which a nucleus is looked for first."""

CACHE_BYTES = 1 << 30
"""Keys and values kept for later calls."""

Ended = Callable[[list[int]], FinishReason | None]
"""Says, after every sampled token, whether the tokens sampled so far end the row."""


class Row:
    """One sequence of a request.

    ids, logprobs: what is sampled of it, and the log-probabilities under the model itself
        (temperature 1).
    states: if asked for, hidden states of the prompt's last token and of every sampled token that
        was fed back, each (hidden,); the last token's is missing when it is an end-of-text token.
    finish: why it ended; None while it goes on.
    """

    def __init__(self, request: Request, index: int) -> None:
        self.request = request
        self.ended = request.ended()
        self.rng = np.random.default_rng(None if request.seed is None else (request.seed, index))
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.states: list[Tensor] = []
        self.finish: FinishReason | None = None

    @property
    def next_input(self) -> int:
        return self.ids[-1] if self.ids else self.request.ids[-1]

    @property
    def fed_again(self) -> bool:
        """It ended, and its last token was fed as well, only to learn its state."""
        return self.finish is not None and len(self.states) > len(self.ids)


@dataclass(eq=False)
class Request:
    """n sequences that continue the same tokens, and at any time what was done for them.

    limit: sampled tokens at most, a row.
    ended: builds the test that ends one row; called once a row.
    cached_tokens: prompt tokens that were found in the cache.
    """

    ids: Sequence[int]
    n: int
    limit: int
    temperature: float
    top_p: float
    seed: int | None
    ended: Callable[[], Ended]
    rows: list[Row] = field(init=False)
    unfinished: int = field(init=False)
    prefix: Layers | None = field(default=None, init=False)
    cached_tokens: int = field(default=0, init=False)
    outcome: Future[None] = field(default_factory=Future, init=False)
    """Done, too, when it failed or nobody waits for it: rows still in the batch then leave it."""

    def __post_init__(self) -> None:
        self.rows = [Row(self, index) for index in range(self.n)]
        self.unfinished = self.n

    @property
    def sampled_tokens(self) -> int:
        """Over all rows; those of a forward pass that is still running are not among them."""
        return sum(len(row.ids) for row in self.rows)

    @property
    def prompt_tokens(self) -> int:
        """Those of the prompt, once it was read, and sampled ones that were fed again."""
        return len(self.ids) * (self.prefix is not None) + sum(r.fed_again for r in self.rows)

    def settle(self, error: EngineError | None = None) -> None:
        """Say that it ended, to whoever still waits."""
        if self.outcome.done() or not self.outcome.set_running_or_notify_cancel():
            return
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)


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
        self._waiting: deque[Row] = deque()
        self._live: list[Row] = []
        self._batch = BatchCache()
        self._state: Tensor | None = None
        self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        self.state_layer = state_layer
        if state_layer is not None:
            layer = model.get_decoder().layers[state_layer - 1]
            layer.register_forward_hook(self._record)

    async def decode(self, request: Request) -> None:
        """Run a request to the end of its rows, which then hold what was sampled.

        Cancelling it takes its rows out of the batch before the next token. However the call
        ends, the request says what was done for it.

        Raises:
            EngineError: the model failed on it, or the engine was closed.
        """
        self._waiting.extend(request.rows)
        try:
            # One turn of the event loop, so that tasks which are ready together share a batch.
            await asyncio.sleep(0)
            if self._closed:
                raise EngineError("the transformers engine is closed")
            self._worker.submit(self._run)
            await asyncio.wrap_future(request.outcome)
        finally:
            request.outcome.cancel()

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
        for row in lost:
            _fail(row.request, error)

    def _admit(self) -> None:
        """Drop rows of requests that ended early, then fill free rows in order of arrival."""
        self._retain([i for i, row in enumerate(self._live) if not row.request.outcome.done()])
        most = MAX_ROWS[self._model.device.type]
        while self._waiting and (free := most - len(self._live)) > 0:
            group = [self._waiting.popleft()]
            request = group[0].request
            while self._waiting and self._waiting[0].request is request and len(group) < free:
                group.append(self._waiting.popleft())
            if request.outcome.done():
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
            batch = BatchCache()
            if layers is not None:
                batch.append(layers, copies=1)
            device = self._model.device
            self._model.get_decoder()(
                input_ids=torch.tensor([request.ids[reused:known]], device=device),
                attention_mask=torch.ones(1, known, dtype=torch.long, device=device),
                position_ids=torch.arange(reused, known, device=device)[None],
                past_key_values=batch.cache,
                use_cache=True,
            )
            layers = layers_of(batch.cache)
            self._prefixes.add(request.ids[:known], layers)
        request.cached_tokens = min(reused, len(request.ids) - 1)
        return positions(layers, 0, len(request.ids) - 1)

    def _advance(self) -> None:
        """Feed one token to every row, and sample the next one of those that go on."""
        device = self._model.device
        mask, position_ids = self._batch.inputs()
        output = self._model(
            input_ids=torch.tensor([[row.next_input] for row in self._live], device=device),
            attention_mask=mask.to(device),
            position_ids=position_ids.to(device),
            past_key_values=self._batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._batch.grew()
        if self._state is not None:
            for row, state in zip(self._live, self._state[:, -1].float().cpu(), strict=True):
                row.states.append(state)
        self._sample(output.logits[:, -1].float())
        self._finish()

    def _sample(self, logits: Tensor) -> None:
        """Give every row that goes on its next token. logits: (rows, vocabulary)."""
        going = [i for i, row in enumerate(self._live) if row.finish is None]
        rows = [self._live[i] for i in going]
        if not rows:
            return
        tokens, logprobs = pick(
            logits[going],
            np.array([row.request.temperature for row in rows]),
            np.array([row.request.top_p for row in rows]),
            np.array([row.rng.random() for row in rows]),
        )
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.ids.append(token)
            row.logprobs.append(logprob)

    def _finish(self) -> None:
        """End rows, and take those out of the batch that need no further forward pass."""
        staying = []
        for index, row in enumerate(self._live):
            row.finish = row.finish or self._end_of(row)
            stateless = self.state_layer is None or row.ids[-1] in self._eos
            if row.finish is not None and (stateless or row.fed_again):
                self._retire(index)
            else:
                staying.append(index)
        self._retain(staying)

    def _end_of(self, row: Row) -> FinishReason | None:
        if row.ids[-1] in self._eos:
            return "stop"
        if (finish := row.ended(row.ids)) is not None:
            return finish
        return "length" if len(row.ids) >= row.request.limit else None

    def _retire(self, index: int) -> None:
        """Count a finished row, and keep its tensors if it will be continued."""
        row = self._live[index]
        request = row.request
        if row.finish == "step":
            layers = self._batch.row(index)
            self._prefixes.add([*request.ids, *row.ids][: layers[0].shape[2]], layers)
        request.unfinished -= 1
        if not request.unfinished:
            request.settle()

    def _retain(self, indices: list[int]) -> None:
        if len(indices) < len(self._live):
            self._live = [self._live[index] for index in indices]
            self._batch.keep(indices)


def _fail(request: Request, cause: Exception) -> None:
    message = f"the transformers engine failed: {type(cause).__name__}: {cause}"
    error = EngineError(message, str(cause))
    error.__cause__ = cause
    request.settle(error)


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
