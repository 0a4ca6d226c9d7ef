"""Process reward models behind `vllm serve`: token ids go there, probabilities come back.

Which of vLLM's APIs is asked depends on the format's head (read in vLLM 0.32):

- two classes: `/pooling`, task `token_classify`, which answers both logits of every token. It
  reads no prefix cache, so every call costs the whole chain; with our plugin
  (`verifiers.vllm_plugin`) in the server, it costs its new tokens.
- two words of the vocabulary: `/generative_scoring`, which answers how probable one is beside the
  other after given tokens. The server samples, so it keeps prefixes; it does not say how much of
  them it used.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final, Protocol

import numpy as np
import numpy.typing as npt

from router.models.base import VerifierInfo
from router.models.errors import EngineError, InputError, Unscorable, VerifierError
from router.models.generators.endpoints import EndpointPool, HTTPFailure
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Scored, Step
from router.models.verifiers.prm import (
    Encoded,
    PairLogits,
    PrmFormat,
    TokenHead,
    check_tokenizer,
    checked_scores,
    single_token,
)
from router.models.verifiers.rows import RowReader

SERVE_FLAGS: Final = '--pooler-config \'{"tok_pooling_type": "ALL"}\''
"""What a server of a classifier needs, to answer a row for every token."""

_UNREADABLE: Final = (IndexError, KeyError, TypeError, ValueError)
"""What reading an answer of another shape raises."""

_TOO_LONG: Final = "maximum context length"
"""In vLLM's refusal of a prompt (`vllm/renderers/params.py:389`)."""


class _Api(Protocol):
    """One of vLLM's APIs that say how good a token is.

    started: how such a server is started. longest: most tokens of a chain, of a context of so many.
    """

    started: ClassVar[str]

    def longest(self, context: int) -> int: ...

    async def read(self, encoded: Encoded, known: int) -> Scored:
        """Scores of a chain's steps from index `known` on, not checked."""
        ...


class _Rows:
    """Servers of a classifier. plugin: whether they run ours."""

    started: ClassVar[str] = f"`vllm serve` with {SERVE_FLAGS}"

    def __init__(self, pool: EndpointPool, head: TokenHead) -> None:
        self._pool = pool
        self._reader = RowReader(head)
        self.plugin = False

    def longest(self, context: int) -> int:
        return context

    async def read(self, encoded: Encoded, known: int) -> Scored:
        ids, reading = encoded.ids, self._reader.plan(encoded, known)
        try:
            rows, cached = await (self.new_rows(ids) if self.plugin else self._rows(ids))
        except HTTPFailure:
            if not self.plugin:
                raise
            rows, cached = await self._rows(ids)  # by a server without it, or it says why not
        computed = len(ids) - cached
        if cached > reading.first:
            # Known tokens, but not read before: a chain that was scored in longer steps.
            rows, _ = await self._rows(ids)
            computed += len(ids)
        return Scored(tuple(self._reader.scores(rows, reading)), computed, cached)

    async def new_rows(self, ids: Sequence[int]) -> tuple[npt.NDArray[np.float32], int]:
        """Rows of the tokens that are not in the server's cache, and how many are."""
        answer = await self._pool.call("POST", "pooling", {"data": ids})
        cached = answer["data"]["cached_tokens"]
        return _decoded(answer["data"]["logits"], len(ids) - cached), cached

    async def _rows(self, ids: Sequence[int]) -> tuple[npt.NDArray[np.float32], int]:
        body = {
            "input": ids,
            "task": "token_classify",
            "use_activation": False,
            "encoding_format": "base64",
            "embed_dtype": "float32",
            "endianness": "little",
        }
        answer = await self._pool.call("POST", "pooling", body)
        return _decoded(answer["data"][0]["data"], len(ids)), 0


class _Words:
    """A server of a language model that says one of two words: `good`, or `bad`."""

    started: ClassVar[str] = "`vllm serve`, not as a pooling model"

    def __init__(self, pool: EndpointPool, good: int, bad: int) -> None:
        self._pool = pool
        self._labels = [good, bad]

    def longest(self, context: int) -> int:
        return context - 1  # the word; the server would cut longer ones without a word

    async def read(self, encoded: Encoded, known: int) -> Scored:
        ids, reads = encoded.ids, encoded.reads[known:]
        start = reads[0] + 1
        body = {
            "query": ids[:start],
            "items": [ids[start : read + 1] for read in reads],
            "label_token_ids": self._labels,
        }
        answer = await self._pool.call("POST", "generative_scoring", body)
        values = {entry["index"]: float(entry["score"]) for entry in answer["data"]}
        return Scored(tuple(values[index] for index in range(len(reads))), None, None)


