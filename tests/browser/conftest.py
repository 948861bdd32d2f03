"""A real browser: Debian's Chromium, driven by Playwright. Tests that need it are skipped by name where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (390, 1280, 1920)
SCHEMES = ("light", "dark")
_HEIGHT = 900
_HARMLESS = ("file:", "data:", "blob:", "about:")


@dataclass
class Tab:
    """A page that is open in the browser, and what was wrong with it.

    Attributes:
        page: Playwright's page, to click in.
        faults: console errors, exceptions of scripts, dialogs, and requests to the network.
    """

    page: Any
    allow: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Take note of faults from now on."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        self.page.on("request", self._request)
        self.page.on("dialog", self._dialog)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console {message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((*_HARMLESS, *self.allow)):
            self.faults.append(f"request to {request.url[:200]}")

    def _dialog(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def require_faultless(self) -> None:
        """Raise an AssertionError that lists the faults."""
        assert not self.faults, "\n".join(self.faults)

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window, which a reader would have to scroll sideways."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


Open = Callable[..., Tab]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return Chromium without a window; skips where Playwright or a Chromium is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="no browser: pip install playwright")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Return a function that opens a file or an address as a :class:`Tab`.

    ``width`` is one of 390, 1280 and 1920 pixels, ``scheme`` light or dark, ``allow`` the beginnings of addresses that the page
    may ask for. When the test ends, a page with a fault fails it, unless the test has looked at ``faults`` and emptied them.
    """
    contexts, tabs = [], []

    def open_(place: Path | str, *, width: int = 1280, scheme: str = "light", allow: tuple[str, ...] = ()) -> Tab:
        context = browser.new_context(viewport={"width": width, "height": _HEIGHT}, color_scheme=scheme)
        contexts.append(context)
        tab = Tab(context.new_page(), allow)
        tabs.append(tab)
        tab.watch()
        tab.page.goto(place.resolve().as_uri() if isinstance(place, Path) else place, wait_until="load")
        return tab

    yield open_
    for context in contexts:
        context.close()
    for tab in tabs:
        tab.require_faultless()


@pytest.fixture(params=[(width, scheme) for width in WIDTHS for scheme in SCHEMES], ids=lambda one: f"{one[0]}-{one[1]}")
def window(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return width and scheme for ``open_page``, one after the other all that pages must look well in."""
    width, scheme = request.param
    return {"width": width, "scheme": scheme}
