"""Key/value caches of decoder layers: prefixes kept for later calls, rows batched for decoding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

Layers = list[Tensor]
"""Keys and values of each decoder layer in turn, each (rows, kv heads, positions, head size)."""

_ROOM = 64
"""Positions that a batch may grow by before its tensors are copied."""


def layers_of(cache: DynamicCache) -> Layers:
    """The tensors inside a cache, not copied."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def positions(layers: Layers, start: int, stop: int) -> Layers:
    """Positions [start, stop) of every row, not copied."""
    return [tensor[:, :, start:stop] for tensor in layers]


class PrefixCache:
    """Computed token sequences with their keys and values, the least recently used dropped first.

    A lookup reuses the longest common prefix of any stored sequence, so that one sequence serves
    all paths that branch off it. Holds at most `max_bytes` of tensors.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[int, ...], tuple[np.ndarray, Layers]] = OrderedDict()

    def longest(self, ids: Sequence[int]) -> tuple[int, Layers | None]:
        """(length, tensors of one row with exactly that many positions) of the best match."""
        wanted = np.asarray(ids)
        best, key = 0, None
        for candidate, (tokens, _) in self._entries.items():
            length = _common(tokens, wanted)
            if length > best:
                best, key = length, candidate
        if key is None:
            return 0, None
        self._entries.move_to_end(key)
        return best, positions(self._entries[key][1], 0, best)

    def add(self, ids: Sequence[int], layers: Layers) -> None:
        """Keep a copy of one row's tensors, which have a position for each of `ids`."""
        key = tuple(ids)
        length, _ = self.longest(key)
        if length == len(key):
            return
        for known in [k for k in self._entries if key[: len(k)] == k]:
            self._drop(known)
        copied = [tensor.clone(memory_format=torch.contiguous_format) for tensor in layers]
        self._entries[key] = (np.asarray(key), copied)
        self._bytes += _size(copied)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: tuple[int, ...]) -> None:
        self._bytes -= _size(self._entries.pop(key)[1])


def _common(left: np.ndarray, right: np.ndarray) -> int:
    """Length of the common prefix of two rows of tokens."""
    length = min(len(left), len(right))
    differs = left[:length] != right[:length]
    return int(differs.argmax()) if differs.any() else length


def _size(layers: Layers) -> int:
    return sum(tensor.nbytes for tensor in layers)


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """Keys and values of one decoder layer in buffers with room to grow.

    transformers' own layer copies all positions at every token, which on a CPU takes longer than
    the attention itself.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._hold(keys, values, keys.shape[2])

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add positions; returns all keys and values."""
        start = self.keys.shape[2]
        stop = start + key_states.shape[2]
        if stop > self._key_buffer.shape[2]:
            self._hold(self.keys, self.values, stop)
        self._key_buffer[:, :, start:stop] = key_states
        self._value_buffer[:, :, start:stop] = value_states
        self.keys = self._key_buffer[:, :, :stop]
        self.values = self._value_buffer[:, :, :stop]
        return self.keys, self.values

    def _hold(self, keys: Tensor, values: Tensor, width: int) -> None:
        """Copy into buffers of `width` positions and some more."""
        rows, heads, used, _ = keys.shape
        self._key_buffer = keys.new_empty(rows, heads, width + _ROOM, keys.shape[3])
        self._value_buffer = values.new_empty(rows, heads, width + _ROOM, values.shape[3])
        self._key_buffer[:, :, :used] = keys
        self._value_buffer[:, :, :used] = values
        self.keys = self._key_buffer[:, :, :used]
        self.values = self._value_buffer[:, :, :used]


class BatchCache:
    """Keys and values of rows of different lengths, padded on the left, that grow together.

    Every row ends at the last position, so a token fed to all rows adds one position to all.
    """

    def __init__(self) -> None:
        self.cache = DynamicCache()
        self.lengths: list[int] = []

    @property
    def width(self) -> int:
        """Positions of the longest row."""
        return max(self.lengths, default=0)

    def append(self, row: Layers, copies: int) -> None:
        """Add `copies` rows that all start from the same one row of tensors."""
        length = row[0].shape[2]
        width = max(self.width, length)
        layers = [_left_pad(tensor, width).expand(copies, -1, -1, -1) for tensor in row]
        if self.lengths:
            old = (_left_pad(tensor, width) for tensor in layers_of(self.cache))
            layers = [torch.cat(pair) for pair in zip(old, layers, strict=True)]
        self._hold(layers)
        self.lengths += [length] * copies

    def row(self, index: int) -> Layers:
        """One row's tensors without its padding, not copied."""
        width = self.width
        start = width - self.lengths[index]
        own = [tensor[index : index + 1] for tensor in layers_of(self.cache)]
        return positions(own, start, width)

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all other rows, and the padding that no row needs any more."""
        if not indices:
            self.cache, self.lengths = DynamicCache(), []
            return
        width = self.width
        self.lengths = [self.lengths[index] for index in indices]
        chosen = torch.tensor(indices, device=self.cache.layers[0].keys.device)
        rest = positions(layers_of(self.cache), width - self.width, width)
        self._hold([tensor[chosen] for tensor in rest])

    def _hold(self, layers: Layers) -> None:
        self.cache = DynamicCache()
        pairs = zip(layers[::2], layers[1::2], strict=True)
        self.cache.layers = [_RoomyLayer(keys, values) for keys, values in pairs]

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Attention mask (rows, width + 1) and position ids (rows, 1) of one further token."""
        lengths = torch.tensor(self.lengths)
        mask = torch.arange(self.width + 1) >= self.width - lengths[:, None]
        return mask.long(), lengths[:, None]

    def grew(self) -> None:
        """Note that the model has added one position to every row."""
        self.lengths = [length + 1 for length in self.lengths]


def _left_pad(tensor: Tensor, width: int) -> Tensor:
    return pad(tensor, (0, 0, width - tensor.shape[2], 0))
