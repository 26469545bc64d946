"""What happens by itself: start, watch, keep or take back, expire, go on after a crash, stop when told."""

import asyncio
from dataclasses import replace
from math import nan

import pytest

from tests.builders.action_stack import (
    SERIES,
    Room,
    Word,
    fake_redis,
    only_action,
    open_ledger,
    recommended,
    until,
)
from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from trimtab.engine.actions.decision_contracts import Guarded
from trimtab.engine.audit.audit_export import verify
from trimtab.engine.errors import ToolError
from trimtab.engine.types import ActionState, Mode, Pause, RecommendationState

R = RecommendationState
GUARDED = (Guarded(SERIES, "hit ratio", True),)


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def room(ledger):
    return Room(ledger, ledger.clock, fake_redis())


async def test_an_automatic_change_is_made_watched_and_kept(room):
    """From pending to closed without a person; the effect is measured, and nobody says that it helped."""
    recommended(room)
    room.past()
    await room.step()
    assert only_action(room).state is ActionState.VERIFYING
    assert room.ledger.recommendation(ulid(500)).state is R.APPLIED
    await room.live(12 * 60, level=0.9)
    action = only_action(room)
    assert (action.state, action.outcome.words) == (ActionState.KEPT, "no harm seen")
    effect = action.outcome.effect
    assert effect.before == pytest.approx(0.5)
    assert effect.low <= 0.9 <= effect.high
    closed = room.ledger.recommendation(ulid(500))
    assert (closed.state, closed.reason) == (R.CLOSED, "no harm seen")
    assert [row.what for row in room.ledger.audit_rows()] == [
        "recommended", "proposed", "applied", "executing", "verifying", "kept", "closed",
    ]  # fmt: skip
    assert verify(room.ledger) == []
    assert room.told == []


async def test_a_harmful_change_is_taken_back(room):
    """To the value before, once; people are told; the target is locked by nothing."""
    recommended(room)
    room.past()
    await room.step()
    await room.live(6 * 60, level=0.2)
    action = only_action(room)
    assert action.state is ActionState.ROLLED_BACK
    assert "3 bad checks" in action.outcome.words
    assert "hit ratio is 0.2" in action.outcome.words
    assert room.tool.effects == [("fake", "size", 125), ("fake", "size", 100)]
    assert room.told[0].startswith("taking it back: 3 bad checks")
    await room.live(15 * 60, level=0.2)
    assert len(room.tool.effects) == 2
    assert room.ledger.recommendation(ulid(500)).state is R.CLOSED


async def test_somebody_elses_value_is_left_and_the_target_locked(room):
    """People are told; nothing is started there by itself until a person has set it."""
    shown = room.conductor.waiting
    recommended(room)
    room.past()
    await room.step()
    room.tool.values["fake", "size"] = 300
    await room.live(6 * 60, level=0.2)
    assert only_action(room).state is ActionState.INCONCLUSIVE
    assert any("not taken back: not sent: size of fake is 300" in words for words in room.told)
    recommended(room, 501, before=300, after=350)
    await room.live(60, level=0.5)
    assert "could not be taken back" in shown[ulid(501)]
    by_hand = await room.desk.set_knob("fake", "fake", "size", 300, 310, "ann", "k")
    room.ledger.transition(replace(by_hand, state=ActionState.KEPT), ActionState.VERIFYING, "kept", "trimtab")
    recommended(room, 502, before=310, after=350)
    await room.step()
    assert room.tool.values["fake", "size"] == 350


async def test_without_samples_it_holds_and_tells_once(room):
    """Neither kept nor taken back; in the end inconclusive."""
    recommended(room)
    room.past()
    await room.step()
    await room.live(10 * 60, level=nan)
    assert only_action(room).state is ActionState.VERIFYING
    assert room.told == ["no samples of hit ratio: look at it yourself"]
    assert room.conductor.judgements[only_action(room).id].verdict == "hold"
    await room.live(25 * 60, level=nan)
    assert only_action(room).state is ActionState.INCONCLUSIVE
    assert len(room.tool.effects) == 1


