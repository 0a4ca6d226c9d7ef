"""Drawing tokens on a CPU: one random number for a token, not one for each in the vocabulary.

vLLM's CPU build draws by the Gumbel maximum: noise for every token of the vocabulary, which is a
sixth of all that its worker does while it samples 128 solutions of a half-billion model. Inverting
the cumulative distribution draws from the same distribution with one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from router.models.runtime.vllm_internals import cut, top_p_sampler

_BLOCK = 128
"""Tokens whose chances are summed before the sums are cumulated: a cumulative sum over the whole
vocabulary runs on one element after the other."""

Forward = Callable[[Tensor, dict[int, Any], Tensor | None, Tensor | None], tuple[Tensor, Any]]


class FastDraws:
    """Becomes a base class of vLLM's worker; its method is called by `collective_rpc`."""

    model_runner: Any

    def draw_by_inversion(self) -> bool:
        """From now on; False if this vLLM's sampler is built otherwise, and stays as it is."""
        sampler = top_p_sampler(self.model_runner)
        if sampler is None:
            return False
        sampler.forward = _forward(sampler.forward)
        return True


def _forward(usual: Forward) -> Forward:
    within = cut()

    def forward(
        logits: Tensor, generators: dict[int, Any], k: Tensor | None, p: Tensor | None
    ) -> tuple[Tensor, Any]:
        if generators:  # requests with seeds
            return usual(logits, generators, k, p)
        return draw(within(logits, k, p)), None

    return forward


def draw(logits: Tensor) -> Tensor:
    """One token of each row's softmax; logits: (rows, vocabulary), tokens: (rows,)."""
    rows, vocabulary = logits.shape
    chances = torch.softmax(logits, -1, dtype=torch.float32)
    blocks = chances.view(rows, -1, math.gcd(vocabulary, _BLOCK))
    block = _invert(blocks.sum(-1))
    # Drawn anew inside the block, so that rounding of its sum leads to no impossible token.
    inside = _invert(blocks[torch.arange(rows), block])
    return block * blocks.shape[2] + inside


def _invert(weights: Tensor) -> Tensor:
    """An index of each row, as likely as its weight; never one of weight 0."""
    cumulated = weights.double().cumsum(-1)
    total = cumulated[:, -1:]
    point = torch.rand_like(total) * total
    below = torch.nextafter(total, torch.zeros_like(total))
    return torch.searchsorted(cumulated, torch.minimum(point, below), right=True)[:, 0]
