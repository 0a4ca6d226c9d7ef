"""Opens the models that a router uses, so that they share what they can."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.bundle import shipped_bundle
from router.models.base import Generator, Verifier
from router.models.errors import InputError, ModelError
from router.models.placement import Wanted, on_gpu, placed
from router.models.runtime.engine_args import NONE, EngineArgs, check_engine_args
from router.models.runtime.memory import OPTIONS, Role
from router.models.types import Sampling
from router.models.usage import Price
from router.models.verifiers.load import GeneratorStates
from router.models.weights.embedded import EMBEDDED, embedded_model
from router.strategies.base import Strategy
from router.strategies.fleet import ALONE, Fleet, Member, asked_by, fleet_of

if TYPE_CHECKING:
    from router.pairs import Pair

_HERE = ("vllm", "transformers")
"""Engines that take memory of this machine."""

SERVED = "auto"
"""The verifier that stands for the shipped one, or what the verifier endpoints say they serve."""

FAKE = "fake"
"""The verifier that goes with the fake engine, and that engine."""


def default_sampling(model: str | None, endpoints: Sequence[str] = ()) -> Sampling:
    """How a model is sampled unless something else is asked for."""
    embedded = None if endpoints and model is None else embedded_model(model)
    return Sampling(max_tokens=embedded.max_tokens) if embedded else Sampling()


def known_model(model: str | None, engine: str, endpoints: Sequence[str] = ()) -> str | None:
    """Name of the embedded model that this is; None is unknown.

    Here it is known by its weights, whatever they are called. Servers do not tell theirs, so the
    name is believed, and `assumed` says so.
    """
    if engine == FAKE or (endpoints and model is None):
        return None
    if not endpoints and model is not None and Path(model).is_dir():
        return _known_weights(Path(model))
    embedded = embedded_model(model)
    return embedded.name if embedded else None


def _known_weights(directory: Path) -> str | None:
    if find_spec("torch") is None:
        return None
    from router.models.weights.fingerprint import fingerprint

    try:
        found = fingerprint(directory)
    except ModelError:  # loading them will say what is wrong
        return None
    return next((m.name for m in EMBEDDED.values() if m.fingerprint == found), None)


def assumed(model: str | None, engine: str, endpoints: Sequence[str]) -> str | None:
    """What is believed of the weights behind endpoints where their name is an embedded model's."""
    name = known_model(model, engine, endpoints) if endpoints else None
    if name is None:
        return None
    return (
        f"the servers do not tell their weights: they are taken for those that `router model pull"
        f" {name}` gives, which come from a 4-bit file and are what the shipped verifier and"
        " bundle were made for; for others of that name take --verifier none --bundle none"
    )


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
    """What the router uses. loaded: those of them that it has opened itself.

    name: of the first, where there are several; others: those. price: of the first one's tokens.
    """

    generator: Generator
    verifier: Verifier | None
    loaded: tuple[Generator | Verifier, ...] = ()
    name: str = ""
    others: tuple[Member, ...] = ()
    price: Price | None = None

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them, the first one first."""
        first = Member(self.name, self.generator, self.verifier, 1, self.price)
        return (first, *self.others)

    @property
    def fleet(self) -> Fleet:
        """On what terms strategies may ask each of them; nothing where there is one."""
        if not self.name:
            return ALONE
        return fleet_of(self.members)

    def asked_by(self, strategy: Strategy) -> tuple[str, ...]:
        """Names of the models that a strategy may ask, in its order; none where there is one."""
        return asked_by(strategy, self.name)

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


async def load_models(pairs: Mapping[str, Pair], costs: Mapping[str, float] = NONE) -> Models:
    """Load what is not ready-made. They share the machine's cards; what fails closes the others.

    pairs: by their names, the first one first; a single one needs none. costs: of a sample of each.

    Raises:
        InputError, ModelError, EngineError: they cannot be loaded or reached.
    """
    ready = [await _Ready.of(pair) for pair in pairs.values()]
    wanted = [one for each in ready for one in each.wanted.values()]
    args = iter(await asyncio.to_thread(placed, wanted))
    opened: list[Models] = []
    try:
        for each in ready:
            shares = {role: next(args) for role in each.wanted}
            opened.append(await each.open(shares))
    except BaseException:
        for models in opened:
            with suppress(Exception):  # what failed first is what the caller must hear of
                await models.aclose()
        raise
    members = [
        Member(name, models.generator, models.verifier, costs.get(name, 1), pair.price)
        for (name, pair), models in zip(pairs.items(), opened, strict=True)
    ]
    loaded = tuple(model for models in opened for model in models.loaded)
    first = members[0]
    others = tuple(members[1:])
    return Models(first.generator, first.verifier, loaded, first.name, others, first.price)


@dataclass(frozen=True)
class _Ready:
    """A pair that is checked, and not open yet.

    layer: whose states the generator should keep. wanted: those that take a GPU's memory.
    """

    pair: Pair
    layer: int | None
    states: GeneratorStates
    wanted: dict[Role, Wanted]

    @classmethod
    async def of(cls, pair: Pair) -> _Ready:
        layer = runs = None
        if pair.verifier_endpoints:
            _check_served(pair.judge)
        if pair.generator is None:
            from router.models.generators.load import pick_engine

            runs = pick_engine(pair.engine, pair.endpoints)
            if not pair.verifier_endpoints:
                layer = await asyncio.to_thread(_state_layer, pair.judge, runs)
        states = GeneratorStates(pair.model, pair.prompt, given=layer is not None)
        here = [await _wanted_generator(runs, pair.model, pair.engine_args)]
        if pair.verifier_endpoints:
            _check("verifier", "servers", pair.verifier_args)
        else:
            here.append(
                await _wanted_verifier(pair.judge, pair.verifier_format, states, pair.verifier_args)
            )
        return cls(pair, layer, states, {one.role: one for one in here if one is not None})

    async def open(self, shares: Mapping[Role, EngineArgs]) -> Models:
        """shares: the engine arguments of those that were wanted, completed."""
        pair = self.pair
        args = {"generator": pair.engine_args, "verifier": pair.verifier_args, **shares}
        if pair.generator is None:
            from router.models.generators.load import load_generator

            options: dict[str, Any] = {} if self.layer is None else {"state_layer": self.layer}
            options |= args["generator"]
            if pair.chat_template_kwargs:
                options["chat_template_kwargs"] = pair.chat_template_kwargs
            if pair.endpoints:
                options |= {
                    "api_key": pair.endpoint_key,
                    "tokenizer": pair.tokenizer,
                    "seeds": pair.endpoint_seeds,
                }
            opened = await load_generator(
                pair.model, pair.engine, pair.prompt, pair.endpoints, **options
            )
        else:
            opened = pair.generator
        try:
            judge = await self._open_judge(opened.info.prompt, args["verifier"])
        except BaseException:
            if pair.generator is None:
                with suppress(Exception):  # what failed first is what the caller must hear of
                    await opened.aclose()
            raise
        loaded: list[Generator | Verifier] = [opened] if pair.generator is None else []
        if judge is not None and isinstance(pair.judge, str):
            loaded.append(judge)
        return Models(opened, judge, tuple(loaded))

    async def _open_judge(self, prompt: str, args: EngineArgs) -> Verifier | None:
        pair, states = self.pair, replace(self.states, prompt=prompt)
        if not pair.verifier_endpoints:
            return await _verifier(pair.judge, pair.verifier_format, states, args)
        from router.models.verifiers.load_served import load_served_verifier

        return await load_served_verifier(
            None if pair.judge == SERVED else str(pair.judge),
            pair.verifier_endpoints,
            key=pair.verifier_endpoint_key,
            format=pair.verifier_format,
            generator=states,
        )


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
    if verifier == FAKE or not isinstance(verifier, str):
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
    from router.models.verifiers.prm import OWN
    from router.models.verifiers.trained_head import HeadConfig, is_head

    if not isinstance(verifier, str) or not is_head(Path(verifier)):
        return None
    if not gives_states(runs):
        return None
    config = HeadConfig.load(Path(verifier))
    return config.layer if config.format in OWN else None
