"""Fine-tunes the last layers of a cut backbone together with a trained head.

LoRA (Hu et al. 2021, arXiv 2106.09685), by peft, merged into the weights at the end. The layers
below stay as they are and run without gradients. What comes out is never worse than the head that
went in, on problems left out: if no epoch lowers their loss, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from router.models.runtime.numbers import compute_dtype
from router.models.training.head import Progress, calibration_temperature
from router.models.verifiers.prm import Encoded
from router.models.verifiers.reward_heads import RewardHead
from router.models.verifiers.transformers import pretrained

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Hyperparameters of fine-tuning.

    rank: of the update of each projection. layers: how many, from the top of the cut backbone.
    batch: solutions in one step of AdamW. left_out: one problem in so many is not trained on.
    last_share: weight of a solution's last step; the earlier steps share the rest equally.
    """

    rank: int
    layers: int = 4
    learning_rate: float = 2e-4
    epochs: int = 3
    batch: int = 8
    left_out: int = 8
    last_share: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Labelled:
    """A solution as the format reads it, P(right in the end) of each step, and what it is for.

    left_out: not to train on, but to decide when to stop; the same for all of a problem.
    """

    encoded: Encoded
    labels: tuple[float, ...]
    left_out: bool


@dataclass(frozen=True, slots=True)
class Tuned:
    """What fine-tuning gave.

    head: calibrated. weights: of the changed layers, by their names in the generator's checkpoint.
    scores: calibrated P(good) of each step of the solutions left out, in order, shape (steps,).
    epochs: how many paid.
    """

    head: RewardHead
    weights: dict[str, Tensor]
    temperature: float
    scores: npt.NDArray[np.float64]
    epochs: int


def tune(
    model: Path,
    layer: int,
    head: RewardHead,
    solutions: Sequence[Labelled],
    settings: LoraSettings,
    progress: Progress,
) -> Tuned:
    """Fine-tune a copy of `head`, which knows nothing of what is left out, and the layers below it.

    Needs peft. model: directory of the backbone; its first `layer` layers are used.
    """
    torch.manual_seed(settings.seed)
    inside = [solution for solution in solutions if not solution.left_out]
    outside = [solution for solution in solutions if solution.left_out]
    backbone = _adapted(model, layer, settings)
    network = deepcopy(head).to(backbone.device).requires_grad_(True)
    parts = torch.nn.ModuleList((backbone, network))
    trained = [weight for weight in parts.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate)
    targets, weights = _targets(outside, settings)
    logits = _logits(backbone, network, outside, settings.batch)
    best, kept, paid = _loss(logits, targets, weights), _changing(parts), 0
    for epoch in range(1, settings.epochs + 1):
        order = [inside[index] for index in torch.randperm(len(inside))]
        for done, batch in enumerate(_chunks(order, settings.batch), start=1):
            optimizer.zero_grad()
            loss = _loss(_forward(backbone, network, batch), *_targets(batch, settings))
            torch.autograd.backward(loss)
            optimizer.step()
            steps = -(-len(order) // settings.batch)
            progress((epoch - 1) * steps + done, settings.epochs * steps)
        now = _logits(backbone, network, outside, settings.batch)
        if _loss(now, targets, weights) < best:
            best, logits = _loss(now, targets, weights), now
            kept, paid = _changing(parts), epoch
    parts.load_state_dict(kept, strict=False)
    temperature = calibration_temperature(logits, targets, weights)
    scores = (logits / temperature).softmax(-1)[:, network.good].double().numpy()
    for name in ("score.2.weight", "score.2.bias"):
        network.state_dict()[name].div_(temperature)
    return Tuned(
        network.cpu().requires_grad_(False),
        _merged(backbone, layer, settings),
        temperature,
        scores,
        paid,
    )


def _adapted(model: Path, layer: int, settings: LoraSettings) -> Any:
    """The cut backbone with adapters on its last layers; its final norm as heads read it."""
    from peft import LoraConfig, get_peft_model

    backbone = pretrained(AutoModel, model, compute_dtype(model), layers=layer)
    with torch.no_grad():
        backbone.norm.weight.fill_(1.0)
    last = "|".join(map(str, range(max(0, layer - settings.layers), layer)))
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        target_modules=rf"layers\.({last})\..*\.({'|'.join(PROJECTIONS)})",
    )
    return get_peft_model(backbone, config)


def _forward(backbone: Any, head: RewardHead, solutions: Sequence[Labelled]) -> Tensor:
    """Logits of all steps in order, shape (steps, 2)."""
    rows = [solution.encoded.ids for solution in solutions]
    inputs = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, ids in zip(inputs, rows, strict=True):
        row[: len(ids)] = torch.tensor(list(ids))  # padded on the right, which no state sees
    states = backbone(input_ids=inputs.to(backbone.device), use_cache=False).last_hidden_state
    reads = [states[row, list(solution.encoded.reads)] for row, solution in enumerate(solutions)]
    return head(torch.cat(reads)).cpu()  # type: ignore[no-any-return]


@torch.no_grad()
def _logits(backbone: Any, head: RewardHead, solutions: Sequence[Labelled], batch: int) -> Tensor:
    return torch.cat([_forward(backbone, head, chunk) for chunk in _chunks(solutions, batch)])


def _targets(solutions: Sequence[Labelled], settings: LoraSettings) -> tuple[Tensor, Tensor]:
    """P(bad) and P(good), shape (steps, 2), and the weight of each step; a solution weighs 1."""
    labels: list[float] = []
    weights: list[float] = []
    for solution in solutions:
        earlier = len(solution.labels) - 1
        labels += solution.labels
        if earlier:
            weights += [(1 - settings.last_share) / earlier] * earlier
        weights += [settings.last_share if earlier else 1.0]
    good = torch.tensor(labels, dtype=torch.float32)
    return torch.stack((1 - good, good), dim=1), torch.tensor(weights)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    each = cross_entropy(logits, targets, reduction="none")
    return (each * weights).sum() / weights.sum()


def _changing(parts: torch.nn.Module) -> dict[str, Tensor]:
    """Copies of all weights that are trained."""
    return {n: w.detach().clone() for n, w in parts.named_parameters() if w.requires_grad}


def _merged(backbone: Any, layer: int, settings: LoraSettings) -> dict[str, Tensor]:
    first = max(0, layer - settings.layers)
    changed = tuple(f"layers.{index}." for index in range(first, layer))
    weights = backbone.merge_and_unload().state_dict()
    return {f"model.{n}": w.cpu().bfloat16() for n, w in weights.items() if n.startswith(changed)}


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
