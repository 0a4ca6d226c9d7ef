"""Self-verification: a head on the generator's own hidden states, at no cost where it has them."""

from __future__ import annotations

import numpy as np
import torch

from models.base import Verifier, VerifierInfo
from models.errors import VerifierError
from models.types import Path, Scored
from models.verifiers.prm import checked_scores
from models.verifiers.reward_heads import RewardHead, rms_normalised


class SelfVerifier:
    """Scores steps from the states that the generator left on them.

    head: trained on `rms_normalised` states of one layer.
    fallback: scores paths whose steps carry no states, on a backbone cut at that layer; None when
        the generator always gives them.
    """

    def __init__(self, head: RewardHead, info: VerifierInfo, fallback: Verifier | None) -> None:
        self._head = head
        self._hidden = head.hidden
        self._info = info
        self._fallback = fallback

    @property
    def info(self) -> VerifierInfo:
        return self._info

    async def score(self, path: Path, known: int = 0) -> Scored:
        """Scores of the path's steps from index `known` on.

        Raises:
            VerifierError: no states and no fallback, a state of another width, or a score that is
                not a probability.
        """
        states = [step.state for step in path.steps[known:]]
        if not states:
            return Scored((), tokens=0, cached_tokens=0)
        given = [state for state in states if state is not None]
        if len(given) < len(states):
            if self._fallback is None:
                raise VerifierError(
                    f"verifier {self._info.name} reads the generator's hidden states, and this "
                    f"generator left none on problem {path.problem.id!r}"
                )
            return await self._fallback.score(path, known)
        stacked = torch.from_numpy(np.stack(given))
        if stacked.shape[1] != self._hidden:
            raise VerifierError(
                f"verifier {self._info.name} reads states of width {self._hidden}, and this "
                f"generator's have {stacked.shape[1]}; it was trained for another generator"
            )
        with torch.inference_mode():
            values = self._head.probabilities(rms_normalised(stacked)).tolist()
        return Scored(checked_scores(values, path, self._info.name), tokens=0, cached_tokens=0)

    async def aclose(self) -> None:
        if self._fallback is not None:
            await self._fallback.aclose()
