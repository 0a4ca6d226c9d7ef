"""Solving a problem on the page, as a person would."""

from __future__ import annotations

import re

import pytest

from router import Router
from router.models.fakes import FakeVerifier
from router.models.types import Sampling
from tests.browser.tab import PHONE, Tab
from tests.router.test_thinking import writes
from tests.service.serving import Engine, Served, served, until

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SUM = "What is 12 + 35 + 7?"


async def test_a_solved_problem_shows_decision_tree_votes_spend_and_answer(
    tab: Tab, plain: Served
) -> None:
    await tab.open(plain.url)
    await tab.solve(SUM, budget=8)

    assert await tab.text(".answer .katex-html") == "54"
    decision = await tab.text(".decision")
    assert "weighted vote of 8" in decision
    assert "No bundle is fitted" in decision
    # Eight solutions of three steps each, and no path shared.
    assert await tab.steps().count() == 24
    assert await tab.steps(".finished").count() == 8
    assert await tab.steps(".winner").count() == 3
    assert await tab.steps("[data-score]").count() == 24
    gauge = tab.page.locator(".gauge")
    assert await gauge.get_attribute("aria-valuenow") == "8"
    votes = await tab.text(".votes li:first-child")
    count = re.search(r"(\d) votes", votes)
    assert count
    assert int(count.group(1)) >= 4
    assert "12 + 35 = 47" in await tab.text(".reader")
    assert (await tab.text("#live")).startswith("Answer: 54.")


async def test_a_beam_shows_what_was_pruned(tab: Tab, plain: Served) -> None:
    await tab.open(plain.url)
    await tab.solve("What is 1 + 2 + 3 + 4?", budget=8, strategy="beam_search")
    assert await tab.steps(".pruned").count() == 6 * 3
    assert await tab.steps(".live").count() == 2 * 3
    assert await tab.steps(".finished").count() == 8
    # Told apart by shape as well, for those who see no colours.
    shapes = [
        await tab.steps(kind).first.get_attribute("d") for kind in (".pruned", ".live", ".finished")
    ]
    assert len(set(shapes)) == 3


async def test_the_tree_grows_while_the_engine_works(tab: Tab) -> None:
    with served(Engine(seconds_per_token=0.02)) as service:
        await tab.open(service.url)
        await tab.ask("What is 1 + 2 + 3 + 4 + 5?", budget=8, strategy="beam_search")
        await tab.steps().nth(8).wait_for(state="attached", timeout=30_000)
        assert await tab.page.get_attribute("#solve", "data-phase") == "searching"
        await tab.until("done")
        assert await tab.steps().count() == 8 * 5


async def test_a_search_goes_on_while_the_table_is_looked_at(tab: Tab) -> None:
    with served(Engine(seconds_per_token=0.01)) as service:
        page = await tab.open(service.url)
        await tab.ask("What is 1 + 2 + 3?", budget=4, strategy="beam_search")
        await page.click('[data-view="table"]')
        await tab.until("done")
        await page.click('[data-view="solve"]')
        assert await tab.steps(".winner").count() == 3
        frame = await page.locator(".frame").bounding_box()
        leaf = await tab.steps(".winner.finished").bounding_box()
        assert frame
        assert leaf
        assert leaf["x"] < frame["x"] + frame["width"]


async def test_stop_ends_the_search_and_another_can_begin(tab: Tab) -> None:
    with served(Engine(seconds_per_token=0.1)) as service:
        await tab.open(service.url)
        await tab.ask("What is 11 + 22 + 33 + 44?", budget=16, strategy="beam_search")
        await tab.steps().first.wait_for(state="attached", timeout=30_000)
        assert service.engine.running
        await tab.page.click("#stop")
        await tab.until("stopped")
        until(lambda: service.engine.running == 0, seconds=3)
        assert await tab.page.is_visible("#start")
        await tab.ask("What is 1 + 2?", budget=1)
        await tab.until("done")
        assert await tab.text(".answer .katex-html") == "3"


async def test_everything_can_be_done_from_the_keyboard(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url)
    keys = page.keyboard
    for _ in range(10):
        await keys.press("Tab")
        if await tab.focused() == "problem":
            break
    await keys.type(SUM)
    await keys.press("Control+Enter")
    await tab.until("done")

    for _ in range(40):
        await keys.press("Tab")
        if await tab.focused() == "treeitem":
            break
    label = "document.activeElement.getAttribute('aria-label')"
    assert (await page.evaluate(label)).startswith("Step 3, finished, score ")
    halo = "getComputedStyle(document.querySelector('.halo')).strokeWidth"
    assert await page.evaluate(halo) == "2.5px"
    await keys.press("ArrowLeft")
    assert (await page.evaluate(label)).startswith("Step 2, kept")
    assert await tab.text(".reader h3") == "Step 2"
    await keys.press("Home")
    assert await page.evaluate(label) == "The problem"
    await keys.press("ArrowRight")
    assert (await page.evaluate(label)).startswith("Step 1")
    assert await page.locator(".steps li").count() == 1
    await keys.press("ArrowDown")
    assert (await page.evaluate(label)).startswith("Step 1")


async def test_a_phone_shows_everything_without_scrolling_sideways(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url, viewport=PHONE, has_touch=True, is_mobile=True)
    assert await tab.fits()
    await tab.solve(f"{SUM} " + "verylongword" * 30, budget=16, strategy="beam_search")
    assert await tab.fits()
    assert await tab.text(".reader h3") == "Solution"
    root = page.locator('[role="treeitem"].root')
    await root.scroll_into_view_if_needed()
    box = await root.bounding_box()
    assert box
    # Fingers are wider than nodes: near is enough.
    await page.touchscreen.tap(box["x"] - 8, box["y"] + 10)
    assert await tab.text(".reader h3") == "Problem"


async def test_examples_fill_the_form_and_their_mathematics_is_set(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url)
    assert await page.locator("#example option").count() == 9
    await page.select_option("#example", label="Roots of a cubic")
    assert "x^3" in await page.input_value("#problem")
    assert await page.locator("#preview .katex").count() == 5
    await page.locator("#dial").press("ArrowRight")
    assert await page.input_value("#budget") == "32"


async def test_a_search_without_an_answer_invents_none(tab: Tab) -> None:
    class Mute(Engine):
        def __init__(self) -> None:
            super().__init__()
            self._script = lambda path, sampling, rng: ("I do not know.", "stop")

    engine = Mute()
    with served(engine, router=Router(generator=engine, verifier=FakeVerifier())) as service:
        await tab.open(service.url)
        await tab.solve(SUM)
        assert await tab.text(".answer") == "no answer"
        assert "none states an answer" in await tab.text(".standing")


async def test_long_solutions_arrive_in_parts_and_are_shown_whole(tab: Tab) -> None:
    text = 5_000 * "所以" + "\\boxed{54}."
    sampling = Sampling(max_tokens=1 << 20)
    router = Router(generator=writes(text), verifier=None, sampling=sampling)
    with served(router=router) as service:
        await tab.open(service.url)
        await tab.solve(SUM, budget=4)
        assert await tab.text(".answer .katex-html") == "54"
        assert await tab.steps(".finished").count() == 4
