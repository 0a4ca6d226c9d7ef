"""Random models of a real size: speed and memory are true where no weights can be had.

Their text is noise over the whole vocabulary, so a common letter ends their steps
(`step_delimiter`), they hardly ever end a solution before its limit, and scores mean nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, Qwen2Config

from router.models.verifiers.checkpoint import ARCHITECTURE

SHAPES: Final[dict[str, dict[str, Any]]] = {
    # The published configurations of Qwen2.5-1.5B-Instruct and Qwen2.5-Math-PRM-7B.
    "1.5B": {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    "7B": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    },
    # For trying the kit where there is no card; 64 a head is the least that vLLM's CPU build takes.
    "tiny": {
        "vocab_size": 151936,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
}

_SHARD_BYTES: Final = 4 << 30
_SPREAD: Final = 0.02


def make(size: str, tokenizer: Path, directory: Path, *, verifier: bool = False) -> Path:
    """Write a bfloat16 Qwen2 checkpoint of one of the `SHAPES`, with that tokenizer's files.

    verifier: with the head of Qwen2.5-Math-PRM in place of the language model's.
    """
    config = Qwen2Config(**SHAPES[size], initializer_range=_SPREAD, eos_token_id=151645)
    directory.mkdir(parents=True)
    for file in tokenizer.iterdir():
        if file.suffix in (".json", ".txt", ".jinja") and file.name != "config.json":
            shutil.copy(file, directory)
    index: dict[str, str] = {}
    shard: dict[str, Tensor] = {}

    def write() -> None:
        name = f"model-{len(set(index.values())) + 1:05d}.safetensors"
        save_file(shard, directory / name, {"format": "pt"})
        index.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, tensor in _tensors(config, verifier):
        shard[name] = tensor
        if sum(part.nbytes for part in shard.values()) > _SHARD_BYTES:
            write()
    write()
    stored = config.to_dict() | {"dtype": "bfloat16"}
    stored["architectures"] = [ARCHITECTURE if verifier else "Qwen2ForCausalLM"]
    if verifier:
        stored["num_labels"] = 2
    (directory / "config.json").write_text(json.dumps(stored))
    (directory / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    return directory


def step_delimiter(tokenizer: PreTrainedTokenizerBase, tokens: int) -> str:
    """The letter that a random token holds about once in so many."""
    texts = tokenizer.batch_decode([[number] for number in range(len(tokenizer))])
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    shares = {letter: sum(letter in text for text in texts) / len(texts) for letter in letters}
    return min(shares, key=lambda letter: abs(shares[letter] - 1 / tokens))


def _tensors(config: Qwen2Config, verifier: bool) -> Iterator[tuple[str, Tensor]]:
    """Named weights, made one by one on the card if there is one; they end in main memory."""
    with torch.device("meta"):
        shapes = dict(AutoModelForCausalLM.from_config(config).named_parameters())
    if verifier:
        shapes.pop("lm_head.weight", None)
        hidden = config.hidden_size
        for layer, rows in ((0, hidden), (2, 2)):
            shapes[f"score.{layer}.weight"] = torch.empty(rows, hidden, device="meta")
            shapes[f"score.{layer}.bias"] = torch.empty(rows, device="meta")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rng = torch.Generator(device).manual_seed(0)
    for name, empty in shapes.items():
        if name.endswith("norm.weight"):
            yield name, torch.ones(empty.shape, dtype=torch.bfloat16)
            continue
        values = torch.empty(empty.shape, dtype=torch.bfloat16, device=device)
        yield name, values.normal_(0, _SPREAD, generator=rng).cpu()
