"""Every strategy by its name, and by its text: `beam_search(n=16, width=4)`."""

from __future__ import annotations

import ast
import difflib
import logging
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Final

from router.models.errors import InputError
from router.strategies.base import Strategy
from router.strategies.beam_search import BeamSearch, Lookahead
from router.strategies.best_of_n import BestOfN
from router.strategies.budget import SLACK
from router.strategies.dvts import DVTS
from router.strategies.escalate import Escalate
from router.strategies.fleet import ALONE, Fleet, cost_of, terms_of
from router.strategies.particle_filter import ParticleFilter
from router.strategies.rebase import Rebase

STRATEGIES: Final[dict[str, type[Strategy]]] = {
    cls.name: cls
    for cls in (BestOfN, BeamSearch, DVTS, Lookahead, Rebase, ParticleFilter, Escalate)
}
"""Those that come with `router`."""

ENTRY_POINTS: Final = "router.strategies"
"""Group of entry points by which other packages name their strategies: `name = module:Class`."""

LONGEST: Final = 1000
"""Characters of a strategy's text."""

log = logging.getLogger("router")


def strategy_names() -> list[str]:
    """All names that can be written, those of other packages last."""
    return [*STRATEGIES, *_foreign()]


@lru_cache(maxsize=1)
def _foreign() -> dict[str, type[Strategy]]:
    """Strategies of other packages; one that cannot be used is left out, and logged."""
    found: dict[str, type[Strategy]] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            cls = entry.load()
        except Exception as error:  # whatever its package does when it is imported
            log.warning("strategy %r of %s cannot be loaded: %s", entry.name, entry.value, error)
            continue
        if not (isinstance(cls, type) and issubclass(cls, Strategy)):
            wrong = "no Strategy"
        elif entry.name in STRATEGIES or entry.name in found:
            wrong = "not the first of that name"
        elif getattr(cls, "name", None) != entry.name:  # its text would not lead back to it
            wrong = f"named {getattr(cls, 'name', None)!r} by its class"
        else:
            found[entry.name] = cls
            continue
        log.warning("strategy %r of %s is %s, so it is left out", entry.name, entry.value, wrong)
    return found


def parse_strategy(text: str, budget: int | None = None, fleet: Fleet = ALONE) -> Strategy:
    """Read `name` or `name(param=value, …)`; a value may be a strategy again.

    Without `n`, the largest configuration that costs at most `budget` is taken; of strategies
    inside one, each gets what those before it leave.

    fleet: what samples of each model cost.

    Raises:
        InputError: malformed text, unknown name or parameter (with the nearest match), a bad
            value, or nothing that fits the budget.
    """
    name, params = call_parts(text)
    cls = STRATEGIES.get(name) or _foreign().get(name)
    if cls is None:
        raise InputError(f"unknown strategy {name!r}{_nearest(name, strategy_names())}")
    known = {f.name: f for f in fields(cls) if f.init}
    for key in params:
        if key not in known:
            raise InputError(f"{name} has no parameter {key!r}{_nearest(key, list(known))}")
    params |= inner_strategies(cls, params, budget, fleet)
    if fleet and params.get("model") == next(iter(fleet)):
        del params["model"]  # the first model goes without, so that equal strategies are equal
    for key, f in known.items():
        if key != "n" and key not in params and f.default is f.default_factory is MISSING:
            raise InputError(f"{name} needs {key}")
    if "n" in params or "n" not in known:
        return cls(**params)
    if budget is None:
        raise InputError(f"{name} needs n, as in {name}(n=16)")
    terms = terms_of(params.get("model"), fleet)
    if terms is None:
        return cls.within(budget, params)
    if terms.cost > budget + SLACK:
        raise InputError(
            f"a sample of {params['model']} costs {terms.cost:.6g} generations, but the budget is"
            f" {budget}"
        )
    return cls.within(int(budget / terms.cost + SLACK), params)


def inner_strategies(
    cls: type[Strategy],
    params: Mapping[str, Any],
    budget: int | None = None,
    fleet: Fleet = ALONE,
) -> dict[str, Strategy]:
    """Those parameters of a strategy that are strategies themselves, read from their texts."""
    found: dict[str, Strategy] = {}
    for f in fields(cls):
        text = params.get(f.name)
        if f.type in ("Strategy", Strategy) and isinstance(text, str):
            found[f.name] = parse_strategy(text, budget, fleet)
            if budget is not None:
                budget = max(0, int(budget - cost_of(found[f.name], fleet) + SLACK))
    return found


def call_parts(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the parameters of `name(param=value, …)`.

    Raises:
        InputError: it is not written so.
    """
    if len(text) > LONGEST:
        raise InputError(f"a strategy has {LONGEST} characters at most, not {len(text)}")
    malformed = InputError(
        f"cannot read strategy {text!r}; write it as name(param=value, …),"
        " for example beam_search(n=16, width=4)"
    )
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise malformed from None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise malformed
    params: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise malformed
        if keyword.arg in params:
            raise InputError(f"{node.func.id} has {keyword.arg!r} twice")
        if isinstance(keyword.value, ast.Name):
            params[keyword.arg] = keyword.value.id
            continue
        if isinstance(keyword.value, ast.Call):
            inner = ast.unparse(keyword.value)
            call_parts(inner)  # refuses what is no strategy's text
            params[keyword.arg] = inner
            continue
        try:
            params[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError):
            raise malformed from None
    return node.func.id, params


def _nearest(word: str, choices: list[str]) -> str:
    match = difflib.get_close_matches(word, choices, n=1)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; choose from {', '.join(sorted(choices))}"
