"""Light, dark, still, and safe: how the page shows things."""

from __future__ import annotations

import pathlib
import random
import re
from dataclasses import replace

import pytest

from router import Router
from router.models.fakes import FakeVerifier
from router.models.types import Chain, FinishReason, Sampling
from router.strategies.best_of_n import BestOfN
from router.table import Entry, Estimate
from tests.browser.tab import PHONE, Tab
from tests.service.serving import Engine, Served, bundled, served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SUM = "What is 12 + 35 + 7?"
ATTACK = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=1</script>'
TEX = (
    r"\(\text{in words}\) $\href{javascript:window.hacked=1}{x}$"
    r" \(\vec{v} + \htmlStyle{color:red}{y}\) $\frac{1$"
)

BACKGROUND = "getComputedStyle(document.body).backgroundColor"


class Hostile(Engine):
    """A model that writes HTML, scripts and broken mathematics."""

    def __init__(self) -> None:
        super().__init__()
        self._script = self._write

    def _write(
        self, path: Chain, sampling: Sampling, rng: random.Random
    ) -> tuple[str, FinishReason]:
        if path.depth == 0:
            return f"{ATTACK} {TEX}\n\n", "step"
        return f"The answer is \\boxed{{{ATTACK}}}.", "stop"


async def test_text_of_problems_and_models_is_never_markup(tab: Tab) -> None:
    engine = Hostile()
    with served(engine, router=Router(generator=engine, verifier=FakeVerifier())) as service:
        page = await tab.open(service.url)
        await tab.solve(f"{ATTACK} {TEX}")
        assert ATTACK in await tab.text(".reader .steps")
        assert r"\frac{1" in await tab.text(".reader .steps")
        words = await page.locator(".reader .katex .text").first.bounding_box()
        assert words
        assert words["height"] < 40  # in one line
        await tab.steps(".finished").nth(1).dispatch_event("click")
        await page.locator('[role="treeitem"].root').focus()
        await page.keyboard.press("ArrowLeft")
        found = "document.querySelectorAll('img, a[href^=\"javascript\"], main script').length"
        assert await page.evaluate(found) == 0
        assert await page.evaluate("window.hacked") is None


async def test_mathematics_keeps_its_styles_under_the_content_security_policy(
    tab: Tab, plain: Served
) -> None:
    page = await tab.open(plain.url)
    await page.fill("#problem", r"Let $\vec{v}$ cost $5 and then $6.")
    assert await page.locator("#preview .katex").count() == 1  # money is no mathematics
    width = "document.querySelector('#preview .vlist svg').style.width"
    assert await page.evaluate(width) == "0.471em"
    fonts = "[...document.fonts].filter((f) => f.family === 'KaTeX_Math').map((f) => f.status)"
    await page.evaluate("document.fonts.ready")
    assert "loaded" in await page.evaluate(fonts)


async def test_dark_follows_the_system_and_the_choice_is_kept(tab: Tab, plain: Served) -> None:
    page = await tab.open(plain.url, color_scheme="dark")
    dark = await page.evaluate(BACKGROUND)
    await page.click("#theme")
    light = await page.evaluate(BACKGROUND)
    assert dark != light
    await page.reload()
    assert await page.evaluate(BACKGROUND) == light
    assert await page.get_attribute("#theme", "aria-pressed") == "false"


async def test_nothing_moves_for_those_who_ask_for_stillness(tab: Tab) -> None:
    with served(Engine(seconds_per_token=0.02)) as service:
        page = await tab.open(service.url, reduced_motion="reduce")
        await tab.ask("What is 1 + 2 + 3 + 4 + 5?", budget=8, strategy="beam_search")
        await tab.steps().first.wait_for(state="attached", timeout=30_000)
        assert await page.evaluate("document.getAnimations().length") == 0
        await tab.until("done")


async def test_the_decision_tells_level_row_and_reason(tab: Tab, routed: Served) -> None:
    page = await tab.open(routed.url)
    await tab.solve(SUM, budget=8)
    shares = await page.locator(".decision .levels .value").all_inner_texts()
    assert len(shares) == 3
    assert abs(sum(int(share.rstrip("%")) for share in shares) - 100) <= 1
    assert await page.locator(".decision .levels .likeliest").count() == 1
    assert "configurations that cost at most 8" in await tab.text(".decision .why")
    await page.click(".decision .offers summary")
    ranking = page.locator(".decision .ranking .name")
    chosen = await tab.text(".decision .chosen")
    assert chosen.startswith(await ranking.first.inner_text())