async def test_a_one_click_action_that_does_harm_is_told(ledger):
    """It cannot be taken back."""
    room = Room(ledger, ledger.clock, fake_redis(), GUARDED)
    room.past()
    done = await room.desk.run("fake", "fake", "flush", "ann", "k")
    await room.live(6 * 60, level=0.2)
    ended = room.ledger.action(done.id)
    assert (ended.state, ended.outcome.words.partition("; ")[2]) == (
        ActionState.INCONCLUSIVE, "it cannot be taken back",
    )  # fmt: skip
    assert len(room.told) == 1


@pytest.mark.parametrize(
    ("state", "more", "starts_after"),
    [
        (R.PENDING, {"mode": Mode.AUTO}, 0),
        (R.PENDING, {"mode": Mode.APPROVE}, None),
        (R.PENDING, {"mode": Mode.RECOMMEND}, None),
        (R.APPROVED, {"mode": Mode.RECOMMEND, "approver": "ann", "approved": 0}, 0),
        (R.SCHEDULED, {"mode": Mode.APPROVE, "approver": "ann", "scheduled": 120}, 120),
        (R.DISMISSED, {}, None),
        (R.EXPIRED, {}, None),
    ],
)
async def test_only_what_may_start_starts(room, state, more, starts_after):
    """Automatic, approved or due; and not before its time."""
    start = room.clock.now()
    more = {name: start + v * SECOND if name in {"approved", "scheduled"} else v for name, v in more.items()}
    recommended(room, state=state, **more)
    for _ in range(40):
        await room.step()
        if room.tool.effects:
            break
        room.clock.tick(15)
    after = (room.clock.now() - start) // SECOND if room.tool.effects else None
    assert after == starts_after
    if room.tool.effects:
        assert only_action(room).by == more.get("approver", "trimtab")


@pytest.mark.parametrize(
    ("state", "more", "expires_after"),
    [
        (R.PENDING, {"mode": Mode.APPROVE}, 3600),
        (R.APPROVED, {"approver": "ann", "approved": 0}, 900),
        (R.SCHEDULED, {"approver": "ann", "approved": 0, "scheduled": 600}, 1500),
    ],
)
async def test_what_the_guard_holds_up_expires(room, state, more, expires_after):
    """A recommendation in its own time, an approval after 15 min, a scheduled time 15 min later; with why."""
    start = room.clock.now()
    more = {name: start + v * SECOND if name in {"approved", "scheduled"} else v for name, v in more.items()}
    recommended(room, state=state, **more)
    room.guard.says = Word("refuse", "rate", "6 changes in the last hour")
    while room.ledger.recommendation(ulid(500)).state is state:
        room.clock.tick(60)
        await room.step()
    assert (room.clock.now() - start) // SECOND == expires_after
    expired = room.ledger.recommendation(ulid(500))
    said = "nobody decided in time" if state is R.PENDING else "6 changes in the last hour"
    assert (expired.state, expired.reason) == (R.EXPIRED, said)
    assert room.tool.effects == []


async def test_a_plan_that_waits_too_long_is_not_sent(room):
    """Written down, then refused when the guard is asked again: five minutes later it has failed."""
    recommended(room)
    action = await room.starter.journal.propose(room.starter.action_of(recommended(room), "trimtab"))
    room.guard.says = Word("refuse", "rate", "2 are running")
    await room.live(290, every=10)
    assert room.ledger.action(action.id).state is ActionState.PROPOSED
    await room.live(20, every=10)
    ended = room.ledger.action(action.id)
    assert (ended.state, ended.outcome.words) == (
        ActionState.FAILED, "not sent: its plan is too old: 2 are running",
    )  # fmt: skip
    assert room.ledger.recommendation(ulid(500)).state is R.CLOSED


