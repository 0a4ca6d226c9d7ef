"""Converting a GGUF file to a checkpoint that transformers and vLLM load. A program of its own.

Run as `python -P convert.py FILE.gguf DIRECTORY`, so that the caller's memory stays small (the
conversion of a 0.5B model peaks at several GB). It imports nothing of ours, and ends when its
standard input closes, so that it does not outlive a killed caller.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path


def convert(gguf: Path, directory: Path) -> None:
    """Write the weights in bfloat16, the config and the tokenizer to `directory`.

    The output layer stays separate from the embeddings where the file quantises them apart.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _exit_with_caller() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock a thread must not hold when Python ends
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_exit_with_caller, daemon=True).start()
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
