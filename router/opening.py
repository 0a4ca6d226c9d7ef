"""Opens the models that a router uses, so that they share what they can."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from router.bundle import shipped_bundle
from router.models.base import Generator, Verifier
from router.models.types import Sampling
from router.models.weights.find import EMBEDDED

FAKE = "fake"
"""The verifier that goes with the fake engine, and that engine."""


def default_sampling(model: str | None, endpoints: Sequence[str] = ()) -> Sampling:
    """How a model is sampled unless something else is asked for."""
    embedded = model == EMBEDDED.name or (model is None and not endpoints)
    return Sampling(max_tokens=EMBEDDED.max_tokens) if embedded else Sampling()


def known_model(model: str | None, engine: str, endpoints: Sequence[str] = ()) -> str | None:
    """Short name of the model, where it tells for certain which weights these are.

    A directory may hold any weights, and so may a server that is not asked for a model: only
    the embedded model is known by name. None is unknown.
    """
    if engine == FAKE or (endpoints and model is None):
        return None
    return EMBEDDED.name if model in (None, EMBEDDED.name) else None


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
) -> Models:
    """Load what is not ready-made; the other arguments are those of `router.core.Router`.

    Raises:
        InputError, ModelError, EngineError: they cannot be loaded or reached.
    """
    layer = None
    if generator is None:
        from router.models.generators.load import load_generator

        layer = await asyncio.to_thread(_state_layer, verifier, engine, endpoints)
        options: dict[str, Any] = {} if layer is None else {"state_layer": layer}
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
        judge = await _verifier(
            verifier, verifier_format, model, opened.info.prompt, given=layer is not None
        )
        loaded: list[Generator | Verifier] = [opened] if generator is None else []
        if judge is not None and isinstance(verifier, str):
            loaded.append(judge)
        return Models(opened, judge, tuple(loaded))
    except BaseException:
        if generator is None:
            with suppress(Exception):  # what failed first is what the caller must hear of
                await opened.aclose()
        raise


async def _verifier(
    verifier: str | Verifier | None,
    format: str | None,
    model: str | None,
    prompt: str,
    *,
    given: bool,
) -> Verifier | None:
    if verifier == FAKE:
        from router.models.fakes import FakeVerifier

        return FakeVerifier()
    if not isinstance(verifier, str):
        return verifier
    from router.models.verifiers.load import GeneratorStates, load_verifier

    states = GeneratorStates(model, prompt, given)
    return await load_verifier(verifier, format=format, generator=states)


def _state_layer(
    verifier: str | Verifier | None, engine: str, endpoints: Sequence[str]
) -> int | None:
    """The layer whose states the generator should keep, so that scoring costs no forward pass.

    None where the verifier is no trained head on the generator's own tokens, or where the engine
    does not give states.
    """
    from router.models.generators.load import gives_states, pick_engine
    from router.models.verifiers.prm import SELF
    from router.models.verifiers.trained_head import HeadConfig, is_head

    if not isinstance(verifier, str) or not is_head(Path(verifier)):
        return None
    if not gives_states(pick_engine(engine, endpoints)):
        return None
    config = HeadConfig.load(Path(verifier))
    return config.layer if config.format == SELF else None
