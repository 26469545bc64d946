"""Incidents in a real browser, on the real API."""

import re
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
from playwright.sync_api import Page, expect

from tests.browser.actions.confirm_dialog import card, confirm, dialog
from tests.browser.control_loop_dashboard import (
    HOSTILE,
    INCIDENT_ID,
    ControlLoopDashboard,
    ulid,
)
from trimtab.engine.types import IncidentState

pytestmark = pytest.mark.slow

Open = Callable[..., Page]


def test_the_overview_shows_incidents_above_anomalies(open_page: Open) -> None:
    """An open incident is listed above the open anomalies and links to its page."""
    page = open_page()
    row = page.locator(".incident-row")
    expect(row).to_contain_text("keys are evicted before they are read again")
    expect(row).to_contain_text("high")
    expect(row).to_contain_text("cache thrash")
    incidents, unusual = row.bounding_box(), page.locator(".unusual-row").first.bounding_box()
    assert incidents is not None
    assert unusual is not None
    assert incidents["y"] < unusual["y"]
    row.click()
    expect(page).to_have_url(re.compile(f"#/incidents/{INCIDENT_ID}"))


def test_an_incident_page_is_complete(open_page: Open) -> None:
    """The page shows summary, suspects, patterns, changes, recommendation and similar incidents."""
    page = open_page(f"#/incidents/{INCIDENT_ID}")
    story = page.locator(".story")
    expect(story).to_contain_text("2 anomalies in 2 entities started at")
    expect(story).to_contain_text("redis/cache-1 is the top suspect: it moved first, 40 s before checkout.")
    expect(story).to_contain_text("Matching pattern: cache thrash")
    expect(page.locator(".course rect")).to_have_count(2)
    expect(page.locator(".change-marks path")).to_have_count(2)
    expect(page.locator(".plots canvas")).to_have_count(2)
    expect(page.locator(".readout .is-band dd")).to_contain_text("95.5")
    expect(page.get_by_role("region", name="Matching patterns")).to_contain_text("420 keys/s are evicted")
    expect(page.get_by_role("region", name="Changes near the incident")).to_contain_text("checkout 2.14.0")
    expect(card(page, "Give cache-1 more memory")).to_contain_text("320 MiB")
    alike = page.get_by_role("region", name="Similar incidents")
    expect(alike).to_contain_text("Give cache-1 more memory: no harm seen")
    page.get_by_role("button", name=re.compile("checkout 18 %")).click()
    expect(page.locator(".picture .tools a")).to_contain_text("http_request_seconds_p99")
    expect(page.locator(".readout .is-value dd")).to_contain_text("1.9")


def test_titles_and_evidence_are_shown_as_text(open_page: Open) -> None:
    """HTML in titles of changes and in evidence creates no element."""
    page = open_page(f"#/incidents/{INCIDENT_ID}")
    expect(page.locator(".changes li", has_text=HOSTILE)).to_be_visible()
    page.goto(page.url.split("#")[0] + "#/inbox")
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    assert page.locator("img").count() == 0


def test_an_incident_is_acknowledged_and_resolved(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """An operator acknowledges an incident with a note and resolves it."""
    page = open_page(f"#/incidents/{INCIDENT_ID}")
    page.get_by_role("button", name="Acknowledge").click()
    confirm(page, "Acknowledge", "the new release")
    expect(page.locator(".subject")).to_contain_text("acknowledged by admin")
    expect(page.locator(".subject q")).to_have_text("the new release")
    page.get_by_role("button", name="Resolve").click()
    confirm(page, "Resolve")
    expect(page.get_by_role("button", name="Reopen")).to_be_visible()
    assert dashboard.control_loop.incidents.incident(INCIDENT_ID).state is IncidentState.RESOLVED


def test_an_incident_is_split_and_merged(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """Selected anomalies become a new incident, which can be merged back."""
    page = open_page(f"#/incidents/{INCIDENT_ID}")
    page.get_by_role("button", name="Split").click()
    expect(dialog(page).get_by_role("button", name="Split")).to_be_disabled()
    dialog(page).get_by_label(re.compile("^http_request_seconds_p99")).check()
    confirm(page, "Split")
    expect(page.locator(".story")).to_contain_text("1 anomaly in 2 entities")
    expect(page).not_to_have_url(re.compile(INCIDENT_ID))
    new_id = page.url.rsplit("/", 1)[1]
    assert len(dashboard.control_loop.incidents.incident(INCIDENT_ID).anomaly_ids) == 1
    page.get_by_role("button", name="Merge").click()
    dialog(page).get_by_role("combobox").select_option(INCIDENT_ID)
    confirm(page, "Merge")
    expect(page).to_have_url(re.compile(INCIDENT_ID))
    expect(page.locator(".story")).to_contain_text("2 anomalies in 2 entities")
    assert dashboard.control_loop.incidents.incident(new_id).merged_into == INCIDENT_ID


def test_incidents_are_filtered_by_state_and_text(open_page: Open) -> None:
    """Filters by state and text narrow the list; an empty result says so and can be cleared."""
    page = open_page("#/incidents")
    rows = page.locator(".incident-row")
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="resolved", exact=True).click()
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox").fill("nothing like this")
    expect(page.get_by_text("No matching incidents")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    expect(rows).to_have_count(2)


def test_a_new_incident_appears_without_reload(open_page: Open, dashboard: ControlLoopDashboard) -> None:
    """An incident event adds the incident to the overview and is announced to screen readers."""
    page = open_page()
    expect(page.locator(".pulse")).to_have_class(re.compile("live"))
    more = replace(
        dashboard.control_loop.incidents.incident(INCIDENT_ID), id=ulid(99), title="orders: pool is exhausted"
    )
    dashboard.control_loop.incidents.save_incidents([more])
    dashboard.publish("incident", asdict(more))
    expect(page.locator(".incident-row")).to_have_count(2)
    expect(page.locator("#announcer")).to_have_text("New incident, severity high: orders: pool is exhausted.")
