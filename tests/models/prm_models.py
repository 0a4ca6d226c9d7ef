"""Small random checkpoints of the PRM families, with tokenizers that behave like the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Split
from torch import nn
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
)

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 1024,
    # Large enough that scores differ visibly between reads.
    "initializer_range": 0.3,
}

_TEXT = [
    "Ann has 3 apples and buys 12 more apples, so she has 15 apples in the end.",
    "Step 1: First we add the numbers. Step 2: Then we take the half of the sum.",
    "The answer is the sum of the two numbers + - = which is 27.",
]

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_LLAMA_3_CHAT = (
    "{{- bos_token }}"
    "{%- if messages[0]['role'] != 'system' %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{%- endif %}"
)


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with Llama 3's splitting rule, special tokens and shape of chat template."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [Split(Regex(_LLAMA_3), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    specials = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    alphabet = ByteLevel.alphabet()
    text = [*_TEXT, "a\n\nb\n\nc\n\n"] * 3
    backend.train_from_iterator(
        text,
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=specials),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        chat_template=_LLAMA_3_CHAT,
    )


def mistral_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece-like BPE with byte fallback, where the tag is one token and newline a byte."""
    scratch = Tokenizer(BPE(unk_token="<unk>"))
    scratch.pre_tokenizer = Metaspace()
    scratch.train_from_iterator(
        [*_TEXT, "ки ки ки ки", "+ - + - + -"] * 3,
        trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"]),
    )
    trained = json.loads(scratch.to_str())["model"]
    vocab = trained["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    merges = [tuple(pair) for pair in trained["merges"]]
    backend = Tokenizer(BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = Metaspace()
    backend.add_special_tokens([AddedToken(text) for text in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def save_math_shepherd(directory: Path) -> Path:
    """A random Mistral with a language-model head."""
    tokenizer = mistral_tokenizer()
    config = MistralConfig(vocab_size=len(tokenizer), sliding_window=256, **SIZES)
    return _save(MistralForCausalLM(config), tokenizer, directory)


def save_rlhflow(directory: Path) -> Path:
    """A random Llama with a language-model head."""
    tokenizer = llama_tokenizer()
    config = LlamaConfig(vocab_size=len(tokenizer), **SIZES)
    return _save(LlamaForCausalLM(config), tokenizer, directory)


def save_skywork(directory: Path, tokenizer_dir: Path) -> Path:
    """A random Qwen2 with trl's value head, whose weights lie beside the model's."""
    head = {"v_head.summary.weight": torch.randn(1, 128) / 8, "v_head.summary.bias": torch.randn(1)}
    return _save_qwen2(directory, tokenizer_dir, "Qwen2ForPrmModel", head)


def save_qwen_prm(directory: Path, tokenizer_dir: Path) -> Path:
    """A random checkpoint of the architecture of Qwen2.5-Math-PRM."""
    head = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2)).state_dict()
    weights = {f"score.{name}": tensor for name, tensor in head.items()}
    return _save_qwen2(directory, tokenizer_dir, "Qwen2ForProcessRewardModel", weights)


def _save_qwen2(
    directory: Path, tokenizer_dir: Path, architecture: str, head: dict[str, torch.Tensor]
) -> Path:
    config = Qwen2Config(vocab_size=151936, **SIZES)
    _save(Qwen2Model(config), AutoTokenizer.from_pretrained(tokenizer_dir), directory)
    file = directory / "model.safetensors"
    backbone = {f"model.{name}": tensor for name, tensor in load_file(file).items()}
    save_file({**backbone, **head}, file, metadata={"format": "pt"})
    record = json.loads((directory / "config.json").read_text())
    record["architectures"] = [architecture]
    (directory / "config.json").write_text(json.dumps(record))
    return directory


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> Path:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
