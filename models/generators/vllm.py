"""Generator on vLLM in this process (AsyncLLM, V1); GPU and CPU builds alike.

One sample call becomes n engine requests of one continuation each: vLLM itself splits a request
with n > 1 in the same way, but then reports the cached tokens of one of them only. vLLM batches
whatever is running, so independent calls never wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from router.models.base import GeneratorInfo
from router.models.errors import EngineError, InputError
from router.models.generators.vllm_states import States
from router.models.generators.vllm_worker import EXTENSION
from router.models.prompts import Prompt
from router.models.runtime.vllm_internals import failures, known, refusals
from router.models.runtime.vllm_process import runs_on_cpu, start_engine, stop_engine
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
    Step,
)
from router.models.usage import Usage
from router.models.weights.count import count_parameters
from router.models.weights.fingerprint import fingerprint

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger("router")

_LONGER = "shorten the problem, or give vLLM a longer context: --engine-arg max_model_len=…"
"""What to do about a prompt that leaves no room."""

_ABORT_SECONDS = 0.25
"""That vLLM has to say what a request had done that is taken off it; it takes milliseconds."""


@dataclass(slots=True)
class _Sample:
    """One continuation as the engine reports it, over all requests that it needed.

    ahead: what the step before has of it already.
    """

    ahead: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason = "step"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    requests: list[str] = field(default_factory=list)
    lost: bool = False
    """The engine did not say what a request had done that was cancelled or failed."""

    def extend(self, output: RequestOutput) -> None:
        """Append what a request sampled; log-probabilities are the model's own, at T = 1."""
        [completion] = output.outputs
        self.token_ids += completion.token_ids
        self.logprobs += getattr(completion.logprobs, "logprobs", ())
        self.count(output)

    def count(self, output: RequestOutput) -> None:
        """Add what a request read."""
        self.prompt_tokens += len(output.prompt_token_ids or ())
        self.cached_tokens += output.num_cached_tokens or 0
        self.requests.append(output.request_id)


