"""A headless Chromium, and the real service over fakes for it to look at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.simulated import SEARCHES, simulated_store
from router.fitting.build import FitSettings, fit_bundle
from router.fitting.configurations import configurations
from router.rollouts.store import RolloutStore
from tests.browser.tab import EXECUTABLE, Tab, chromium
from tests.service.serving import Engine, Served, bundled, served

if TYPE_CHECKING:
    from playwright.async_api import Browser

BUDGETS = (1, 2, 4, 8)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if EXECUTABLE is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    """A tab that has seen no error and asked no other host when its test ends."""
    tab = Tab(browser)
    yield tab
    await tab.close()


@pytest.fixture(scope="session")
def plain() -> Iterator[Served]:
    """A service without a bundle."""
    with served() as service:
        yield service


@pytest.fixture(scope="session")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service whose bundle was fitted on simulated rollouts: three levels, budgets 1 to 8."""
    settings = FitSettings(BUDGETS, configurations(BUDGETS, SEARCHES, verifier=True), "quantile:3")
    path: Path = tmp_path_factory.mktemp("browser") / "rollouts.sqlite"
    simulated_store(path, 60, settings.strategies)
    with RolloutStore.read(path) as rollouts:
        bundle = fit_bundle(rollouts, settings)
    engine = Engine()
    with served(engine, router=bundled(bundle, engine, path.parent / "bundle")) as service:
        yield service
