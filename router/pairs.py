"""What models are opened from: a generator with its verifier, and several of them as a fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from router.models.base import Generator, Verifier
from router.models.errors import InputError
from router.models.prompts import TemplateArgs
from router.models.runtime.engine_args import EngineArgs
from router.models.types import Sampling
from router.models.usage import Price, flops
from router.opening import (
    FAKE,
    SERVED,
    assumed,
    default_bundle,
    default_sampling,
    default_verifier,
)
from router.rollouts.runs import Origin
from router.strategies.fleet import check_name


@dataclass(frozen=True)
class Pair:
    """What a generator with its verifier is opened from. Reads nothing until it is asked.

    model: directory or hub id of the generator; None is the default model. With endpoints, the name
        that the servers know it by.
    engine: `auto`, `vllm`, `transformers`, `openai` or `fake`.
    endpoints: base URLs of OpenAI-compatible servers. endpoint_key: their API key. endpoint_seeds:
        whether they may be sent seeds; vLLM's CPU build dies of one.
    tokenizer: directory or hub id, for servers that cannot render a chat.
    prompt: id in `models.prompts`; None is the model's own. `models.prompts.delimited` gives the id
        of one whose steps end otherwise.
    chat_template_kwargs: what the model's chat template is told besides, as
        `{"enable_thinking": False}`.
    verifier: directory or hub id of a process reward model, or a ready-made verifier; None means
        none. `auto` is the head that comes with `router` for the model, if there is one; a
        ready-made generator gets none. With verifier endpoints, what they serve; `auto` is what
        they say that it is.
    verifier_format: id in `models.verifiers.prm`, for weights that do not tell.
    verifier_endpoints: base URLs of `vllm serve`s of the verifier, in place of running it here
        (`docs/deploy.md`). verifier_endpoint_key: their API key.
    engine_args, verifier_args: fields of vLLM's `AsyncEngineArgs` for the engine of the generator
        and of the verifier, as `{"tensor_parallel_size": 2}`; they replace our defaults
        (`docs/deploy.md`).
    generator: a ready-made generator in place of model, engine, endpoints and prompt. A ready-made
        generator or verifier stays the caller's to close.
    price: what tokens of the generator cost, where a fleet is weighed by money (`docs/fleet.md`).
    """

    model: str | None = None
    engine: str = "auto"
    endpoints: Sequence[str] = ()
    endpoint_key: str | None = None
    endpoint_seeds: bool = False
    tokenizer: str | None = None
    prompt: str | None = None
    chat_template_kwargs: TemplateArgs = field(default_factory=dict)
    verifier: str | Verifier | None = SERVED
    verifier_format: str | None = None
    verifier_endpoints: Sequence[str] = ()
    verifier_endpoint_key: str | None = None
    engine_args: EngineArgs = field(default_factory=dict)
    verifier_args: EngineArgs = field(default_factory=dict)
    generator: Generator | None = None
    price: Price | None = None

    @cached_property
    def judge(self) -> str | Verifier | None:
        """The verifier that is, or will be, used: what `auto` stands for is resolved."""
        if self.verifier != SERVED or self.verifier_endpoints:
            return self.verifier
        if self.generator is not None:
            return None
        return default_verifier(self.model, self.engine, self.endpoints)

    @property
    def sampling(self) -> Sampling:
        """How it is sampled unless something else is asked for."""
        return default_sampling(self.model, self.endpoints)

    @property
    def bundle(self) -> Path | None:
        """Directory of the bundle that comes with `router` for it, if any."""
        if self.generator is not None:
            return None
        return default_bundle(self.model, self.engine, self.endpoints)

    @cached_property
    def assumed(self) -> str | None:
        """What is believed of it where its name is an embedded model's, as `assumed`."""
        return None if self.generator else assumed(self.model, self.engine, self.endpoints)

    @property
    def parameters(self) -> int | None:
        """Weights that multiply, known without opening it; None for what servers serve.

        Raises:
            ModelError: there are no such weights, or they cannot be read.
        """
        if self.generator is not None:
            return self.generator.info.parameters
        if self.endpoints or self.engine == FAKE:
            return 1 if self.engine == FAKE else None  # all fakes are alike
        from router.models.weights.count import count_parameters
        from router.models.weights.find import find_model

        return count_parameters(find_model(self.model))


def named_pairs(pair: Pair, models: Pair | Mapping[str, Pair] | None) -> dict[str, Pair]:
    """Several models by their names, or the one, whose name is empty.

    Raises:
        InputError: both were given, none at all, or a name that is none.
    """
    if models is None:
        return {"": pair}
    if pair != Pair():
        raise InputError("give one model, or several as models, not both")
    if isinstance(models, Pair):
        return {"": models}
    if not models:
        raise InputError("models holds no model")
    for name in models:
        check_name(name)
    return dict(models)


def relative_costs(pairs: Mapping[str, Pair]) -> dict[str, float]:
    """What a plain sample of each model costs, in those of the first, before anything is measured.

    By the prices of sampled tokens, where they are given; else by the FLOPs of a token.

    Raises:
        InputError: some have a price and others none, or what one costs is not known.
        ModelError: as `Pair.parameters`.
    """
    priced = [name for name, pair in pairs.items() if pair.price is not None]
    unpriced = [name for name in pairs if name not in priced]
    if priced and unpriced:
        raise InputError(
            f"{', '.join(priced)} have a price and {', '.join(unpriced)} none: give --price for"
            " every model, or for none"
        )
    costs = {
        name: flops(pair.parameters, 1) if pair.price is None else pair.price.sampled
        for name, pair in pairs.items()
    }
    first = next(iter(costs.values()))
    found: dict[str, float] = {}
    for name, cost in costs.items():
        if cost is None or first is None:
            raise InputError(
                f"what a sample of {name} costs is not known, as servers do not tell the size of"
                " their models: give --price for every model"
            )
        found[name] = 1 if not found else round(cost / first, 4)
    return found


def with_prices(origin: Origin, pairs: Mapping[str, Pair]) -> Origin:
    """The origin of a fleet's rollouts, with what tokens of each model cost."""

    def priced(one: Origin, pair: Pair) -> Origin:
        price = pair.price
        return one if price is None else replace(one, price=(price.prompt, price.sampled))

    others = {name: priced(one, pairs[name]) for name, one in origin.others.items()}
    return replace(priced(origin, pairs[origin.name]), others=others)
