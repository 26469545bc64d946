"""Silences, shadow actions, refusals, resets and rollbacks, in a real browser on the real API."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions.confirm_dialog import card, confirm, dialog
from tests.browser.control_loop_dashboard import HIT, LAZY, REFUSED, RUNNING, ControlLoopDashboard
from trimtab.engine.types import ActionState

pytestmark = pytest.mark.slow

Open = Callable[..., Page]


def test_a_silence_is_added_listed_and_ended(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """A silence is added from a page that incidents link to, listed with its reason, and ended."""
    page = open_page("#/incidents")
    page.get_by_role("link", name="Silences").click()
    row = page.get_by_role("row", name=re.compile("batch"))
    expect(row).to_contain_text("active")
    expect(row).to_contain_text("month's end")
    silence = page.get_by_role("button", name="Silence", exact=True)
    expect(silence).to_be_disabled()
    page.get_by_label("Entities: names").fill("redis/*, web")
    page.get_by_role("combobox").select_option("2 hours")
    page.get_by_label("Reason").fill("moving it")
    silence.click()
    made = page.get_by_role("row", name=re.compile("redis"))
    expect(made).to_contain_text("moving it")
    kept = next(one for one in dashboard.control_loop.ledger.silences() if one.note == "moving it")
    assert kept.entities == ("redis/*", "web")
    assert abs((kept.until - kept.begin) / 1e9 - 7200) < 60
    made.get_by_role("button", name="End").click()
    confirm(page, "End")
    expect(made).to_contain_text("over")
    expect(made.get_by_role("button")).to_have_count(0)
    assert [row.what for row in dashboard.control_loop.ledger.rows[-2:]] == ["silenced", "silence ended"]


def test_a_shadow_action_is_described(open_page: Open) -> None:
    """The card shows what mode auto would have done and the outcome without it; the inbox shows the total."""
    page = open_page("#/inbox")
    memory = card(page, "Give cache-1 more memory")
    expect(memory).to_contain_text("Mode auto would have set maxmemory 256 MiB → 320 MiB at")
    expect(memory).to_contain_text("The hit ratio of cache-1 was 61 % at that time.")
    expect(memory).to_contain_text("severity 0.62 → 0.85")
    summed = page.get_by_text("Mode auto would have run 2 actions.")
    expect(summed).to_contain_text("1 ended on its own, 1 still open; 1 became worse.")


def test_a_recommendation_without_an_incident_says_so(
    open_page: Open, dashboard: ControlLoopDashboard
) -> None:
    """A card states whether it was raised for an incident, and links to the incident."""
    page = open_page("#/inbox")
    expect(card(page, "Free evicted keys in the background")).to_contain_text("no incident")
    card(page, "Give cache-1 more memory").get_by_role("link", name="an incident").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("keys are evicted")
    page.goto(f"{dashboard.url}/#/inbox/{LAZY}")
    expect(page.get_by_role("article")).to_contain_text("no incident")


def test_a_refused_action_is_not_shown_as_failed(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """A refused action shows the guard's reason; one that failed before it was sent shows as not sent."""
    page = open_page(f"#/actions/{REFUSED}")
    expect(page.locator(".state").first).to_have_text("refused")
    expect(page.locator(".card")).to_contain_text("wait 12 min")
    expect(page.locator(".card")).to_contain_text("nothing was sent")
    done = dashboard.control_loop.ledger.actions_by_id
    object.__setattr__(done[REFUSED], "state", ActionState.FAILED)
    page.reload()
    expect(page.locator(".state").first).to_have_text("not sent")


def test_a_reset_to_no_limit_needs_confirmation(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """A reset whose default means no limit stays disabled until the user confirms it."""
    page = open_page("#/tools/redis")
    target = page.get_by_role("region", name="cache-1")
    target.get_by_role("row", name=re.compile("^maxmemory Above")).get_by_role("button", name="Set").click()
    field = dialog(page).get_by_role("textbox")
    expect(field).to_have_value("256 MiB")
    field.fill("")
    expect(dialog(page)).to_contain_text("server default: 0 B = no limit")
    reset = dialog(page).get_by_role("button", name="Reset")
    expect(reset).to_be_disabled()
    dialog(page).get_by_label("I want to reset this setting").check()
    reset.click()
    expect(dialog(page)).to_have_count(0)
    newest = max(dashboard.control_loop.ledger.actions_by_id.values(), key=lambda action: action.id)
    assert (newest.subject, newest.after) == ("maxmemory", None)


def test_a_rollback_works_while_actions_are_paused(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """The pause dialog says that operators can still roll back, and a rollback works."""
    page = open_page("#/actions")
    page.get_by_role("button", name="Pause").click()
    expect(dialog(page)).to_contain_text("Operators can still use Roll back")
    confirm(page, "Pause")
    card(page, "maxmemory of cache-1").get_by_role("button", name="Roll back").click()
    confirm(page, "Roll back")
    expect(page.get_by_role("status").filter(has_text="Rolled back.")).to_be_visible()
    assert dashboard.control_loop.ledger.action(RUNNING).state is ActionState.ROLLED_BACK


def test_an_address_without_hash_opens_its_page(open_page: Open) -> None:
    """A page address without `#` redirects to the page, with its query."""
    page = open_page("tools/redis")
    expect(page.get_by_role("heading", level=1)).to_have_text("redis")
    assert page.url.endswith("/#/tools/redis")
    page = open_page(f"series/{HIT.id}?range=1h")
    expect(page.get_by_role("heading", level=1)).to_contain_text("redis_hit_ratio")


def test_the_audit_log_shows_all_details(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """At 1280 px the details wrap and the table does not scroll sideways."""
    details = {f"detail_{i}": "x" * 40 for i in range(8)}
    dashboard.control_loop.ledger.append_audit(
        "noted", "01JGFJJZ000000000000000000", "an administrator", dict(details)
    )
    page = open_page("#/audit")
    expect(page.locator("table.audit")).to_contain_text("detail_7")
    wide = page.evaluate("(t => [t.scrollWidth, t.clientWidth])(document.querySelector('.table'))")
    assert wide[0] <= wide[1]
