"""Weights of steps in fine-tuning."""

from __future__ import annotations

import pytest
import torch

from router.models.training.lora import Labelled, LoraSettings, _targets
from router.models.verifiers.prm import Encoded


@pytest.mark.parametrize("lengths", [(1,), (1, 3), (2, 1, 1)])
def test_a_solution_weighs_one_however_few_its_steps_are(lengths: tuple[int, ...]) -> None:
    solutions = [
        Labelled(Encoded(tuple(range(n)), tuple(range(n))), (0.5,) * n, left_out=False)
        for n in lengths
    ]
    targets, weights = _targets(solutions, LoraSettings(rank=4))
    assert targets.shape == (sum(lengths), 2)
    sums = [part.sum() for part in torch.split(weights, list(lengths))]
    assert torch.allclose(torch.stack(sums), torch.ones(len(lengths)))
