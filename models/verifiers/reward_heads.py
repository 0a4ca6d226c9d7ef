"""Reward heads: small networks that turn hidden states into step scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from router.models.errors import ModelError
from router.models.verifiers.prm import ClassHead, MeanHead, TokenHead, ValueHead


class StepHead(nn.Module, ABC):
    """A head that scores hidden states; computes in float32.

    pools: it reads two states a score, (rows, 2, hidden): that of the token where the score is
        read, and the mean over the solution's tokens so far.
    """

    pools: ClassVar[bool] = False

    @abstractmethod
    def probabilities(self, states: Tensor) -> Tensor:
        """Scores in [0, 1], shape (rows,), of hidden states, shape (rows, hidden)."""


class PairHead(StepHead):
    """Two rows of a language model's output embedding, `good` then `bad`, shape (2, hidden)."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.detach().float(), requires_grad=False)

    def probabilities(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states.float(), self.rows).softmax(-1)[:, 0]


class ScalarHead(StepHead):
    """One linear layer and a sigmoid, as in trl's value head."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.summary = nn.Linear(hidden, 1)

    def probabilities(self, states: Tensor) -> Tensor:
        value: Tensor = self.summary(states.float())
        return value.sigmoid()[:, 0]


class RewardHead(StepHead):
    """Linear-ReLU-Linear to two classes, the head of Qwen2.5-Math-PRM."""

    def __init__(self, hidden: int, good: int = 1) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))
        self.hidden = hidden
        self.good = good

    def forward(self, states: Tensor) -> Tensor:
        """Logits, shape (rows, 2), of hidden states, shape (rows, hidden)."""
        logits: Tensor = self.score(states.float())
        return logits

    def probabilities(self, states: Tensor) -> Tensor:
        return self.forward(states).softmax(-1)[:, self.good]

    def save(self, file: Path) -> None:
        """Write the weights under their published names (`score.0.weight`, …)."""
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, file)


class PooledHead(RewardHead):
    """The same network; its second output, which must be linear, is averaged over tokens.

    So `score` of each token by itself is all that a server has to give: the mean of the second
    outputs is the second output of the mean.
    """

    pools = True

    def probabilities(self, states: Tensor) -> Tensor:
        return (self.forward(states[:, 0])[:, 0] + self.forward(states[:, 1])[:, 1]).sigmoid()


def with_means(states: Tensor, reads: Sequence[int], opening: int) -> Tensor:
    """The states at some tokens, each with the mean of those so far, shape (reads, 2, hidden).

    states: RMS-normalised, shape (tokens, hidden). reads: indices, rising. opening: index of the
        solution's first token; before it, there is the prompt's last one.
    """
    at = torch.tensor(list(reads), device=states.device)
    sums = states[opening:].float().cumsum(0)
    counts = at - opening + 1
    means = sums[(counts - 1).clamp_min(0)] / counts.clamp_min(1)[:, None]
    own = states[at].float()
    return torch.stack((own, torch.where(counts[:, None] > 0, means, own)), dim=1)


@overload
def load_head(files: Sequence[Path], hidden: int, spec: TokenHead) -> RewardHead: ...
@overload
def load_head(files: Sequence[Path], hidden: int, spec: ValueHead) -> ScalarHead: ...
def load_head(
    files: Sequence[Path], hidden: int, spec: TokenHead | ValueHead
) -> RewardHead | ScalarHead:
    """The head inside a checkpoint, or in a file of its own, for states of size `hidden`.

    Raises:
        ModelError: the files do not hold it, or hold one for another hidden size.
    """
    head: RewardHead | ScalarHead
    match spec:
        case ClassHead():
            head = RewardHead(hidden, spec.good)
        case MeanHead():
            head = PooledHead(hidden)
        case ValueHead():
            head = ScalarHead(hidden)
    # Our modules name their weights as the published checkpoints do, after the last prefix.
    own = {name.partition(".")[2]: name for name in head.state_dict()}
    tensors = read_tensors(files, [f"{spec.prefix}.{part}" for part in own])
    for part, name in own.items():
        stored = tensors[f"{spec.prefix}.{part}"]
        wanted = head.state_dict()[name].shape
        if stored.shape != wanted:
            raise ModelError(
                f"{files[0].parent}: {spec.prefix}.{part} has shape {tuple(stored.shape)}, but "
                f"this backbone needs {tuple(wanted)}; the head belongs to another model"
            )
        head.state_dict()[name].copy_(stored)
    return head.eval().requires_grad_(False)


def read_tensors(files: Sequence[Path], names: Sequence[str]) -> dict[str, Tensor]:
    """Named tensors of safetensors files, in float32.

    Raises:
        ModelError: a file cannot be read, or no file has one of the names.
    """
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as stored:
                for name in set(names) & set(stored.keys()):
                    found[name] = stored.get_tensor(name).float()
        except (OSError, SafetensorError) as error:
            raise ModelError(f"cannot read {file}: {error}") from error
    for name in names:
        if name not in found:
            where = files[0].parent if files else "the verifier"
            raise ModelError(f"{where} has no weights named {name!r}; is the format right?")
    return found
