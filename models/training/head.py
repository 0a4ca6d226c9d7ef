"""Trains a step head: several small Linear-ReLU-Linear networks, merged into one of full width.

Each network leaves out one fold of the problems, stops early on it, and scores it. So every
problem trains, every score that calibration and the report use comes from a network that never
saw the problem, and the merged head is their average (the mean of their logits): an ensemble at
the price of one head, in the published architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from router.models.runtime.threads import one_thread
from router.models.verifiers.reward_heads import RewardHead

Progress = Callable[[int, int], None]
"""Called with the number of networks trained so far, and how many there are."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled steps.

    states: RMS-normalised, shape (steps, 2, hidden): of the step's own token, and the mean over the
        solution's tokens so far. labels: P(right in the end), shape (steps,).
    groups: index of the problem, shape (steps,). last: ends its solution, shape (steps,).
    steps: number of steps of the step's solution, shape (steps,).
    solutions: how many solutions this one stands for, shape (steps,).
    """

    states: npt.NDArray[np.float16]
    labels: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int64]
    last: npt.NDArray[np.bool_]
    steps: npt.NDArray[np.int64]
    solutions: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, groups: Collection[int]) -> Examples:
        """The steps of these problems."""
        kept = np.isin(self.groups, list(groups))
        return Examples(
            self.states[kept],
            self.labels[kept],
            self.groups[kept],
            self.last[kept],
            self.steps[kept],
            self.solutions[kept],
        )


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """Hyperparameters of head training; the defaults did best in benchmarks/verifier_levers.py.

    folds: networks, each leaving out one fold of the problems.
    penalty: of a linear head's squared weights, beside the mean loss of a step.
    pairs: weight of a linear head's mean loss of a problem's pairs, beside that of a step.
    weight_decay: of AdamW; states are standardised, so one strength suits all layers.
    last_share: weight of a solution's last step; the earlier steps share the rest equally.
    patience: epochs without a better loss on the fold left out before training stops.
    """

    folds: int = 8
    penalty: float = 0.1
    pairs: float = 1.0
    learning_rate: float = 3e-4
    weight_decay: float = 1.0
    last_share: float = 0.5
    batch: int = 512
    epochs: int = 60
    patience: int = 6
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A merged head, calibrated, and what is known about it from problems left out.

    held_out: calibrated P(good) of each training step from the network that left its problem
        out, shape (steps,). epochs: how long each network trained.
    """

    head: RewardHead
    temperature: float
    held_out: npt.NDArray[np.float64]
    epochs: tuple[int, ...]


def train_head(
    examples: Examples, settings: HeadSettings = HeadSettings(), progress: Progress | None = None
) -> TrainedHead:
    """Train, merge and calibrate. Deterministic under the seed on one machine."""
    folds = fold_of_each(examples.groups, settings.folds, settings.seed)
    count = int(folds.max()) + 1
    inputs, mean, scale = standardised(examples.states[:, 0])
    labels = torch.from_numpy(examples.labels).float()
    targets = torch.stack((1 - labels, labels), dim=1)
    weights = torch.from_numpy(step_weights(examples, settings.last_share))
    logits = torch.zeros_like(targets)
    networks, epochs = [], []
    for fold in range(count):
        out = torch.from_numpy(folds == fold)
        with _alone(settings.seed + fold):
            network = _network(inputs.shape[1], inputs.shape[1] // count)
            epochs.append(_fit(network, (inputs, targets, weights), out, settings))
            with torch.inference_mode():
                logits[out] = network(inputs[out])
        networks.append(network)
        if progress is not None:
            progress(fold + 1, count)
    head = _merge(networks, mean, scale)
    temperature = calibration_temperature(logits, targets, weights)
    for name in ("score.2.weight", "score.2.bias"):
        head.state_dict()[name].div_(temperature)
    held_out = (logits / temperature).softmax(-1)[:, head.good].double().numpy()
    return TrainedHead(head, temperature, held_out, tuple(epochs))


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """Random numbers of our own, and one thread, since the matrices are small."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def standardised(states: npt.NDArray[np.float16]) -> tuple[Tensor, Tensor, Tensor]:
    """Each number of the states with mean 0 and deviation 1, and what they were, (hidden,)."""
    inputs = torch.from_numpy(states).float()
    mean, scale = inputs.mean(0), inputs.std(0).clamp_min(1e-4)
    return (inputs - mean) / scale, mean, scale


def fold_of_each(groups: npt.NDArray[np.int64], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each step, shape (steps,): problems dealt out at random, as evenly as can be."""
    problems = np.unique(groups)
    order = np.random.default_rng(seed).permutation(len(problems))
    dealt = np.empty(len(problems), dtype=np.int64)
    dealt[order] = np.arange(len(problems)) % min(folds, len(problems))
    return dealt[np.searchsorted(problems, groups)]


def step_weights(examples: Examples, last_share: float) -> npt.NDArray[np.float32]:
    """Weight of each step: every solution weighs 1, and as much as those that it stands for."""
    earlier = (1 - last_share) / np.maximum(examples.steps - 1, 1)
    weights = np.where(examples.last, last_share, earlier)
    weights = np.where(examples.steps == 1, 1.0, weights) * examples.solutions
    return weights.astype(np.float32)


def _network(width: int, units: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, units), nn.ReLU(), nn.Linear(units, 2))


