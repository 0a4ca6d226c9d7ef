"""One browser tab, and what a person would do on the page."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Locator, Page

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


EXECUTABLE = shutil.which("chromium")
"""Debian's Chromium; playwright would download one of its own."""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless Chromium."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        # Its sandbox does not start for root.
        browser = await playwright.chromium.launch(
            executable_path=EXECUTABLE, args=["--no-sandbox"]
        )
        yield browser
        await browser.close()


class Tab:
    """Opens the page. `page` is playwright's own object.

    expected: what the console may say, as a regular expression; anything else fails the test.
    """

    page: Page

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._context: BrowserContext | None = None
        self._hosts: set[str] = set()
        self._complaints: list[str] = []
        self._host = ""
        self.expected = r"(?!)"

    async def open(self, url: str, view: str = "", **context: Any) -> Page:
        """Open the page in a fresh context, such as `color_scheme="dark"`."""
        self._host = urlsplit(url).netloc
        self._context = await self._browser.new_context(**{"viewport": DESKTOP, **context})
        self.page = await self._context.new_page()
        self.page.on("request", lambda request: self._hosts.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self._complaints.append(str(error)))
        self.page.on("console", lambda message: self._complaints.append(message.text))
        await self.page.goto(f"{url}/{view}")
        return self.page

    async def close(self) -> None:
        """Close the tab.

        Raises:
            AssertionError: the console has complained, or another host was asked.
        """
        if self._context is not None:
            await self._context.close()
        unexpected = [text for text in self._complaints if not re.search(self.expected, text)]
        assert not unexpected
        assert self._hosts <= {self._host}

    async def ready(self) -> None:
        """Wait until the page knows what may be asked for."""
        await self.page.locator("#model", has_text="fake").wait_for()

    async def ask(self, problem: str, budget: int = 4, strategy: str = "auto") -> None:
        """Fill in the form and press Solve."""
        await self.page.fill("#problem", problem)
        await self.page.fill("#budget", str(budget))
        await self.page.select_option("#strategy", strategy)
        await self.page.click("#start")

    async def until(self, phase: str) -> None:
        """Wait for a phase: searching, done, stopped or failed."""
        await self.page.wait_for_selector(
            f'#solve[data-phase="{phase}"]', timeout=60_000, state="attached"
        )

    async def solve(self, problem: str, budget: int = 4, strategy: str = "auto") -> None:
        await self.ask(problem, budget, strategy)
        await self.until("done")

    def steps(self, kind: str = "") -> Locator:
        """Steps in the tree, such as the `.pruned` ones; without the problem."""
        return self.page.locator(f'[role="treeitem"]:not(.root){kind}')

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    async def focused(self) -> str:
        """Id of the focused element, or its role."""
        found = await self.page.evaluate(
            "document.activeElement.id || document.activeElement.getAttribute('role') || ''"
        )
        return str(found)

    async def fits(self) -> bool:
        """Whether nothing sticks out to the right."""
        assert self.page.viewport_size is not None
        # Not `innerWidth`: a phone's browser widens it to what sticks out.
        width = await self.page.evaluate("document.documentElement.scrollWidth")
        return bool(width <= self.page.viewport_size["width"])
