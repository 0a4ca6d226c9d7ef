"""`GET /v1/router/limits`: what a client may ask for here, so that it need not try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from fastapi import APIRouter, Depends, Request

from router.choosing import AUTO
from router.models.errors import InputError
from router.service.observe import LogEntry
from router.service.state import Service, the_service
from router.strategies.base import Select, Strategy
from router.strategies.best_of_n import BestOfN
from router.strategies.registry import parse_strategy, strategy_names
from router.strategies.tasks.registry import task_names

routes = APIRouter()


@routes.get("/v1/router/limits")
async def limits(
    request: Request, service: Annotated[Service, Depends(the_service)]
) -> dict[str, Any]:
    """The model, and what this key may ask of it: budgets, strategies, tasks, deadline.

    Each strategy has its text as `router.strategy` takes it, its `words`, the `least` budget at
    which it is a search of its own, and its `fields` with their defaults, which may be set in the
    text: `beam_search(width=2)`. Those that need a verifier are left out where there is none.
    `average` is what this key's searches are held at, and how that goes; null without one.
    """
    models = service.engine.require()
    entry: LogEntry = request.state.entry
    settings, judge = service.settings, models.verifier
    most = service.desk.most(entry.client)
    bundle = service.engine.router.fitted
    first = 1 if bundle is None else bundle.table.budgets[0]
    routed = {"strategy": AUTO, "words": "whatever pays", "least": first, "fields": {}}
    return {
        "model": models.generator.info.model,
        "verifier": None if judge is None else judge.info.name,
        "table": bundle is not None,
        "keys": bool(settings.keys),
        "budget": {"default": min(settings.budget, most), "most": most},
        "average": service.averages.state(entry.client.key),
        "deadline": {"default": settings.deadline, "most": settings.deadline},
        "tasks": task_names(),
        "strategies": [routed, *_offers(most, verified=judge is not None)],
    }


def _offers(most: int, *, verified: bool) -> Iterator[dict[str, Any]]:
    """Every strategy that can run within the largest budget."""
    for text in (form for name in strategy_names() for form in _forms(name)):
        smallest = _smallest(text, most)
        if smallest is None or (smallest.needs_verifier and not verified):
            continue
        # Of one sample nothing is selected: a majority, which needs no verifier, stands for all.
        least = 2 if text in _forms(BestOfN.name) and smallest.needs_verifier else smallest.cost
        if least <= most:
            yield {
                "strategy": text,
                "words": smallest.in_words(sized=False),
                "least": least,
                "fields": dict(_fields(type(smallest))),
            }


def _forms(name: str) -> list[str]:
    """A strategy's name, or what it is called by each selection where that is all it differs in."""
    if name != BestOfN.name:
        return [name]
    return [f"{name}(select={select})" for select in get_args(Select)]


def _smallest(text: str, most: int) -> Strategy | None:
    """The smallest configuration, if there is one within a budget."""
    for budget in range(1, most + 1):
        try:
            return parse_strategy(text, budget)
        except InputError:
            continue
    return None


def _fields(cls: type[Strategy]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Parameters of a strategy but for `n`: their type, default, and choices."""
    hints = get_type_hints(cls)
    for f in fields(cls):
        kind = hints[f.name]
        if get_origin(kind) is UnionType:  # such as `float | None`
            kind = next(one for one in get_args(kind) if one is not NoneType)
        if get_origin(kind) is Literal:
            yield f.name, {"type": "str", "default": f.default, "choices": get_args(kind)}
        elif f.name != "n":
            yield f.name, {"type": kind.__name__, "default": f.default}
