"""What the parts of one service share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from fastapi import Request

from router.core import Router
from router.service.averages import Averages
from router.service.engine import Engine
from router.service.jobs import Desk
from router.service.metrics import Metrics
from router.service.queueing import Queue
from router.service.searching import Searches
from router.service.settings import Settings

DECISIONS: Final = 4
"""Decisions alone that are made at once: each takes a thread, and all of them one lock."""


@dataclass(frozen=True)
class Service:
    """One router and all that guards it.

    decisions: where those wait that want no search. started: seconds since the epoch.
    """

    settings: Settings
    metrics: Metrics
    engine: Engine
    averages: Averages
    searches: Searches
    decisions: Queue
    desk: Desk
    started: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(
        cls, router: Router, settings: Settings, on_fatal: Callable[[Exception], None]
    ) -> Service:
        """A service of this router; opens nothing yet."""
        metrics = Metrics()
        averages = Averages(router, settings, metrics)
        engine = Engine(router, metrics, on_fatal, averages.open)
        searches = Searches(engine, Queue(settings, metrics), metrics, averages)
        decisions = Queue(replace(settings, running=DECISIONS, generations=DECISIONS))
        desk = Desk(settings, router.sampling)
        return cls(settings, metrics, engine, averages, searches, decisions, desk)


def the_service(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service
