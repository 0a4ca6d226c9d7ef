"""What models write, as it is read: Markdown, mathematics, thoughts; and words explained."""

from __future__ import annotations

import random

import pytest

from router import Router
from router.models.fakes import FakeVerifier
from router.models.types import Chain, FinishReason, Sampling
from tests.browser.tab import PHONE, Tab
from tests.service.serving import Engine, Served, served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SUM = "What is 12 + 35 + 7?"
ONE_GENERATION = [
    "auto: whatever pays",
    "majority vote",
    "vote weighted by confidence",
    "REBASE",
    "particle filter",
]
STEPS = (
    "## Plan\n\n",
    "- add **both**, then `7`\n- as $12 + 35 = 47$:\n\\[\n47\n+ 7 = 54\n\\]\n\n",
    "| a | b |\n|---|---|\n| 12 | $\\frac{3}{4}$ |\n\n",
    "The answer is \\boxed{\\frac{108}{2}}.",
)
THOUGHT = ("<think>Let me see: perhaps \\boxed{46}?\n\n", "No, 54.</think>\n\n", "So \\boxed{54}.")


class Writer(Engine):
    """A model that writes these steps, one after the other."""

    def __init__(self, *steps: str) -> None:
        super().__init__()
        self._steps = steps
        self._script = self._write

    def _write(
        self, path: Chain, sampling: Sampling, rng: random.Random
    ) -> tuple[str, FinishReason]:
        last = path.depth == len(self._steps) - 1
        return self._steps[path.depth], "stop" if last else "step"


async def test_solutions_are_markdown_with_mathematics(tab: Tab) -> None:
    engine = Writer(*STEPS)
    with served(engine, router=Router(generator=engine, verifier=FakeVerifier())) as service:
        page = await tab.open(service.url)
        await tab.solve(SUM, budget=2, strategy="best_of_n(select=majority)")
        steps = page.locator(".reader .steps")
        assert await steps.locator("ul li strong").inner_text() == "both"
        assert await steps.locator("code").inner_text() == "7"
        assert await steps.locator(".katex-display").count() == 1
        assert await steps.locator("table .katex .mfrac").count() == 1
        text = await steps.inner_text()
        assert not {"**", "##", "|--", "\\["} & set(text.split())
        # An answer beside a finished step is set as well.
        label = page.locator(".labels > span").first
        assert await label.locator(".mfrac").count() == 1
        assert "frac" not in await label.locator(".katex-html").inner_text()


@pytest.mark.parametrize("opened_by_a_template", [False, True])
async def test_thoughts_are_folded(tab: Tab, opened_by_a_template: bool) -> None:
    first = THOUGHT[0].removeprefix("<think>") if opened_by_a_template else THOUGHT[0]
    engine = Writer(first, *THOUGHT[1:])
    with served(engine, router=Router(generator=engine, verifier=FakeVerifier())) as service:
        page = await tab.open(service.url)
        await tab.solve(SUM, budget=2)
        assert await tab.text(".answer .katex-html") == "54"
        assert await tab.text(".thoughts summary") == "Thoughts, 2 steps"
        assert not await page.is_visible("text=Let me see")
        assert "think" not in (await tab.text(".reader .steps")).lower().replace("thoughts", "")
        await page.click(".thoughts summary")
        assert await page.is_visible("text=Let me see")
        assert await tab.steps(".winner.finished").count() == 1  # found, thoughts and all


async def test_words_are_explained_by_mouse_and_keyboard(tab: Tab, routed: Served) -> None:
    page = await tab.open(routed.url)
    await page.click('[data-term="budget"]')
    assert "How many solutions" in await tab.text("#term")
    await page.keyboard.press("Escape")
    assert not await page.is_visible("#term")
    await tab.solve(SUM, budget=4)
    await page.focus('.decision [data-term="level"]')
    await page.keyboard.press("Enter")
    assert "How hard the problem is for this model" in await tab.text("#term")
    card = await page.locator("#term").bounding_box()
    assert card
    assert 0 <= card["x"] <= 1280 - card["width"]
    unexplained = "[...document.querySelectorAll('[data-term]')].filter((e) => !e.title).length"
    assert await page.evaluate(unexplained) == 0


async def test_the_first_screen_has_three_examples_that_start(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url, viewport=PHONE, has_touch=True, is_mobile=True)
    assert await page.locator(".example").count() == 3
    assert await tab.fits()
    assert not await page.locator("kbd").count()
    await page.locator(".example").first.tap()
    await tab.until("done")
    assert "A baker" in await page.input_value("#problem")
    decision = await page.locator(".decision").bounding_box()
    tree = await page.locator(".frame").bounding_box()
    assert decision
    assert tree
    assert decision["y"] < tree["y"]


async def test_only_what_can_run_at_the_budget_is_offered(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url)
    await tab.ready()
    offered: dict[str, list[str]] = {}
    for budget in ("1", "2", "4", "8"):
        await page.fill("#budget", budget)
        offered[budget] = await page.locator("#strategy option").all_inner_texts()
    assert offered["1"] == ONE_GENERATION
    assert "weighted vote" in offered["2"]
    assert "beam search" not in offered["2"]
    assert "beam search" in offered["4"]
    assert "look-ahead search" not in offered["4"]
    assert "look-ahead search" in offered["8"]
    await page.select_option("#strategy", "beam_search")
    await page.fill("#budget", "2")
    assert await page.input_value("#strategy") == "auto"
    assert "beam search needs a budget of 4" in await tab.text(".about >> nth=0")


async def test_one_sample_is_offered_once(tab: Tab, routed: Served) -> None:
    page = await tab.open(routed.url)
    await tab.solve(SUM, budget=1)
    await page.click(".decision .offers summary")
    names = await page.locator(".decision .ranking .name").all_inner_texts()
    assert names.count("one sample") == 1
    assert len(names) == len(set(names))
