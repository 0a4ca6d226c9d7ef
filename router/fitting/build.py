"""From rollouts to a bundle: a pure function, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from router.bundle import SCHEMA, Bundle, text_digest
from router.difficulty.levels import Ints, fit_levels
from router.difficulty.pilot import PilotLevels
from router.fitting.cells import build_table
from router.fitting.exchangeability import orders
from router.fitting.measurements import LEVEL_SAMPLES, Measurements, measure
from router.models.errors import InputError
from router.models.extras import require_fit
from router.models.types import Problem
from router.provenance import commit, digest, package_version
from router.rollouts.runs import Origin
from router.rollouts.store import RolloutStore
from router.strategies.base import Strategy
from router.strategies.fleet import Fleet
from router.table import CostUnit, FittedModel

if TYPE_CHECKING:
    from router.difficulty.prefill import PrefillEstimator
    from router.difficulty.text_estimator import TextEstimator


@dataclass(frozen=True)
class FitSettings:
    """What a fit was asked for."""

    budgets: tuple[int, ...]
    strategies: tuple[Strategy, ...]
    levels: str = "quantile:5"
    merge: bool = False
    cost: CostUnit = "generations"
    level_samples: int = LEVEL_SAMPLES
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "budgets": list(self.budgets),
            "strategies": list(map(str, self.strategies)),
            "levels": self.levels,
            "merge": self.merge,
            "cost": self.cost,
            "level_samples": self.level_samples,
            "seed": self.seed,
        }


def fit_bundle(
    store: RolloutStore, settings: FitSettings, problems: Sequence[Problem] | None = None
) -> Bundle:
    """Build a bundle from rollouts; a pure function of them, but for the time in its manifest.

    problems: those that count; all that the store has samples of by default.

    Raises:
        InputError: the rollouts cannot be divided into the levels, or measure no strategy at some
            level and budget.
        NotInstalled: the extra `fit` is missing.
    """
    require_fit("a fit")
    known = store.problems() if problems is None else list(problems)
    ids = {problem.id for problem in known}
    found = measure(store, settings.strategies, ids, level_samples=settings.level_samples)
    found = _measured(found, store.path)
    levels = fit_levels(found.pass_at_1, settings.levels, merge=settings.merge)
    members = _members(store.origin, found.fleet)
    table = build_table(found, levels, settings.budgets, settings.cost, members)
    level = levels.of(found.pass_at_1)
    prior = tuple(float((level == number).mean()) for number in range(1, levels.count + 1))
    measured = set(found.problems)
    used = [problem for problem in known if problem.id in measured]
    manifest = _manifest(store, settings, used, found)
    estimator = _fit_estimator(used, found, level, settings.seed)
    prefill = _fit_prefill(found, level, settings.seed)
    pilot = _fit_pilot(found, level, levels.count)
    mix = tuple(map(tuple, estimator.classifier.held_out_proba_.tolist()))
    return Bundle(table, levels, prior, store.origin, manifest, estimator, prefill, pilot, mix)


def _members(origin: Origin, fleet: Fleet) -> list[FittedModel]:
    """The models of a fleet, at what a sample of each has cost."""
    origins = {origin.name: origin, **origin.others}
    return [
        FittedModel(
            name=name,
            model=origins[name].model,
            verifier=origins[name].verifier,
            fingerprint=origins[name].fingerprint,
            cost=terms.cost,
        )
        for name, terms in fleet.items()
    ]


def _fit_estimator(
    problems: Sequence[Problem], found: Measurements, level: Ints, seed: int
) -> TextEstimator:
    from router.difficulty.text_estimator import TextEstimator

    texts = {problem.id: problem.text for problem in problems}
    return TextEstimator.fit([texts[i] for i in found.problems], level, found.pass_at_1, seed)


def _fit_prefill(found: Measurements, level: Ints, seed: int) -> PrefillEstimator | None:
    """None where the generator did not say of every problem where its prompt led it."""
    from router.difficulty.prefill import PrefillEstimator

    read = [prefill for prefill in found.prefills if prefill is not None]
    layers = {prefill.layer for prefill in read}
    if len(read) < len(found.problems) or len(layers) != 1:
        return None
    states = np.array([prefill.state for prefill in read], np.float32)
    return PrefillEstimator.fit(states, level, found.pass_at_1, layers.pop(), seed)


def _fit_pilot(found: Measurements, level: Ints, count: int) -> PilotLevels | None:
    """None where no sample was scored."""
    scores = [of_problem[np.isfinite(of_problem)] for of_problem in found.scores]
    if not any(map(len, scores)):
        return None
    return PilotLevels.fit(scores, level, count)


def _measured(found: Measurements, path: Path) -> Measurements:
    """Without strategies that were run on no problem."""
    some = np.asarray(~np.isnan(found.accuracy).all(axis=0))
    if not some.any():
        raise InputError(f"{path} holds no rollouts of any of these strategies")
    return found.columns(np.flatnonzero(some).tolist())


def _manifest(
    store: RolloutStore, settings: FitSettings, problems: Sequence[Problem], found: Measurements
) -> dict[str, Any]:
    data = sorted((p.id, p.text, p.answer) for p in problems)
    ids = set(found.problems)
    return {
        "schema_version": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "package_version": package_version(),
        "commit": commit(),
        "settings": settings.to_dict(),
        "settings_sha256": digest(settings.to_dict()),
        "origin": store.origin.to_dict(),
        "data": {
            "problems": len(found.problems),
            "sha256": digest(data),
            "pools": [asdict(order) for order in orders(store, found.strategies, ids)],
            "texts": sorted(map(text_digest, problems)),
            "samples": int(found.samples.sum()),
            "monte_carlo_error": float(np.nanmax(found.error)),
        },
    }
