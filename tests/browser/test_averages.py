"""What the page says of an average budget."""

from __future__ import annotations

import pytest

from router.bundle import Bundle
from tests.browser.tab import Tab
from tests.service.serving import served
from tests.service.test_averages import fitted, router  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_it_shows_how_the_average_stands_and_where_the_problem_lies(
    tab: Tab,
    fitted: Bundle,  # noqa: F811
) -> None:
    with served(router=router(4.0)) as service:
        await tab.open(service.url)
        told = tab.page.locator("#average")
        await told.filter(has_text="may cost 4 generations on average").wait_for()
        await tab.solve("hopeless problem", budget=16)
        await told.filter(has_text="The last ones cost 1.0.").wait_for()
        chart = tab.page.locator(".on-curve svg")
        assert await chart.count() == 0  # nothing helps, so there is no curve
        await tab.solve("middling problem", budget=16)
        assert "75% at most" in (await chart.get_attribute("aria-label") or "")
        assert await tab.page.locator(".on-curve circle").count() == 1
