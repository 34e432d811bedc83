"""Opens pages in a headless Chromium of the system, by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

WIDE, PHONE, A4 = (1280, 1600), (390, 1600), (794, 1123)
"""Width and height in CSS pixels: a laptop, a phone, and a sheet of paper at 96 dots an inch."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """Return the path of a browser; None if there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def opened_browser() -> Iterator:
    """Start the browser for the context; yields Playwright's object."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Without its sandbox, which root cannot use: the pages are our own and load nothing.
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened_page(
    browser, file: Path, size: tuple[int, int], *, dark: bool = False, script: bool = False, scale: int = 1
):
    """Open a local page for the context; yields Playwright's page.

    Args:
        browser: of `opened_browser`.
        file: the page.
        size: width and height of the window.
        dark: whether the reader prefers dark pages.
        script: whether a test may run scripts in it.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        java_script_enabled=script,
        bypass_csp=script,
    )
    try:
        page = context.new_page()
        page.goto(file.absolute().as_uri())
        yield page
    finally:
        context.close()


@contextmanager
def opened_url(browser, url: str, size: tuple[int, int], *, dark: bool = False, script: bool = True):
    """Open a page of a server for the context, with its own policy for scripts; yields Playwright's page.

    Args:
        browser: of `opened_browser`.
        url: the page.
        size: width and height of the window.
        dark: whether the reader prefers dark pages.
        script: whether the browser runs scripts.
    """
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        java_script_enabled=script,
    )
    context.set_default_timeout(15_000)
    try:
        page = context.new_page()
        page.goto(url)
        yield page
    finally:
        context.close()


def browser_marks() -> list[pytest.MarkDecorator]:
    """Return the marks of a module whose tests open pages; skip it where a package that they need is not installed."""
    pytest.importorskip("playwright", reason="Playwright is not installed")
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    missing = "Chromium is not installed (apt-get install chromium)"
    return [pytest.mark.browser, pytest.mark.skipif(find_chromium() is None, reason=missing)]
