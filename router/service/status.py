"""How the service is, and what it serves."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from router.service.metrics import CONTENT_TYPE
from router.service.state import Service, the_service
from router.table import Table

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
def table(service: OURS) -> dict[str, Any]:
    """The compute-optimal table that decides, and what it was fitted on; null without a bundle.

    A cell's `winner` is the index of the entry that is chosen at its level; an entry's `parameters`
    are its strategy in fields. Not async: all winners of a large table take a moment to find.
    """
    served = service.engine.require().generator.info.model
    bundle = service.engine.router.fitted
    if bundle is None:
        return {"model": served, "table": None, "provenance": None}
    provenance = {name: value for name, value in bundle.manifest.items() if name != "files"}
    provenance["data"] = {k: v for k, v in provenance["data"].items() if k != "texts"}
    return {"model": served, "table": _in_fields(bundle.table), "provenance": provenance}


def _in_fields(table: Table) -> dict[str, Any]:
    shown = table.to_dict()
    for cell, record in zip(table.cells, shown["cells"], strict=True):
        record["winner"] = cell.entries.index(table.best(cell.level, cell.budget))
        for entry, fields in zip(cell.entries, record["entries"], strict=True):
            fields["parameters"] = entry.strategy.to_dict()
    return shown


def _card(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "router"}
