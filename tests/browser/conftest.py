"""Fixtures of browser tests: headless Chromium, a dashboard, pages that fail a test on console errors."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser.dashboard_server import DIST, DashboardServer, serve_dashboard

_ARGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
DESK = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
expect.set_options(timeout=15_000)  # ms; other tests may load the machine


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
def shared_dashboard() -> Iterator[DashboardServer]:
    if not (DIST / "index.html").is_file():
        pytest.skip("the dashboard is not built: make web")
    with serve_dashboard() as dashboard:
        yield dashboard


@pytest.fixture
def dashboard(shared_dashboard: DashboardServer) -> DashboardServer:
    shared_dashboard.seed()
    return shared_dashboard


@pytest.fixture
def open_page(browser: Browser, dashboard: DashboardServer) -> Iterator[Callable[..., Page]]:
    """Open a page of the dashboard, signed in by default.

    The test fails if a page logged an error or a warning.
    """
    pages: list[tuple[Page, list[str]]] = []

    def open_address(address: str = "#/", signed_in: bool = True, **context: Any) -> Page:
        page = browser.new_context(**{"viewport": DESK, **context}).new_page()
        complaints: list[str] = []
        page.on("console", lambda message: _collect_complaint(message, complaints))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(8000)
        pages.append((page, complaints))
        if signed_in:
            page.goto(dashboard.login_link())
        page.goto(f"{dashboard.url}/{address}")
        return page

    yield open_address
    found = [complaint for _, complaints in pages for complaint in complaints]
    for page, _ in pages:
        page.context.close()
    assert found == []


def _collect_complaint(message: ConsoleMessage, complaints: list[str]) -> None:
    """Collect errors and warnings, except the failed requests that tests cause on purpose."""
    if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
        complaints.append(message.text)
