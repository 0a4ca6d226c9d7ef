"""Puts the service together: routes, guards, and what happens at start and end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from router.core import Router
from router.service import chat, limits, static, status
from router.service.errors import described
from router.service.guard import Guard
from router.service.observe import Envelope
from router.service.settings import Settings
from router.service.state import Service

log = logging.getLogger("router.service")

CLOSING_SECONDS: Final = 1.0
"""What models that do not answer get to close."""


class ErrorDetail(BaseModel):
    """What went wrong, as OpenAI's API says it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": ErrorBody}
    for code in (400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 502, 503, 504)
}


def create_app(
    router: Router,
    settings: Settings | None = None,
    on_fatal: Callable[[Exception], None] | None = None,
) -> FastAPI:
    """The service as an ASGI application; it opens the router's models when it starts.

    on_fatal: told of models that cannot be opened, such as weights that are not there.
    """
    service = Service.of(router, settings or Settings(), on_fatal or _logged)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001
        service.engine.start()
        try:
            yield
        finally:
            service.searches.end_all()
            # What answers takes its time to close; what is being opened again might take for ever.
            patience = None if service.engine.ready else CLOSING_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await service.engine.stop()
                    await router.aclose()

    app = FastAPI(
        title="router",
        version=version("compute-optimal-router"),
        lifespan=lifespan,
        responses=_ERRORS,
        # They load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(Guard, settings=service.settings)
    app.add_middleware(Envelope, metrics=service.metrics, prompts=service.settings.log_prompts)
    app.include_router(chat.routes)
    app.include_router(limits.routes)
    app.include_router(status.routes)
    static.mount(app)
    return app


def _logged(error: Exception) -> None:
    log.critical("cannot open the models: %s", error)


async def _refused(request: Request, error: Exception) -> Response:
    failure = described(error)
    request.state.entry.failed(failure, error)
    return failure.response()
