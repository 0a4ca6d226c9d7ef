"""Opens the models that a router uses, so that they share what they can."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from router.bundle import shipped_bundle
from router.models.base import Generator, Verifier
from router.models.errors import InputError
from router.models.placement import Wanted, on_gpu, placed
from router.models.runtime.engine_args import NONE, EngineArgs, check_engine_args
from router.models.runtime.memory import OPTIONS, Role
from router.models.types import Sampling
from router.models.verifiers.load import GeneratorStates
from router.models.weights.embedded import embedded_model

_HERE = ("vllm", "transformers")
"""Engines that take memory of this machine."""

SERVED = "auto"
"""The verifier that stands for what the verifier endpoints say that they serve."""

FAKE = "fake"
"""The verifier that goes with the fake engine, and that engine."""


def default_sampling(model: str | None, endpoints: Sequence[str] = ()) -> Sampling:
    """How a model is sampled unless something else is asked for."""
    embedded = None if endpoints and model is None else embedded_model(model)
    return Sampling(max_tokens=embedded.max_tokens) if embedded else Sampling()


def known_model(model: str | None, engine: str, endpoints: Sequence[str] = ()) -> str | None:
    """Short name of the model, where it tells for certain which weights these are.

    A directory may hold any weights, and so may a server that is not asked for a model: only
    embedded models are known by name. None is unknown.
    """
    if engine == FAKE or (endpoints and model is None):
        return None
    embedded = embedded_model(model)
    return embedded.name if embedded else None


def default_verifier(model: str | None, engine: str, endpoints: Sequence[str] = ()) -> str | None:
    """Directory of the head that comes with `router` for this model, where it can be used.

    Behind endpoints it runs here, on a backbone of its own.
    """
    from router.models.verifiers.trained_head import shipped_head

    name = known_model(model, engine, endpoints)
    if name is None or not (find_spec("torch") and find_spec("transformers")):
        return None
    head = shipped_head(name)
    return None if head is None else str(head)


def default_bundle(model: str | None, engine: str, endpoints: Sequence[str] = ()) -> Path | None:
    """Directory of the bundle that comes with `router` for this model, if any."""
    name = known_model(model, engine, endpoints)
    return None if name is None else shipped_bundle(name)


@dataclass(frozen=True, slots=True)
class Models:
    """What the router uses. loaded: those of them that it has opened itself."""

    generator: Generator
    verifier: Verifier | None
    loaded: tuple[Generator | Verifier, ...] = ()

    async def aclose(self) -> None:
        """Close what was loaded; ready-made models stay their owner's.

        Raises:
            The first failure to close, once each model has been closed.
        """
        failures: list[BaseException] = []
        for model in self.loaded:
            try:
                await model.aclose()
            except BaseException as error:
                failures.append(error)
        if failures:
            raise failures[0]


async def load_models(
    generator: Generator | None,
    verifier: str | Verifier | None,
    *,
    model: str | None,
    engine: str,
    endpoints: Sequence[str],
    prompt: str | None,
    endpoint_key: str | None = None,
    tokenizer: str | None = None,
    endpoint_seeds: bool = False,
    verifier_format: str | None = None,
    verifier_endpoints: Sequence[str] = (),
    verifier_endpoint_key: str | None = None,
    engine_args: EngineArgs = NONE,
    verifier_args: EngineArgs = NONE,
) -> Models:
    """Load what is not ready-made; the other arguments are those of `router.core.Router`.

    Raises:
        InputError, ModelError, EngineError: they cannot be loaded or reached.
    """
    layer = None
    runs = None
    if verifier_endpoints:
        _check_served(verifier)
    if generator is None:
        from router.models.generators.load import pick_engine

        runs = pick_engine(engine, endpoints)
        if not verifier_endpoints:
            layer = await asyncio.to_thread(_state_layer, verifier, runs)
    states = GeneratorStates(model, prompt, given=layer is not None)
    here = [await _wanted_generator(runs, model, engine_args)]
    if verifier_endpoints:
        _check("verifier", "servers", verifier_args)
    else:
        here.append(await _wanted_verifier(verifier, verifier_format, states, verifier_args))
    args: dict[Role, EngineArgs] = {"generator": engine_args, "verifier": verifier_args}
    args |= await asyncio.to_thread(placed, [one for one in here if one is not None])
    if generator is None:
        from router.models.generators.load import load_generator

        options: dict[str, Any] = {} if layer is None else {"state_layer": layer}
        options |= args["generator"]
        if endpoints:
            options |= {
                "api_key": endpoint_key,
                "tokenizer": tokenizer,
                "seeds": endpoint_seeds,
            }
        opened = await load_generator(model, engine, prompt, endpoints, **options)
    else:
        opened = generator
    try:
        states = replace(states, prompt=opened.info.prompt)
        if verifier_endpoints:
            from router.models.verifiers.load_served import load_served_verifier

            judge: Verifier | None = await load_served_verifier(
                None if verifier == SERVED else str(verifier),
                verifier_endpoints,
                key=verifier_endpoint_key,
                format=verifier_format,
                generator=states,
            )
        else:
            judge = await _verifier(verifier, verifier_format, states, args["verifier"])
        loaded: list[Generator | Verifier] = [opened] if generator is None else []
        if judge is not None and isinstance(verifier, str):
            loaded.append(judge)
        return Models(opened, judge, tuple(loaded))
    except BaseException:
        if generator is None:
            with suppress(Exception):  # what failed first is what the caller must hear of
                await opened.aclose()
        raise


async def _wanted_generator(runs: str | None, model: str | None, args: EngineArgs) -> Wanted | None:
    """The generator, if it will take a GPU's memory; runs: its engine, None if it is ready-made."""
    await asyncio.to_thread(_check, "generator", runs, args)
    if runs not in _HERE or not on_gpu():
        return None
    from router.models.generators.load import short_name
    from router.models.weights.find import find_model

    directory = await asyncio.to_thread(find_model, model)
    return Wanted("generator", short_name(model), directory, runs, args)