class ServedVerifier:
    """`Verifier` on one or many servers of the same model. Use it from one event loop."""

    def __init__(
        self,
        pool: EndpointPool,
        api: _Api,
        encoder: ChainEncoder,
        prm: PrmFormat,
        info: VerifierInfo,
        context: int,
    ) -> None:
        self._pool = pool
        self._api = api
        self._encoder = encoder
        self._layout = prm.layout
        self._info = info
        self._longest = api.longest(context)

    @classmethod
    async def load(
        cls,
        pool: EndpointPool,
        encoder: ChainEncoder,
        prm: PrmFormat,
        info: VerifierInfo,
        context: int,
    ) -> ServedVerifier:
        """Ask the servers for one score, so that wrong ones show at once.

        pool: the servers, from now on the verifier's to close.
        context: most tokens that they take.

        Raises:
            InputError: vLLM has no API for the format's head.
            ModelError: the tokenizer does not fit the format.
            VerifierError: no server answers, or not as the format needs it.
        """
        check_tokenizer(prm, encoder)
        api = _api(pool, encoder, prm)
        verifier = cls(pool, api, encoder, prm, info, context)
        chain = Chain(Problem("probe", "1 + 1")).extend(Step("It is 2.", "stop"))
        if isinstance(api, _Rows):
            with suppress(EngineError, *_UNREADABLE):  # what is wrong, the next call says
                await api.new_rows(prm.layout.encode(chain, encoder).ids)
                api.plugin = True
        try:
            await verifier.score(chain)
        except VerifierError as error:
            message = f"{error}; format {prm.id!r} needs {api.started}"
            raise VerifierError(message, error.said) from error
        return verifier

    @property
    def info(self) -> VerifierInfo:
        return self._info

    def __repr__(self) -> str:
        return f"ServedVerifier({self._info.name!r}, pool={self._pool!r})"

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        """Scores of the chain's steps from index `known` on. Cancelling closes the request.

        Raises:
            Unscorable: the chain is longer than the server's context.
            VerifierError: no server could answer, or a score is not a probability.
        """
        encoded = self._layout.encode(chain, self._encoder)
        if not encoded.reads[known:]:
            return Scored((), tokens=0, cached_tokens=0)
        if len(encoded.ids) > self._longest:
            raise Unscorable(
                f"problem {chain.problem.id!r} with {chain.depth} steps has {len(encoded.ids)} "
                f"tokens, and the server of verifier {self._info.name} reads at most "
                f"{self._longest}; a longer context is its --max-model-len"
            )
        try:
            scored = await self._api.read(encoded, known)
        except HTTPFailure as error:
            kind = Unscorable if error.status == 400 and _TOO_LONG in str(error) else VerifierError
            raise kind(f"verifier {self._info.name}: {error}", error.said) from error
        except EngineError as error:
            message = f"verifier {self._info.name}: {error}"
            raise VerifierError(message, error.said) from error
        except _UNREADABLE as error:
            said = repr(error)
            raise VerifierError(
                f"the server of verifier {self._info.name} answered what cannot be read: {said}",
                said,
            ) from error
        checked_scores(scored.values, chain, self._info.name)
        return scored

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


async def served_models(pool: EndpointPool) -> list[Mapping[str, Any]]:
    """What the servers say that they serve: entries of `/v1/models`.

    Raises:
        VerifierError: no server answers, or not as vLLM does.
    """
    try:
        answer = await pool.call("GET", "v1/models")
    except EngineError as error:
        raise VerifierError(f"the verifier's server: {error}", error.said) from error
    cards = answer.get("data")
    whole = isinstance(cards, list) and all(
        isinstance(card, dict) and isinstance(card.get("max_model_len"), int) for card in cards
    )
    if not (whole and cards):
        raise VerifierError(f"{pool!r} does not say which models it serves, as vLLM does")
    return list(cards)


def _api(pool: EndpointPool, encoder: ChainEncoder, prm: PrmFormat) -> _Api:
    if isinstance(prm.head, TokenHead):
        return _Rows(pool, prm.head)
    if isinstance(prm.head, PairLogits):
        good, bad = (single_token(encoder.tokenizer, w) for w in (prm.head.good, prm.head.bad))
        return _Words(pool, good, bad)
    raise InputError(
        f"vLLM cannot serve verifiers of format {prm.id!r}; leave --verifier-endpoint out, and it "
        "runs here on transformers"
    )


def _decoded(text: str, tokens: int) -> npt.NDArray[np.float32]:
    """The rows that a server sent, (tokens, classes)."""
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (binascii.Error, TypeError) as error:
        raise ValueError(f"no base64: {error}") from error
    if len(numbers) != 2 * tokens:
        raise ValueError(f"scored {len(numbers) // 2} of {tokens} tokens")
    return numbers.reshape(tokens, 2)
