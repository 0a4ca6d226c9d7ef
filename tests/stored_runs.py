"""What a store holds so far, for tests that look while it is written."""

from __future__ import annotations

from pathlib import Path

from router.models.errors import InputError
from router.rollouts.runs import Run
from router.rollouts.store import RolloutStore


def stored_runs(store: Path) -> list[Run]:
    """Its runs; none before it can be read."""
    try:
        with RolloutStore.read(store) as rollouts:
            return list(rollouts.runs())
    except InputError:
        return []
