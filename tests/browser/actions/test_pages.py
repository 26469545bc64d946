"""Tools, the audit log, and properties of all action pages, in a real browser on the real API."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions.confirm_dialog import card, confirm, dialog
from tests.browser.conftest import PHONE
from tests.browser.control_loop_dashboard import (
    INCIDENT_ID,
    MEMORY,
    PAST_ID,
    RUNNING,
    ControlLoopDashboard,
    ulid,
)
from trimtab.engine.api.security import api_keys

pytestmark = pytest.mark.slow

Open = Callable[..., Page]

PAGES = (
    "#/", "#/incidents", f"#/incidents/{INCIDENT_ID}", "#/inbox", f"#/inbox/{MEMORY}", "#/actions",
    f"#/actions/{RUNNING}", "#/tools", "#/tools/redis", "#/audit", "#/silences",
)  # fmt: skip


def test_tools_show_their_state_and_are_switched(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Each tool shows its state and detail; disabling one asks first and is audited."""
    page = open_page("#/tools")
    expect(page.get_by_role("region", name="postgresql")).to_contain_text("wrong password for trimtab")
    expect(page.get_by_role("region", name="pm2")).to_contain_text("trial")
    redis = page.get_by_role("region", name="redis")
    redis.get_by_role("button", name="Disable").click()
    confirm(page, "Disable")
    expect(redis).to_contain_text("disabled")
    assert dashboard.control_loop.toolbox.tool_views["redis"].enabled is False
    assert dashboard.control_loop.ledger.rows[-1].what == "tool disabled"