async def test_a_dismissed_recommendation_is_not_sent(room):
    """Even where its action was written down already."""
    action = await room.starter.journal.propose(room.starter.action_of(recommended(room), "trimtab"))
    await room.desk.dismiss(ulid(500), "ann", "no")
    await room.step()
    ended = room.ledger.action(action.id)
    assert (ended.state, ended.outcome.words) == (
        ActionState.FAILED,
        "not sent: its recommendation is dismissed",
    )
    assert room.tool.effects == []


async def test_a_pause_holds_within_one_step_and_over_a_restart(ledger):
    """Nothing starts and nothing is taken back; what runs is watched; a person is told."""
    room = Room(ledger, ledger.clock, fake_redis())
    recommended(room)
    room.past()
    await room.step()
    room.ledger.set_pause(Pause(on=True, by="ann"))
    recommended(room, 501, subject="other")
    room = Room(ledger, ledger.clock, room.tool, first=100)  # a restart
    room.past()
    await room.live(6 * 60, level=0.2)
    assert room.tool.effects == [("fake", "size", 125)]
    assert any("not taken back while everything is paused" in words for words in room.told)
    await room.desk.resume("ann", "")
    await room.live(60, level=0.2)
    assert room.tool.effects == [("fake", "size", 125), ("fake", "size", 100)]


async def test_a_pause_beats_a_start_that_is_under_way(room):
    """The guard has allowed it, the tool is being read: it is not sent."""
    recommended(room)
    room.tool.gates["read"] = asyncio.Event()
    await room.conductor.step(room.clock.now())
    await until(lambda: any(call[0] == "read" for call in room.tool.calls))
    await room.desk.pause("ann", "")
    room.tool.gates["read"].set()
    await room.conductor.settled()
    assert room.tool.effects == []
    assert only_action(room).state is ActionState.PROPOSED


async def test_an_undoing_waits_for_the_guard_and_for_its_tool(room):
    """It is tried again until it may and can; then it is done once."""
    recommended(room)
    room.past()
    await room.step()
    room.guard.says = Word("refuse", "mass", "40 % of all series are unusual")
    await room.live(6 * 60, level=0.2)
    assert any("not yet taken back: 40 % of all" in words for words in room.told)
    room.guard.says = Word()
    room.tool.respond_with("read", ToolError("away"))
    await room.live(15, level=0.2)
    assert len(room.tool.effects) == 1
    await room.live(15, level=0.2)
    assert room.tool.effects == [("fake", "size", 125), ("fake", "size", 100)]
    assert only_action(room).state is ActionState.ROLLED_BACK


async def test_one_slow_tool_holds_nothing_else_up(room):
    """What is sent goes on beside the steps; it is sent once."""
    recommended(room)
    room.executor.deadlines = replace(room.executor.deadlines, send_s=30)
    room.tool.gates["apply"] = asyncio.Event()
    for _ in range(5):
        await room.conductor.step(room.clock.now())
    await until(lambda: any(call[0] == "apply" for call in room.tool.calls))
    other = recommended(room, 501, mode=Mode.APPROVE, expires=room.clock.now())
    await room.conductor.step(room.clock.now())
    assert room.ledger.recommendation(other.id).state is R.EXPIRED
    room.tool.gates["apply"].set()
    await room.conductor.settled()
    assert room.tool.effects == [("fake", "size", 125)]


async def test_times_are_scaled_for_a_trial_only(ledger):
    """A tenth of the watch; the scale stands on the action."""
    room = Room(ledger, ledger.clock, fake_redis(trial=True), time_scale=0.1)
    recommended(room)
    room.past(seconds=120)
    await room.step()
    await room.live(75, level=0.5, every=2.5)
    assert (only_action(room).time_scale, only_action(room).state) == (0.1, ActionState.KEPT)
    other = Room(ledger, ledger.clock, fake_redis(), time_scale=0.1)
    assert other.starter.action("fake", "fake", "size", 1, 2, "ann", "k").time_scale == 1.0
