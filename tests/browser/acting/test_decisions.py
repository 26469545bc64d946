"""Recommendations, actions and the pause in a real browser, on the real API."""

import re
from collections.abc import Callable
from dataclasses import replace

from playwright.sync_api import Page, expect

from tests.browser.acting.decision_dialog import answer, card, dialog
from tests.browser.control_loop_world import (
    KEPT,
    LAZY,
    MEMORY,
    RELOAD,
    RUNNING,
    LoopWorld,
    ulid,
)
from trimtab.engine.types import ActionState, RecommendationState

Open = Callable[..., Page]


def test_a_recommendation_says_all_before_it_is_approved(open_page: Open, world: LoopWorld) -> None:
    """Change, effect, evidence, risk, cost, disproof and the way by hand are there; one click approves."""
    page = open_page("#/inbox")
    memory = card(page, "Give cache-1 more memory")
    for words in (
        "256 MiB → 320 MiB", "61 % → 96 %", "91\N{EN DASH}98 %", "420 keys/s are evicted", "low risk",
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


def test_advice_that_no_knob_does_can_only_be_dismissed(open_page: Open, world: LoopWorld) -> None:
    """What people do elsewhere says how, and has no button that would do it."""
    asked = world.acting.ledger.recommendations_by_id
    asked[LAZY] = replace(
        asked[LAZY], subject="by hand", is_action=True, before=None, after=None, command="",
        title="db: autovacuum is off", evidence=("ALTER SYSTEM SET autovacuum = on",),
    )  # fmt: skip
    page = open_page("#/inbox")
    advice = card(page, "db: autovacuum is off")
    expect(advice).to_contain_text("ALTER SYSTEM SET autovacuum = on")
    expect(advice.get_by_role("button")).to_have_text(["Dismiss"])
    expect(advice).not_to_contain_text("one-click")


def test_applying_leads_to_the_action(open_page: Open, world: LoopWorld) -> None:
    """It is done after one question; the link shows the action, which is being watched."""
    page = open_page("#/inbox")
    card(page, "Give cache-1 more memory").get_by_role("button", name="Apply now").click()
    expect(dialog(page)).to_contain_text("256 MiB → 320 MiB")
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
    world.acting.decisions.refusal = "cooldown of cache-1: 12 min left"
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
    expect(dialog(page)).to_contain_text("320 MiB → 256 MiB")
    answer(page, "Undo")
    expect(page.get_by_role("status").filter(has_text="Taken back.")).to_be_visible()
    expect(page.locator(".action-row", has_text="taken back")).to_have_count(1)
    back = world.acting.ledger.action(RUNNING)
    assert back.state is ActionState.ROLLED_BACK
    assert [a.undoes for a in world.acting.ledger.actions_by_id.values()].count(RUNNING) == 1


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
