"""Arguments for vLLM's engines: read from the command line, checked before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from router.models.errors import InputError

EngineArgs = Mapping[str, Any]
"""Fields of vLLM's `AsyncEngineArgs` by name, that replace our defaults."""

NONE: Final[EngineArgs] = {}

OURS: Final[Mapping[str, str]] = {
    "model": "name it with --model or --verifier",
    "tokenizer": "it is the model's own, which chains are encoded with",
    "additional_config": "it ends vLLM's processes with this one",
    "worker_extension_cls": "it reads hidden states",
    "runner": "generators generate, verifiers pool",
    "pooler_config": "a verifier needs a score at each token",
}
"""What cannot be given, and why."""


def parse_engine_args(
    option: str, pairs: Iterable[str], example: str = "max_model_len=8192"
) -> dict[str, Any]:
    """KEY=VALUE texts; values are JSON where they parse as such, else text.

    option: its name, for messages; example: one of them.

    Raises:
        InputError: no `=`, or a key twice.
    """
    args: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise InputError(f"{option} {pair!r}: write KEY=VALUE, as in {example}")
        if key in args:
            raise InputError(f"{option} {key} is given twice")
        try:
            args[key] = json.loads(value)
        except ValueError:
            args[key] = value
    return args


def check_engine_args(option: str, args: EngineArgs) -> None:
    """Make sure that vLLM has these arguments; imports it if there are any.

    Raises:
        InputError: one that it does not have, or that cannot be given.
    """
    for key in args:
        if key in OURS:
            raise InputError(f"{option} {key} cannot be changed: {OURS[key]}")
    if not args:
        return
    from router.models.runtime.vllm_process import engine_arg_names

    known = engine_arg_names()
    for key in args:
        if key not in known:
            near = get_close_matches(key, known - OURS.keys(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "its AsyncEngineArgs lists them"
            raise InputError(f"{option} {key}: vLLM has no such engine argument; {hint}")