class VLLMGenerator:
    """`Generator` on an AsyncLLM. Use it from one event loop; `aclose` ends vLLM's processes.

    With `states`, every step carries the output of one decoder layer, as
    `models.generators.transformers` defines it. The engine feeds the last token of a step before
    it learns that the step has ended; in the rare case that it did not, the token takes one more
    request, whose prompt counts.
    """

    def __init__(
        self,
        engine: AsyncLLM,
        encoder: ChainEncoder,
        info: GeneratorInfo,
        states: States | None = None,
    ) -> None:
        self._engine = engine
        self._encoder = encoder
        self._info = info
        self._context: int = engine.model_config.max_model_len
        self._states = states
        self._special = frozenset(encoder.tokenizer.all_special_ids)

    @classmethod
    async def load(
        cls,
        model_path: Path,
        *,
        name: str,
        prompt: Prompt,
        state_layer: int | None = None,
        **engine_args: Any,
    ) -> VLLMGenerator:
        """Start an engine on a checkpoint directory.

        state_layer: decoder layer, counted from 1, whose states the steps carry; only where
            `models.generators.load.gives_states` says so.
        engine_args: fields of vLLM's `AsyncEngineArgs` that replace our defaults.

        Raises:
            ModelError: vLLM cannot load the model; carries its cause.
        """
        on_cpu = await asyncio.to_thread(runs_on_cpu)
        if on_cpu and known():
            engine_args["worker_extension_cls"] = EXTENSION
        engine = await start_engine(model_path, **engine_args)
        try:
            from transformers import AutoTokenizer

            tokenizer = await asyncio.to_thread(AutoTokenizer.from_pretrained, model_path)
            encoder = ChainEncoder(tokenizer, prompt)
            info = GeneratorInfo(
                model=name,
                engine="vllm",
                prompt=prompt.id,
                context=engine.model_config.max_model_len,
                parameters=count_parameters(model_path),
                # A request with a seed kills the CPU build's engine (0.32).
                seeds=not on_cpu,
                fingerprint=await asyncio.to_thread(fingerprint, model_path),
                thinks=encoder.thinks,
            )
            if on_cpu and known() and not all(await engine.collective_rpc("draw_by_inversion")):
                logger.warning("this vLLM's sampler is not known, so it draws tokens slowly")
            states = None if state_layer is None else await States.of_layer(engine, state_layer)
            return cls(engine, encoder, info, states)
        except BaseException:
            await stop_engine(engine)
            raise

    @property
    def info(self) -> GeneratorInfo:
        return self._info

    @property
    def rendering(self) -> str:
        """How problems are written for the model, in words."""
        return self._encoder.rendering

    async def sample(self, path: Chain, n: int, sampling: Sampling) -> Sampled:
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
        ids = self._encoder.chain_ids(path)
        sampling = replace(sampling, stop=(*sampling.stop, *self._encoder.stops(path)))
        samples = [_Sample(path.ahead) for _ in range(n)]
        tasks = [
            asyncio.create_task(self._continue(ids, sampling, index, sample))
            for index, sample in enumerate(samples)
        ]
        try:
            continuations = await asyncio.gather(*tasks)
        except BaseException as error:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            error.usage = self._spent(samples)  # type: ignore[attr-defined]
            raise
        return Sampled(
            continuations=tuple(continuations),
            prompt_tokens=sum(sample.prompt_tokens for sample in samples),
            cached_tokens=sum(sample.cached_tokens for sample in samples),
        )

    def _spent(self, samples: Sequence[_Sample]) -> Usage:
        """What was done for these, finished or not."""
        sampled, prompt, cached = (
            sum(counts)
            for counts in zip(
                *((len(s.token_ids), s.prompt_tokens, s.cached_tokens) for s in samples),
                strict=True,
            )
        )
        spent = Usage.of_generator(sampled, prompt, cached, self._info.parameters)
        return replace(spent, lower_bound=any(sample.lost for sample in samples))

    @property
    def state_layer(self) -> int | None:
        return None if self._states is None else self._states.layer

    async def prefill(self, problem: Problem) -> Prefill:
        """Read a problem's prompt; vLLM samples a token with it, which is let go.

        Raises:
            PromptTooLong, EngineError: see `models.base.Prefiller`.
        """
        if self._states is None:
            raise EngineError(f"{self.info.model} was opened without states of its layers")
        ids = self._encoder.chain_ids(Chain(problem))
        room(len(ids), self._context, 1, _LONGER)
        output = await self._request([*ids], self._params(Sampling(), 1, 0))
        [state] = await self._states.take([output.request_id], [len(ids) - 1])
        if state is None:
            raise EngineError(f"vLLM gives no hidden states of {self.info.model} here")
        return Prefill(state, len(ids), output.num_cached_tokens or 0)

    async def aclose(self) -> None:
        """End vLLM's processes."""
        await stop_engine(self._engine)

    async def _continue(
        self, ids: Sequence[int], sampling: Sampling, index: int, sample: _Sample
    ) -> Continuation:
        """Sample one continuation; `sample` says what was done for it, also if this fails."""
        await self._sample(ids, sampling, index, sample)
        steps = self._encoder.split(
            sample.token_ids, sample.finish, sampling.stop, sample.logprobs, sample.ahead
        )
        if self._states is not None:
            steps = await self._with_states(self._states, ids, sample, steps)
        return Continuation(steps, len(sample.token_ids))

    async def _sample(
        self, ids: Sequence[int], sampling: Sampling, index: int, sample: _Sample
    ) -> None:
        """Let the engine sample after `ids`.

        What ends a step may come before it has content, in a code block or in mid-sentence; then
        this goes on.
        """
        delimiter = self._encoder.prompt.delimiter
        while True:
            prompt = [*ids, *sample.token_ids]
            wanted = sampling.max_tokens - len(sample.token_ids)
            limit = room(len(prompt), self._context, wanted, _LONGER)
            output = await self._request(prompt, self._params(sampling, limit, index), sample)
            [completion] = output.outputs
            finish = self._finish(completion.finish_reason, completion.stop_reason, sampling)
            text = sample.ahead + self._encoder.decode(sample.token_ids)
            goes_on = finish == "step" and first_end(text, delimiter) is None
            context_full = len(ids) + len(sample.token_ids) >= self._context
            if finish == "step" and (
                context_full or (goes_on and len(sample.token_ids) >= sampling.max_tokens)
            ):
                finish = "length"
            if finish != "step" or not goes_on:
                sample.finish = finish
                return

    async def _with_states(
        self, states: States, ids: Sequence[int], sample: _Sample, steps: Sequence[Step]
    ) -> tuple[Step, ...]:
        """The steps, each with the states of its tokens."""
        # A token that fills the context can never be fed; the one before it stands for it.
        most = self._context - 1 - len(ids)
        ends = [min(end, most) for end in text_ends(steps, self._special)]
        positions = range(len(ids) - 1, len(ids) + ends[-1])
        taken = await states.take(sample.requests, positions)
        for place, position in enumerate(positions):
            if taken[place] is None:  # the last one, which nothing was sampled after
                fed = [*ids, *sample.token_ids][: position + 1]
                output = await self._request(fed, self._params(Sampling(), 1, 0))
                sample.count(output)
                [taken[place]] = await states.take([output.request_id], [position])
        known = [state for state in taken if state is not None]
        if len(known) < len(taken):
            raise EngineError(f"vLLM gives no hidden states of {self.info.model} here")
        found = step_states(known, ends)
        return tuple(replace(step, state=own) for step, own in zip(steps, found, strict=True))

    async def _request(
        self, prompt: list[int], params: SamplingParams, sample: _Sample | None = None
    ) -> RequestOutput:
        """Run one request to its end; cancelling takes it off the engine at once.

        sample: gets what was sampled, until the end or until it was cancelled.
        """
        from vllm import TokensPrompt

        request_id = uuid4().hex
        results = self._engine.generate(
            TokensPrompt(prompt_token_ids=prompt), params, request_id=request_id
        )
        # FINAL_ONLY: there is exactly one, also of a request that is taken off: what it had done.
        last = asyncio.ensure_future(anext(results))
        try:
            output = await asyncio.shield(last)
            if sample is not None:
                sample.extend(output)
            return output
        except asyncio.CancelledError:
            await self._engine.abort(request_id)
            await asyncio.wait([last], timeout=_ABORT_SECONDS)
            if sample is not None:
                ended = last.done() and not last.cancelled() and last.exception() is None
                sample.lost = not ended
                if ended:
                    sample.extend(last.result())
            raise
        except failures() as error:
            if sample is not None:
                sample.lost = True
            message = f"vLLM failed on {self.info.model}: {error}"
            raise EngineError(message, str(error)) from error
        finally:
            if not last.done():  # it was cancelled while it was being submitted
                last.cancel()
                await asyncio.wait([last])
                await self._engine.abort(request_id)
            await results.aclose()

    def _params(self, sampling: Sampling, max_tokens: int, index: int) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        ends = step_stops(self._encoder.prompt.delimiter) if sampling.until == "step" else ()
        try:
            return SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=max_tokens,
                stop=[*ends, *sampling.stop],
                include_stop_str_in_output=True,
                seed=None if sampling.seed is None else sampling.seed + index,
                logprobs=0,  # of the sampled tokens alone
                flat_logprobs=True,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
        except refusals() as error:
            raise InputError(f"vLLM refuses {sampling}: {error}") from error

    def _finish(
        self, finish_reason: str | None, stop_reason: int | str | None, sampling: Sampling
    ) -> FinishReason:
        if finish_reason == "length":
            return "length"
        if finish_reason != "stop":
            raise EngineError(f"vLLM ended a request of {self.info.model} with {finish_reason!r}")
        ends = step_stops(self._encoder.prompt.delimiter)
        at_step = sampling.until == "step" and stop_reason in ends
        return "step" if at_step else "stop"
