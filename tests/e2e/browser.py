"""Debian's Chromium on the dashboard, and what is held against every page that it opens."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from api_rig import Served
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

AXE = Path(__file__).parents[1] / "node" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS = 40_000
PAGE_MOST = 100_000
PHONE, DESK = 375, 1600
LOOKS = (("light", DESK), ("dark", PHONE))
"""Colour schemes and widths in which a page is judged."""

expect.set_options(timeout=PATIENCE_MS)


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


def cookie_for(port: int, key: str) -> str:
    """The cookie of a new session for the holder of this key: NAME=VALUE."""
    connection = HTTPConnection("127.0.0.1", port, timeout=40)
    fields = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://127.0.0.1:{port}"}
    with contextlib.closing(connection):
        connection.request("POST", "/dashboard/sign-in", urlencode({"key": key}), fields)
        said = connection.getresponse()
        said.read()
    assert said.status == 303
    cookie = said.getheader("set-cookie")
    assert cookie is not None
    return cookie.partition(";")[0]


class Visitor:
    """Somebody with a browser. What pages complain of is remembered, and where else they want to go is refused."""

    def __init__(self, browser: Browser, served: Served, **options: Any) -> None:
        self.base = f"http://127.0.0.1:{served.port}"
        self._port = served.port
        self._browser = browser
        self._judge: Page | None = None
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.expected: set[int] = set()
        """Statuses of 400 and more that the test is about: the browser complains of each."""
        self.is_patient = False
        """Whether the daemon may be away."""
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
        """Come in with a key: the shortest way, for the form has tests of its own."""
        name, _, value = cookie_for(self._port, key).partition("=")
        self.context.add_cookies([{"name": name, "value": value, "domain": "127.0.0.1", "path": "/dashboard"}])
        self.page.goto("/dashboard")
        return self.page

    def faults(self) -> list[str]:
        """What axe finds on the page as it is when it is opened anew: in a context in which its script may run."""
        if self._judge is None:
            self._judge = self._browser.new_context(bypass_csp=True).new_page()
        self._judge.context.add_cookies(self.context.cookies())  # type: ignore[arg-type]  # what one gives, the other takes
        self._judge.goto(self.page.url)
        return faults(self._judge)

    def check(self) -> None:
        """No page has complained, and none wanted to go elsewhere."""
        assert not self.complaints, "\n".join(self.complaints)
        assert not self.elsewhere, f"wanted to go to {self.elsewhere}"

    def close(self) -> None:
        self.context.close()
        if self._judge is not None:
            self._judge.context.close()

    def _heard(self, message: ConsoleMessage) -> None:
        is_expected = message.text.startswith("Failed to load resource") and (self.expected or self.is_patient)
        if message.type in ("error", "warning") and not is_expected:
            self.complaints.append(f"{message.type}: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.complaints.append(f"{response.status}: {response.url}")

    def _refuse(self, route: Any, request: Request) -> None:
        self.elsewhere.append(request.url)
        route.abort()


def faults(page: Page) -> list[str]:
    """What axe finds on this page, of a context with `bypass_csp`, in both colour schemes, with all its parts opened.

    Each is the rule, where, and what would help.
    """
    found = []
    before = page.viewport_size
    page.evaluate("for (const each of document.querySelectorAll('details')) { each.name = ''; each.open = true }")
    page.add_script_tag(path=AXE)
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 900})
        result = page.evaluate("axe.run({resultTypes: ['violations']})")
        found += [
            f"{scheme} at {width}: {each['id']} at {node['target']}: {node['failureSummary']}"
            for each in result["violations"]
            for node in each["nodes"]
        ]
    if before is not None:
        page.set_viewport_size(before)
    return found


def misfits(page: Page) -> list[str]:
    """Widths at which one has to scroll sideways; and the page's weight, with all it loads, where that is too much."""
    found = []
    before = page.viewport_size or {"width": 1280, "height": 900}
    for width in (PHONE, DESK):
        page.set_viewport_size({"width": width, "height": 900})
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{wide} px wide at {width}")
    page.set_viewport_size(before)
    loaded = page.evaluate(
        "['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))"
        ".filter(each => !each.name.includes('/live')).reduce((sum, each) => sum + each.encodedBodySize, 0)"
    )
    sizes = (loaded, len(page.content().encode()))
    return found + [f"{size} bytes" for size in sizes if size > PAGE_MOST]
