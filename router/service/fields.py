"""Fields of OpenAI's API and its relatives that clients send though they change no answer here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from router.service.errors import ServiceError

_IGNORED: Final = frozenset(
    {
        "cache_prompt",
        "client_metadata",
        "include",
        "metadata",
        "moderation",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "truncation",
        "user",
        "verbosity",
    }
)
"""They change nothing, whatever their value."""

_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "add_generation_prompt": (True,),
    "audio": (),
    "background": (False,),
    "best_of": (1,),
    "chat_template_kwargs": ({},),
    "context_management": ([],),
    "continue_final_message": (False,),
    "conversation": (),
    "documents": ([],),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_choice": ([],),
    "guided_json": ({},),
    "ignore_eos": (False,),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "logit_bias": ({}, []),
    "logprobs": (False,),
    "max_tool_calls": (0,),
    "min_p": (0,),
    "min_tokens": (0,),
    "mirostat": (0,),
    "modalities": (["text"], []),
    "n": (1,),
    "plugins": ([],),
    "presence_penalty": (0,),
    "previous_response_id": (),
    "prompt_logprobs": (0,),
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "suffix": ("",),
    "tfs_z": (1,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_a": (0,),
    "top_k": (0, -1),
    "top_logprobs": (0,),
    "transforms": ([],),
    "typical_p": (1,),
    "use_beam_search": (False,),
    "web_search_options": (),
}
"""The values at which they change nothing; null is one of every field's."""

_WHY: Final[Mapping[str, str]] = {
    "conversation": "nothing is stored here: send the earlier turns themselves",
    "functions": "no tools are called here",
    "previous_response_id": "nothing is stored here: send the earlier turns themselves",
    "tool_choice": "no tools are called here",
    "tools": "no tools are called here, unless tool_choice is 'none'",
}


def check_neutral(further: Mapping[str, Any]) -> None:
    """Refuse what would change the answer, rather than drop it.

    further: what a body holds beside the fields that are honoured.

    Raises:
        ServiceError: a field that is not known, or not neutral.
    """
    chosen = {"tools": "tool_choice", "functions": "function_call"}
    for name, value in further.items():
        if name in _IGNORED or value is None or value in _NEUTRAL.get(name, ()):
            continue
        if name in chosen and further.get(chosen[name]) == "none":
            continue
        raise unsupported(name, _WHY.get(name) or _only(name))


def unsupported(field: str, why: str = "") -> ServiceError:
    """The refusal of a field that cannot be honoured."""
    name = field[:120]
    reason = f": {why}" if why else ""
    return ServiceError(400, f"{name} is not supported{reason}", "unsupported_value", name)


def _only(name: str) -> str:
    values = " or ".join(repr(value) for value in _NEUTRAL.get(name, ()))
    return f"leave it out, or at {values}" if values else ""
