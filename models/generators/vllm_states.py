"""Hidden states of requests that vLLM's CPU build is sampling.

vLLM hands out no states of running requests, so `StateTap` joins its worker process and keeps one
layer's output at every token that is fed; `States` fetches from there what a step needs. A verifier
that reads them costs no forward pass. This needs layers that run as Python modules: the CPU build
does, as we start it (no compilation).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from router.models.errors import EngineError
from router.models.runtime.vllm_internals import decoder_layers, fed

if TYPE_CHECKING:
    import torch
    from vllm.v1.engine.async_llm import AsyncLLM

MAX_OTHERS = 256
"""Requests that do not run whose states are kept: those that have ended and will be fetched. Those
that were cancelled never are, and drop out."""

Wanted = tuple[list[str], list[int]]
"""Ids of requests, each of which went on where the one before it ended, and positions of tokens in
their prompt and what they sampled."""

State = npt.NDArray[np.float32]


class StateTap:
    """Becomes a base class of vLLM's worker; its methods are called by `collective_rpc`."""

    model_runner: Any

    def tap_layer(self, layer: int) -> None:
        """Keep states of decoder layer `layer`, counted from 1, from now on."""
        self._kept: OrderedDict[str, dict[int, torch.Tensor]] = OrderedDict()
        decoder_layers(self.model_runner)[layer - 1].register_forward_hook(self._keep)

    def take_states(self, wanted: Sequence[Wanted]) -> list[list[bytes | None]]:
        """The states at each one's positions, in float32; others of its requests are let go.

        None where the token at that position has not been fed.
        """
        taken = []
        for requests, positions in wanted:
            kept: dict[int, torch.Tensor] = {}
            for request in requests:
                kept |= self._kept.pop(request, {})
            found = [kept.get(position) for position in positions]
            taken.append([None if s is None else s.float().numpy().tobytes() for s in found])
        return taken

    def _keep(self, _module: Any, _args: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        requests, last, done = fed(self.model_runner)
        if not requests:  # a dry run at the start
            return
        # The layer's output is still in two parts, and the next layer adds them in place.
        hidden, residual = output
        states = hidden[last] + residual[last]
        for name, position, state in zip(requests, done, states, strict=True):
            self._kept.setdefault(name, {})[position - 1] = state.clone()
            self._kept.move_to_end(name)
        while len(self._kept) > len(requests) + MAX_OTHERS:
            self._kept.popitem(last=False)


class States:
    """Fetches states for many tasks at once: one call to the worker serves all that wait.

    layer: the decoder layer, counted from 1, that they are of.
    """

    def __init__(self, engine: AsyncLLM, layer: int) -> None:
        self._engine = engine
        self.layer = layer
        self._waiting: list[tuple[Wanted, asyncio.Future[list[State | None]]]] = []
        self._fetching: asyncio.Task[None] | None = None

    @classmethod
    async def of_layer(cls, engine: AsyncLLM, layer: int) -> States:
        """States of decoder layer `layer`, counted from 1, of requests from now on.

        Raises:
            EngineError: the model has no such layer, or none that can be read.
        """
        try:
            await engine.collective_rpc("tap_layer", args=(layer,))
        except Exception as error:
            message = f"cannot read states of layer {layer} in vLLM: {error}"
            raise EngineError(message, str(error)) from error
        return cls(engine, layer)

    async def take(self, requests: Sequence[str], positions: Sequence[int]) -> list[State | None]:
        """States of requests that have ended, each (hidden,), float32; once only.

        Raises:
            EngineError: the engine failed.
        """
        result: asyncio.Future[list[State | None]] = asyncio.get_running_loop().create_future()
        self._waiting.append(((list(requests), list(positions)), result))
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
        return await result

    async def _fetch(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                wanted = [one for one, _ in batch]
                [taken] = await self._engine.collective_rpc("take_states", args=(wanted,))
            except Exception as error:
                failure = EngineError(f"vLLM's worker gave no hidden states: {error}", str(error))
                failure.__cause__ = error
                for _, result in batch:
                    if not result.done():
                        result.set_exception(failure)
                continue
            for (_, result), rows in zip(batch, taken, strict=True):
                if not result.done():
                    result.set_result([None if r is None else np.frombuffer(r, "f4") for r in rows])
