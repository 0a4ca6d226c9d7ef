"""What is said of paths and methods that are not served: where the client may have meant to go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from starlette.exceptions import HTTPException

from router.service.errors import ServiceError
from router.service.wording import not_json

_STORED: Final = re.compile(r"/v1/(?:responses|chat/completions|conversations|threads)/.")


def refused(
    error: HTTPException, method: str, path: str, offered: Mapping[str, str]
) -> ServiceError:
    """What a client is told instead of a bare status.

    offered: each path of the API, and its method.
    """
    shown = repr(path[:200])
    match error.status_code:
        case 400:
            return not_json()
        case 404:
            message = f"there is nothing at {shown}{_hint(path, offered)}"
            return ServiceError(404, message, "not_found", "path")
        case 405:
            allowed = (error.headers or {}).get("Allow", "another method")
            message = f"{shown} takes {allowed}, not {method}"
            return ServiceError(405, message, "method_not_allowed", "method", error.headers)
    return ServiceError(error.status_code, error.detail, "http_error", headers=error.headers)


def _hint(path: str, offered: Mapping[str, str]) -> str:
    """Where the client may have meant to go; empty where it asked for no part of an API."""
    if _STORED.match(path):
        return ": nothing is stored here, so nothing can be fetched again"
    ends = [known for known in offered if known.endswith(path) or path.endswith(known)]
    near = max(ends, key=len, default=None) if len(path) > 1 else None
    if near is None and (close := get_close_matches(path[:200], offered, 1, 0.8)):
        near = close[0]
    if near is not None:
        return f"; did you mean {offered[near]} {near}?"
    if not re.match(r"/+(?:v\d+|api)\b", path):
        return ""
    api = ", ".join(f"{verb} {known}" for known, verb in offered.items() if known[:4] == "/v1/")
    return f"; the API is {api}"
