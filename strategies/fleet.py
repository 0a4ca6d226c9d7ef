"""Several models under one budget: what each is asked by, and what a sample of it costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from router.models.base import Generator, Verifier
from router.models.errors import InputError
from router.models.usage import Price, Usage
from router.strategies.budget import SLACK, Budget

if TYPE_CHECKING:
    from router.strategies.base import Strategy

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Member:
    """A further model of a fleet: a generator with its verifier.

    cost: of one of its plain samples, in plain samples of the first model. price: of its tokens,
    where that is known.
    """

    name: str
    generator: Generator
    verifier: Verifier | None
    cost: float
    price: Price | None = None

    def charge(self, spent: Usage) -> float | None:
        """What it is paid for this, in money; None where that is not known."""
        return None if self.price is None else self.price.of(spent)


class Terms(NamedTuple):
    """On what terms a strategy may ask a model: what a sample costs, and whether it is verified."""

    cost: float
    verified: bool


Fleet = Mapping[str, Terms]
"""The terms of every model by its name, the first among them, for which a sample costs 1."""

ALONE: Final[Fleet] = MappingProxyType({})
"""There is one model, and it has no name."""


class _Asked(Protocol):
    """A model by what is known of it: a `Member`, or as a table holds it."""

    @property
    def name(self) -> str: ...
    @property
    def cost(self) -> float: ...
    @property
    def verifier(self) -> object | None: ...


def fleet_of(members: Iterable[_Asked]) -> Fleet:
    """On what terms each of these may be asked."""
    return {one.name: Terms(one.cost, one.verifier is not None) for one in members}


def check_name(name: object) -> None:
    """Refuse what is no name of a model.

    Raises:
        InputError: it is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name of a model: a letter, and then letters, digits, '.', '_' or '-'"
        )


def terms_of(model: str | None, fleet: Fleet) -> Terms | None:
    """On what terms a model is asked; None for the first, where it goes without a name.

    Raises:
        InputError: there is no such model.
    """
    if model is None:
        return None
    if model not in fleet:
        have = f"there are {', '.join(fleet)}" if fleet else "there is one model, without a name"
        raise InputError(f"no model {model!r}: {have}; give it with --model {model}=…")
    return fleet[model]


def asked_by(strategy: Strategy, first: str) -> tuple[str, ...]:
    """Names of the models that a strategy may ask, in its order; none where the first has none."""
    return tuple({stage.model or first: None for stage in strategy.stages}) if first else ()


def cost_of(strategy: Strategy, fleet: Fleet = ALONE) -> float:
    """Most that a strategy can spend, in generations of the first model.

    Raises:
        InputError: it asks a model that is not there.
    """
    terms = [(stage.cost, terms_of(stage.model, fleet)) for stage in strategy.stages]
    return sum(cost if term is None else cost * term.cost for cost, term in terms)


def check(strategy: Strategy, budget: Budget, *, has_verifier: bool, fleet: Fleet = ALONE) -> None:
    """Refuse what cannot run, before anything is spent.

    has_verifier: of the first model.

    Raises:
        InputError: it costs more than the budget, it needs a verifier and there is none, or it
            asks a model that is not there.
    """
    cost = cost_of(strategy, fleet)
    if cost > budget.generations + SLACK:
        raise InputError(
            f"{strategy} needs {cost:.6g} generations, but the budget is {budget.generations}"
        )
    for stage in strategy.stages:
        terms = terms_of(stage.model, fleet)
        if stage.needs_verifier and not (has_verifier if terms is None else terms.verified):
            option = "--verifier" if terms is None else f"--verifier {stage.model}=…"
            raise InputError(
                f"{stage} needs a verifier and there is none: give one with {option}, or take"
                " best_of_n(select=majority) or best_of_n(select=confident)"
            )
