"""A headless Chromium and a page that is signed in; a page that complains fails its test."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.world import DIST, World, serving

_ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
DESK = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
expect.set_options(timeout=15_000)  # a machine may be busy with other tests


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    if not (DIST / "index.html").is_file():
        pytest.skip("the dashboard is not built: make web")
    with serving() as world:
        yield world


@pytest.fixture
def world(served: World) -> World:
    served.seed()
    return served


@pytest.fixture
def open_page(browser: Browser, world: World) -> Iterator[Callable[..., Page]]:
    """Opens a page of the dashboard, signed in unless told otherwise.

    At the end of the test no page may have complained, but for what `page.expected` allows.
    """
    pages: list[tuple[Page, list[str]]] = []

    def opened(address: str = "#/", signed_in: bool = True, **context: Any) -> Page:
        page = browser.new_context(**{"viewport": DESK, **context}).new_page()
        complaints: list[str] = []
        page.on("console", lambda message: _note(message, complaints))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(8000)
        pages.append((page, complaints))
        if signed_in:
            page.goto(world.login_link())
        page.goto(f"{world.url}/{address}")
        return page

    yield opened
    found = [complaint for _, complaints in pages for complaint in complaints]
    for page, _ in pages:
        page.context.close()
    assert found == []


def _note(message: ConsoleMessage, complaints: list[str]) -> None:
    """Chromium reports every 401, 404 and lost connection; tests assert what the page makes of it."""
    if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
        complaints.append(message.text)
