"""Generator on vLLM in this process (AsyncLLM, V1); GPU and CPU builds alike.

One sample call becomes n engine requests of one continuation each: vLLM itself splits a request
with n > 1 in the same way, but then reports the cached tokens of one of them only. vLLM batches
whatever is running, so independent calls never wait for each other.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from models.base import GeneratorInfo
from models.errors import EngineError, InputError
from models.prompts import Prompt
from models.runtime.vllm_process import start_engine, stop_engine
from models.tokens import PathEncoder, room
from models.types import Continuation, FinishReason, Path, Sampled, Sampling
from models.weights.find import weight_files

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM


@dataclass(frozen=True, slots=True)
class _Sample:
    """One continuation as the engine reports it, over all requests that it needed."""

    token_ids: list[int]
    finish: FinishReason
    prompt_tokens: int
    cached_tokens: int


class VLLMGenerator:
    """`Generator` on an AsyncLLM. Use it from one event loop; `aclose` ends vLLM's processes."""

    def __init__(self, engine: AsyncLLM, encoder: PathEncoder, info: GeneratorInfo) -> None:
        self._engine = engine
        self._encoder = encoder
        self._info = info
        self._context: int = engine.model_config.max_model_len

    @classmethod
    async def load(
        cls, model_path: FilePath, *, name: str, prompt: Prompt, **engine_args: Any
    ) -> VLLMGenerator:
        """Start an engine on a checkpoint directory.

        engine_args: fields of vLLM's `AsyncEngineArgs` that replace our defaults.

        Raises:
            ModelError: vLLM cannot load the model; carries its cause.
        """
        engine = await start_engine(model_path, **engine_args)
        # vLLM reads its environment when it is first imported, so not before it was started.
        from transformers import AutoTokenizer
        from vllm.platforms import current_platform

        tokenizer = await asyncio.to_thread(AutoTokenizer.from_pretrained, model_path)
        info = GeneratorInfo(
            model=name,
            engine="vllm",
            prompt=prompt.id,
            context=engine.model_config.max_model_len,
            parameters=count_parameters(model_path),
            # A request with a seed kills the CPU build's engine (0.32).
            seeds=not current_platform.is_cpu(),
        )
        return cls(engine, PathEncoder(tokenizer, prompt), info)

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    async def sample(self, path: Path, n: int, sampling: Sampling) -> Sampled:
        """n independent continuations of `path`.

        Raises:
            InputError: sampling settings that the engine refuses.
            PromptTooLong: no room for an answer after the path.
            EngineError: the engine failed or died.
        """
        if sampling.seed is not None and not self.info.seeds:
            raise InputError(
                f"seed={sampling.seed}: vLLM's CPU build cannot seed a request; leave the seed "
                "out, or use the transformers engine"
            )
        ids = self._encoder.path_ids(path)
        tasks = [asyncio.create_task(self._continue(ids, sampling, index)) for index in range(n)]
        try:
            samples = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Sampled(
            continuations=tuple(self._continuation(sample, sampling) for sample in samples),
            prompt_tokens=sum(sample.prompt_tokens for sample in samples),
            cached_tokens=sum(sample.cached_tokens for sample in samples),
        )

    async def aclose(self) -> None:
        """End vLLM's processes."""
        await stop_engine(self._engine)

    async def _continue(self, ids: Sequence[int], sampling: Sampling, index: int) -> _Sample:
        """Sample one continuation.

        A model may begin with the delimiter itself; then this goes on until the step has content.
        """
        sampled: list[int] = []
        prompt_tokens = cached_tokens = 0
        while True:
            prompt = [*ids, *sampled]
            limit = room(len(prompt), self._context, sampling.max_tokens - len(sampled))
            output = await self._request(prompt, self._params(sampling, limit, index))
            [completion] = output.outputs
            sampled += completion.token_ids
            prompt_tokens += len(prompt)
            cached_tokens += output.num_cached_tokens or 0
            finish = self._finish(completion.finish_reason, completion.stop_reason, sampling)
            blank = finish == "step" and not self._encoder.decode(sampled).strip()
            context_full = len(ids) + len(sampled) >= self._context
            if finish == "step" and (
                context_full or (blank and len(sampled) >= sampling.max_tokens)
            ):
                finish = "length"
            if finish != "step" or not blank:
                return _Sample(sampled, finish, prompt_tokens, cached_tokens)

    async def _request(self, prompt: list[int], params: SamplingParams) -> RequestOutput:
        """Run one request to its end; cancelling takes it off the engine at once."""
        from vllm import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        request_id = uuid4().hex
        results = self._engine.generate(
            TokensPrompt(prompt_token_ids=prompt), params, request_id=request_id
        )
        try:
            # FINAL_ONLY: there is exactly one.
            return await anext(results)
        except asyncio.CancelledError:
            # generate() forgets a request that is cancelled while it is being submitted.
            await self._engine.abort(request_id)
            raise
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineError(f"vLLM failed on {self.info.model}: {error}") from error
        finally:
            await results.aclose()

    def _params(self, sampling: Sampling, max_tokens: int, index: int) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        delimiter = [self._encoder.prompt.delimiter] if sampling.until == "step" else []
        try:
            return SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=max_tokens,
                stop=[*delimiter, *sampling.stop],
                include_stop_str_in_output=True,
                seed=None if sampling.seed is None else sampling.seed + index,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        except (ValueError, VLLMClientError) as error:
            raise InputError(f"vLLM refuses {sampling}: {error}") from error

    def _finish(
        self, finish_reason: str | None, stop_reason: int | str | None, sampling: Sampling
    ) -> FinishReason:
        if finish_reason == "length":
            return "length"
        if finish_reason != "stop":
            raise EngineError(f"vLLM ended a request of {self.info.model} with {finish_reason!r}")
        at_step = sampling.until == "step" and stop_reason == self._encoder.prompt.delimiter
        return "step" if at_step else "stop"

    def _continuation(self, sample: _Sample, sampling: Sampling) -> Continuation:
        steps = self._encoder.split(sample.token_ids, sample.finish, sampling.stop)
        return Continuation(steps=steps, tokens=len(sample.token_ids))


def count_parameters(model_path: FilePath) -> int:
    """Number of weights in a checkpoint's safetensors files, read from their headers."""
    from safetensors import safe_open

    total = 0
    for file in weight_files(model_path):
        with safe_open(file, framework="numpy") as tensors:
            names = tensors.keys()
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return total