def test_a_tools_target_is_read_and_changed(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Metrics have units and knobs have bounds; setting a knob and running an action ask for confirmation."""
    page = open_page("#/tools/redis")
    target = page.get_by_role("region", name="cache-1")
    expect(target.locator(".figures").first).to_contain_text("redis_hit_ratio61 %")
    page.get_by_text("12 more metrics").click()
    expect(target.get_by_text("redis_commands_19_per_second")).to_be_visible()
    page.get_by_text("How to grant least-privilege access").click()
    expect(page.locator("pre")).to_contain_text("grant redis")
    target.get_by_role("row", name=re.compile("^maxmemory Above")).get_by_role("button", name="Set").click()
    dialog(page).get_by_role("textbox").fill("lots")
    expect(dialog(page)).to_contain_text("Allowed: 64 MiB\N{EN DASH}2 GiB")
    expect(dialog(page).get_by_role("button", name="Set")).to_be_disabled()
    dialog(page).get_by_role("textbox").fill("320 MiB")
    expect(dialog(page)).to_contain_text("256 MiB → 320 MiB = 335,544,320 B")
    confirm(page, "Set")
    expect(page.get_by_role("status").filter(has_text="Set maxmemory of cache-1.")).to_be_visible()
    target.get_by_role("row", name=re.compile("^maxmemory-policy")).get_by_role("button", name="Set").click()
    choices = dialog(page).get_by_role("option")
    expect(choices.filter(has_text="noeviction")).to_be_disabled()
    dialog(page).get_by_role("button", name="Cancel").click()
    target.get_by_role("button", name="flush cold").click()
    expect(dialog(page)).to_contain_text("high risk")
    confirm(page, "Run flush cold")
    knob, command = sorted(dashboard.control_loop.ledger.actions_by_id.values(), key=lambda a: a.id)[-2:]
    assert {(knob.subject, knob.after), (command.subject, command.after)} == {
        ("maxmemory", 335_544_320),
        ("flush_cold", None),
    }


def test_a_target_with_a_slash_is_read_and_changed(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """A target whose name has a slash, such as @shop/api, can be read and changed."""
    box, name = dashboard.control_loop.toolbox, "@shop/api"
    box.tool_views["redis"] = replace(box.tool_views["redis"], targets=(name,))
    box.target_views["redis", name] = replace(box.target_views["redis", "cache-1"], target=name)
    page = open_page("#/tools/redis")
    target = page.get_by_role("region", name=name)
    expect(target.locator(".figures").first).to_contain_text("redis_hit_ratio61 %")
    target.get_by_role("button", name="flush cold").click()
    confirm(page, "Run flush cold")
    expect(page.get_by_role("status").filter(has_text=name)).to_be_visible()
    action = max(dashboard.control_loop.ledger.actions_by_id.values(), key=lambda one: one.id)
    assert (action.target, action.subject) == (name, "flush_cold")


def test_the_audit_log_is_listed_and_verified(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Rows are listed newest first and load on demand; verification reports a broken hash chain."""
    page = open_page("#/tools")
    expect(page.get_by_role("region", name="redis")).to_be_visible()
    for i in range(120):
        dashboard.control_loop.ledger.append_audit("noted", f"thing {i}", "anna", {"round": i})
    page.goto(f"{dashboard.url}/#/audit")
    rows = page.locator("table.audit tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("thing 119")
    expect(rows.first).to_contain_text("round=119")
    page.get_by_role("button", name="Load more").click()
    expect(rows).to_have_count(125)
    expect(rows.nth(120)).to_contain_text("logged in")
    page.get_by_role("button", name="Verify the hash chain").click()
    expect(page.locator(".check")).to_contain_text("Verified: 125 rows")
    dashboard.control_loop.audit_problem = "row 7 was edited"
    page.get_by_role("button", name="Verify the hash chain").click()
    expect(page.locator(".check")).to_contain_text("Verification failed: row 7 was edited")


def test_a_read_only_key_sees_disabled_buttons(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Buttons that need a missing scope are disabled and name the scope."""
    page = open_page("#/inbox", signed_in=False)
    page.get_by_label("API key").fill(
        api_keys.create_key(dashboard.store, dashboard.clock, ulid(1), ["read"])[1]
    )
    page.keyboard.press("Enter")
    approve = card(page, "Give cache-1 more memory").get_by_role("button", name="Approve")
    expect(approve).to_be_disabled()
    expect(approve).to_have_attribute("title", "Your key lacks the scope approve")
    expect(page.get_by_role("button", name="Pause")).to_be_disabled()


def test_empty_pages_say_what_to_do(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Without incidents, recommendations, actions and tools each page explains what appears there."""
    dashboard.control_loop.incidents.by_id.clear()
    dashboard.control_loop.ledger.recommendations_by_id.clear()
    dashboard.control_loop.ledger.actions_by_id.clear()
    dashboard.control_loop.toolbox.tool_views.clear()
    page = open_page("#/incidents")
    expect(page.get_by_text("No incidents yet")).to_be_visible()
    for address, words in {
        "inbox": "No pending recommendations",
        "actions": "No actions yet",
        "tools": "No tools configured",
        f"incidents/{PAST_ID}": "This incident: Not Found",
    }.items():
        page.goto(f"{dashboard.url}/#/{address}")
        expect(page.get_by_text(words)).to_be_visible()


def test_action_pages_are_loaded_on_demand(open_page: Open) -> None:
    """The first view does not load the code of action pages; a failed load says what to do."""
    page = open_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.reload()
    expect(page.locator(".incident-row")).to_be_visible()
    assert not any("action-pages" in url for url in requested)
    page.route("**/action-pages-*.js", lambda route: route.abort())
    page.get_by_role("link", name="Tools").click()
    expect(page.get_by_role("alert")).to_contain_text("Reload the page")


@pytest.mark.parametrize("address", PAGES)
def test_every_action_page_fits_a_phone(open_page: Open, address: str) -> None:
    """No page is wider than 390 px, and the pause button and the current link are in the viewport."""
    page = open_page(address, viewport=PHONE)
    expect(page.locator("#main .panel, #main .notice").first).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_be_in_viewport()
    expect(page.locator("nav [aria-current]")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
