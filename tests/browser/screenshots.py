"""Takes the README's pictures: `python -m tests.browser.screenshots URL [EXAMPLE]`.

URL is a running service, EXAMPLE one of the page's problems.

They are reduced to 256 colours, none off by more than 3 %, which cuts them to a third.
"""

from __future__ import annotations

import asyncio
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.browser.tab import chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser

IMAGES = Path(__file__).parents[2] / "docs" / "images"
BUDGET = "8"
PATIENCE = 600_000  # milliseconds, for a search on a CPU


async def take(url: str, example: str = "Rolls") -> None:
    """Write page.png, two searches side by side, page-phone.png, one of them, and table.png."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 1360, "height": 1120})
        await page.goto(f"{url}/#table")
        await page.wait_for_selector("#table section")
        await page.wait_for_timeout(1000)
        _save(await page.screenshot(), "table.png")
        await _solved(browser, url, "page.png", 1360, 1120, example, "dark")
        await _solved(browser, url, "page-phone.png", 390, 844, example, "light")


async def _solved(
    browser: Browser, url: str, name: str, width: int, height: int, example: str, scheme: str
) -> None:
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        is_mobile=width < 600,
        has_touch=width < 600,
    )
    page = await context.new_page()
    await page.goto(url)
    await page.wait_for_selector("#strategy option:nth-child(2)", state="attached")
    await page.select_option("#example", label=example)
    await page.fill("#budget", BUDGET)
    if width > 960:
        await page.click("#compare")
    await page.click("#start")
    over = '#solve:is([data-phase="done"], [data-phase="failed"])'
    await page.wait_for_selector(over, timeout=PATIENCE)
    for trouble in await page.locator(".trouble:visible").all_inner_texts():
        raise SystemExit(trouble)
    await page.wait_for_timeout(2000)  # until the tree has settled
    _save(await page.screenshot(), name)
    await context.close()


def _save(png: bytes, name: str) -> None:
    picture = Image.open(BytesIO(png)).convert("RGB")
    reduced = picture.quantize(
        256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
    )
    reduced.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    asyncio.run(take(*sys.argv[1:]))
