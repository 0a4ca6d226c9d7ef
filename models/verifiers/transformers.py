"""Process reward models on transformers: batched, with the keys and values of prefixes kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from router.models.base import VerifierInfo
from router.models.errors import ModelError, Unscorable, VerifierError
from router.models.prompts import Prompt, get_prompt
from router.models.runtime.batching import MicroBatcher
from router.models.runtime.kv_cache import BatchCache, PrefixCache, layers_of, positions
from router.models.runtime.numbers import compute_dtype
from router.models.tokens import ChainEncoder
from router.models.types import Chain, Problem, Scored
from router.models.verifiers.prm import (
    PairLogits,
    PrmFormat,
    check_tokenizer,
    checked_scores,
    single_token,
)
from router.models.verifiers.reward_heads import PairHead, StepHead, load_head
from router.models.verifiers.rows import Reading, RowReader
from router.models.weights.find import weight_files

_CACHE_BYTES = 1 << 30
_PLAIN = get_prompt("plain")
_WORTH_SHARING = 16
"""Tokens that paths of one batch must share to be computed once, in a forward pass of their own."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A path's tokens, and what the scores of its steps need of them."""

    problem: Problem
    reading: Reading


@dataclass(frozen=True, slots=True)
class _Result:
    """numbers: both of a head that pools, of all tokens computed; else the scores."""

    numbers: Tensor
    computed: int
    cached: int


