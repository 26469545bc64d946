"""How a person decides."""

from playwright.sync_api import Locator, Page, expect


def card(page: Page, title: str) -> Locator:
    """The card of a recommendation or an action."""
    return page.get_by_role("article", name=title)


def dialog(page: Page) -> Locator:
    """The question that is open."""
    return page.get_by_role("dialog")


def answer(page: Page, verb: str, reason: str | None = None) -> None:
    """Give a reason, press the button, and wait until the question is gone."""
    if reason is not None:
        dialog(page).get_by_role("textbox").fill(reason)
    dialog(page).get_by_role("button", name=verb, exact=True).click()
    expect(dialog(page)).to_have_count(0)
