"""Incidents, recommendations, actions, tools and the pause in a real browser, on the real API."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE
from tests.browser.loop_world import (
    HOSTILE,
    INCIDENT_ID,
    KEPT,
    LAZY,
    MEMORY,
    PAST_ID,
    RELOAD,
    RUNNING,
    LoopWorld,
    ulid,
)
from tests.browser.world import DIST, World, serving
from trimtab.engine.api import keys
from trimtab.engine.types import ActionState, IncidentState, RecommendationState

Open = Callable[..., Page]
PLACES = (
    "#/", "#/incidents", f"#/incidents/{INCIDENT_ID}", "#/inbox", f"#/inbox/{MEMORY}", "#/actions",
    f"#/actions/{RUNNING}", "#/tools", "#/tools/redis", "#/audit",
)  # fmt: skip


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    if not (DIST / "index.html").is_file():
        pytest.skip("the dashboard is not built: make web")
    with serving(LoopWorld()) as world:
        yield world


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
    expect(card(page, "Give cache-1 more memory")).to_contain_text("336 MB")
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


def test_a_recommendation_says_all_before_it_is_approved(open_page: Open, world: LoopWorld) -> None:
    """Change, effect, evidence, risk, cost, disproof and the way by hand are there; one click approves."""
    page = open_page("#/inbox")
    memory = card(page, "Give cache-1 more memory")
    for words in (
        "268 MB → 336 MB", "61 % → 96 %", "91\N{EN DASH}98 %", "420 keys/s are evicted", "low risk",
        "86 % sure", "64 MiB of memory", "stays under 0.9", "CONFIG SET maxmemory 335544320", "expires in",
    ):  # fmt: skip
        expect(memory).to_contain_text(words)
    expect(page.locator(".count-chip")).to_contain_text("3")
    memory.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status").filter(has_text="Approved: Give cache-1 more memory")).to_be_visible()
    expect(memory).to_have_count(0)
    expect(page.locator(".count-chip")).to_contain_text("2")
    now = world.recommendation(MEMORY)
    assert (now.state, now.approver) == (RecommendationState.APPROVED, "admin")
    assert world.acting.ledger.rows[-1].what == "recommendation approved"


def test_what_is_risky_asks_before_it_is_approved(open_page: Open, world: LoopWorld) -> None:
    """A high risk is named in a question; Escape leaves all as it was."""
    page = open_page("#/inbox")
    card(page, "Reload the leaking worker").get_by_role("button", name="Approve").click()
    expect(dialog(page)).to_contain_text("high risk")
    page.keyboard.press("Escape")
    expect(dialog(page)).to_have_count(0)
    assert world.recommendation(RELOAD).state is RecommendationState.PENDING
    card(page, "Reload the leaking worker").get_by_role("button", name="Approve").click()
    answer(page, "Approve")
    expect(card(page, "Reload the leaking worker")).to_have_count(0)
    assert world.recommendation(RELOAD).state is RecommendationState.APPROVED


def test_dismissing_wants_a_reason(open_page: Open, world: LoopWorld) -> None:
    """Without a reason the button stays shut; with one it is dismissed, and the reason kept."""
    page = open_page("#/inbox")
    free = card(page, "Free evicted keys in the background")
    free.get_by_role("button", name="Dismiss").click()
    expect(dialog(page).get_by_role("button", name="Dismiss")).to_be_disabled()
    answer(page, "Dismiss", "tried last month")
    expect(free).to_have_count(0)
    now = world.recommendation(LAZY)
    assert (now.state, now.reason) == (RecommendationState.DISMISSED, "tried last month")
    page.get_by_role("button", name="all", exact=True).click()
    expect(free).to_contain_text("tried last month")
    expect(free.get_by_role("button")).to_have_count(0)


def test_applying_leads_to_the_action(open_page: Open, world: LoopWorld) -> None:
    """It is done after one question; the link shows the action, which is being watched."""
    page = open_page("#/inbox")
    card(page, "Give cache-1 more memory").get_by_role("button", name="Apply now").click()
    expect(dialog(page)).to_contain_text("268 MB → 336 MB")
    answer(page, "Apply")
    page.get_by_role("link", name="See how it does").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("maxmemory of cache-1")
    expect(page.locator(".state").first).to_have_text("being watched")
    expect(page.locator("table.audit")).to_contain_text("action executed")
    assert world.recommendation(MEMORY).state is RecommendationState.APPLIED


def test_scheduling_takes_the_readers_time(open_page: Open, world: LoopWorld) -> None:
    """A time in an hour is proposed; the answer shows when it will be."""
    page = open_page(f"#/inbox/{MEMORY}", timezone_id="Asia/Kolkata")
    page.get_by_role("button", name="Schedule").click()
    answer(page, "Schedule")
    expect(page.locator(".state").first).to_contain_text("scheduled for")
    scheduled = world.recommendation(MEMORY).scheduled
    assert scheduled is not None
    assert 3500 < (scheduled - world.clock.now()) / 1e9 < 3700


def test_a_refusal_is_shown_with_its_reason(open_page: Open, world: LoopWorld) -> None:
    """What a guardrail forbids stays pending, and the question says why."""
    world.acting.desk.refusal = "cooldown of cache-1: 12 min left"
    page = open_page("#/inbox")
    card(page, "Give cache-1 more memory").get_by_role("button", name="Apply now").click()
    dialog(page).get_by_role("button", name="Apply").click()
    expect(dialog(page).get_by_role("alert")).to_have_text("Refused: cooldown of cache-1: 12 min left")
    dialog(page).get_by_role("button", name="Cancel").click()
    assert world.recommendation(MEMORY).state is RecommendationState.PENDING


def test_an_action_under_way_shows_its_effect_and_is_undone(open_page: Open, world: LoopWorld) -> None:
    """The figure since before the change stands against what was expected; undo restores the value."""
    page = open_page("#/actions")
    running = card(page, "maxmemory of cache-1")
    expect(running).to_contain_text("being watched")
    expect(running).to_contain_text("61 % → 96 %")
    expect(running).to_contain_text("now 61.4 %")
    expect(running.locator("svg.spark path.spark-line")).to_have_attribute("d", re.compile("^M"))
    running.get_by_role("button", name="Undo").click()
    expect(dialog(page)).to_contain_text("336 MB → 268 MB")
    answer(page, "Undo")
    expect(page.get_by_role("status").filter(has_text="Taken back.")).to_be_visible()
    expect(page.locator(".action-row", has_text="taken back")).to_have_count(1)
    back = world.acting.ledger.action(RUNNING)
    assert back.state is ActionState.ROLLED_BACK
    assert [a.undoes for a in world.acting.ledger.done.values()].count(RUNNING) == 1


def test_an_action_that_is_unknown_says_what_to_do(open_page: Open) -> None:
    """An action without an answer is neither a success nor a failure, and is not offered for undo."""
    page = open_page(f"#/actions/{ulid(70)}")
    expect(page.locator(".card")).to_contain_text("not known")
    expect(page.locator(".card")).to_contain_text("It is not sent again by itself")
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)
    page.goto(page.url.split("#")[0] + f"#/actions/{KEPT}")
    expect(page.locator(".card")).to_contain_text("no harm seen; measured:")


def test_pause_is_in_sight_and_stops_everything(open_page: Open, world: LoopWorld) -> None:
    """One click and a reason stop all; every open page says so at once; a person lets it act again."""
    page, other = open_page("#/series"), open_page("#/tools")
    expect(other.locator(".pulse")).to_have_class(re.compile("live"))
    page.get_by_role("button", name="Pause").click()
    answer(page, "Pause", "moving the database")
    for each in (page, other):
        expect(each.locator(".banner.paused")).to_contain_text("Paused: nothing acts. By admin")
        expect(each.locator(".banner.paused")).to_contain_text("moving the database")
        expect(each.get_by_role("button", name="Resume")).to_be_visible()
    assert world.acting.ledger.pause().on is True
    page.goto(page.url.split("#")[0] + "#/inbox")
    card(page, "Give cache-1 more memory").get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert")).to_contain_text("Refused: everything is paused")
    page.get_by_role("button", name="Resume").click()
    answer(page, "Resume", "moved")
    expect(other.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator(".banner.paused")).to_have_count(0)
    assert [row.what for row in world.acting.ledger.rows[-2:]] == ["paused", "resumed"]


def test_pause_by_keyboard(open_page: Open, world: LoopWorld) -> None:
    """The button, the reason and the answer need no pointer, and the focus comes back."""
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
    assert world.acting.ledger.pause().reason == "by hand"


def test_tools_show_their_state_and_are_switched(open_page: Open, world: LoopWorld) -> None:
    """Each tool says how it does and what to do; switching one asks first and stands in the audit."""
    page = open_page("#/tools")
    expect(page.get_by_role("region", name="postgresql")).to_contain_text("wrong password for trimtab")
    expect(page.get_by_role("region", name="pm2")).to_contain_text("trial")
    redis = page.get_by_role("region", name="redis")
    redis.get_by_role("button", name="Disable").click()
    answer(page, "Disable")
    expect(redis).to_contain_text("disabled")
    assert world.acting.toolbox.tools["redis"].enabled is False
    assert world.acting.ledger.rows[-1].what == "tool disabled"


def test_a_tools_target_is_read_and_changed(open_page: Open, world: LoopWorld) -> None:
    """Figures in their units, knobs with bounds; a knob is set, a one-click action told, after a question."""
    page = open_page("#/tools/redis")
    target = page.get_by_role("region", name="cache-1")
    expect(target.locator(".figures")).to_contain_text("redis_hit_ratio61 %")
    page.get_by_text("How to let it in").click()
    expect(page.locator("pre")).to_contain_text("ACL SETUSER trimtab")
    target.get_by_role("row", name=re.compile("^maxmemory Above")).get_by_role("button", name="Set").click()
    dialog(page).get_by_role("textbox").fill("lots")
    expect(dialog(page)).to_contain_text("Allowed: 0.067")
    expect(dialog(page).get_by_role("button", name="Set")).to_be_disabled()
    dialog(page).get_by_role("textbox").fill("335544320")
    expect(dialog(page)).to_contain_text("268 MB → 336 MB")
    answer(page, "Set")
    expect(page.get_by_role("status").filter(has_text="Set maxmemory of cache-1.")).to_be_visible()
    target.get_by_role("row", name=re.compile("^maxmemory-policy")).get_by_role("button", name="Set").click()
    choices = dialog(page).get_by_role("option")
    expect(choices.filter(has_text="noeviction")).to_be_disabled()
    dialog(page).get_by_role("button", name="Cancel").click()
    target.get_by_role("button", name="flush cold").click()
    expect(dialog(page)).to_contain_text("high risk")
    answer(page, "Do it: flush cold")
    knob, told = sorted(world.acting.ledger.done.values(), key=lambda a: a.id)[-2:]
    assert {(knob.subject, knob.after), (told.subject, told.after)} == {
        ("maxmemory", 335_544_320),
        ("flush_cold", None),
    }


def test_the_audit_is_listed_and_checked(open_page: Open, world: LoopWorld) -> None:
    """Newest first, older ones on demand; the check says whether the chain is whole."""
    for i in range(120):
        world.acting.ledger.note("noted", f"thing {i}", "anna", {"round": i})
    page = open_page("#/audit")
    rows = page.locator("table.audit tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("thing 119")
    expect(rows.first).to_contain_text("round=119")
    page.get_by_role("button", name="Load more").click()
    expect(rows).to_have_count(123)
    page.get_by_role("button", name="Check the chain").click()
    expect(page.locator(".check")).to_contain_text("Whole: 123 rows")
    world.acting.wrong = "row 7 was edited"
    page.get_by_role("button", name="Check the chain").click()
    expect(page.locator(".check")).to_contain_text("Not whole: row 7 was edited")


def test_who_may_only_read_is_told_so(open_page: Open, world: LoopWorld) -> None:
    """Buttons that a key may not press are shut, and say which scope is lacking."""
    page = open_page("#/inbox", signed_in=False)
    page.get_by_label("API key").fill(keys.create(world.store, world.clock, ulid(1), ["read"])[1])
    page.keyboard.press("Enter")
    approve = card(page, "Give cache-1 more memory").get_by_role("button", name="Approve")
    expect(approve).to_be_disabled()
    expect(approve).to_have_attribute("title", "Your key lacks the scope approve")
    expect(page.get_by_role("button", name="Pause")).to_be_disabled()


def test_empty_pages_say_what_to_do(open_page: Open, world: LoopWorld) -> None:
    """Without incidents, recommendations, actions and tools each page says how they come."""
    world.acting.incidents.by_id.clear()
    world.acting.ledger.asked.clear()
    world.acting.ledger.done.clear()
    world.acting.toolbox.tools.clear()
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
