"""A service that tests of ordinary requests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.serving import Served, served


@pytest.fixture(scope="session")
def shared() -> Iterator[Served]:
    with served() as service:
        yield service


@pytest.fixture
def service(shared: Served) -> Served:
    """The shared service, its engine's records emptied."""
    shared.engine.prompts.clear()
    shared.engine.samplings.clear()
    return shared