class TransformersVerifier:
    """Scores paths with a decoder and a head of `models.verifiers.reward_heads`.

    Paths that share their first tokens share their computation: within a batch, and across calls
    through a cache of keys and values. One more step of a known path costs its own tokens.
    """

    def __init__(
        self,
        backbone: Any,
        head: StepHead,
        encoder: ChainEncoder,
        prm: PrmFormat,
        info: VerifierInfo,
        *,
        max_batch: int = 16,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self._backbone = backbone.eval().requires_grad_(False)
        self._head = head.to(backbone.device)
        self._encoder = encoder
        self._prm = prm
        self._info = info
        self._context: int = backbone.config.max_position_embeddings
        self._reader = RowReader(prm.head)
        self._prefixes = PrefixCache(cache_bytes)
        self._batcher = MicroBatcher(self._run, max_batch)

    @classmethod
    def load(
        cls,
        directory: Path,
        prm: PrmFormat,
        info: VerifierInfo,
        *,
        prompt: Prompt = _PLAIN,
        dtype: str = "auto",
    ) -> TransformersVerifier:
        """Load a published PRM, or one of its architecture. Blocks.

        prompt: what the generator is prompted with; self-verifiers read the same tokens.
        dtype: `float32`, `bfloat16`, or `auto`: bfloat16 on a GPU, float32 on a CPU.

        Raises:
            ModelError: no safetensors weights, a head of another width, or another's tokenizer.
        """
        files = weight_files(directory)
        tokenizer = AutoTokenizer.from_pretrained(directory)
        encoder = ChainEncoder(tokenizer, prompt)
        check_tokenizer(prm, encoder)
        if isinstance(prm.head, PairLogits):
            pair = [single_token(tokenizer, text) for text in (prm.head.good, prm.head.bad)]
            model = pretrained(AutoModelForCausalLM, directory, dtype)
            backbone = model.get_decoder()
            head: StepHead = PairHead(model.get_output_embeddings().weight[pair])
        else:
            backbone = pretrained(AutoModel, directory, dtype)
            head = load_head(files, backbone.config.hidden_size, prm.head)
        return cls(backbone, head, encoder, prm, info)

    @classmethod
    def load_on(
        cls,
        generator: Path,
        layer: int,
        head: StepHead,
        prompt: Prompt,
        prm: PrmFormat,
        info: VerifierInfo,
        *,
        dtype: str | None = None,
    ) -> TransformersVerifier:
        """Load a generator's first `layer` layers, and a head trained on them. Blocks.

        The final norm gets unit weights, as such a head reads `rms_normalised` states.

        prompt: what the generator is prompted with; self-verifiers read the same tokens.
        dtype: as in `load`; what generators compute in by default.

        Raises:
            ModelError: the weights cannot be loaded.
        """
        backbone = pretrained(AutoModel, generator, dtype or compute_dtype(generator), layers=layer)
        with torch.no_grad():
            backbone.norm.weight.fill_(1.0)
        tokenizer = AutoTokenizer.from_pretrained(generator)
        return cls(backbone, head, ChainEncoder(tokenizer, prompt), prm, info)

    @property
    def info(self) -> VerifierInfo:
        return self._info

    async def score(self, path: Chain, known: int = 0) -> Scored:
        """Scores of the path's steps from index `known` on.

        Raises:
            Unscorable: the path is longer than the verifier's context.
            VerifierError: the forward pass failed, or a score is not a probability.
        """
        encoded = self._prm.layout.encode(path, self._encoder)
        if not encoded.reads[known:]:
            return Scored((), tokens=0, cached_tokens=0)
        if len(encoded.ids) > self._context:
            raise Unscorable(
                f"problem {path.problem.id!r} with {path.depth} steps has {len(encoded.ids)} "
                f"tokens, and verifier {self._info.name} reads at most {self._context}"
            )
        reading = self._reader.plan(encoded, known)
        try:
            result = await self._batcher.submit(_Request(path.problem, reading))
        except (RuntimeError, IndexError) as error:
            raise VerifierError(
                f"verifier {self._info.name} failed on problem {path.problem.id!r}: {error}",
                str(error),
            ) from error
        values = (
            self._reader.scores(result.numbers.numpy(), reading)
            if self._head.pools
            else result.numbers.tolist()
        )
        checked = checked_scores(values, path, self._info.name)
        return Scored(checked, tokens=result.computed, cached_tokens=result.cached)

    async def aclose(self) -> None:
        await self._batcher.aclose()

    @torch.inference_mode()
    def _run(self, batch: list[_Request]) -> list[_Result]:
        charged = self._compute_shared(batch)
        rows = self._forward([(r.reading.encoded.ids, r.reading.first) for r in batch])
        results = []
        for request, ahead, (reused, states) in zip(batch, charged, rows, strict=True):
            reading = request.reading
            reads = [read - reused for read in reading.encoded.reads[reading.known :]]
            numbers = (
                self._head(states) if self._head.pools else self._head.probabilities(states[reads])
            )
            results.append(_Result(numbers.cpu(), len(states) + ahead, max(reused - ahead, 0)))
        return results

    def _compute_shared(self, batch: Sequence[_Request]) -> list[int]:
        """Compute once what paths of one problem share and no earlier call has computed.

        Returns the tokens that this took, charged to the first path of each problem.
        """
        charged = [0] * len(batch)
        of_problem: dict[Problem, list[int]] = defaultdict(list)
        for index, request in enumerate(batch):
            of_problem[request.problem].append(index)
        starts: list[tuple[tuple[int, ...], int]] = []
        for indices in of_problem.values():
            requests = [batch[index].reading for index in indices]
            start = _common_prefix([r.encoded.ids[: r.first] for r in requests])
            fresh = len(start) - self._prefixes.longest(start)[0]
            if len(indices) > 1 and fresh >= _WORTH_SHARING:
                starts.append((start, len(start)))
                charged[indices[0]] = fresh
        if starts:
            self._forward(starts)
        return charged

    def _forward(
        self, sequences: Sequence[tuple[tuple[int, ...], int]]
    ) -> list[tuple[int, Tensor]]:
        """Run token sequences through the backbone and keep their keys and values.

        sequences: (token ids, how many of the first ones may come from the cache).

        Returns for each how many did, and the hidden states of the others, (tokens, hidden).
        """
        past = [self._prefixes.longest(ids[:limit]) for ids, limit in sequences]
        cached = BatchCache()
        example = next((layers for _, layers in past if layers is not None), None)
        if example is not None:
            for _, layers in past:
                cached.append(layers or positions(example, 0, 0), copies=1)
        fresh = [ids[reused:] for (ids, _), (reused, _) in zip(sequences, past, strict=True)]
        offset, width = cached.width, max(len(ids) for ids in fresh)
        # The cache pads on the left, so that what is cached meets what is new; that is padded on
        # the right.
        tokens = torch.zeros(len(fresh), width, dtype=torch.long)
        places = torch.zeros_like(tokens)
        mask = torch.zeros(len(fresh), offset + width, dtype=torch.long)
        for row, (ids, (reused, _)) in enumerate(zip(fresh, past, strict=True)):
            tokens[row, : len(ids)] = torch.tensor(ids)
            places[row, : len(ids)] = torch.arange(reused, reused + len(ids))
            mask[row, offset - reused : offset + len(ids)] = 1
        device = self._backbone.device
        output = self._backbone(
            input_ids=tokens.to(device),
            position_ids=places.to(device),
            attention_mask=mask.to(device),
            past_key_values=cached.cache,
            use_cache=True,
        )
        layers = layers_of(output.past_key_values)
        rows = []
        for row, ((ids, _), (reused, _)) in enumerate(zip(sequences, past, strict=True)):
            own = [tensor[row : row + 1] for tensor in layers]
            end = offset - reused + len(ids)
            self._prefixes.add(ids, positions(own, offset - reused, end))
            rows.append((reused, output.last_hidden_state[row, : len(ids) - reused]))
        return rows


def _common_prefix(sequences: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    # The least and the greatest in lexical order differ before any other two do.
    low, high = min(sequences), max(sequences)
    differs = (at for at, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1])
    return low[: next(differs, len(low))]


def pretrained(auto: Any, directory: Path, dtype: str, layers: int | None = None) -> Any:
    """A model by one of the Auto classes, or its first `layers` decoder layers only.

    dtype: `float32`, `bfloat16`, or `auto`: bfloat16 on a GPU, float32 on a CPU.

    Raises:
        ModelError: the weights cannot be loaded, or some are missing.
    """
    on_gpu = torch.cuda.is_available()
    if dtype == "auto":
        dtype = "bfloat16" if on_gpu else "float32"
    config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    try:
        with _quiet():
            model, report = auto.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load a verifier from {directory}: {error}") from error
    if report["missing_keys"]:
        raise ModelError(
            f"{directory} lacks weights that its config.json asks for, "
            f"among them {min(report['missing_keys'])!r}"
        )
    return model.to("cuda" if on_gpu else "cpu")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar, and its report of all weights that are not used.

    These are the head's, and those of layers left out.
    """
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
