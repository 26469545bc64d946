"""Capacity and models, in a real browser, on the real API."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import yaml
from playwright.sync_api import Page, expect

from tests.browser.acting.decision_dialog import answer, dialog
from tests.browser.conftest import PHONE
from tests.browser.control_loop_world import ulid
from tests.browser.planning.plan_world import ADVICE, LOAD, PlanWorld
from trimtab.engine.api.security import api_keys
from trimtab.engine.settings.capacity import CapacityOf
from trimtab.engine.types import RunState

Open = Callable[..., Page]
MINUS = "\N{MINUS SIGN}"


def test_each_service_says_what_it_needs_and_why(open_page: Open) -> None:
    """Wanted and had, the reason, what one can do, the cost now and then; and the picture in words."""
    page = open_page("#/capacity")
    one = page.get_by_role("article", name="checkout")
    for words in (
        "6 replicas wanted", "there are 5 replicas", "The load ahead asks for it", "86 % sure",
        "120 req/s (114\N{EN DASH}127 req/s in 9 of 10 cases, learnt from history)",
        "12 → 14.4 a day (+2.40)",
    ):  # fmt: skip
        expect(one).to_contain_text(words)
    picture = one.get_by_role("img")
    expect(picture).to_have_attribute(
        "aria-label", re.compile("what serves now can take 600.req/s, .* 720.req/s")
    )
    expect(picture.locator("path.has")).to_have_count(1)
    expect(picture).to_contain_text("in 3 min")


def test_what_is_not_known_is_no_number(open_page: Open) -> None:
    """A service of which the load is unknown wants no count, draws nothing, and says why."""
    page = open_page("#/capacity")
    one = page.get_by_role("article", name="orders pool")
    expect(one).to_contain_text("not known")
    expect(one).to_contain_text('No live series is selected by load pg_queries{pool="orders"}.')
    expect(one).to_contain_text("An autoscaler that asks is told so, and leaves the count as it is.")
    expect(one.locator(".wanted-count")).not_to_contain_text("wanted")
    expect(one.get_by_role("img")).to_have_count(0)


def test_a_service_leads_to_its_recommendation_and_its_load(open_page: Open, world: PlanWorld) -> None:
    """The link goes to the recommendation that stands; one that was dismissed stands no more."""
    page = open_page("#/capacity")
    one = page.get_by_role("article", name="checkout")
    expect(one.get_by_role("link", name="Its load")).to_have_attribute("href", f"#/series/{LOAD.id}")
    one.get_by_role("link", name="Give checkout 6 replicas").click()
    expect(page).to_have_url(re.compile(f"#/inbox/{ADVICE}$"))
    del world.acting.ledger.recommendations_by_id[ADVICE]
    page.goto(f"{world.url}/#/capacity")
    expect(one).to_contain_text("No recommendation stands now; one changes instances of checkout by pm2.")


def test_the_trigger_for_keda_is_copied(open_page: Open, world: PlanWorld) -> None:
    """It is YAML, names this engine, and what it names answers with the count."""
    page = open_page("#/capacity")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    one = page.get_by_role("article", name="checkout")
    one.get_by_text("Let KEDA ask").click()
    one.get_by_role("button", name="Copy the trigger").click()
    expect(one.get_by_role("status")).to_have_text("Copied.")
    (trigger,) = yaml.safe_load(page.evaluate("navigator.clipboard.readText()"))["triggers"]
    assert trigger["metadata"]["url"] == f"{world.url}/api/capacity/checkout/keda"
    told = page.request.get(trigger["metadata"]["url"]).json()
    assert told[trigger["metadata"]["valueLocation"]] == 6


def test_without_a_service_the_page_shows_settings_that_hold(open_page: Open, world: PlanWorld) -> None:
    """The settings that it shows are read by the engine."""
    world.acting.capacity.clear()
    page = open_page("#/capacity")
    expect(page.get_by_text("Nothing is named that is scaled with its load")).to_be_visible()
    shown = yaml.safe_load(page.locator("pre").inner_text())
    assert CapacityOf(**shown["capacity"]["checkout"]).max_replicas == 20


def test_the_challenger_stands_beside_the_champion(open_page: Open) -> None:
    """Figures of both on the same windows, what changed, and the gate's words; and what was refused."""
    page = open_page("#/models")
    expect(page.locator(".serving")).to_contain_text("Version 4 forecasts 37 series")
    expect(page.locator(".serving")).to_contain_text("Its live error is 0.290; at the gate it was 0.262.")
    judged = page.get_by_role("region", name="Challenger 5 beside the champion")
    row = judged.get_by_role("row", name=re.compile("^loss"))
    expect(row).to_contain_text(re.compile(f"0.262.*0.281.*{MINUS}6.76.%.*better.*0.520"))
    expect(judged.get_by_role("row", name=re.compile("^above 99"))).to_contain_text("worse")
    expect(judged).to_contain_text("The gate says: passed the gate.")
    versions = page.get_by_role("region", name="Versions")
    expect(versions.get_by_role("row", name=re.compile("^2 "))).to_contain_text("refused: its loss is 0.61")
    expect(page.get_by_role("region", name="Refused")).to_contain_text(
        "has no manifest.json, but ['model.pkl']"
    )


