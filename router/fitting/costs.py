"""What a plain sample of each model of a fleet costs, in those of the first, as it was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from router.models.errors import InputError
from router.models.usage import flops
from router.rollouts.runs import Origin
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.best_of_n import BestOfN
from router.strategies.fleet import ALONE, Fleet, Terms
from router.strategies.registry import parse_strategy

Spent = Mapping[str, Mapping[str, Sequence[float | None]]]
"""By configuration and problem the sums that `RolloutStore.spent` gives."""


def measured_fleet(store: RolloutStore) -> Fleet:
    """Of all problems of a store; nothing where there is one model.

    Raises:
        InputError: as `relative_costs`.
    """
    spent: defaultdict[str, dict[str, Sequence[float | None]]] = defaultdict(dict)
    for problem, configuration, *sums in store.spent():
        spent[configuration][problem] = sums
    return relative_costs(store.origin, spent)


def relative_costs(origin: Origin, spent: Spent) -> Fleet:
    """Of the problems of which both the first model and another have samples.

    That of a sample on its own: it reads its prompt and samples its tokens; in money, where all
    have a price. Samples at the fit's own temperature say so, or else those at another. Without
    samples yet, of a token.

    Raises:
        InputError: a cost is not known.
    """
    if not origin.others:
        return ALONE
    found = {origin.name: Terms(1, origin.verifier is not None)}
    for name, other in origin.others.items():
        own = next((spent[one] for one in _samples_of(name, spent)), {})
        first = spent.get(SAMPLES, {})
        common = sorted(first.keys() & own.keys())
        # A run of the other is one request, which reads the prompt once.
        prompts = [(own[problem][3] or 0) / (own[problem][0] or 1) for problem in common]
        both = []
        for (prompt, sampled), rows, units in zip(
            _rates((origin, other)), (first, own), (1, 0), strict=True
        ):
            each = [(rows[p][2] or np.nan) / (rows[p][units] or np.nan) for p in common]
            costs = prompt * np.array(prompts) + sampled * np.array(each)
            both.append(float(costs.mean()) if common else sampled)
        cost = round(both[1] / both[0], 2) if both[0] else np.nan
        if not cost > 0:
            raise InputError(
                f"what a sample of {name} costs is not known, as its engine tells neither its"
                " tokens nor its size: give --price for every model"
            )
        found[name] = Terms(cost, other.verifier is not None)
    return found


def _samples_of(model: str, configurations: Collection[str]) -> list[str]:
    """The configurations that are one plain sample of a model, at the fit's temperature first."""
    plain = str(BestOfN(1, model=model))
    found = []
    for configuration in configurations:
        with suppress(InputError):  # the steps that a verifier's training completes are no strategy
            strategy = parse_strategy(configuration)
            if replace(strategy, temperature=None) == BestOfN(1, model=model):
                found.append(configuration)
    return sorted(found, key=lambda configuration: (configuration != plain, configuration))


def per_token(parameters: int | None) -> float:
    """FLOPs of one token; NaN where they are not known."""
    known = flops(parameters, 1)
    return np.nan if known is None else known


def _rates(origins: Sequence[Origin]) -> list[tuple[float, float]]:
    """What a token of a prompt costs, and one that is sampled: money if all have a price."""
    prices = [origin.price for origin in origins if origin.price is not None]
    if len(prices) == len(origins):
        return prices
    return [(per_token(origin.parameters), per_token(origin.parameters)) for origin in origins]
