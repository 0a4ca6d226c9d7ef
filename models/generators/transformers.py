"""A generator on transformers: continuous batching, shared prefixes, seeds, hidden states."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from router.models.base import GeneratorInfo
from router.models.errors import EngineError, InputError, ModelError
from router.models.generators.decoding import Decoder, Ended, Request, Row
from router.models.prompts import Prompt
from router.models.runtime.numbers import compute_dtype
from router.models.states import step_states
from router.models.steps import first_end, step_stops
from router.models.tokens import ChainEncoder, room, text_ends
from router.models.types import (
    Chain,
    Continuation,
    FinishReason,
    Prefill,
    Problem,
    Sampled,
    Sampling,
)
from router.models.usage import Usage
from router.models.weights.count import count_parameters
from router.models.weights.fingerprint import fingerprint


class TransformersGenerator:
    """Samples from a causal language model in this process, on CPU or one GPU.

    With a `state_layer`, every step carries the output of that decoder layer (counted from 1,
    before any final norm) at the step's last token that is not an end-of-text or other special
    token; a step of special tokens only carries that of the token before it. Where that token
    ended the row, it takes one forward pass more, which counts as one computed prompt token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: ChainEncoder,
        info: GeneratorInfo,
        state_layer: int | None = None,
    ) -> None:
        self._info = info
        self._encoder = encoder
        self._context = info.context
        self._eos = _end_tokens(model, encoder)
        self._special = self._eos | set(encoder.tokenizer.all_special_ids)
        self._decoder = Decoder(model, self._eos, state_layer)

    @classmethod
    async def load(
        cls,
        model_path: str | Path,
        *,
        name: str,
        prompt: Prompt,
        state_layer: int | None = None,
    ) -> TransformersGenerator:
        """Load a checkpoint directory in `compute_dtype`, on a GPU if there is one.

        Raises:
            ModelError: not a causal language model with attention caches only.
            InputError: the model has no layer `state_layer`.
        """
        return await asyncio.to_thread(cls._load, model_path, name, prompt, state_layer)

    @classmethod
    def _load(
        cls, model_path: str | Path, name: str, prompt: Prompt, state_layer: int | None
    ) -> TransformersGenerator:
        try:
            tokenizer = AutoTokenizer.from_pretrained(model_path)
            model = AutoModelForCausalLM.from_pretrained(
                model_path, dtype=compute_dtype(model_path)
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"transformers cannot load {str(model_path)!r}: {error}") from error
        layers = DynamicCache(config=model.config).layers
        if not all(isinstance(layer, DynamicLayer) for layer in layers):
            raise ModelError(
                f"{name!r} ({model.config.model_type}) has layers whose state is not a key/value "
                "cache, so prefixes cannot be shared; use the vLLM engine for it"
            )
        if state_layer is not None and not 1 <= state_layer <= len(layers):
            raise InputError(f"{name!r} has layers 1 to {len(layers)}, not {state_layer}")
        model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        encoder = ChainEncoder(tokenizer, prompt)
        info = GeneratorInfo(
            model=name,
            engine="transformers",
            prompt=prompt.id,
            context=model.config.get_text_config().max_position_embeddings,
            parameters=count_parameters(Path(model_path)),
            seeds=True,
            fingerprint=fingerprint(Path(model_path)),
            thinks=encoder.thinks,
        )
        return cls(model, encoder, info, state_layer)

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    @property
    def rendering(self) -> str:
        """How problems are written for the model, in words."""
        return self._encoder.rendering

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
        """n continuations of `path`; a seed fixes them whatever else the engine does.

        Raises:
            EngineError, PromptTooLong, InputError: see `models.base.Generator`.
        """
        if sampling.seed is not None and sampling.seed < 0:
            raise InputError(f"a seed must be 0 or more, not {sampling.seed}")
        ids = self._encoder.chain_ids(path)
        sampling = replace(sampling, stop=(*sampling.stop, *self._encoder.stops(path)))
        limit = sampling.max_tokens
        if self._context is not None:
            limit = room(len(ids), self._context, limit)
        request = Request(
            ids=ids,
            n=n,
            limit=limit,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            ended=lambda: self._ended(sampling, path.ahead),
        )
        try:
            await self._decoder.decode(request)
            continuations = await asyncio.to_thread(
                lambda: tuple(self._continuation(row, sampling, path.ahead) for row in request.rows)
            )
        except (asyncio.CancelledError, EngineError) as error:
            error.usage = Usage.of_generator(  # type: ignore[union-attr]
                request.sampled_tokens,
                request.prompt_tokens,
                request.cached_tokens,
                self._info.parameters,
            )
            raise
        return Sampled(continuations, request.prompt_tokens, request.cached_tokens)

    @property
    def state_layer(self) -> int | None:
        return self._decoder.state_layer

    async def prefill(self, problem: Problem) -> Prefill:
        """Read a problem's prompt; one token is sampled with it and let go.

        Raises:
            PromptTooLong, EngineError: see `models.base.Prefiller`.
        """
        if self.state_layer is None:
            raise EngineError(f"{self.info.model} was opened without states of its layers")
        ids = self._encoder.chain_ids(Chain(problem))
        if self._context is not None:
            room(len(ids), self._context, 1)
        ended = partial(self._ended, Sampling(), "")
        request = Request(ids, 1, 1, 0.0, 1.0, None, ended)
        await self._decoder.decode(request)
        state = request.rows[0].states[0].numpy()
        return Prefill(state, request.prompt_tokens, request.cached_tokens)

    async def aclose(self) -> None:
        """End the decoding thread; calls still running fail."""
        await self._decoder.aclose()

    def _ended(self, sampling: Sampling, ahead: str) -> Ended:
        """A test for one row: has it reached a stop string or, in step mode, the end of a step?

        ahead: as of `ChainEncoder.split`.
        """
        delimiter = self._encoder.prompt.delimiter
        ends = step_stops(delimiter) if sampling.until == "step" else ()
        # A token adds one byte or more, and some tokenizers drop a space at the start of a text.
        window = max((len(mark.encode()) for mark in (*ends, *sampling.stop)), default=0) + 1

        def ended(ids: list[int]) -> FinishReason | None:
            if window == 1:
                return None
            tail = self._encoder.decode(ids[-window:])
            if any(string in tail for string in sampling.stop):
                return "stop"
            if not any(string in tail for string in ends):
                return None
            whole = ahead + self._encoder.decode(ids)
            inside_character = whole.endswith("\N{REPLACEMENT CHARACTER}")
            return None if inside_character or first_end(whole, delimiter) is None else "step"

        return ended

    def _continuation(self, row: Row, sampling: Sampling, ahead: str) -> Continuation:
        assert row.finish is not None
        steps = self._encoder.split(row.ids, row.finish, sampling.stop, row.logprobs, ahead)
        if row.states:
            states = step_states(
                [state.numpy() for state in row.states], text_ends(steps, self._special)
            )
            steps = tuple(replace(s, state=own) for s, own in zip(steps, states, strict=True))
        return Continuation(steps, len(row.ids))


def _end_tokens(model: PreTrainedModel, encoder: ChainEncoder) -> frozenset[int]:
    """Tokens that end a solution, by the model's generation settings and its tokenizer."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    several = configured if isinstance(configured, Collection) else [configured]
    ends = {*several, encoder.tokenizer.eos_token_id}
    return frozenset(token for token in ends if token is not None)
