"""Incidents in a real browser, on the real API."""

import re
from collections.abc import Callable
from dataclasses import asdict, replace

from playwright.sync_api import Page, expect

from tests.browser.acting.decision_dialog import answer, card, dialog
from tests.browser.control_loop_world import (
    HOSTILE,
    INCIDENT_ID,
    LoopWorld,
    ulid,
)
from trimtab.engine.types import IncidentState

Open = Callable[..., Page]


def test_the_overview_shows_incidents_above_anomalies(open_page: Open) -> None:
    """An open incident stands above the series that are unusual, and one click leads to it."""
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


def test_an_incident_tells_its_story(open_page: Open) -> None:
    """Story, picture of the first suspect, patterns, changes, recommendation and similar ones on one page."""
    page = open_page(f"#/incidents/{INCIDENT_ID}")
    story = page.locator(".story")
    expect(story).to_contain_text("2 anomalies of 2 parts began at")
    expect(story).to_contain_text("redis/cache-1 is the first suspect: it moved first, 40 s before checkout.")
    expect(story).to_contain_text("It looks like cache thrash")
    expect(page.locator(".course rect")).to_have_count(2)
    expect(page.locator(".change-marks path")).to_have_count(2)
    expect(page.locator(".plots canvas")).to_have_count(2)
    expect(page.locator(".readout .is-band dd")).to_contain_text("95.5")
    expect(page.get_by_role("region", name="What it looks like")).to_contain_text("420 keys/s are evicted")
    expect(page.get_by_role("region", name="What changed near it")).to_contain_text("checkout 2.14.0")
    expect(card(page, "Give cache-1 more memory")).to_contain_text("320 MiB")
    alike = page.get_by_role("region", name="Incidents that looked like it")
    expect(alike).to_contain_text("Give cache-1 more memory: no harm seen")
    page.get_by_role("button", name=re.compile("checkout 18 %")).click()
    expect(page.locator(".picture .tools a")).to_contain_text("http_request_seconds_p99")
    expect(page.locator(".readout .is-value dd")).to_contain_text("1.9")


def test_what_others_write_is_text(open_page: Open) -> None:
    """Titles of changes and evidence that hold markup build no element."""
    page = open_page(f"#/incidents/{INCIDENT_ID}")
    expect(page.locator(".changes li", has_text=HOSTILE)).to_be_visible()
    page.goto(page.url.split("#")[0] + "#/inbox")
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    assert page.locator("img").count() == 0


def test_an_incident_is_acknowledged_and_resolved(open_page: Open, world: LoopWorld) -> None:
    """A person looks after it, with a note that others see, and says when it is over."""
    page = open_page(f"#/incidents/{INCIDENT_ID}")
    page.get_by_role("button", name="Acknowledge").click()
    answer(page, "Acknowledge", "the new release")
    expect(page.locator(".subject")).to_contain_text("acknowledged by admin")
    expect(page.locator(".subject q")).to_have_text("the new release")
    page.get_by_role("button", name="Resolve").click()
    answer(page, "Resolve")
    expect(page.get_by_role("button", name="Reopen")).to_be_visible()
    assert world.acting.incidents.incident(INCIDENT_ID).state is IncidentState.RESOLVED


def test_an_incident_is_parted_and_put_together(open_page: Open, world: LoopWorld) -> None:
    """Chosen anomalies become an incident of their own; it can be put back into the other."""
    page = open_page(f"#/incidents/{INCIDENT_ID}")
    page.get_by_role("button", name="Split").click()
    expect(dialog(page).get_by_role("button", name="Split")).to_be_disabled()
    dialog(page).get_by_label(re.compile("^http_request_seconds_p99")).check()
    answer(page, "Split")
    expect(page.locator(".story")).to_contain_text("1 anomaly of 2 parts")
    expect(page).not_to_have_url(re.compile(INCIDENT_ID))
    parted = page.url.rsplit("/", 1)[1]
    assert len(world.acting.incidents.incident(INCIDENT_ID).anomaly_ids) == 1
    page.get_by_role("button", name="Merge").click()
    dialog(page).get_by_role("combobox").select_option(INCIDENT_ID)
    answer(page, "Merge")
    expect(page).to_have_url(re.compile(INCIDENT_ID))
    expect(page.locator(".story")).to_contain_text("2 anomalies of 2 parts")
    assert world.acting.incidents.incident(parted).merged_into == INCIDENT_ID


def test_incidents_are_found_by_state_and_words(open_page: Open) -> None:
    """The list narrows by state and words, and says so when nothing is left."""
    page = open_page("#/incidents")
    rows = page.locator(".incident-row")
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="resolved", exact=True).click()
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox").fill("nothing like this")
    expect(page.get_by_text("No incident matches")).to_be_visible()
    page.get_by_role("button", name="Drop the filters").click()
    expect(rows).to_have_count(2)


def test_a_new_incident_appears_without_reload(open_page: Open, world: LoopWorld) -> None:
    """An incident event brings it to the overview, and is read out."""
    page = open_page()
    expect(page.locator(".pulse")).to_have_class(re.compile("live"))
    more = replace(
        world.acting.incidents.incident(INCIDENT_ID), id=ulid(99), title="orders: pool is exhausted"
    )
    world.acting.incidents.save_incidents([more])
    world.publish("incident", asdict(more))
    expect(page.locator(".incident-row")).to_have_count(2)
    expect(page.locator("#announcer")).to_have_text("New incident, severity high: orders: pool is exhausted.")
