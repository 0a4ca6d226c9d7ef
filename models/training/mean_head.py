"""Trains the linear head that reads the mean over a solution's tokens beside the step's own state.

Logistic regression on both states, with soft labels, and on pairs of a right and a wrong solution
of one problem (Bradley and Terry 1952), since it is inside a problem that scores choose. Each fold
of the problems is scored by a fit without it, so that calibration and the report see unseen
problems only; the head itself is fitted on all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from router.models.runtime.threads import one_thread
from router.models.training.head import (
    Examples,
    HeadSettings,
    Progress,
    TrainedHead,
    calibration_temperature,
    fold_of_each,
    standardised,
    step_weights,
)
from router.models.verifiers.reward_heads import PooledHead

_ITERATIONS = 60
"""Of L-BFGS; the loss changes in no digit that matters after them."""


def train_mean_head(
    examples: Examples, settings: HeadSettings = HeadSettings(), progress: Progress | None = None
) -> TrainedHead:
    """Train and calibrate. Deterministic under the seed on one machine."""
    folds = fold_of_each(examples.groups, settings.folds, settings.seed)
    count = int(folds.max()) + 1
    inputs, mean, scale = standardised(examples.states.reshape(len(examples), -1))
    labels = torch.from_numpy(examples.labels).float()
    weights = torch.from_numpy(step_weights(examples, settings.last_share))
    pairs = _Pairs.of(examples)
    logits = torch.zeros(len(examples))
    with one_thread():
        for fold in range(count):
            out = torch.from_numpy(folds == fold)
            kept = pairs.where(folds != fold)
            found = _fitted(inputs, labels, weights * ~out, kept, settings)
            logits[out] = _logits(found, inputs[out])
            if progress is not None:
                progress(fold + 1, count + 1)
        found = _fitted(inputs, labels, weights, pairs, settings)
    both = torch.stack((torch.zeros_like(logits), logits), dim=1)
    targets = torch.stack((1 - labels, labels), dim=1)
    temperature = calibration_temperature(both, targets, weights)
    if progress is not None:
        progress(count + 1, count + 1)
    slope = found[:-1] / scale / temperature
    head = _head(slope, found[-1] / temperature - slope @ mean)
    held_out = (logits / temperature).sigmoid().double().numpy()
    return TrainedHead(head, temperature, held_out, ())


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Last steps of a right and a wrong solution of one problem, each as row numbers, (pairs,).

    weights: shape (pairs,); every problem that has both kinds weighs 1.
    """

    right: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]

    @classmethod
    def of(cls, examples: Examples) -> _Pairs:
        right, wrong, weights = [], [], []
        for problem in np.unique(examples.groups):
            rows = np.flatnonzero((examples.groups == problem) & examples.last)
            good = examples.labels[rows] > 0.5
            one, other = np.meshgrid(rows[good], rows[~good])
            right.append(one.ravel())
            wrong.append(other.ravel())
            weights.append(np.full(one.size, 1 / max(one.size, 1), np.float32))
        return cls(np.concatenate(right), np.concatenate(wrong), np.concatenate(weights))

    def where(self, kept: npt.NDArray[np.bool_]) -> _Pairs:
        """Those of the rows to keep; problems are kept or left out as a whole."""
        inside = kept[self.right]
        return _Pairs(self.right[inside], self.wrong[inside], self.weights[inside])

    def loss(self, logits: Tensor) -> Tensor:
        """Mean of the problems'; nothing where there are no pairs."""
        each = softplus(logits[self.wrong] - logits[self.right]) * torch.from_numpy(self.weights)
        return each.sum() / max(float(self.weights.sum()), 1.0)


def _fitted(
    inputs: Tensor, labels: Tensor, weights: Tensor, pairs: _Pairs, settings: HeadSettings
) -> Tensor:
    """Slopes, then the intercept, which is not penalised."""
    share = weights / weights.sum()
    found = torch.zeros(inputs.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = _logits(found, inputs)
        each = binary_cross_entropy_with_logits(logits, labels, reduction="none")
        total = (each * share).sum() + settings.pairs * pairs.loss(logits)
        total = total + settings.penalty / 2 * found[:-1].square().sum()
        torch.autograd.backward(total)
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return found.detach()


def _logits(found: Tensor, inputs: Tensor) -> Tensor:
    return inputs @ found[:-1] + found[-1]


def _head(slope: Tensor, intercept: Tensor) -> PooledHead:
    """The linear functions of both states as a network: a slope and its opposite make one."""
    hidden = len(slope) // 2
    head = PooledHead(hidden)
    for tensor in head.state_dict().values():
        tensor.zero_()
    first, second = head.state_dict()["score.0.weight"], head.state_dict()["score.2.weight"]
    for output, own in enumerate((slope[:hidden], slope[hidden:])):
        for unit, sign in ((2 * output, 1), (2 * output + 1, -1)):
            first[unit] = sign * own
            second[output, unit] = sign
    head.state_dict()["score.2.bias"][0] = intercept
    return head.eval().requires_grad_(False)