def test_a_version_is_promoted_and_taken_back_after_a_question(open_page: Open, world: PlanWorld) -> None:
    """The question names both versions and what the gate said; nothing is done on cancel."""
    page = open_page("#/models")
    versions = page.get_by_role("region", name="Versions")
    versions.get_by_role("row", name=re.compile("^2 ")).get_by_role("button", name="Promote").click()
    expect(dialog(page)).to_contain_text("in place of version 4")
    expect(dialog(page)).to_contain_text("The gate said of it: refused: its loss is 0.61")
    dialog(page).get_by_role("button", name="Cancel").click()
    expect(dialog(page)).to_have_count(0)
    assert world.modelling.calls == []
    versions.get_by_role("row", name=re.compile("^5 ")).get_by_role("button", name="Promote").click()
    answer(page, "Promote")
    expect(page.get_by_role("status").filter(has_text="Version 5 is the champion.")).to_be_visible()
    versions.get_by_role("button", name="Roll back").click()
    expect(dialog(page)).to_contain_text("Go back to version 3?")
    answer(page, "Roll back")
    assert [one[:2] for one in world.modelling.calls][:1] == [("promote", "5")]
    assert world.modelling.calls[1][0] == "rollback"
    world.modelling.has_previous = False
    versions.get_by_role("button", name="Roll back").click()
    dialog(page).get_by_role("button", name="Roll back").click()
    expect(dialog(page).get_by_role("alert")).to_contain_text("has no previous champion to go back to")


def test_runs_show_how_far_they_are_and_one_is_begun(open_page: Open, world: PlanWorld) -> None:
    """One runs at a time: while it does no other is begun; what came of each is said."""
    page = open_page("#/models")
    runs = page.get_by_role("region", name="Runs")
    expect(runs.get_by_role("progressbar")).to_have_attribute("value", "0.42")
    expect(runs).to_contain_text("42 %, judge")
    expect(runs.locator(".run")).to_have_count(4)
    expect(runs.locator(".run").nth(2)).to_contain_text("failedPrometheus does not answer")
    expect(runs.get_by_role("button", name="One runs already")).to_be_disabled()
    waits = "waits for the forecasts that are being made"
    world.modelling.finished_runs[0] = replace(
        world.modelling.finished_runs[0], state=RunState.WAITING, said=waits
    )
    world.tick()
    expect(runs.locator(".run").nth(0)).to_contain_text(waits)
    world.modelling.finished_runs[0] = replace(
        world.modelling.finished_runs[0], state=RunState.DONE, said="done with it"
    )
    world.tick()
    runs.get_by_role("button", name="Train now").click()
    answer(page, "Train")
    expect(page.get_by_role("status").filter(has_text="A run was begun.")).to_be_visible()
    assert world.modelling.calls[-1][0] == "start"


