"""What the parts of one service share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import Request

from router.core import Router
from router.service.engine import Engine
from router.service.jobs import Desk
from router.service.metrics import Metrics
from router.service.queueing import Queue
from router.service.searching import Searches
from router.service.settings import Settings


@dataclass(frozen=True)
class Service:
    """One router and all that guards it. started: seconds since the epoch."""

    settings: Settings
    metrics: Metrics
    engine: Engine
    searches: Searches
    desk: Desk
    started: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(
        cls, router: Router, settings: Settings, on_fatal: Callable[[Exception], None]
    ) -> Service:
        """A service of this router; opens nothing yet."""
        metrics = Metrics()
        engine = Engine(router, metrics, on_fatal)
        queue = Queue(settings, metrics)
        searches = Searches(engine, queue, metrics)
        return cls(settings, metrics, engine, searches, Desk(settings, router.sampling))


def the_service(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service
