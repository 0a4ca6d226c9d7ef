"""What a generator hands out of its hidden states, so that scoring its steps costs no pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RMS_EPS = 1e-6

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
        own = np.stack(states[start + 1 : end + 1]) if end > start else np.zeros((0, len(last)))
        scale = np.sqrt((own**2).mean(-1, keepdims=True) + RMS_EPS)
        found.append(StepState(last, (own / scale).sum(0, dtype=np.float32), end - start))
        start = end
    return tuple(found)
