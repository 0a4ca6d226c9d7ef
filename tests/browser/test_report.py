"""The pages of `router report` in Chromium: light and dark, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.bundle import Bundle
from router.evaluation.records import Evaluation
from router.report import bundle as bundle_page
from router.report import evaluation as evaluation_page
from tests.browser.tab import DESKTOP, PHONE, Tab

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

READABLE = 10.0
"""Least size of a picture's text, in pixels."""

_MEASURES = """() => {
  const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
    .reduce((sum, part, i) => sum + part / 255 * [0.2126, 0.7152, 0.0722][i], 0);
  const style = getComputedStyle(document.body);
  const pictures = [...document.querySelectorAll('figure svg')]
    .filter(svg => svg.checkVisibility());
  const boxes = (svg) => [...svg.querySelectorAll('text')]
    .map(text => text.getBoundingClientRect());
  return {
    page: luminance(style.backgroundColor),
    ink: luminance(style.color),
    labels: pictures.map(svg => luminance(getComputedStyle(svg.querySelector('text')).fill)),
    widths: pictures.map(svg => svg.getBoundingClientRect().width),
    sizes: pictures.flatMap(svg => [...svg.querySelectorAll('text')].map(text =>
      parseFloat(getComputedStyle(text).fontSize)
      * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)),
    outside: pictures.flatMap(svg => {
      const frame = svg.getBoundingClientRect();
      return boxes(svg).filter(box => box.left < frame.left - 4 || box.right > frame.right + 4);
    }).length,
  };
}"""


@pytest.fixture(scope="module")
def pages(
    simulated_bundle: Bundle,
    simulated_evaluation: Evaluation,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A directory with both pages."""
    home = tmp_path_factory.mktemp("pages")
    (home / "bundle.html").write_text(bundle_page.render(simulated_bundle), "utf-8")
    (home / "evaluation.html").write_text(evaluation_page.render(simulated_evaluation), "utf-8")
    return home


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize(("name", "pictures"), [("bundle", 5), ("evaluation", 7)])
async def test_a_report_can_be_read_everywhere(
    tab: Tab, pages: Path, tmp_path: Path, name: str, pictures: int, screen: Any, scheme: Any
) -> None:
    page = await tab.open(pages.as_uri(), f"{name}.html", viewport=screen, color_scheme=scheme)
    assert await tab.fits()
    found = await page.evaluate(_MEASURES)
    # Its ink stands out from the page, and so does every picture's.
    sign = 1 if scheme == "light" else -1
    for ink in (found["ink"], *found["labels"]):
        assert sign * (found["page"] - ink) > 0.6
    assert len(found["widths"]) == pictures  # the wide or the narrow ones, not both
    assert all(280 <= width <= screen["width"] for width in found["widths"])
    assert min(found["sizes"]) >= READABLE
    assert found["outside"] == 0
    shot = tmp_path / f"{name}-{screen['width']}-{scheme}.png"
    await page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 50_000


async def test_numbers_that_are_folded_away_unfold(tab: Tab, pages: Path) -> None:
    page = await tab.open(pages.as_uri(), "evaluation.html")
    assert not await page.is_visible("dl")
    await page.click("summary")
    assert await page.is_visible("dl")
