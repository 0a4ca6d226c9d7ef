"""How the service is, and what it serves."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from router.service.metrics import CONTENT_TYPE
from router.service.state import Service, the_service

routes = APIRouter()

OURS = Annotated[Service, Depends(the_service)]


@routes.get("/health")
async def health() -> dict[str, str]:
    """Whether the process lives."""
    return {"status": "ok"}


@routes.get("/ready")
async def ready(service: OURS) -> dict[str, str]:
    """Whether the models answer; 503 while they do not."""
    service.engine.require()
    return {"status": "ready"}


@routes.get("/version")
async def the_version() -> dict[str, str]:
    """The version of the package."""
    return {"version": version("compute-optimal-router")}


@routes.get("/metrics", response_class=Response)
async def metrics(service: OURS) -> Response:
    """Counters for Prometheus."""
    return Response(service.metrics.render(), media_type=CONTENT_TYPE)


@routes.get("/v1/models")
async def models(service: OURS) -> dict[str, Any]:
    """The model that is served, and its variants `NAME@N` with a budget of N generations."""
    served = service.engine.require().generator.info.model
    return {
        "object": "list",
        "data": [_card(name, service.started) for name in service.desk.names(served)],
    }


@routes.get("/v1/models/{name:path}")
async def model(name: str, service: OURS) -> dict[str, Any]:
    """One of them.

    Raises:
        ServiceError: 404 for another model.
    """
    service.desk.suffix(name, service.engine.require().generator.info.model)
    return _card(name, service.started)


@routes.get("/v1/table")
async def table(service: OURS) -> dict[str, Any]:
    """The compute-optimal table that decides, and what it was fitted on; null without a bundle."""
    served = service.engine.require().generator.info.model
    bundle = service.engine.router.fitted
    if bundle is None:
        return {"model": served, "table": None, "provenance": None}
    provenance = {name: value for name, value in bundle.manifest.items() if name != "files"}
    provenance["data"] = {k: v for k, v in provenance["data"].items() if k != "texts"}
    return {"model": served, "table": bundle.table.to_dict(), "provenance": provenance}


def _card(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "router"}
