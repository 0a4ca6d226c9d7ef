"""`--model`, `--endpoint`, `--verifier` and their like: of one model, or of several by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import click

from router.choosing import AUTO
from router.models.errors import InputError
from router.models.usage import Price
from router.opening import FAKE
from router.pairs import Pair

NONE: Final = "none"

_NAMED: Final = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.+)", re.DOTALL)


class Values(click.types.StringParamType):
    """Texts; in an environment variable several only where each begins with a name."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        return re.split(r"\s+(?=[A-Za-z][A-Za-z0-9_.-]*=)", rv.strip())


class Named:
    """The values of an option: those of the model of a name, and those of all models."""

    def __init__(self, option: str, values: Sequence[str]) -> None:
        self.option = option
        self.by_name: dict[str, list[str]] = {}
        self.of_all: list[str] = []
        for value in values:
            match = _NAMED.fullmatch(value)
            if match is None or Path(value).exists():
                self.of_all.append(value)
            else:
                self.by_name.setdefault(match[1], []).append(match[2])

    def all_of(self, name: str) -> tuple[str, ...]:
        """Its values for one model, each of which may be given more than once."""
        return tuple(self.by_name.get(name, self.of_all))

    def of(self, name: str) -> str | None:
        """Its value for one model, the last that was given; None without one."""
        return next(reversed(self.all_of(name)), None)


def pairs(
    common: Pair,
    *,
    models: Sequence[str],
    endpoints: Sequence[str],
    tokenizers: Sequence[str],
    verifiers: Sequence[str],
    verifier_endpoints: Sequence[str],
    prices: Sequence[str],
) -> Pair | dict[str, Pair]:
    """What one model, or each by its name, is opened from.

    common: what is the same for all.

    Raises:
        UsageError, InputError: a value without a name where names are needed, one for a model that
            is not there, or a bad price.
    """
    model, endpoint = Named("--model", models), Named("--endpoint", endpoints)
    tokenizer, verifier = Named("--tokenizer", tokenizers), Named("--verifier", verifiers)
    served, price = Named("--verifier-endpoint", verifier_endpoints), Named("--price", prices)
    names = list(dict.fromkeys([*model.by_name, *endpoint.by_name]))
    if names and model.of_all:
        raise click.UsageError(
            f"--model {model.of_all[0]} has no name, and others have; write NAME={model.of_all[0]}"
        )
    if len(model.of_all) > 1:
        raise click.UsageError(
            "--model is given twice; several models have names: --model small=… --model large=…"
            " (docs/fleet.md)"
        )
    for option in (tokenizer, verifier, served, price):
        _check_names(option, names)

    def pair(name: str) -> Pair:
        return replace(
            common,
            model=model.of(name),
            endpoints=endpoint.all_of(name),
            tokenizer=tokenizer.of(name),
            verifier=_verifier(verifier.of(name) or AUTO),
            verifier_endpoints=served.all_of(name),
            price=_price(price.of(name)),
        )

    if names:
        return {name: pair(name) for name in names}
    if prices:
        raise click.UsageError("--price is for several models by their names (docs/fleet.md)")
    return pair("")


def _check_names(option: Named, names: Sequence[str]) -> None:
    for name in option.by_name:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"name it with --model {name}=…"
            raise InputError(f"{option.option} {name}=…: there is no model {name!r}; {hint}")


def _verifier(name: str) -> str | None:
    """What `--verifier` stands for; a word that is nearly one of its own is a typing error."""
    near = get_close_matches(name, (AUTO, NONE, FAKE), n=1)
    if near and name != near[0] and not Path(name).exists():
        raise InputError(f"no verifier {name!r}; did you mean {near[0]!r}?")
    return None if name == NONE else name


def _price(text: str | None) -> Price | None:
    """`0.1`, or `0.1/0.4` where tokens of prompts and sampled ones cost differently."""
    if text is None:
        return None
    prompt, _, sampled = text.partition("/")
    try:
        return Price(float(prompt), float(sampled or prompt))
    except ValueError:
        raise InputError(
            f"--price {text!r}: write money for a million tokens, as small=0.1, or small=0.1/0.4"
            " for those of a prompt and those sampled"
        ) from None
