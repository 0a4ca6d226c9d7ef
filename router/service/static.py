"""The page at `/`: files that use the API like any other client."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

FILES: Final = Path(__file__).parent / "page"

_pages = APIRouter(include_in_schema=False)


def mount(app: FastAPI) -> None:
    """Serve the page, and its files below `/page/`."""
    app.include_router(_pages)
    app.mount("/page", StaticFiles(directory=FILES), name="page")


@_pages.get("/")
async def index() -> FileResponse:
    """The page itself."""
    return FileResponse(FILES / "index.html")
