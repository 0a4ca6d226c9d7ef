"""What is wrong with a request, in one sentence of ours that names the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi.exceptions import RequestValidationError

from router.service.errors import ServiceError

_WORDS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "bool_type": lambda _: "must be true or false",
    "dict_type": lambda _: "must be an object",
    "extra_forbidden": lambda _: "is not supported",
    "finite_number": lambda _: "must be a finite number",
    "float_type": lambda _: "must be a number",
    "greater_than": lambda limits: f"must be above {limits['gt']:g}",
    "greater_than_equal": lambda limits: f"must be at least {limits['ge']}",
    "int_from_float": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_parsing_size": lambda _: "must be a smaller number",
    "int_type": lambda _: "must be a whole number",
    "less_than": lambda limits: f"must be below {limits['lt']}",
    "less_than_equal": lambda limits: f"must be at most {limits['le']}",
    "list_type": lambda _: "must be a list",
    "literal_error": lambda limits: f"must be {limits['expected']}",
    "missing": lambda _: "is required",
    "model_attributes_type": lambda _: "must be an object",
    "model_type": lambda _: "must be an object",
    "string_too_long": lambda limits: f"is longer than {limits['max_length']} characters",
    "string_too_short": lambda _: "must not be empty",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "holds half of a surrogate pair, which is no character",
    "too_long": lambda limits: f"has more than {limits['max_length']} entries",
    "too_short": lambda _: "must not be empty",
    "value_error": lambda context: str(context["error"]),  # our own
}
"""By the kind of what pydantic found, and its limits."""


def invalid(error: RequestValidationError) -> ServiceError:
    """The first thing wrong with a request, without quoting what was sent."""
    first = error.errors()[0]
    source, *steps = first["loc"]
    if first["type"] == "json_invalid":
        at = f", from its character {steps[0] + 1} on" if steps else ""
        return not_json(at)
    if source != "body":  # a header
        field = str(steps[0])
    elif not steps and first["type"] == "missing":
        return ServiceError(400, "the body is empty: send a JSON object", "invalid_json", "body")
    else:
        field = path(steps, error.body, missing=first["type"] == "missing") or "body"
    said = _WORDS.get(first["type"])
    words = said(first.get("ctx", {})) if said else "cannot be understood"
    shown = field if field != "body" else "the body"
    return ServiceError(400, f"{shown} {words}", "invalid_value", field)


def not_json(where: str = "") -> ServiceError:
    """For a body that cannot be read."""
    return ServiceError(400, f"the body is not JSON in UTF-8{where}", "invalid_json", "body")


def path(steps: Sequence[str | int], body: Any, *, missing: bool) -> str:
    """Where in a body that is, as `messages[0].content`.

    steps: pydantic's, among which are its names for the forms that a field may have.
    missing: whether the last step is a field that is not there.
    """
    shown, node = "", body
    for at, step in enumerate(steps):
        if isinstance(node, list) and isinstance(step, int):
            shown, node = f"{shown}[{step}]", node[step]
        elif isinstance(node, dict) and (step in node or (missing and at == len(steps) - 1)):
            shown, node = f"{shown}.{str(step)[:80]}", node.get(step)
    return shown.removeprefix(".")
