"""Loads a verifier: a published PRM, one of its architecture, or a head trained on a generator."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from router.models.base import Verifier, VerifierInfo
from router.models.errors import InputError
from router.models.generators.load import pick_engine
from router.models.prompts import get_prompt
from router.models.verifiers.prm import SELF, ClassHead, PrmFormat, get_format, known_format
from router.models.verifiers.trained_head import WEIGHTS_FILE, HeadConfig, head_digest, is_head
from router.models.weights.count import count_parameters
from router.models.weights.find import find_model

logger = logging.getLogger("router")

VerifierEngine = Literal["auto", "vllm", "transformers"]


@dataclass(frozen=True, slots=True)
class GeneratorStates:
    """What a self-verifier needs to know of the generator whose steps it scores.

    model: directory or hub id; None is the embedded model. prompt: id in `models.prompts`; None
    is the one that the head was trained with. given: the steps that it samples carry their
    states, since it was loaded with the head's layer as `state_layer`; a backbone is then loaded
    only for steps that do not come from it.
    """

    model: str | None = None
    prompt: str | None = None
    given: bool = False


async def load_verifier(
    ref: str,
    *,
    engine: VerifierEngine = "auto",
    format: str | None = None,
    generator: GeneratorStates = GeneratorStates(),
) -> Verifier:
    """Load a verifier, and log its format and engine.

    ref: directory or hub id of a PRM, or directory of a trained head
        (`models.verifiers.trained_head`).
    engine: `auto` takes vLLM on a GPU where it can serve the format, else transformers.
    format: id in `models.verifiers.prm`, for weights that do not tell.
    generator: whom a trained head verifies; PRMs do not ask.

    Raises:
        InputError: an engine or a format that is unknown or does not fit, or an unknown format.
        ModelError: no such weights, no safetensors, a head of another width or backbone.
    """
    if engine not in ("auto", "vllm", "transformers"):
        raise InputError(f"engine {engine!r} runs no verifier; choose vllm or transformers")
    if is_head(Path(ref)):
        verifier, used = await _load_trained(Path(ref), engine, format, generator)
    else:
        verifier, used = await _load_published(ref, engine, format)
    info = verifier.info
    logger.info("verifier: %s on %s, format %s", info.name, used, info.format)
    return verifier


async def _load_published(
    ref: str, engine: VerifierEngine, format: str | None
) -> tuple[Verifier, str]:
    directory = await asyncio.to_thread(find_model, ref)
    prm = get_format(format) if format else known_format(ref, _architectures(directory))
    if prm.id == SELF:
        raise InputError(f"format {SELF!r} is for trained heads, and {ref} holds a whole model")
    used = _pick(engine, prm)
    parameters = await asyncio.to_thread(count_parameters, directory, head=False)
    info = VerifierInfo(_short_name(ref), prm.id, prm.aggregation, parameters)
    if used == "vllm":
        from router.models.verifiers.vllm import VLLMVerifier

        return await VLLMVerifier.load(directory, prm, info, prompt=get_prompt("plain")), used
    from router.models.verifiers.transformers import TransformersVerifier

    return await asyncio.to_thread(TransformersVerifier.load, directory, prm, info), used


async def _load_trained(
    directory: Path, engine: VerifierEngine, format: str | None, generator: GeneratorStates
) -> tuple[Verifier, str]:
    config = await asyncio.to_thread(HeadConfig.load, directory)
    if format not in (None, config.format):
        raise InputError(f"{directory} was trained for format {config.format!r}, not {format!r}")
    prm = get_format(config.format)
    backbone = await asyncio.to_thread(find_model, generator.model)
    await asyncio.to_thread(config.check_backbone, backbone)
    used = _pick(engine, prm)
    assert isinstance(prm.head, ClassHead)
    from router.models.verifiers.checkpoint import cached_checkpoint
    from router.models.verifiers.reward_heads import load_head

    head = load_head([directory / WEIGHTS_FILE], config.backbone.hidden_size, prm.head)
    parameters = await asyncio.to_thread(count_parameters, backbone, config.layer, head=False)
    parameters += sum(weight.numel() for weight in head.parameters())
    # With the digest, so that scores of a head that was trained again do not mix with its own.
    name = f"{config.name}@{head_digest(directory)}"
    info = VerifierInfo(name, prm.id, config.aggregation, parameters)
    prompt = get_prompt(generator.prompt or config.prompt)
    given = prm.id == SELF and generator.given
    if used == "vllm" and not given:
        from router.models.verifiers.vllm import VLLMVerifier

        checkpoint = await asyncio.to_thread(cached_checkpoint, backbone, directory, head)
        return await VLLMVerifier.load(checkpoint, prm, info, prompt=prompt), used
    from router.models.verifiers.self_verifier import SelfVerifier
    from router.models.verifiers.transformers import TransformersVerifier

    load = partial(TransformersVerifier.load_on, backbone, config.layer, head, prompt, prm, info)
    if given:
        return SelfVerifier(head, info, load), "the generator's states"
    return await asyncio.to_thread(load), used


def _pick(engine: VerifierEngine, prm: PrmFormat) -> str:
    if engine == "auto":
        engine = "vllm" if isinstance(prm.head, ClassHead) and _vllm_on_gpu() else "transformers"
    if engine == "vllm" and not isinstance(prm.head, ClassHead):
        raise InputError(f"vLLM cannot serve verifiers of format {prm.id!r}; use transformers")
    return pick_engine(engine)


def _vllm_on_gpu() -> bool:
    if not (find_spec("vllm") and find_spec("torch")):
        return False
    import torch

    return torch.cuda.is_available()


def _architectures(directory: Path) -> tuple[str, ...]:
    # find_model has read this file: it is there, and a JSON object.
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return tuple(config.get("architectures") or ())


def _short_name(ref: str) -> str:
    path = Path(ref)
    return path.resolve().name if path.is_dir() else ref
