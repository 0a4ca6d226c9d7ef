r"""Answers that would deceive or cover the page: what stands beside them stays as it is."""

from __future__ import annotations

import random

import pytest

from router.models.types import Chain, FinishReason, Sampling
from tests.browser.tab import Tab
from tests.service.serving import Engine, served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

COVERED = """() => {
  const votes = document.querySelector(".votes");
  votes.scrollIntoView({block: "center"});
  const {left, top, width, height} = votes.getBoundingClientRect();
  for (const x of [0.1, 0.3, 0.5, 0.7, 0.9])
    for (const y of [0.1, 0.5, 0.9]) {
      const hit = document.elementFromPoint(left + x * width, top + y * height);
      if (!votes.contains(hit)) return hit.outerHTML.slice(0, 200);
    }
  return "";
}"""

TEXT = """element => {
  const copy = element.cloneNode(true);
  copy.querySelectorAll(".vlist-s").forEach((one) => one.remove());  // KaTeX's own zero width
  return copy.textContent;
}"""

HOSTILE = {
    "rule": r"\rule{500em}{500em}",
    "raised": r"5\raisebox{-300em}{\rule{500em}{500em}}",
    "smashed": r"5\smash{\raisebox{-3em}{\rule{5em}{5em}}}",
    "kerned": r"\kern-400em\rule{400em}{2em}" * 20,
    "lapped": r"\rlap{\rule{5em}{5em}}" + r"\kern5em\rlap{\rule{5em}{5em}}" * 40,
    "wide": r"\hspace{500em}" * 20 + "5",
    "huge": r"\Huge\Huge\Huge 5",
    "boxed": r"\colorbox{red}{\rule{300em}{300em}}",
    "rows": r"\begin{array}{c}" + r"1\\[99em]" * 20 + r"\end{array}",
}


def saying(answer: str) -> Engine:
    def script(path: Chain, sampling: Sampling, rng: random.Random) -> tuple[str, FinishReason]:
        return f"So it is\n\n$${answer}$$\n\nThe answer is \\boxed{{{answer}}}.", "stop"

    engine = Engine()
    engine._script = script
    return engine


async def solved(tab: Tab, answer: str) -> None:
    with served(saying(answer)) as service:
        await tab.open(service.url)
        await tab.solve("What is 2 + 3?", budget=2)


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
async def test_a_formula_covers_nothing_else(tab: Tab, answer: str) -> None:
    await solved(tab, answer)
    assert not await tab.page.evaluate(COVERED)
    assert await tab.fits()
    assert await tab.page.evaluate("document.documentElement.scrollHeight") < 4000


@pytest.mark.parametrize(
    "answer",
    ["\u202e54", "5\u20664\u2069", "\u200f5", "5\u200b4", "5\u200d4", "\ufeff5", "5\u00ad4"],
    ids=ascii,
)
async def test_no_character_that_is_not_seen_reaches_the_page(tab: Tab, answer: str) -> None:
    await solved(tab, answer)
    hidden = next(c for c in answer if not c.isdigit())
    for place in (".outcome .answer", ".votes", ".reader"):
        text = await tab.page.locator(place).evaluate(TEXT)
        assert hidden not in text, place
        assert "\ufffd" in text, place


async def test_joiners_stay_where_they_join(tab: Tab) -> None:
    await solved(tab, "می\u200cشود")
    assert "می\u200cشود" in await tab.page.locator(".reader").evaluate("e => e.textContent")