async def test_the_table_is_a_heat_map_with_a_ranking_for_each_cell(
    tab: Tab, routed: Served
) -> None:
    page = await tab.open(routed.url, "#table")
    cells = page.locator('[role="gridcell"]')
    await cells.first.wait_for()
    assert await cells.count() == 3 * 4
    assert await page.locator(".chart").count() == 3
    assert await page.locator(".curve.chosen").count() == 3 + 1  # and its key
    await page.locator('[role="gridcell"][tabindex="0"]').focus()
    for key in ("Home", "ArrowUp", "ArrowRight"):
        await page.keyboard.press(key)
    assert await tab.text(".detail h3") == "Level 2, budget 2"
    cell = await page.evaluate("document.activeElement.innerText")
    accuracy = await tab.text(".detail .ranking .winner .figure")
    assert cell.split()[:2] == accuracy.split()
    winner = await tab.text(".detail .ranking .winner .name")
    assert winner.startswith(cell.splitlines()[-1])


def worse(entry: Entry) -> Entry:
    """The same, right on 95 % of the problems at most."""
    known = entry.estimate
    accuracy = min(known.accuracy, 0.95)
    estimate = known.model_copy(update={"accuracy": accuracy, "low": min(known.low, accuracy)})
    return entry.model_copy(update={"estimate": estimate})


async def test_the_winner_need_not_be_first_and_a_vote_at_another_temperature_is_no_baseline(
    tab: Tab, routed: Served, tmp_path: pathlib.Chain
) -> None:
    bundle = routed.server.service.engine.router.fitted
    assert bundle is not None
    cells = []
    for cell in bundle.table.cells:
        colder = Entry(
            strategy=BestOfN(n=cell.budget, temperature=0.3),
            estimate=Estimate(accuracy=0.99, low=0.98, high=1.0, problems=20),
            cost=cell.entries[0].cost.model_copy(update={"generations": cell.budget}),
        )
        rest = [worse(e) for e in cell.entries if e.strategy != colder.strategy]
        cells.append(cell.model_copy(update={"entries": (*rest, colder)}))
    table = bundle.table.model_copy(update={"cells": tuple(cells)})
    engine = Engine()
    crafted = bundled(replace(bundle, table=table), engine, tmp_path / "bundle")
    with served(engine, router=crafted) as service:
        page = await tab.open(service.url, "#table")
        await page.locator('[role="gridcell"]').first.wait_for()
        for cell in await page.locator('[role="gridcell"] strong').all_inner_texts():
            assert cell == "99%"
        assert "at T = 0.3" in await tab.text(".detail .ranking .winner")
        for select in ("weighted", "majority"):
            paths = page.locator(f".chart .curve.{select}")
            for level in range(table.levels):
                plain = [
                    entry.estimate.accuracy
                    for budget in table.budgets
                    for entry in table.cell(level + 1, budget).entries
                    if entry.strategy == BestOfN(n=budget, select=select)
                ]
                drawn = await paths.nth(level).get_attribute("d")
                assert drawn
                heights = [float(y) for y in re.findall(r" ([\d.]+)", drawn)]
                assert [1 - (y - 12) / 140 for y in heights] == pytest.approx(plain, abs=1e-3)


async def test_the_table_fits_a_phone(tab: Tab, routed: Served) -> None:
    page = await tab.open(routed.url, "#table", viewport=PHONE, has_touch=True, is_mobile=True)
    await page.locator('[role="gridcell"]').first.tap()
    assert await tab.text(".detail h3") == "Level 1, budget 1"
    assert await tab.fits()


async def test_a_service_without_a_table_says_how_to_get_one(tab: Tab, plain: Served) -> None:
    await tab.open(plain.url, "#table", viewport=PHONE)
    await tab.page.wait_for_selector("#table h2")
    assert "router fit" in await tab.text("#table")
    assert await tab.fits()
