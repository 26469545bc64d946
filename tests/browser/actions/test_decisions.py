"""Recommendations, actions and the pause in a real browser, on the real API."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions.confirm_dialog import card, confirm, dialog
from tests.browser.control_loop_dashboard import (
    KEPT,
    LAZY,
    MEMORY,
    RELOAD,
    RUNNING,
    ControlLoopDashboard,
    ulid,
)
from trimtab.engine.types import ActionState, RecommendationState

pytestmark = pytest.mark.slow

Open = Callable[..., Page]


def test_a_recommendation_is_complete_before_it_is_approved(
    open_page: Open, dashboard: ControlLoopDashboard
) -> None:
    """A card shows change, effect, evidence, risk, cost and manual command; one click approves it."""
    page = open_page("#/inbox")
    memory = card(page, "Give cache-1 more memory")
    for words in (
        "256 MiB → 320 MiB", "61 % → 96 %", "91\N{EN DASH}98 %", "420 keys/s are evicted", "low risk",
        "86 % confidence", "64 MiB of memory", "stays under 0.9",
        "CONFIG SET maxmemory 335544320", "expires in",
    ):  # fmt: skip
        expect(memory).to_contain_text(words)
    expect(page.locator(".count-chip")).to_contain_text("3")
    memory.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status").filter(has_text="Approved: Give cache-1 more memory")).to_be_visible()
    expect(memory).to_have_count(0)
    expect(page.locator(".count-chip")).to_contain_text("2")
    now = dashboard.recommendation(MEMORY)
    assert (now.state, now.approver) == (RecommendationState.APPROVED, "admin")
    assert dashboard.control_loop.ledger.rows[-1].what == "recommendation approved"


def test_approving_a_high_risk_asks_for_confirmation(
    open_page: Open, dashboard: ControlLoopDashboard
) -> None:
    """A high risk is named in a dialog; Escape changes nothing."""
    page = open_page("#/inbox")
    card(page, "Reload the leaking worker").get_by_role("button", name="Approve").click()
    expect(dialog(page)).to_contain_text("high risk")
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)
    assert dashboard.recommendation(RELOAD).state is RecommendationState.PENDING
    card(page, "Reload the leaking worker").get_by_role("button", name="Approve").click()
    confirm(page, "Approve")
    expect(card(page, "Reload the leaking worker")).to_have_count(0)
    assert dashboard.recommendation(RELOAD).state is RecommendationState.APPROVED


def test_dismissing_requires_a_reason(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """The button is disabled without a reason; the reason is stored with the dismissal."""
    page = open_page("#/inbox")
    free = card(page, "Free evicted keys in the background")
    free.get_by_role("button", name="Dismiss").click()
    expect(dialog(page).get_by_role("button", name="Dismiss")).to_be_disabled()
    confirm(page, "Dismiss", "tried last month")
    expect(free).to_have_count(0)
    now = dashboard.recommendation(LAZY)
    assert (now.state, now.reason) == (RecommendationState.DISMISSED, "tried last month")
    page.get_by_role("button", name="all", exact=True).click()
    expect(free).to_contain_text("tried last month")
    expect(free.get_by_role("button")).to_have_count(0)


def test_a_manual_recommendation_can_only_be_dismissed(
    open_page: Open, dashboard: ControlLoopDashboard
) -> None:
    """A recommendation without a knob shows how to apply it by hand and has no other button."""
    asked = dashboard.control_loop.ledger.recommendations_by_id
    asked[LAZY] = replace(
        asked[LAZY], subject="by hand", is_action=True, before=None, after=None, command="",
        title="db: autovacuum is off", evidence=("ALTER SYSTEM SET autovacuum = on",),
    )  # fmt: skip
    page = open_page("#/inbox")
    advice = card(page, "db: autovacuum is off")
    expect(advice).to_contain_text("ALTER SYSTEM SET autovacuum = on")
    expect(advice.get_by_role("button")).to_have_text(["Dismiss"])
    expect(advice).not_to_contain_text("one-click")


def test_applying_leads_to_the_action(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Apply runs after one confirmation, and the link opens the action that is being verified."""
    page = open_page("#/inbox")
    card(page, "Give cache-1 more memory").get_by_role("button", name="Apply now").click()
    expect(dialog(page)).to_contain_text("256 MiB → 320 MiB")
    confirm(page, "Apply")
    page.get_by_role("link", name="View action").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("maxmemory of cache-1")
    expect(page.locator(".state").first).to_have_text("verifying")
    expect(page.locator("table.audit")).to_contain_text("action executed")
    assert dashboard.recommendation(MEMORY).state is RecommendationState.APPLIED


