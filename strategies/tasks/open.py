"""Requests without one right answer: the whole text is the answer."""

from __future__ import annotations

from router.strategies.tasks.base import Task
from router.strategies.tasks.clock import Clock


class Open(Task):
    """Requests without one right answer: no two are equal, so only a verifier can choose."""

    id = "open"
    groups = False

    def read(self, text: str, truncated: bool = False) -> str | None:
        """The whole text; None if it is empty."""
        return text.strip() or None

    def correct_sync(
        self, answer: str | None, gold: str, clock: Clock | None = None
    ) -> bool | None:
        """Never told: nothing here can grade a free text."""
        return None
