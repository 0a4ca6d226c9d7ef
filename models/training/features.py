"""Step features: hidden states of a frozen backbone at the tokens where scores are read.

The dear part of training is one forward pass over all solutions, so its results are kept on disk,
one file a problem, named by everything they depend on. An interrupted run resumes with the next
problem; a run on more problems or the same ones again only computes what is new.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, DynamicCache

from router.models.errors import InputError
from router.models.runtime.kv_cache import BatchCache, layers_of
from router.models.runtime.numbers import compute_dtype
from router.models.runtime.threads import map_on_cores
from router.models.states import rms_normalised
from router.models.verifiers.prm import Encoded
from router.models.verifiers.reward_heads import with_means
from router.models.verifiers.transformers import pretrained
from router.models.weights.fingerprint import fingerprint

_BATCH = 1024
"""Tokens in one pass, padding included; more made none faster on a CPU."""

States = Mapping[int, npt.NDArray[np.float16]]
"""RMS-normalised hidden states by layer, each (reads, 2, hidden), in the order of the solutions:
that of the token where a score is read, and the mean over the solution's tokens so far."""


class StateReader:
    """Reads hidden states of several layers in one pass of a backbone cut after the last of them.

    model: directory of the backbone. layers: decoder layers, counted from 1. cache: directory.
    """

    def __init__(self, model: Path, layers: Sequence[int], cache: Path) -> None:
        self._model = model
        self._layers = tuple(sorted(set(layers)))
        self._cache = cache
        self._loading = threading.Lock()
        self._of_thread = threading.local()  # what the pass that it runs has put out, by layer

    def read_all(self, problems: Sequence[Sequence[Encoded]]) -> Iterator[States]:
        """As `read` for each problem's solutions, in order, with a core for each problem."""
        return map_on_cores(self.read, problems)

    def read(self, solutions: Sequence[Encoded]) -> States:
        """States at every read of one problem's solutions; from the cache where it has them."""
        file = self._cache / f"{self._key(solutions)}.safetensors"
        try:
            stored = load_file(file)
        except (FileNotFoundError, SafetensorError):
            stored = {}
        if not set(map(str, self._layers)) <= stored.keys():
            stored |= self._compute(solutions)
            self._cache.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            save_file(stored, partial)
            partial.replace(file)
        return {layer: stored[str(layer)] for layer in self._layers}

    def _key(self, solutions: Sequence[Encoded]) -> str:
        inputs = [(entry.ids, entry.reads, entry.opening) for entry in solutions]
        return hashlib.sha256(repr((self._fingerprint, inputs)).encode()).hexdigest()

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self._model)

    @cached_property
    def _backbone(self) -> Any:
        depth = decoder_layers(self._model)
        if not 1 <= self._layers[0] <= self._layers[-1] <= depth:
            raise InputError(f"{self._model} has layers 1 to {depth}, not {self._layers}")
        dtype = compute_dtype(self._model)
        model = pretrained(AutoModel, self._model, dtype, layers=self._layers[-1]).eval()
        for layer in self._layers:
            model.layers[layer - 1].register_forward_hook(self._recorder(layer))
        return model

    def _recorder(self, layer: int) -> Callable[..., None]:
        def record(*call: Any) -> None:  # module, its arguments, its output
            output = call[-1]
            self._of_thread.outputs[layer] = output[0] if isinstance(output, tuple) else output

        return record

    @torch.inference_mode()
    def _compute(self, solutions: Sequence[Encoded]) -> dict[str, npt.NDArray[np.float16]]:
        """One pass over the tokens that all solutions share, then batches over the rest of each.

        Rows are padded on the right, where a causal model's states do not see it.
        """
        shared = _shared([entry.ids[:-1] for entry in solutions])
        cache = DynamicCache()
        opening = self._forward([solutions[0].ids[:shared]], cache)
        found: dict[tuple[int, int], npt.NDArray[np.float16]] = {}
        for batch in _batches([len(entry.ids) - shared for entry in solutions]):
            copies = BatchCache()
            copies.append(layers_of(cache), copies=len(batch))
            rest = self._forward([solutions[index].ids[shared:] for index in batch], copies.cache)
            for layer in self._layers:
                for row, index in enumerate(batch):
                    entry = solutions[index]
                    states = torch.cat((opening[layer][0], rest[layer][row]))[: len(entry.ids)]
                    read = with_means(rms_normalised(states), entry.reads, entry.opening)
                    found[layer, index] = read.half().cpu().numpy()
        return {
            str(layer): np.concatenate([found[layer, index] for index in range(len(solutions))])
            for layer in self._layers
        }

    def _forward(self, rows: Sequence[Sequence[int]], cache: DynamicCache) -> Mapping[int, Tensor]:
        """Outputs (rows, tokens, hidden) of the wanted layers for tokens that follow `cache`."""
        inputs = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for row, ids in zip(inputs, rows, strict=True):
            row[: len(ids)] = torch.tensor(list(ids))
        with self._loading:
            backbone = self._backbone
        outputs = self._of_thread.outputs = {}
        backbone(input_ids=inputs.to(backbone.device), past_key_values=cache, use_cache=True)
        return outputs


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of rows of similar length, at most `_BATCH` tokens at once, padding included."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > _BATCH:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _shared(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False)))


def decoder_layers(model: Path) -> int:
    """How many decoder layers a model has."""
    return int(AutoConfig.from_pretrained(model).num_hidden_layers)