def test_why_the_newest_version_does_not_serve_and_what_to_do_is_said(
    open_page: Open, world: PlanWorld
) -> None:
    """With its figures beside those of seasonal naive, and that nobody has to do anything."""
    refused = replace(
        world.modelling.view.versions[1], version="1", role="", live=None,
        said="refused: it errs 2.6% more than seasonal naive (a loss of 0.308 against 0.3; 2% more may be)",
    )  # fmt: skip
    world.modelling.view = replace(
        world.modelling.view, serving="", versions=(refused,), error=None, refused={}
    )
    page = open_page("#/models")
    expect(page.locator(".serving")).to_contain_text("There is no champion yet")
    expect(page.locator(".kept-out")).to_contain_text("1, may not serve: it errs 2.6% more than seasonal")
    expect(page.locator(".kept-out")).to_contain_text("That needs nobody: the next training tries again.")
    judged = page.get_by_role("region", name="How version 1 was judged")
    expect(judged.get_by_role("row", name=re.compile("^loss"))).to_contain_text(re.compile("0.262.*0.520"))


def test_a_champion_of_other_settings_is_said(open_page: Open, world: PlanWorld) -> None:
    """Not that it forecasts from the next time on."""
    why = "the champion, version 4, does not serve: it is made for 288 steps of 300 s"
    world.modelling.view = replace(world.modelling.view, serving="", problem=why)
    page = open_page("#/models")
    expect(page.locator(".serving")).to_contain_text(why)
    expect(page.locator(".serving")).not_to_contain_text("forecasts from the next time on")


def test_without_a_champion_the_page_says_who_forecasts(open_page: Open, world: PlanWorld) -> None:
    """Before the first training there is no table of figures, and the runs say how they come."""
    world.modelling.view = replace(
        world.modelling.view, serving="", error=None, versions=(), refused={}, made=None, series=0
    )
    world.modelling.finished_runs.clear()
    page = open_page("#/models")
    expect(page.locator(".serving")).to_contain_text("Nothing was forecast yet. There is no champion yet")
    expect(page.locator(".serving")).to_contain_text("is not known yet")
    expect(page.get_by_text("None was trained yet")).to_be_visible()
    expect(page.get_by_text("None yet. The schedule begins one")).to_be_visible()
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)


def test_who_may_only_read_promotes_nothing(open_page: Open, world: PlanWorld) -> None:
    """The buttons are shut and say which scope is lacking."""
    page = open_page("#/models", signed_in=False)
    page.get_by_label("API key").fill(api_keys.create_key(world.store, world.clock, ulid(1), ["read"])[1])
    page.keyboard.press("Enter")
    for name, scope in (("Promote", "approve"), ("Roll back", "approve"), ("One runs already", "execute")):
        button = page.get_by_role("button", name=name).first
        expect(button).to_be_disabled()
        expect(button).to_have_attribute("title", f"Your key lacks the scope {scope}")


@pytest.mark.parametrize("place", ["#/capacity", "#/models"])
def test_the_pages_about_plans_fit_a_phone(open_page: Open, place: str) -> None:
    """No page is wider than 390 px, its link is in sight, and Tab reaches the navigation's last place."""
    page = open_page(place, viewport=PHONE)
    expect(page.locator("#main .panel").first).to_be_visible()
    expect(page.locator("nav [aria-current]")).to_be_in_viewport(ratio=1.0)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("link", name="Overview", exact=True).focus()
    for _ in range(9):
        page.keyboard.press("Tab")
    last = page.get_by_role("link", name="Audit")
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport(ratio=0.99)


def test_the_navigation_has_room_on_a_desk(open_page: Open) -> None:
    """At 1280 px all places stand in one row with the pause, and nothing passes the edge of the page."""
    page = open_page("#/models")
    expect(page.locator(".count-chip")).to_be_visible()
    bar = page.locator(".top-inner").evaluate("box => [box.scrollWidth, box.clientWidth, box.offsetHeight]")
    assert bar[0] <= bar[1]
    assert bar[2] == 50
