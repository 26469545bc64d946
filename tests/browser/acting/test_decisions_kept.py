"""Silences, shadows, refusals, resets and ways to a page, in a real browser on the real API."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.acting.decision_dialog import answer, card, dialog
from tests.browser.control_loop_world import HIT, LAZY, REFUSED, RUNNING, LoopWorld
from trimtab.engine.types import ActionState

Open = Callable[..., Page]


def test_a_silence_is_made_seen_and_ended(open_page: Open, world: LoopWorld) -> None:
    """From the incidents there is a way to it; it is told what is silent, until when and by whom."""
    page = open_page("#/incidents")
    page.get_by_role("link", name="Silences").click()
    row = page.get_by_role("row", name=re.compile("batch"))
    expect(row).to_contain_text("active")
    expect(row).to_contain_text("month's end")
    silence = page.get_by_role("button", name="Silence", exact=True)
    expect(silence).to_be_disabled()
    page.get_by_label("What: names").fill("redis/*, web")
    page.get_by_role("combobox").select_option("2 hours")
    page.get_by_label("Why").fill("moving it")
    silence.click()
    made = page.get_by_role("row", name=re.compile("redis"))
    expect(made).to_contain_text("moving it")
    kept = next(one for one in world.acting.ledger.silences() if one.note == "moving it")
    assert kept.entities == ("redis/*", "web")
    assert abs((kept.until - kept.begin) / 1e9 - 7200) < 60
    made.get_by_role("button", name="End").click()
    answer(page, "End")
    expect(made).to_contain_text("over")
    expect(made.get_by_role("button")).to_have_count(0)
    assert [row.what for row in world.acting.ledger.rows[-2:]] == ["silenced", "silence ended"]


def test_what_auto_would_have_done_is_told(open_page: Open) -> None:
    """On the recommendation, with what happened without it, and summed over all of them."""
    page = open_page("#/inbox")
    memory = card(page, "Give cache-1 more memory")
    expect(memory).to_contain_text("Mode auto would have set maxmemory 256 MiB → 320 MiB at")
    expect(memory).to_contain_text("The hit ratio of cache-1 was 61 % then.")
    expect(memory).to_contain_text("severity 0.62 → 0.85")
    summed = page.get_by_text("Had the mode been auto: 2 actions.")
    expect(summed).to_contain_text("1 ended without, 1 still open; 1 became worse meanwhile.")


def test_a_recommendation_without_an_incident_says_so(open_page: Open, world: LoopWorld) -> None:
    """Seen on a look around; one of an incident leads there."""
    page = open_page("#/inbox")
    expect(card(page, "Free evicted keys in the background")).to_contain_text("without an incident")
    card(page, "Give cache-1 more memory").get_by_role("link", name="in an incident").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("keys are evicted")
    page.goto(f"{world.url}/#/inbox/{LAZY}")
    expect(page.get_by_role("article")).to_contain_text("without an incident")


def test_what_was_refused_did_not_fail(open_page: Open, world: LoopWorld) -> None:
    """It is called refused, with the guard's reason; what failed before it was sent was not sent."""
    page = open_page(f"#/actions/{REFUSED}")
    expect(page.locator(".state").first).to_have_text("refused")
    expect(page.locator(".card")).to_contain_text("wait 12 min")
    expect(page.locator(".card")).to_contain_text("nothing was sent")
    done = world.acting.ledger.actions_by_id
    object.__setattr__(done[REFUSED], "state", ActionState.FAILED)
    page.reload()
    expect(page.locator(".state").first).to_have_text("not sent")


def test_a_reset_says_where_it_goes_and_asks_again(open_page: Open, world: LoopWorld) -> None:
    """To no limit at all: the button stays shut until that was meant."""
    page = open_page("#/tools/redis")
    target = page.get_by_role("region", name="cache-1")
    target.get_by_role("row", name=re.compile("^maxmemory Above")).get_by_role("button", name="Set").click()
    field = dialog(page).get_by_role("textbox")
    expect(field).to_have_value("256 MiB")
    field.fill("")
    expect(dialog(page)).to_contain_text("own default, 0 B = no limit")
    reset = dialog(page).get_by_role("button", name="Reset")
    expect(reset).to_be_disabled()
    dialog(page).get_by_label("That is what I want").check()
    reset.click()
    expect(dialog(page)).to_have_count(0)
    newest = max(world.acting.ledger.actions_by_id.values(), key=lambda action: action.id)
    assert (newest.subject, newest.after) == ("maxmemory", None)


def test_undo_works_while_all_is_paused(open_page: Open, world: LoopWorld) -> None:
    """The question before the pause says so, and it is so."""
    page = open_page("#/actions")
    page.get_by_role("button", name="Pause").click()
    expect(dialog(page)).to_contain_text("People still can: Undo works")
    answer(page, "Pause")
    card(page, "maxmemory of cache-1").get_by_role("button", name="Undo").click()
    answer(page, "Undo")
    expect(page.get_by_role("status").filter(has_text="Taken back.")).to_be_visible()
    assert world.acting.ledger.action(RUNNING).state is ActionState.ROLLED_BACK


def test_a_page_typed_as_a_path_is_found(open_page: Open) -> None:
    """With what stands behind it."""
    page = open_page("tools/redis")
    expect(page.get_by_role("heading", level=1)).to_have_text("redis")
    assert page.url.endswith("/#/tools/redis")
    page = open_page(f"series/{HIT.id}?range=1h")
    expect(page.get_by_role("heading", level=1)).to_contain_text("redis_hit_ratio")


def test_the_audit_cuts_nothing(open_page: Open, world: LoopWorld) -> None:
    """At 1280 px every detail is there, wrapped, and nothing has to be scrolled to."""
    details = {f"detail_{i}": "x" * 40 for i in range(8)}
    world.acting.ledger.append_audit("noted", "01JGFJJZ000000000000000000", "an administrator", dict(details))
    page = open_page("#/audit")
    expect(page.locator("table.audit")).to_contain_text("detail_7")
    wide = page.evaluate("(t => [t.scrollWidth, t.clientWidth])(document.querySelector('.table'))")
    assert wide[0] <= wide[1]
