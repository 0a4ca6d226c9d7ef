"""Stores of single models on the same problems, joined into one of a fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from router.models.errors import InputError
from router.models.usage import Usage
from router.rollouts.export import open_rollouts
from router.rollouts.runs import Origin, Run
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.best_of_n import BestOfN
from router.strategies.fleet import check_name
from router.strategies.registry import parse_strategy


def join(files: Sequence[tuple[str, Path]], path: Path) -> int:
    """Make the store at `path` of what each model's own hold; the first is the fleet's first.

    files: the name that each model gets, with a store of it or what was exported from one. A model
        may have several, as where each was sampled at another temperature. What was sampled at
        another than the first of all is a search that sets its own.

    Returns:
        how many candidates it holds.

    Raises:
        InputError: a name that is none, a store that cannot be read, stores of one model that
            differ, sampling that differs in more than its temperature, problems that differ under
            one id, or runs that are in `path` already; then nothing is added.
    """
    origins: dict[str, Origin] = {}
    for name, file in files:
        check_name(name)
        with open_rollouts(file) as store:
            found = replace(store.origin, name=name)
        first = next(iter(origins.values()), found)
        if replace(found.sampling, temperature=first.temperature) != first.sampling:
            raise InputError(
                f"{file} was sampled with {found.sampling}; the first: {first.sampling}"
            )
        found = replace(found, temperature=first.temperature)
        origins[name] = origins[name].joined(found) if name in origins else found
    first, *others = origins.values()
    origin = replace(first, others={one.name: one for one in others})
    count = 0
    drawn: Counter[tuple[str, str]] = Counter()
    with RolloutStore.create(path, origin) as joined, joined.transaction():
        for name, file in files:
            with open_rollouts(file) as store:
                joined.add_problems(store.problems())
                if name == first.name:
                    for problem, prefill in store.prefills().items():
                        joined.add_prefill(problem, prefill)
                for run in _renamed(store, None if name == first.name else name, origin):
                    key = run.problem, run.configuration
                    joined.add(replace(run, repeat=drawn[key]))
                    drawn[key] += 1
                    count += len(run.candidates)
    return count


def _renamed(store: RolloutStore, model: str | None, fleet: Origin) -> Iterator[Run]:
    """A store's runs as those of one of a fleet's models; None is the first.

    What the fleet does not sample by default is a run each.
    """
    heat = store.origin.temperature
    own = None if heat == fleet.temperature else heat
    for run in store.runs():
        if (model, own) == (None, None):
            yield run
        elif run.configuration != SAMPLES:
            strategy = replace(parse_strategy(run.configuration), model=model)
            if strategy.temperature is None:
                strategy = replace(strategy, temperature=own)
            yield replace(run, configuration=str(strategy))
        else:
            sample = str(BestOfN(1, model=model, temperature=own))
            for candidate in run.candidates:
                spent = _share(run.usage, len(run.candidates), candidate.tokens)
                yield Run(run.problem, sample, 0, run.ended, spent, (candidate,))


def _share(usage: Usage, samples: int, tokens: int | None) -> Usage:
    """What one sample of a request spent: its own tokens, and an equal part of the rest."""

    def part(value: int | None) -> int | None:
        return None if value is None else round(value / samples)

    return Usage(
        generations=1,
        sampled_tokens=tokens,
        prompt_tokens=part(usage.prompt_tokens),
        prompt_tokens_cached=part(usage.prompt_tokens_cached),
        verifier_tokens=part(usage.verifier_tokens),
        verifier_seconds=usage.verifier_seconds and usage.verifier_seconds / samples,
        flops=usage.flops and usage.flops / samples,
        seconds=usage.seconds / samples,
        money=None,
        lower_bound=usage.lower_bound,
    )
