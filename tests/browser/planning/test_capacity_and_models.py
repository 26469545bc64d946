"""The pages of capacity and models, in a real browser on the real API."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import yaml
from playwright.sync_api import Page, expect

from tests.browser.actions.confirm_dialog import confirm, dialog
from tests.browser.conftest import PHONE
from tests.browser.control_loop_dashboard import ulid
from tests.browser.planning.planning_dashboard import ADVICE, LOAD, PlanningDashboard
from trimtab.engine.api.security import api_keys
from trimtab.engine.settings.capacity import CapacityOf
from trimtab.engine.types import RunState

pytestmark = pytest.mark.slow

Open = Callable[..., Page]
MINUS = "\N{MINUS SIGN}"


def test_each_capacity_target_shows_its_need_and_reason(open_page: Open) -> None:
    """A card shows wanted and current count, reason, capacity per instance, cost and a described chart."""
    page = open_page("#/capacity")
    one = page.get_by_role("article", name="checkout")
    for words in (
        "6 replicas wanted", "5 replicas now", "The forecast load requires this count", "86 % confidence",
        "120 req/s (114\N{EN DASH}127 req/s in 9 of 10 cases, learnt from history)",
        "12 → 14.4 per day (+2.40)",
    ):  # fmt: skip
        expect(one).to_contain_text(words)
    picture = one.get_by_role("img")
    expect(picture).to_have_attribute("aria-label", re.compile("Current capacity 600.req/s, .* 720.req/s"))
    expect(picture.locator("path.has")).to_have_count(1)
    expect(picture).to_contain_text("in 3 min")


def test_an_unknown_count_is_not_a_number(open_page: Open) -> None:
    """A target with unknown load shows no wanted count and no chart, and states the reason."""
    page = open_page("#/capacity")
    one = page.get_by_role("article", name="orders pool")
    expect(one).to_contain_text("unknown")
    expect(one).to_contain_text('No live series is selected by load pg_queries{pool="orders"}.')
    expect(one).to_contain_text("Autoscalers receive no count and make no change.")
    expect(one.locator(".wanted-count")).not_to_contain_text("wanted")
    expect(one.get_by_role("img")).to_have_count(0)


def test_a_capacity_target_links_to_its_recommendation_and_load(
    open_page: Open, dashboard: PlanningDashboard
) -> None:
    """The card links to the open recommendation and the load series; without one it says so."""
    page = open_page("#/capacity")
    one = page.get_by_role("article", name="checkout")
    expect(one.get_by_role("link", name="Load series")).to_have_attribute("href", f"#/series/{LOAD.id}")
    one.get_by_role("link", name="Give checkout 6 replicas").click()
    expect(page).to_have_url(re.compile(f"#/inbox/{ADVICE}$"))
    del dashboard.control_loop.ledger.recommendations_by_id[ADVICE]
    page.goto(f"{dashboard.url}/#/capacity")
    expect(one).to_contain_text("No open recommendation. pm2 can change instances of checkout.")


def test_the_trigger_for_keda_is_copied(open_page: Open, dashboard: PlanningDashboard) -> None:
    """The copied trigger is YAML with an address of this engine that returns the wanted count."""
    page = open_page("#/capacity")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    one = page.get_by_role("article", name="checkout")
    one.get_by_text("Use with KEDA").click()
    one.get_by_role("button", name="Copy trigger").click()
    expect(one.get_by_role("status")).to_have_text("Copied.")
    (trigger,) = yaml.safe_load(page.evaluate("navigator.clipboard.readText()"))["triggers"]
    assert trigger["metadata"]["url"] == f"{dashboard.url}/api/capacity/checkout/keda"
    response = page.request.get(trigger["metadata"]["url"]).json()
    assert response[trigger["metadata"]["valueLocation"]] == 6


def test_without_targets_the_page_shows_valid_settings(open_page: Open, dashboard: PlanningDashboard) -> None:
    """The example settings on the empty page are accepted by the engine."""
    dashboard.control_loop.capacity.clear()
    page = open_page("#/capacity")
    expect(page.get_by_text("No capacity targets configured")).to_be_visible()
    shown = yaml.safe_load(page.locator("pre").inner_text())
    assert CapacityOf(**shown["capacity"]["checkout"]).max_replicas == 20


def test_the_challenger_is_compared_with_the_champion(open_page: Open) -> None:
    """The page shows metrics of both on the same windows, the gate result, and refused versions."""
    page = open_page("#/models")
    expect(page.locator(".serving")).to_contain_text("Version 4 forecasts 37 series")
    expect(page.locator(".serving")).to_contain_text(
        "The live error is 0.290; at the promotion gate it was 0.262."
    )
    judged = page.get_by_role("region", name="Challenger 5 compared with the champion")
    row = judged.get_by_role("row", name=re.compile("^loss"))
    expect(row).to_contain_text(re.compile(f"0.262.*0.281.*{MINUS}6.76.%.*better.*0.520"))
    expect(judged.get_by_role("row", name=re.compile("^above 99"))).to_contain_text("worse")
    expect(judged).to_contain_text("Promotion gate: passed the gate.")
    versions = page.get_by_role("region", name="Versions")
    expect(versions.get_by_role("row", name=re.compile("^2 "))).to_contain_text("refused: its loss is 0.61")
    expect(page.get_by_role("region", name="Refused")).to_contain_text(
        "has no manifest.json, but ['model.pkl']"
    )


def test_a_version_is_promoted_and_rolled_back(open_page: Open, dashboard: PlanningDashboard) -> None:
    """The dialog names both versions and the gate result; Cancel changes nothing."""
    page = open_page("#/models")
    versions = page.get_by_role("region", name="Versions")
    versions.get_by_role("row", name=re.compile("^2 ")).get_by_role("button", name="Promote").click()
    expect(dialog(page)).to_contain_text("replaces version 4")
    expect(dialog(page)).to_contain_text("Promotion gate: refused: its loss is 0.61")
    dialog(page).get_by_role("button", name="Cancel").click()
    expect(dialog(page)).to_have_count(0)
    assert dashboard.model_service.calls == []
    versions.get_by_role("row", name=re.compile("^5 ")).get_by_role("button", name="Promote").click()
    confirm(page, "Promote")
    expect(page.get_by_role("status").filter(has_text="Version 5 is now the champion.")).to_be_visible()
    versions.get_by_role("button", name="Roll back").click()
    expect(dialog(page)).to_contain_text("Roll back to version 3?")
    confirm(page, "Roll back")
    assert [one[:2] for one in dashboard.model_service.calls][:1] == [("promote", "5")]
    assert dashboard.model_service.calls[1][0] == "rollback"
    dashboard.model_service.has_previous = False
    versions.get_by_role("button", name="Roll back").click()
    dialog(page).get_by_role("button", name="Roll back").click()
    expect(dialog(page).get_by_role("alert")).to_contain_text("has no previous champion to go back to")


def test_training_runs_show_progress_and_can_be_started(
    open_page: Open, dashboard: PlanningDashboard
) -> None:
    """One training runs at a time; each run shows its progress or result."""
    page = open_page("#/models")
    runs = page.get_by_role("region", name="Runs")
    expect(runs.get_by_role("progressbar")).to_have_attribute("value", "0.42")
    expect(runs).to_contain_text("42 %, judge")
    expect(runs.locator(".run")).to_have_count(4)
    expect(runs.locator(".run").nth(2)).to_contain_text("failedPrometheus does not answer")
    expect(runs.get_by_role("button", name="Training in progress")).to_be_disabled()
    waits = "waits for the forecasts that are being made"
    dashboard.model_service.finished_runs[0] = replace(
        dashboard.model_service.finished_runs[0], state=RunState.WAITING, said=waits
    )
    dashboard.publish_tick()
    expect(runs.locator(".run").nth(0)).to_contain_text(waits)
    dashboard.model_service.finished_runs[0] = replace(
        dashboard.model_service.finished_runs[0], state=RunState.DONE, said="done with it"
    )
    dashboard.publish_tick()
    runs.get_by_role("button", name="Train now").click()
    confirm(page, "Train")
    expect(page.get_by_role("status").filter(has_text="Training started.")).to_be_visible()
    assert dashboard.model_service.calls[-1][0] == "start"


def test_a_version_that_was_not_promoted_is_explained(open_page: Open, dashboard: PlanningDashboard) -> None:
    """The page shows why the newest version was not promoted and how it compares with seasonal naive."""
    refused = replace(
        dashboard.model_service.view.versions[1], version="1", role="", live=None,
        said="refused: it errs 2.6% more than seasonal naive (a loss of 0.308 against 0.3; 2% more may be)",
    )  # fmt: skip
    dashboard.model_service.view = replace(
        dashboard.model_service.view, serving="", versions=(refused,), error=None, refused={}
    )
    page = open_page("#/models")
    expect(page.locator(".serving")).to_contain_text("There is no champion yet")
    expect(page.locator(".kept-out")).to_contain_text("1, was not promoted: it errs 2.6% more than seasonal")
    expect(page.locator(".kept-out")).to_contain_text("No action is needed: the next training tries again.")
    judged = page.get_by_role("region", name="Evaluation of version 1")
    expect(judged.get_by_role("row", name=re.compile("^loss"))).to_contain_text(re.compile("0.262.*0.520"))


def test_a_champion_that_cannot_serve_is_explained(open_page: Open, dashboard: PlanningDashboard) -> None:
    """The page states why the champion does not serve and does not announce its next forecast."""
    why = "the champion, version 4, does not serve: it is made for 288 steps of 300 s"
    dashboard.model_service.view = replace(dashboard.model_service.view, serving="", problem=why)
    page = open_page("#/models")
    expect(page.locator(".serving")).to_contain_text(why)
    expect(page.locator(".serving")).not_to_contain_text("serves from the next forecast on")


def test_without_a_champion_the_page_names_the_fallback(
    open_page: Open, dashboard: PlanningDashboard
) -> None:
    """Before the first training the page names seasonal naive and explains how runs start."""
    dashboard.model_service.view = replace(
        dashboard.model_service.view, serving="", error=None, versions=(), refused={}, made=None, series=0
    )
    dashboard.model_service.finished_runs.clear()
    page = open_page("#/models")
    expect(page.locator(".serving")).to_contain_text("No forecasts yet. There is no champion yet")
    expect(page.locator(".serving")).to_contain_text("is not known yet")
    expect(page.get_by_text("No versions yet")).to_be_visible()
    expect(page.get_by_text("No runs yet. Runs start on schedule")).to_be_visible()
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)


def test_a_read_only_key_cannot_promote(open_page: Open, dashboard: PlanningDashboard) -> None:
    """Promote, roll back and train are disabled and name the missing scope."""
    page = open_page("#/models", signed_in=False)
    page.get_by_label("API key").fill(
        api_keys.create_key(dashboard.store, dashboard.clock, ulid(1), ["read"])[1]
    )
    page.keyboard.press("Enter")
    for name, scope in (
        ("Promote", "approve"),
        ("Roll back", "approve"),
        ("Training in progress", "execute"),
    ):
        button = page.get_by_role("button", name=name).first
        expect(button).to_be_disabled()
        expect(button).to_have_attribute("title", f"Your key lacks the scope {scope}")


@pytest.mark.parametrize("address", ["#/capacity", "#/models"])
def test_planning_pages_fit_a_phone(open_page: Open, address: str) -> None:
    """No page is wider than 390 px, its link is in the viewport, and Tab reaches the last link."""
    page = open_page(address, viewport=PHONE)
    expect(page.locator("#main .panel").first).to_be_visible()
    expect(page.locator("nav [aria-current]")).to_be_in_viewport(ratio=1.0)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("link", name="Overview", exact=True).focus()
    for _ in range(9):
        page.keyboard.press("Tab")
    last = page.get_by_role("link", name="Audit")
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport(ratio=0.99)


def test_the_navigation_fits_a_desktop(open_page: Open) -> None:
    """At 1280 px all links and the pause button fit in one row."""
    page = open_page("#/models")
    expect(page.locator(".count-chip")).to_be_visible()
    bar = page.locator(".top-inner").evaluate("box => [box.scrollWidth, box.clientWidth, box.offsetHeight]")
    assert bar[0] <= bar[1]
    assert bar[2] == 50
