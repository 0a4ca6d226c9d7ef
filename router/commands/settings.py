"""What a batch's solutions depend on: what `router solve --resume` compares before it goes on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from router.bundle import Bundle
from router.choosing import AUTO
from router.core import Router
from router.io import short_digest
from router.models.base import GeneratorInfo, Verifier
from router.models.generators.load import choose_prompt
from router.models.types import Problem
from router.models.verifiers.trained_head import head_digest, is_head
from router.models.weights.embedded import DEFAULT, EMBEDDED
from router.models.weights.fingerprint import fingerprint
from router.opening import FAKE, Models
from router.pairs import Pair
from router.provenance import package_version
from router.strategies.budget import Budget


def settings_of(
    router: Router,
    budget: Budget,
    *,
    strategy: str,
    tolerance: float,
    seed: int | None,
    in_flight: int,
) -> dict[str, Any]:
    """All that was asked and that a solution depends on, as JSON values; not yet opened models.

    Left out is what changes no solution: where the endpoints are and their key, since what they
    serve is asked of them (`opened_settings`), and the files.

    Raises:
        InputError, ModelError: a bundle, model or verifier that was named cannot be read.
    """
    sampling = router.sampling_with(strategy)
    routed = strategy == AUTO
    bundle = router.fitted if routed else None
    return {
        # Another version may read, compare or search in another way.
        "version": package_version(),
        **_opened_from(router.pair),
        **{
            f"model {name}": {"cost": terms.cost, **_opened_from(router.pairs[name])}
            for name, terms in router.fleet.items()
        },
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop),
        "strategy": strategy,
        # A strategy that was named asks neither a bundle nor what goes with one.
        "bundle": None if bundle is None else _bundle(bundle),
        "difficulty": router.difficulty if routed else None,
        "tolerance": tolerance if routed else None,
        "average": router.average,
        "target_accuracy": router.target_accuracy,
        "seed": seed,
        "budget": budget.generations,
        "token_cap": budget.tokens,
        "deadline": budget.seconds,
        # Searches that run side by side slow each other, which changes what a deadline cuts.
        "in_flight": None if budget.seconds is None else in_flight,
    }


def _opened_from(pair: Pair) -> dict[str, Any]:
    prompt = choose_prompt(
        pair.prompt, pair.model, pair.chat_template_kwargs, served=bool(pair.endpoints)
    )
    verifier = pair.judge
    return {
        "model": pair.model if pair.endpoints else _weights(pair.model or DEFAULT.name),
        "tokenizer": pair.tokenizer,
        "prompt": f"{prompt.id}@{short_digest(asdict(prompt))}",
        "verifier": _weights(verifier) if isinstance(verifier, str) else None,
        "verifier_format": pair.verifier_format,
        # Types and quantization change what a model says.
        "engine_args": dict(pair.engine_args),
        "verifier_args": dict(pair.verifier_args),
    }


def opened_settings(models: Models) -> dict[str, Any]:
    """What a solution depends on and only the opened models tell."""
    others = {f"opened {m.name}": _told(m.generator.info, m.verifier) for m in models.others}
    return {**_told(models.generator.info, models.verifier), **others}


def _told(generator: GeneratorInfo, verifier: Verifier | None) -> dict[str, Any]:
    return {
        "served_verifier": None if verifier is None else verifier.info.name,
        "served_model": generator.model,
        # Engines differ in whether they take seeds, and in the context that cuts a solution.
        "engine": generator.engine,
        "context": generator.context,
    }


def problem_digest(problem: Problem) -> str:
    """What was asked and what is right; neither the id nor where the problem comes from."""
    history = [asdict(message) for message in problem.history]
    return short_digest([problem.text, history, problem.answer])


def differences(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Each setting of `now` that `was` another, in words."""
    return [
        f"{name} was {was.get(name)!r} and is now {value!r}"
        for name, value in now.items()
        if was.get(name) != value
    ]


def _weights(ref: str) -> str:
    """A name that other weights do not have: a hub id as it is, a directory with its digest."""
    directory = Path(ref)
    if ref in EMBEDDED or ref == FAKE or not directory.is_dir():
        return ref
    content = head_digest(directory) if is_head(directory) else fingerprint(directory)
    return f"{directory.resolve().name}@{content[:12]}"


def _bundle(bundle: Bundle) -> str:
    # The manifest holds the digest of every file; its table may be edited by hand.
    return short_digest([bundle.manifest, bundle.table.to_dict()])