async def _wanted_verifier(
    verifier: str | Verifier | None, format: str | None, states: GeneratorStates, args: EngineArgs
) -> Wanted | None:
    """The verifier, if it will take a GPU's memory."""
    if not isinstance(verifier, str) or verifier == FAKE:
        _check("verifier", None, args)
        return None
    if not (args or on_gpu()):
        return None
    from router.models.verifiers.load import find_verifier

    runs, directory = await find_verifier(verifier, format=format, generator=states)
    await asyncio.to_thread(_check, "verifier", runs, args)
    if runs not in _HERE or not on_gpu():
        return None
    return Wanted("verifier", Path(verifier).name, directory, runs, args)


def _check_served(verifier: str | Verifier | None) -> None:
    """Make sure that a verifier is one that servers can have."""
    if not isinstance(verifier, str) or verifier == FAKE:
        named = "none" if verifier is None else FAKE if verifier == FAKE else "a ready-made one"
        raise InputError(
            f"verifier endpoints were given and the verifier is {named}; name what they serve, or "
            "leave it out"
        )


def _check(role: Role, runs: str | None, args: EngineArgs) -> None:
    """Make sure that arguments go with what a model runs on; None is that we do not open it."""
    option = OPTIONS[role]
    if args and runs != "vllm":
        why = f"the {role} runs on {runs}" if runs else f"no {role} is opened here"
        raise InputError(f"{option} is for vLLM, and {why}; leave it out")
    check_engine_args(option, args)


async def _verifier(
    verifier: str | Verifier | None,
    format: str | None,
    states: GeneratorStates,
    engine_args: EngineArgs,
) -> Verifier | None:
    if verifier == FAKE:
        from router.models.fakes import FakeVerifier

        return FakeVerifier()
    if not isinstance(verifier, str):
        return verifier
    from router.models.verifiers.load import load_verifier

    return await load_verifier(verifier, format=format, generator=states, engine_args=engine_args)


def _state_layer(verifier: str | Verifier | None, runs: str) -> int | None:
    """The layer whose states the generator should keep, so that scoring costs no forward pass.

    None where the verifier is no trained head on the generator's own tokens, or where the engine
    does not give states.
    """
    from router.models.generators.load import gives_states
    from router.models.verifiers.prm import SELF
    from router.models.verifiers.trained_head import HeadConfig, is_head

    if not isinstance(verifier, str) or not is_head(Path(verifier)):
        return None
    if not gives_states(runs):
        return None
    config = HeadConfig.load(Path(verifier))
    return config.layer if config.format == SELF else None
