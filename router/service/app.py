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
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from router.core import Router
from router.service import chat, completions, limits, responses, static, status
from router.service.errors import ServiceError
from router.service.guard import Guard
from router.service.hints import refused
from router.service.observe import Envelope
from router.service.settings import Settings
from router.service.state import Service
from router.service.wording import invalid

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
        redirect_slashes=False,  # a redirect would lead to http behind a proxy that speaks TLS
        responses=_ERRORS,
        # They load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(Guard, settings=service.settings)
    app.add_middleware(Envelope, metrics=service.metrics, prompts=service.settings.log_prompts)
    app.add_middleware(Lenient)
    if service.settings.origins:
        # Outermost, so that pages can read errors too. Browsers ask first without a key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["retry-after", "x-request-id"],
        )
    for part in (chat, completions, responses, limits, status):
        app.include_router(part.routes)
    app.state.offered = {
        path: verb.upper() for path, item in app.openapi()["paths"].items() for verb in item
    }
    static.mount(app)
    return app


def _logged(error: Exception) -> None:
    log.critical("cannot open the models: %s", error)


class Lenient:
    """HEAD is a GET whose body the server leaves out; a slash at a path's end means nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            scope = {**scope, "method": method, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _failed(request, invalid(error), error)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    offered = request.app.state.offered
    return _failed(request, refused(error, request.method, request.url.path, offered), error)


def _failed(request: Request, failure: ServiceError, error: Exception) -> Response:
    request.state.entry.failed(failure, error)
    return failure.response()