def _fit(
    network: nn.Sequential,
    data: tuple[Tensor, Tensor, Tensor],
    out: Tensor,
    settings: HeadSettings,
) -> int:
    """Train on the steps not in `out`, keep the epoch with the least loss on them; its number."""
    inside, outside = (~out).nonzero()[:, 0], out.nonzero()[:, 0]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    best, best_epoch, kept = float("inf"), 0, network.state_dict()
    for epoch in range(1, settings.epochs + 1):
        network.train()
        for rows in torch.split(inside[torch.randperm(len(inside))], settings.batch):
            optimizer.zero_grad()
            torch.autograd.backward(_loss(network, data, rows))
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            loss = float(_loss(network, data, outside))
        if loss < best:
            best, best_epoch = loss, epoch
            kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        elif epoch - best_epoch >= settings.patience:
            break
    network.load_state_dict(kept)
    return best_epoch


def _loss(network: nn.Sequential, data: tuple[Tensor, Tensor, Tensor], rows: Tensor) -> Tensor:
    inputs, targets, weights = (tensor[rows] for tensor in data)
    each = cross_entropy(network(inputs), targets, reduction="none")
    return (each * weights).sum() / weights.sum()


def _merge(networks: list[nn.Sequential], mean: Tensor, scale: Tensor) -> RewardHead:
    """One head whose logits are the mean of the networks' on standardised states.

    The networks' units lie side by side; what is left of the width stays zero.
    """
    parts = [network.state_dict() for network in networks]
    first = torch.cat([part["0.weight"] for part in parts]) / scale
    merged = {
        "score.0.weight": first,
        "score.0.bias": torch.cat([part["0.bias"] for part in parts]) - first @ mean,
        "score.2.weight": torch.cat([part["2.weight"] for part in parts], dim=1) / len(parts),
        "score.2.bias": torch.stack([part["2.bias"] for part in parts]).mean(0),
    }
    head = RewardHead(len(mean))
    for name, tensor in head.state_dict().items():
        tensor.zero_()
        tensor[tuple(slice(size) for size in merged[name].shape)] = merged[name]
    return head.eval().requires_grad_(False)


def calibration_temperature(logits: Tensor, targets: Tensor, weights: Tensor) -> float:
    """The temperature with the least loss on held-out logits (Guo et al. 2017, sec. 4.2).

    logits, targets: shape (steps, 2). weights: shape (steps,).
    """

    def loss(temperature: float) -> float:
        each = cross_entropy(logits / temperature, targets, reduction="none")
        return float((each * weights).sum())

    return float(min(np.geomspace(0.1, 10, 400), key=loss))
