"""The page at `/`: files that use the API like any other client.

A browser asks each time whether its copy is still the same: an old module does not fit a new page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

FILES: Final = Path(__file__).parent / "page"

_FRESH: Final = {"Cache-Control": "no-cache"}

_pages = APIRouter(include_in_schema=False)


def mount(app: FastAPI) -> None:
    """Serve the page, and its files below `/page/`."""
    app.include_router(_pages)
    app.mount("/page", _Files(directory=FILES), name="page")


@_pages.get("/")
async def index() -> FileResponse:
    """The page itself."""
    return FileResponse(FILES / "index.html", headers=_FRESH)


class _Files(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(_FRESH)
        return response
