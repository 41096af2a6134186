"""Debian's Chromium on the dashboard, and what is held against every page that it opens."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from api_rig import Served
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright

AXE = Path(__file__).parents[1] / "node" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS = 15_000
PAGE_MOST = 100_000
SCHEMES = ("light", "dark")
WIDTHS = (375, 1600)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser itself: takes a second to start, and serves any number of visitors."""
    path = shutil.which("chromium")
    assert path is not None, "there is no chromium: `make test` installs it"
    # root may not make the namespaces of its sandbox; /dev/shm is small in containers
    options = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """Somebody with a browser. What pages complain of is remembered, and where else they want to go is refused."""

    def __init__(self, browser: Browser, served: Served, **options: Any) -> None:
        self.base = f"http://127.0.0.1:{served.port}"
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.expected: set[int] = set()
        """Statuses of 400 and more that the test is about: the browser complains of each."""
        self.context: BrowserContext = browser.new_context(base_url=self.base, **options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.route(lambda url: urlsplit(url).netloc != urlsplit(self.base).netloc, self._refuse)
        self.page: Page = self.open()

    def open(self) -> Page:
        """One more page."""
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("response", self._answered)
        return page

    def sign_in(self, key: str) -> Page:
        """Come in with a key."""
        self.page.goto("/dashboard")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("heading", name="Webhooks", exact=True).wait_for()
        return self.page

    def check(self) -> None:
        """No page has complained, and none wanted to go elsewhere."""
        assert not self.complaints, "\n".join(self.complaints)
        assert not self.elsewhere, f"wanted to go to {self.elsewhere}"

    def close(self) -> None:
        self.context.close()

    def _heard(self, message: ConsoleMessage) -> None:
        is_expected = message.text.startswith("Failed to load resource") and self.expected
        if message.type in ("error", "warning") and not is_expected:
            self.complaints.append(f"{message.type}: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.complaints.append(f"{response.status}: {response.url}")

    def _refuse(self, route: Any, request: Request) -> None:
        self.elsewhere.append(request.url)
        route.abort()


def faults(browser: Browser, page: Page) -> list[str]:
    """What axe finds on this page, in both colour schemes: the rule, where, and what would help.

    It looks at the page as it stands, in a context of its own in which its script may run.
    """
    state = page.context.storage_state()
    context = browser.new_context(bypass_csp=True, storage_state=state, viewport=page.viewport_size)
    try:
        copy = context.new_page()
        copy.goto(page.url)
        return faults_here(copy)
    finally:
        context.close()


def faults_here(page: Page) -> list[str]:
    """The same of a page that cannot be opened twice; its visitor's context was made with `bypass_csp`."""
    found = []
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    page.add_script_tag(path=AXE)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        # what else there is to find has nothing to do with colours
        result = page.evaluate("axe.run()" if scheme == "light" else "axe.run({runOnly: ['color-contrast']})")
        found += [
            f"{scheme}: {each['id']} at {node['target']}: {node['failureSummary']}"
            for each in result["violations"]
            for node in each["nodes"]
        ]
    return found


def misfits(page: Page) -> list[str]:
    """Widths at which one has to scroll sideways; and whether the page is heavier than pages may be."""
    found = []
    before = page.viewport_size or {"width": 1280, "height": 900}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{wide} px wide at {width}")
    page.set_viewport_size(before)
    size = len(page.content().encode())
    if size > PAGE_MOST:
        found.append(f"{size} bytes")
    return found
