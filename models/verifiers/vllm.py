"""Process reward models on vLLM's pooling runner, for the architecture of Qwen2.5-Math-PRM.

Published checkpoints are served with STEP pooling, which returns the scores at the tags and takes
nothing from the prefix cache. We ask for ALL pooling: a row for every token, from which we pick
the reads. It allows the prefix cache, and then vLLM returns rows for the uncached tokens only.
These are the ones wanted, as the caller keeps earlier scores; one more step costs its own tokens
and what the last, part-filled block of the cache holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from router.models.base import VerifierInfo
from router.models.errors import Unscorable, VerifierError
from router.models.prompts import Prompt
from router.models.runtime.vllm_internals import failures
from router.models.runtime.vllm_process import start_engine, stop_engine
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Scored
from router.models.verifiers.prm import (
    PrmFormat,
    TokenHead,
    check_tokenizer,
    checked_scores,
)
from router.models.verifiers.rows import RowReader

if TYPE_CHECKING:
    from vllm import PoolingRequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM


class VLLMVerifier:
    """`Verifier` on an AsyncLLM. Use it from one event loop; `aclose` ends vLLM's processes."""

    def __init__(
        self, engine: AsyncLLM, encoder: ChainEncoder, prm: PrmFormat, info: VerifierInfo
    ) -> None:
        assert isinstance(prm.head, TokenHead)  # load_verifier refuses others
        self._engine = engine
        self._encoder = encoder
        self._layout = prm.layout
        self._reader = RowReader(prm.head)
        self._info = info

    @classmethod
    async def load(
        cls,
        directory: Path,
        prm: PrmFormat,
        info: VerifierInfo,
        *,
        prompt: Prompt,
        **engine_args: Any,
    ) -> VLLMVerifier:
        """Start an engine on a checkpoint of architecture `Qwen2ForProcessRewardModel`.

        prompt: what the generator is prompted with; self-verifiers read the same tokens.
        engine_args: fields of vLLM's `AsyncEngineArgs` that replace our defaults.

        Raises:
            ModelError: a tokenizer that does not fit the format, or vLLM cannot load the model.
        """
        defaults = {
            "runner": "pooling",
            "pooler_config": {"tok_pooling_type": "ALL"},
        }
        from transformers import AutoTokenizer

        encoder = ChainEncoder(
            await asyncio.to_thread(AutoTokenizer.from_pretrained, directory), prompt
        )
        check_tokenizer(prm, encoder)
        return cls(await start_engine(directory, **(defaults | engine_args)), encoder, prm, info)

    @property
    def info(self) -> VerifierInfo:
        return self._info

    async def score(self, path: Chain, known: int = 0) -> Scored:
        """Scores of the path's steps from index `known` on.

        Raises:
            Unscorable: the path is longer than the verifier's context, or vLLM refuses it.
            VerifierError: the engine failed, or a score is not a probability.
        """
        encoded = self._layout.encode(path, self._encoder)
        if not encoded.reads[known:]:
            return Scored((), tokens=0, cached_tokens=0)
        context = self._engine.model_config.max_model_len
        if len(encoded.ids) > context:
            raise Unscorable(
                f"problem {path.problem.id!r} with {path.depth} steps has {len(encoded.ids)} "
                f"tokens, and verifier {self._info.name} reads at most {context}; a longer context "
                "is --verifier-arg max_model_len=…, if the verifier was trained for it"
            )
        reading = self._reader.plan(encoded, known)
        # Where known steps are needed again, the cache is of no use: it gives no rows of them.
        again = known and reading.first <= encoded.reads[known - 1]
        output = await self._pool(path, encoded.ids, use_cache=not again)
        computed = len(encoded.ids) - output.num_cached_tokens
        if output.num_cached_tokens > reading.first:
            # Known tokens, but not read before: a path that was scored in longer steps.
            output = await self._pool(path, encoded.ids, use_cache=False)
            computed += len(encoded.ids)
        values = self._reader.scores(output.outputs.data.float().numpy(), reading)
        checked = checked_scores(values, path, self._info.name)
        return Scored(checked, tokens=computed, cached_tokens=output.num_cached_tokens)

    async def aclose(self) -> None:
        """End vLLM's processes."""
        await stop_engine(self._engine)

    async def _pool(
        self, path: Chain, ids: Sequence[int], *, use_cache: bool
    ) -> PoolingRequestOutput:
        """One forward pass; its rows belong to the last tokens, those not from the cache."""
        from vllm import PoolingParams, TokensPrompt

        request_id = uuid4().hex
        params = PoolingParams(
            task="token_classify",
            use_activation=False,
            skip_reading_prefix_cache=not use_cache,
        )
        results = self._engine.encode(
            TokensPrompt(prompt_token_ids=list(ids)), params, request_id=request_id
        )
        try:
            return await anext(results)
        except asyncio.CancelledError:
            # encode() forgets a request that is cancelled while it is being submitted.
            await self._engine.abort(request_id)
            raise
        except ValueError as error:
            raise Unscorable(f"vLLM refuses problem {path.problem.id!r}: {error}") from error
        except failures() as error:
            raise VerifierError(
                f"verifier {self._info.name} failed on problem {path.problem.id!r}: {error}",
                str(error),
            ) from error
        finally:
            await results.aclose()
