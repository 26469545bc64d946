"""Tools, the audit, and what holds for all pages about acting, in a real browser, on the real API."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from tests.browser.acting.decision_dialog import answer, card, dialog
from tests.browser.conftest import PHONE
from tests.browser.control_loop_world import (
    INCIDENT_ID,
    MEMORY,
    PAST_ID,
    RUNNING,
    LoopWorld,
    ulid,
)
from trimtab.engine.api.security import api_keys

Open = Callable[..., Page]

PLACES = (
    "#/", "#/incidents", f"#/incidents/{INCIDENT_ID}", "#/inbox", f"#/inbox/{MEMORY}", "#/actions",
    f"#/actions/{RUNNING}", "#/tools", "#/tools/redis", "#/audit", "#/silences",
)  # fmt: skip


def test_tools_show_their_state_and_are_switched(open_page: Open, world: LoopWorld) -> None:
    """Each tool says how it does and what to do; switching one asks first and stands in the audit."""
    page = open_page("#/tools")
    expect(page.get_by_role("region", name="postgresql")).to_contain_text("wrong password for trimtab")
    expect(page.get_by_role("region", name="pm2")).to_contain_text("trial")
    redis = page.get_by_role("region", name="redis")
    redis.get_by_role("button", name="Disable").click()
    answer(page, "Disable")
    expect(redis).to_contain_text("disabled")
    assert world.acting.toolbox.tool_views["redis"].enabled is False
    assert world.acting.ledger.rows[-1].what == "tool disabled"


def test_a_tools_target_is_read_and_changed(open_page: Open, world: LoopWorld) -> None:
    """Figures in their units, knobs with bounds; a knob is set, a one-click action told, after a question."""
    page = open_page("#/tools/redis")
    target = page.get_by_role("region", name="cache-1")
    expect(target.locator(".figures").first).to_contain_text("redis_hit_ratio61 %")
    page.get_by_text("12 more figures").click()
    expect(target.get_by_text("redis_commands_19_per_second")).to_be_visible()
    page.get_by_text("How to let it in").click()
    expect(page.locator("pre")).to_contain_text("grant redis")
    target.get_by_role("row", name=re.compile("^maxmemory Above")).get_by_role("button", name="Set").click()
    dialog(page).get_by_role("textbox").fill("lots")
    expect(dialog(page)).to_contain_text("Allowed: 64 MiB\N{EN DASH}2 GiB")
    expect(dialog(page).get_by_role("button", name="Set")).to_be_disabled()
    dialog(page).get_by_role("textbox").fill("320 MiB")
    expect(dialog(page)).to_contain_text("256 MiB → 320 MiB = 335,544,320 B")
    answer(page, "Set")
    expect(page.get_by_role("status").filter(has_text="Set maxmemory of cache-1.")).to_be_visible()
    target.get_by_role("row", name=re.compile("^maxmemory-policy")).get_by_role("button", name="Set").click()
    choices = dialog(page).get_by_role("option")
    expect(choices.filter(has_text="noeviction")).to_be_disabled()
    dialog(page).get_by_role("button", name="Cancel").click()
    target.get_by_role("button", name="flush cold").click()
    expect(dialog(page)).to_contain_text("high risk")
    answer(page, "Do it: flush cold")
    knob, told = sorted(world.acting.ledger.actions_by_id.values(), key=lambda a: a.id)[-2:]
    assert {(knob.subject, knob.after), (told.subject, told.after)} == {
        ("maxmemory", 335_544_320),
        ("flush_cold", None),
    }


def test_a_target_with_a_slash_is_read_and_changed(open_page: Open, world: LoopWorld) -> None:
    """An application such as @shop/api is there, and its knobs and actions are reached."""
    box, name = world.acting.toolbox, "@shop/api"
    box.tool_views["redis"] = replace(box.tool_views["redis"], targets=(name,))
    box.target_views["redis", name] = replace(box.target_views["redis", "cache-1"], target=name)
    page = open_page("#/tools/redis")
    target = page.get_by_role("region", name=name)
    expect(target.locator(".figures").first).to_contain_text("redis_hit_ratio61 %")
    target.get_by_role("button", name="flush cold").click()
    answer(page, "Do it: flush cold")
    expect(page.get_by_role("status").filter(has_text=name)).to_be_visible()
    told = max(world.acting.ledger.actions_by_id.values(), key=lambda action: action.id)
    assert (told.target, told.subject) == (name, "flush_cold")


def test_the_audit_is_listed_and_checked(open_page: Open, world: LoopWorld) -> None:
    """Newest first, older ones on demand; the check says whether the chain is whole."""
    page = open_page("#/tools")
    expect(page.get_by_role("region", name="redis")).to_be_visible()
    for i in range(120):
        world.acting.ledger.append_audit("noted", f"thing {i}", "anna", {"round": i})
    page.goto(f"{world.url}/#/audit")
    rows = page.locator("table.audit tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("thing 119")
    expect(rows.first).to_contain_text("round=119")
    page.get_by_role("button", name="Load more").click()
    expect(rows).to_have_count(125)
    expect(rows.nth(120)).to_contain_text("logged in")
    page.get_by_role("button", name="Check the chain").click()
    expect(page.locator(".check")).to_contain_text("Whole: 125 rows")
    world.acting.audit_problem = "row 7 was edited"
    page.get_by_role("button", name="Check the chain").click()
    expect(page.locator(".check")).to_contain_text("Not whole: row 7 was edited")


def test_who_may_only_read_is_told_so(open_page: Open, world: LoopWorld) -> None:
    """Buttons that a key may not press are shut, and say which scope is lacking."""
    page = open_page("#/inbox", signed_in=False)
    page.get_by_label("API key").fill(api_keys.create_key(world.store, world.clock, ulid(1), ["read"])[1])
    page.keyboard.press("Enter")
    approve = card(page, "Give cache-1 more memory").get_by_role("button", name="Approve")
    expect(approve).to_be_disabled()
    expect(approve).to_have_attribute("title", "Your key lacks the scope approve")
    expect(page.get_by_role("button", name="Pause")).to_be_disabled()


def test_empty_pages_say_what_to_do(open_page: Open, world: LoopWorld) -> None:
    """Without incidents, recommendations, actions and tools each page says how they come."""
    world.acting.incidents.by_id.clear()
    world.acting.ledger.recommendations_by_id.clear()
    world.acting.ledger.actions_by_id.clear()
    world.acting.toolbox.tool_views.clear()
    page = open_page("#/incidents")
    expect(page.get_by_text("No incident yet")).to_be_visible()
    for place, words in {
        "inbox": "Nothing to decide",
        "actions": "Nothing was changed yet",
        "tools": "No tool is configured",
        f"incidents/{PAST_ID}": "This incident: Not Found",
    }.items():
        page.goto(f"{world.url}/#/{place}")
        expect(page.get_by_text(words)).to_be_visible()


def test_the_pages_about_acting_come_when_asked_for(open_page: Open) -> None:
    """The first view loads none of their code; a failure to load says what to do."""
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.locator(".incident-row")).to_be_visible()
    assert not any("acting" in url for url in asked)
    page.route("**/acting-*.js", lambda route: route.abort())
    page.get_by_role("link", name="Tools").click()
    expect(page.get_by_role("alert")).to_contain_text("load it again")


@pytest.mark.parametrize("place", PLACES)
def test_every_page_about_acting_fits_a_phone(open_page: Open, place: str) -> None:
    """No page is wider than 390 px, the pause is in sight, and the page's own link too."""
    page = open_page(place, viewport=PHONE)
    expect(page.locator("#main .panel, #main .notice").first).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_be_in_viewport()
    expect(page.locator("nav [aria-current]")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
