"""Helpers for cards and confirmation dialogs."""

from playwright.sync_api import Locator, Page, expect


def card(page: Page, title: str) -> Locator:
    """Return the card of a recommendation or an action."""
    return page.get_by_role("article", name=title)


def dialog(page: Page) -> Locator:
    """Return the open dialog."""
    return page.get_by_role("dialog")


def confirm(page: Page, verb: str, reason: str | None = None) -> None:
    """Enter a reason if given, press the button `verb`, and wait until the dialog closes."""
    if reason is not None:
        dialog(page).get_by_role("textbox").fill(reason)
    dialog(page).get_by_role("button", name=verb, exact=True).click()
    expect(dialog(page)).to_have_count(0)
