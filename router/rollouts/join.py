"""Stores of single models on the same problems, joined into one of a fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from router.models.usage import Usage
from router.rollouts.export import open_rollouts
from router.rollouts.runs import Run
from router.rollouts.store import SAMPLES, RolloutStore
from router.strategies.best_of_n import BestOfN
from router.strategies.fleet import check_name
from router.strategies.registry import parse_strategy


def join(files: Mapping[str, Path], path: Path) -> int:
    """Make the store at `path` of what each model's own holds; the first is the fleet's first.

    files: stores, or what was exported from them, by the name that each model gets.

    Returns:
        how many candidates it holds.

    Raises:
        InputError: a name that is none, a store that cannot be read, problems that differ under one
            id, or runs that are in `path` already; then nothing is added.
    """
    origins = {}
    for name, file in files.items():
        check_name(name)
        with open_rollouts(file) as store:
            origins[name] = replace(store.origin, name=name)
    first, *others = files
    origin = replace(origins[first], others={name: origins[name] for name in others})
    count = 0
    with RolloutStore.create(path, origin) as joined, joined.transaction():
        for name, file in files.items():
            with open_rollouts(file) as store:
                joined.add_problems(store.problems())
                if name == first:
                    for problem, prefill in store.prefills().items():
                        joined.add_prefill(problem, prefill)
                for run in store.runs() if name == first else _renamed(store, name):
                    joined.add(run)
                    count += len(run.candidates)
    return count


def _renamed(store: RolloutStore, model: str) -> Iterator[Run]:
    """A store's runs as those of a further model, whose samples are a run each."""
    drawn: Counter[str] = Counter()
    sample = str(BestOfN(1, model=model))
    for run in store.runs():
        if run.configuration != SAMPLES:
            strategy = replace(parse_strategy(run.configuration), model=model)
            yield replace(run, configuration=str(strategy))
            continue
        for candidate in run.candidates:
            spent = _share(run.usage, len(run.candidates), candidate.tokens)
            repeat = drawn[run.problem]
            drawn[run.problem] += 1
            yield Run(run.problem, sample, repeat, run.ended, spent, (candidate,))


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
        lower_bound=usage.lower_bound,
    )
