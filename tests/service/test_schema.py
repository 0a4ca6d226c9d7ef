"""The service's own OpenAPI document, and what it gives for requests that are drawn from it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from router import Router
from router.models.fakes import FakeGenerator
from router.service.app import create_app
from tests.service.serving import Served

EXAMPLES = 50
"""Of each operation, in each mode."""

DOCUMENT = create_app(Router(generator=FakeGenerator())).openapi()


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """The document, with fewer values, so that chance finds some requests that get an answer."""
    schemas = deepcopy(document)["components"]["schemas"]
    for name, field, values in (
        ("ChatRequest", "model", ["fake", "fake@2"]),
        ("ChatRequest", "response_format", [None, {"type": "json_object"}]),
        ("ChatMessage", "role", ["user"]),
        ("ChatMessage", "content", ["1 + 1", [{"type": "text", "text": "1 + 1"}]]),
        ("CompletionRequest", "model", ["fake", "fake@2"]),
        ("CompletionRequest", "prompt", ["1 + 1", ["1 + 1", "2 + 2"]]),
        ("ResponseRequest", "model", ["fake", "fake@2"]),
        ("ResponseRequest", "input", ["1 + 1", [{"role": "user", "content": "1 + 1"}]]),
        ("TextOptions", "format", [None, {"type": "json_object"}]),
        ("RouterOptions", "strategy", ["auto", "dvts"]),
        ("RouterOptions", "tolerance", [0.0]),
        ("RouterOptions", "budget", [None, 4, 8]),
        ("RouteRequest", "tolerance", [0.0]),
        ("RouteRequest", "strategy", ["auto", "dvts"]),
    ):
        schemas[name]["properties"][field] = {"enum": values}
        schemas[name]["additionalProperties"] = False
    return {**document, "components": {"schemas": schemas}}


OPERATIONS = [
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in (
        found.ok()
        for found in schemathesis.openapi.from_dict(narrowed(DOCUMENT)).get_all_operations()
    )
    # Without a body there is nothing to be wrong.
    for mode in (GenerationMode if operation.method == "post" else [GenerationMode.POSITIVE])
]


def test_every_route_of_the_api_is_in_the_document() -> None:
    assert DOCUMENT["paths"].keys() == {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/route",
        "/v1/router/limits",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/table",
        "/health",
        "/ready",
        "/version",
        "/metrics",
    }


@pytest.mark.parametrize(("operation", "mode"), OPERATIONS)
def test_no_request_gives_a_500(shared: Served, operation: Any, mode: GenerationMode) -> None:
    statuses = set()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        response = case.call(base_url=shared.url)
        statuses.add(response.status_code)
        case.validate_response(response, checks=[not_a_server_error])
        if response.status_code >= 400:
            assert response.json()["error"]["message"]

    check()
    if mode is GenerationMode.POSITIVE and "{" not in operation.path:
        assert 200 in statuses
