"""What a generator hands out of its hidden states, so that scoring its steps costs no pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_RMS_EPS = 1e-6

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class StepState:
    """Hidden states of one step, at the layer that the generator was asked for.

    last: of the solution's last token up to the step's end that has text, (hidden,), float32.
    total: sum of the RMS-normalised states of the step's tokens up to that one, (hidden,), float32.
    tokens: how many these are; 0 for a step without text.
    """

    last: Floats
    total: Floats
    tokens: int


def step_states(states: Sequence[Floats], ends: Sequence[int]) -> tuple[StepState, ...]:
    """The states of steps that were sampled together, from those of their tokens.

    states: of the prompt's last token, then of each sampled one up to the last of `ends`.
    ends: as `models.tokens.text_ends` counts them.
    """
    found, start = [], 0
    for end in ends:
        last = states[end]
        total = np.zeros_like(last)
        if end > start:
            own = torch.from_numpy(np.stack(states[start + 1 : end + 1]))
            total = rms_normalised(own).sum(0).numpy()
        found.append(StepState(last, total, end - start))
        start = end
    return tuple(found)


def rms_normalised(states: Tensor) -> Tensor:
    """States divided by their root mean square: what a final norm with unit weights gives.

    A self-verifier's head reads these, so that a backbone cut at its layer and given such a norm
    is an ordinary checkpoint.
    """
    states = states.float()
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + _RMS_EPS)
