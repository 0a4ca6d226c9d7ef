"""Self-verification: a head on the generator's own hidden states, at no cost where it has them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch

from router.models.base import Verifier, VerifierInfo
from router.models.errors import VerifierError
from router.models.states import StepState, rms_normalised
from router.models.types import Chain, Scored
from router.models.verifiers.prm import checked_scores
from router.models.verifiers.reward_heads import RewardHead


class SelfVerifier:
    """Scores steps from the states that the generator left on them.

    head: trained on `rms_normalised` states of one layer; one that pools needs those of every step.
    load: loads a verifier for chains whose steps carry no states, such as stored ones: a backbone
        cut at that layer. Blocks; called when the first such chain comes, and never again.
    """

    def __init__(self, head: RewardHead, info: VerifierInfo, load: Callable[[], Verifier]) -> None:
        self._head = head
        self._hidden = head.hidden
        self._info = info
        self._load = load
        self._fallback: Verifier | None = None
        self._loading = threading.Lock()

    @property
    def info(self) -> VerifierInfo:
        return self._info

    async def score(self, chain: Chain, known: int = 0) -> Scored:
        """Scores of the chain's steps from index `known` on.

        Raises:
            VerifierError: a state of another width, or a score that is not a probability.
            ModelError: there are no states, and the backbone cannot be loaded.
        """
        if known == chain.depth:
            return Scored((), tokens=0, cached_tokens=0)
        first = 0 if self._head.pools else known
        given = [step.state for step in chain.steps[first:] if step.state is not None]
        if len(given) < chain.depth - first:
            fallback = await asyncio.to_thread(self._loaded)
            return await fallback.score(chain, known)
        states = rms_normalised(torch.from_numpy(np.stack([state.last for state in given])))
        if states.shape[1] != self._hidden:
            raise VerifierError(
                f"verifier {self._info.name} reads states of width {self._hidden}, and this "
                f"generator's have {states.shape[1]}; it was trained for another generator"
            )
        if self._head.pools:
            states = torch.stack((states, _means(states, given)), dim=1)[known:]
        with torch.inference_mode():
            values = self._head.probabilities(states).tolist()
        return Scored(checked_scores(values, chain, self._info.name), tokens=0, cached_tokens=0)

    async def aclose(self) -> None:
        if self._fallback is not None:
            await self._fallback.aclose()

    def _loaded(self) -> Verifier:
        with self._loading:
            if self._fallback is None:
                self._fallback = self._load()
            return self._fallback


def _means(states: torch.Tensor, steps: Sequence[StepState]) -> torch.Tensor:
    """Mean state of the tokens up to each step's end, (steps, hidden); before any, its own."""
    totals = torch.from_numpy(np.stack([step.total for step in steps])).cumsum(0)
    counts = torch.tensor([step.tokens for step in steps]).cumsum(0)[:, None]
    return torch.where(counts > 0, totals / counts.clamp_min(1), states)
