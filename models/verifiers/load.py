"""Loads a verifier: a published PRM, one of its architecture, or a head trained on a generator."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from router.models.base import Verifier
from router.models.errors import InputError
from router.models.generators.load import pick_engine
from router.models.placement import on_gpu
from router.models.prompts import get_prompt
from router.models.runtime.engine_args import NONE, EngineArgs
from router.models.verifiers.identity import Identity, identity_of, identity_of_head
from router.models.verifiers.prm import OWN, PrmFormat, TokenHead, get_format
from router.models.verifiers.trained_head import WEIGHTS_FILE, HeadConfig, is_head
from router.models.weights.count import count_parameters
from router.models.weights.find import find_model

if TYPE_CHECKING:
    from router.models.verifiers.reward_heads import RewardHead

logger = logging.getLogger("router")

VerifierEngine = Literal["auto", "vllm", "transformers"]

_GIVEN = "the generator's states"


@dataclass(frozen=True, slots=True)
class GeneratorStates:
    """What a self-verifier needs to know of the generator whose steps it scores.

    model: directory or hub id; None is the default model. prompt: id in `models.prompts`; None
    is the one that the head was trained with. given: the steps that it samples carry their
    states, since it was loaded with the head's layer as `state_layer`; a backbone is then loaded
    only for steps that do not come from it.
    """

    model: str | None = None
    prompt: str | None = None
    given: bool = False


@dataclass(frozen=True, slots=True)
class _Published:
    """A whole model, found. engine: what will run it."""

    directory: Path
    identity: Identity
    prm: PrmFormat
    engine: str


@dataclass(frozen=True, slots=True)
class _Trained:
    """A trained head, found with its backbone. engine: what will run it, or `_GIVEN`."""

    config: HeadConfig
    identity: Identity
    head: RewardHead
    backbone: Path
    prm: PrmFormat
    engine: str


async def load_verifier(
    ref: str,
    *,
    engine: VerifierEngine = "auto",
    format: str | None = None,
    generator: GeneratorStates = GeneratorStates(),
    engine_args: EngineArgs = NONE,
) -> Verifier:
    """Load a verifier, and log its format and engine.

    ref: directory or hub id of a PRM, or directory of a trained head
        (`models.verifiers.trained_head`).
    engine: `auto` takes vLLM on a GPU where it can serve the format, else transformers.
    format: id in `models.verifiers.prm`, for weights that do not tell.
    generator: whom a trained head verifies; PRMs do not ask.
    engine_args: for vLLM, where that runs it.

    Raises:
        InputError: an engine or a format that is unknown or does not fit, or an unknown format.
        ModelError: no such weights, no safetensors, a head of another width or backbone.
    """
    found = await _find(ref, engine, format, generator)
    if isinstance(found, _Trained):
        verifier = await _load_trained(found, Path(ref), generator, engine_args)
    else:
        verifier = await _load_published(found, generator, engine_args)
    info = verifier.info
    logger.info("verifier: %s on %s, format %s", info.name, found.engine, info.format)
    return verifier


async def find_verifier(
    ref: str,
    *,
    format: str | None = None,
    generator: GeneratorStates = GeneratorStates(),
) -> tuple[str, Path]:
    """What will run a verifier, and the checkpoint that it will load; arguments as `load_verifier`.

    Raises:
        InputError, ModelError: as `load_verifier`.
    """
    found = await _find(ref, "auto", format, generator)
    if isinstance(found, _Published):
        return found.engine, found.directory
    if found.engine == "vllm":
        return "vllm", await _checkpoint(found, Path(ref))
    return found.engine, found.backbone


async def _find(
    ref: str, engine: VerifierEngine, format: str | None, generator: GeneratorStates
) -> _Published | _Trained:
    if engine not in ("auto", "vllm", "transformers"):
        raise InputError(f"engine {engine!r} runs no verifier; choose vllm or transformers")
    if is_head(Path(ref)):
        return await _find_trained(Path(ref), engine, format, generator)
    directory = await asyncio.to_thread(find_model, ref)
    identity = identity_of(ref, format)
    prm = get_format(identity.format)
    return _Published(directory, identity, prm, _pick(engine, prm))


async def _find_trained(
    directory: Path, engine: VerifierEngine, format: str | None, generator: GeneratorStates
) -> _Trained:
    config = await asyncio.to_thread(HeadConfig.load, directory)
    if format not in (None, config.format):
        raise InputError(f"{directory} was trained for format {config.format!r}, not {format!r}")
    prm = get_format(config.format)
    backbone = await asyncio.to_thread(find_model, generator.model)
    await asyncio.to_thread(config.check_backbone, backbone)
    used = _pick(engine, prm)
    assert isinstance(prm.head, TokenHead)
    from router.models.verifiers.reward_heads import load_head

    head = load_head([directory / WEIGHTS_FILE], config.backbone.hidden_size, prm.head)
    given = prm.id in OWN and generator.given
    identity = await asyncio.to_thread(identity_of_head, directory)
    return _Trained(config, identity, head, backbone, prm, _GIVEN if given else used)


async def _load_published(
    found: _Published, generator: GeneratorStates, engine_args: EngineArgs
) -> Verifier:
    directory, prm = found.directory, found.prm
    info = found.identity.info(await asyncio.to_thread(count_parameters, directory, head=False))
    prompt = get_prompt(generator.prompt or found.identity.prompt)
    if found.engine == "vllm":
        from router.models.verifiers.vllm import VLLMVerifier

        return await VLLMVerifier.load(directory, prm, info, prompt=prompt, **engine_args)
    from router.models.verifiers.transformers import TransformersVerifier

    return await asyncio.to_thread(TransformersVerifier.load, directory, prm, info, prompt=prompt)


async def _load_trained(
    found: _Trained, directory: Path, generator: GeneratorStates, engine_args: EngineArgs
) -> Verifier:
    config, head, prm = found.config, found.head, found.prm
    parameters = await asyncio.to_thread(count_parameters, found.backbone, config.layer, head=False)
    parameters += sum(weight.numel() for weight in head.parameters())
    info = found.identity.info(parameters)
    prompt = get_prompt(generator.prompt or config.prompt)
    if found.engine == "vllm":
        from router.models.verifiers.vllm import VLLMVerifier

        checkpoint = await _checkpoint(found, directory)
        return await VLLMVerifier.load(checkpoint, prm, info, prompt=prompt, **engine_args)
    from router.models.verifiers.self_verifier import SelfVerifier
    from router.models.verifiers.transformers import TransformersVerifier

    load = partial(
        TransformersVerifier.load_on, found.backbone, config.layer, head, prompt, prm, info
    )
    if found.engine == _GIVEN:
        return SelfVerifier(head, info, load)
    return await asyncio.to_thread(load)


async def _checkpoint(found: _Trained, directory: Path) -> Path:
    from router.models.verifiers.checkpoint import cached_checkpoint

    return await asyncio.to_thread(cached_checkpoint, found.backbone, directory)


def _pick(engine: VerifierEngine, prm: PrmFormat) -> str:
    if engine == "auto":
        served = isinstance(prm.head, TokenHead) and find_spec("vllm") and on_gpu()
        engine = "vllm" if served else "transformers"
    if engine == "vllm" and not isinstance(prm.head, TokenHead):
        raise InputError(f"vLLM cannot serve verifiers of format {prm.id!r}; use transformers")
    return pick_engine(engine)
