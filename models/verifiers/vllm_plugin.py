"""Lets a `vllm serve` of a process reward model read its prefix cache; runs in that server.

vLLM's `/pooling` refuses the cache to every `token_classify` request, because the rows of cached
tokens do not come back (`vllm/pooling_params.py:127`). Whoever keeps the scores of earlier steps
wants just that. This plugin of vLLM's (`--io-processor-plugin router`) takes token ids as the
request's `data`, and answers the head's numbers for the tokens that were not cached.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from vllm import PoolingParams, PoolingRequestOutput, TokensPrompt
from vllm.plugins.io_processors.interface import IOProcessor


class NewRows(IOProcessor):  # type: ignore[misc]  # vLLM has no types here
    """One prompt's logits, for its last tokens: those not cached."""

    def parse_data(self, data: object) -> list[int]:
        """The prompt's token ids.

        Raises:
            ValueError: `data` is something else; vLLM answers 400.
        """
        if isinstance(data, list) and data and all(isinstance(token, int) for token in data):
            return data
        raise ValueError("data must be a list of token ids")

    def merge_pooling_params(self, *_: Any) -> PoolingParams:
        return PoolingParams(
            task="token_classify", use_activation=False, skip_reading_prefix_cache=False
        )

    def pre_process(self, prompt: list[int], **_: Any) -> TokensPrompt:
        return TokensPrompt(prompt_token_ids=prompt)

    def post_process(
        self, model_output: Sequence[PoolingRequestOutput], **_: Any
    ) -> dict[str, Any]:
        (output,) = model_output
        rows = base64.b64encode(output.outputs.data.float().numpy().astype("<f4").tobytes())
        return {"logits": rows.decode(), "cached_tokens": output.num_cached_tokens}


def name() -> str:
    """Where the plugin is, as vLLM's entry point group `vllm.io_processor_plugins` asks for."""
    return f"{__name__}.NewRows"
