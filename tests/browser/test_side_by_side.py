"""Two searches for one problem, and taking searches elsewhere: history, links, copies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from urllib.parse import quote

import pytest

from tests.browser.tab import PHONE, Tab
from tests.service.serving import Engine, Served, served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SUM = "What is 12 + 35 + 7?"


async def test_two_searches_grow_side_by_side_and_are_compared(tab: Tab) -> None:
    with served(Engine(seconds_per_token=0.02)) as service:
        page = await tab.open(service.url)
        await tab.ready()
        await page.click("#compare")
        await page.fill("#problem", "What is 1 + 2 + 3 + 4 + 5 + 6 + 7?")
        await page.fill("#budget", "8")
        await page.select_option("#strategy", "beam_search")
        await page.fill("#budget-2", "4")
        await page.select_option("#strategy-2", "beam_search")
        await page.click("#start")
        lanes = page.locator(".lane")
        for index in range(2):
            steps = lanes.nth(index).locator('[role="treeitem"]:not(.root)')
            await steps.nth(1).wait_for(state="attached", timeout=30_000)
        assert await page.get_attribute("#solve", "data-phase") == "searching"
        await tab.until("done")
        boxes = [await lanes.nth(index).locator(".frame").bounding_box() for index in range(2)]
        assert boxes[0]
        assert boxes[1]
        assert boxes[0]["y"] == boxes[1]["y"]  # side by side
        assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
        titles = await page.locator(".lane-title").all_inner_texts()
        assert [title.split(maxsplit=1) for title in titles] == [
            ["A", "beam search of 8"],
            ["B", "beam search of 4"],
        ]
        verdict = await tab.text(".verdict")
        assert "answer" in verdict
        assert "times the compute" in verdict
        assert await page.locator(".versus [data-name=generations]").all_inner_texts() == ["8", "4"]


async def test_one_of_two_may_fail(tab: Tab, plain: Served) -> None:
    tab.expected = "400"
    searches = "&search=4 auto&search=4 " + quote("beam_search(width=16)")
    page = await tab.open(plain.url, f"#solve?problem={quote(SUM)}{searches}")
    await tab.ready()
    await page.click("#start")
    await tab.until("done")
    assert await page.locator(".lane").nth(0).locator(".answer .katex-html").inner_text() == "54"
    assert "16 generations" in await page.locator(".lane").nth(1).locator(".trouble").inner_text()
    assert "nothing to compare" in await tab.text(".verdict")


async def test_a_phone_stacks_them(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url, viewport=PHONE, has_touch=True, is_mobile=True)
    await page.tap("#compare")
    await tab.solve(SUM, budget=4)
    assert await page.locator(".lane").count() == 2
    assert await tab.fits()


async def test_a_link_restores_problem_and_settings(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url)
    await tab.ready()
    await page.click("#compare")
    await page.fill("#problem", "Is 2 & 3 = #5?\nSay ünique.")
    await page.fill("#budget", "3")
    await page.fill("#budget-2", "8")
    await page.select_option("#strategy-2", "beam_search")
    await page.click(".settings:nth-child(2) .fields summary")
    await page.fill('.settings:nth-child(2) [data-field="width"]', "2")
    await page.click("#start")
    await tab.until("done")
    link = page.url
    again = await page.context.new_page()
    await again.goto(link)
    await again.locator("#model", has_text="fake").wait_for()
    assert await again.input_value("#problem") == "Is 2 & 3 = #5?\nSay ünique."
    assert await again.input_value("#budget") == "3"
    assert await again.input_value("#budget-2") == "8"
    assert await again.input_value("#strategy-2") == "beam_search"
    assert await again.input_value('.settings:nth-child(2) [data-field="width"]') == "2"
    assert await again.get_attribute("#solve", "data-phase") == "idle"  # a link starts nothing


async def test_the_history_restores_and_forgets(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url)
    assert not await page.is_visible("#history")
    for problem, budget in ((SUM, 4), ("What is 1 + 2?", 1), (SUM, 4)):
        await tab.solve(problem, budget=budget)
    await page.reload()
    await page.click("#history summary")
    entries = page.locator("#history .entry")
    assert await entries.count() == 2  # the same search once
    assert "54 at budget 4" in await entries.nth(0).inner_text()
    await entries.nth(1).click()
    assert await page.input_value("#problem") == "What is 1 + 2?"
    assert await page.input_value("#budget") == "1"
    await page.click("#history .clear")
    assert not await page.is_visible("#history")
    assert await page.evaluate("localStorage.getItem('router.history')") is None


async def ran(interpreter: str, code: str) -> str:
    """What a piece of code prints."""
    done = await asyncio.to_thread(
        subprocess.run, [interpreter, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout


async def test_an_answer_is_copied_and_so_is_how_to_ask_for_it(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url, permissions=["clipboard-read", "clipboard-write"])
    await tab.solve(f'It\'s "quoted": {SUM}', budget=2)

    async def copied(label: str) -> str:
        await page.click(f".copies >> text={label}")
        await page.wait_for_selector(".copies >> text=Copied")
        text = await page.evaluate("navigator.clipboard.readText()")
        await page.wait_for_selector(f".copies >> text={label}")
        return str(text)

    assert await copied("Copy answer") == "54"
    assert "\\boxed{54}" in await copied("Copy solution")
    command = await copied("curl")
    assert command.startswith(f"curl {plain.url}/v1/chat/completions")
    assert json.loads(await ran("bash", f"{command.strip()} -s"))["router"]["answer"] == "54"
    program = await copied("Python")
    assert (await ran(sys.executable, program)).startswith("54\n")