def test_scheduling_uses_the_local_time_zone(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """The dialog proposes a time in one hour, and the card shows the scheduled time."""
    page = open_page(f"#/inbox/{MEMORY}", timezone_id="Asia/Kolkata")
    page.get_by_role("button", name="Schedule").click()
    confirm(page, "Schedule")
    expect(page.locator(".state").first).to_contain_text("scheduled for")
    scheduled = dashboard.recommendation(MEMORY).scheduled
    assert scheduled is not None
    assert 3500 < (scheduled - dashboard.clock.now()) / 1e9 < 3700


def test_a_refusal_is_shown_with_its_reason(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """A recommendation that a guard rule refuses stays pending, and the dialog shows the reason."""
    dashboard.control_loop.decisions.refusal = "cooldown of cache-1: 12 min left"
    page = open_page("#/inbox")
    card(page, "Give cache-1 more memory").get_by_role("button", name="Apply now").click()
    dialog(page).get_by_role("button", name="Apply").click()
    expect(dialog(page).get_by_role("alert")).to_have_text("Refused: cooldown of cache-1: 12 min left")
    dialog(page).get_by_role("button", name="Cancel").click()
    assert dashboard.recommendation(MEMORY).state is RecommendationState.PENDING


def test_a_running_action_shows_its_effect_and_is_rolled_back(
    open_page: Open, dashboard: ControlLoopDashboard
) -> None:
    """The metric since before the change is shown with the expected effect; a rollback restores the value."""
    page = open_page("#/actions")
    running = card(page, "maxmemory of cache-1")
    expect(running).to_contain_text("verifying")
    expect(running).to_contain_text("61 % → 96 %")
    expect(running).to_contain_text("now 61.4 %")
    expect(running.locator("svg.spark path.spark-line")).to_have_attribute("d", re.compile("^M"))
    running.get_by_role("button", name="Roll back").click()
    expect(dialog(page)).to_contain_text("320 MiB → 256 MiB")
    confirm(page, "Roll back")
    expect(page.get_by_role("status").filter(has_text="Rolled back.")).to_be_visible()
    expect(page.locator(".action-row", has_text="rolled back")).to_have_count(1)
    back = dashboard.control_loop.ledger.action(RUNNING)
    assert back.state is ActionState.ROLLED_BACK
    assert [a.undoes for a in dashboard.control_loop.ledger.actions_by_id.values()].count(RUNNING) == 1


def test_an_action_with_unknown_result_says_what_to_do(open_page: Open) -> None:
    """An action without a response is shown as unknown and cannot be rolled back."""
    page = open_page(f"#/actions/{ulid(70)}")
    expect(page.locator(".card")).to_contain_text("unknown")
    expect(page.locator(".card")).to_contain_text("It is not retried automatically")
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)
    page.goto(page.url.split("#")[0] + f"#/actions/{KEPT}")
    expect(page.locator(".card")).to_contain_text("no harm seen; measured:")


def test_pause_stops_all_actions(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Pause with a reason stops all actions and shows on every open page, until an operator resumes."""
    page, other = open_page("#/series"), open_page("#/tools")
    expect(other.locator(".pulse")).to_have_class(re.compile("live"))
    page.get_by_role("button", name="Pause").click()
    confirm(page, "Pause", "moving the database")
    for each in (page, other):
        expect(each.locator(".banner.paused")).to_contain_text("Actions are paused. By admin")
        expect(each.locator(".banner.paused")).to_contain_text("moving the database")
        expect(each.get_by_role("button", name="Resume")).to_be_visible()
    assert dashboard.control_loop.ledger.pause().on is True
    page.goto(page.url.split("#")[0] + "#/inbox")
    card(page, "Give cache-1 more memory").get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert")).to_contain_text("Refused: everything is paused")
    page.get_by_role("button", name="Resume").click()
    confirm(page, "Resume", "moved")
    expect(other.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator(".banner.paused")).to_have_count(0)
    assert [row.what for row in dashboard.control_loop.ledger.rows[-2:]] == ["paused", "resumed"]


def test_pause_by_keyboard(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Pausing works by keyboard only, and the focus returns to the button."""
    page = open_page()
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(dialog(page)).to_be_visible()
    page.get_by_role("textbox").focus()
    page.keyboard.type("by hand")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".banner.paused")).to_contain_text("by hand")
    expect(page.get_by_role("button", name="Resume")).to_be_focused()
    assert dashboard.control_loop.ledger.pause().reason == "by hand"
