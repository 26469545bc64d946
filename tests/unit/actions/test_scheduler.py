"""Scheduler: starts, verifies, keeps, rolls back and expires actions, and recovers after a restart."""

import asyncio
from dataclasses import replace
from math import nan

import pytest

from tests.builders.action_stack import (
    SERIES,
    ActionStack,
    FakeDecision,
    make_fake_tool,
    only_action,
    open_ledger,
    save_recommendation,
    wait_until,
)
from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from trimtab.engine.actions.decision_contracts import GuardedMetric
from trimtab.engine.audit.audit_export import verify_audit
from trimtab.engine.errors import ToolError
from trimtab.engine.types import ActionState, Mode, Pause, RecommendationState

R = RecommendationState
GUARDED = (GuardedMetric(SERIES, "hit ratio", True),)


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as made:
        yield made


@pytest.fixture
def stack(ledger):
    return ActionStack(ledger, ledger.clock, make_fake_tool())


async def test_an_automatic_change_is_verified_and_kept(stack):
    """A pending automatic recommendation is applied, verified, kept and closed with its measured effect."""
    save_recommendation(stack)
    stack.add_history()
    await stack.step()
    assert only_action(stack).state is ActionState.VERIFYING
    assert stack.ledger.recommendation(ulid(500)).state is R.APPLIED
    await stack.run_for(12 * 60, level=0.9)
    action = only_action(stack)
    assert (action.state, action.outcome.words) == (ActionState.KEPT, "no harm seen")
    effect = action.outcome.effect
    assert effect.before == pytest.approx(0.5)
    assert effect.low <= 0.9 <= effect.high
    closed = stack.ledger.recommendation(ulid(500))
    assert (closed.state, closed.reason) == (R.CLOSED, "no harm seen")
    assert [row.what for row in stack.ledger.audit_rows()] == [
        "recommended", "proposed", "applied", "executing", "verifying", "kept", "closed",
    ]  # fmt: skip
    assert verify_audit(stack.ledger) == []
    assert stack.notifications == []


async def test_a_harmful_change_is_rolled_back(stack):
    """A harmful change is rolled back once, with a notification."""
    save_recommendation(stack)
    stack.add_history()
    await stack.step()
    await stack.run_for(6 * 60, level=0.2)
    action = only_action(stack)
    assert action.state is ActionState.ROLLED_BACK
    assert "3 bad checks" in action.outcome.words
    assert "hit ratio is 0.2" in action.outcome.words
    assert stack.tool.effects == [("fake", "size", 125), ("fake", "size", 100)]
    assert stack.notifications[0].startswith("rolling back: 3 bad checks")
    await stack.run_for(15 * 60, level=0.2)
    assert len(stack.tool.effects) == 2
    assert stack.ledger.recommendation(ulid(500)).state is R.CLOSED


async def test_a_foreign_value_locks_the_target(stack):
    """A rollback leaves a foreign value, notifies and locks the target until an operator sets it."""
    blocked_reasons = stack.scheduler.blocked_reasons
    save_recommendation(stack)
    stack.add_history()
    await stack.step()
    stack.tool.values["fake", "size"] = 300
    await stack.run_for(6 * 60, level=0.2)
    assert only_action(stack).state is ActionState.INCONCLUSIVE
    assert any("rollback failed: not sent: size of fake is 300" in words for words in stack.notifications)
    save_recommendation(stack, 501, before=300, after=350)
    await stack.run_for(60, level=0.5)
    assert "could not be rolled back" in blocked_reasons[ulid(501)]
    manual = await stack.decisions.set_knob("fake", "fake", "size", 300, 310, "ann", "k")
    stack.ledger.transition(replace(manual, state=ActionState.KEPT), ActionState.VERIFYING, "kept", "trimtab")
    save_recommendation(stack, 502, before=310, after=350)
    await stack.step()
    assert stack.tool.values["fake", "size"] == 350


async def test_without_samples_the_result_is_inconclusive(stack):
    """Without samples a change is held with one notification and ends inconclusive."""
    save_recommendation(stack)
    stack.add_history()
    await stack.step()
    await stack.run_for(10 * 60, level=nan)
    assert only_action(stack).state is ActionState.VERIFYING
    assert stack.notifications == ["no samples of hit ratio: check it manually"]
    assert stack.scheduler.verifications[only_action(stack).id].verdict == "hold"
    await stack.run_for(25 * 60, level=nan)
    assert only_action(stack).state is ActionState.INCONCLUSIVE
    assert len(stack.tool.effects) == 1


async def test_a_harmful_tool_action_is_notified(ledger):
    """A harmful tool action cannot be rolled back; it ends inconclusive with one notification."""
    stack = ActionStack(ledger, ledger.clock, make_fake_tool(), GUARDED)
    stack.add_history()
    done = await stack.decisions.run("fake", "fake", "flush", "ann", "k")
    await stack.run_for(6 * 60, level=0.2)
    ended = stack.ledger.action(done.id)
    assert (ended.state, ended.outcome.words.partition("; ")[2]) == (
        ActionState.INCONCLUSIVE, "it cannot be rolled back",
    )  # fmt: skip
    assert len(stack.notifications) == 1


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
async def test_which_recommendations_start(stack, state, more, starts_after):
    """Automatic, approved and due scheduled recommendations start; others do not."""
    start = stack.clock.now()
    more = {name: start + v * SECOND if name in {"approved", "scheduled"} else v for name, v in more.items()}
    save_recommendation(stack, state=state, **more)
    for _ in range(40):
        await stack.step()
        if stack.tool.effects:
            break
        stack.clock.tick(15)
    after = (stack.clock.now() - start) // SECOND if stack.tool.effects else None
    assert after == starts_after
    if stack.tool.effects:
        assert only_action(stack).by == more.get("approver", "trimtab")


@pytest.mark.parametrize(
    ("state", "more", "expires_after"),
    [
        (R.PENDING, {"mode": Mode.APPROVE}, 3600),
        (R.APPROVED, {"approver": "ann", "approved": 0}, 900),
        (R.SCHEDULED, {"approver": "ann", "approved": 0, "scheduled": 600}, 1500),
    ],
)
async def test_blocked_recommendations_expire(stack, state, more, expires_after):
    """A recommendation expires at its own time, an approval or schedule 15 minutes later, with the reason."""
    start = stack.clock.now()
    more = {name: start + v * SECOND if name in {"approved", "scheduled"} else v for name, v in more.items()}
    save_recommendation(stack, state=state, **more)
    stack.guard.decision = FakeDecision("refuse", "rate", "6 changes in the last hour")
    while stack.ledger.recommendation(ulid(500)).state is state:
        stack.clock.tick(60)
        await stack.step()
    assert (stack.clock.now() - start) // SECOND == expires_after
    expired = stack.ledger.recommendation(ulid(500))
    reason = "no operator decided in time" if state is R.PENDING else "6 changes in the last hour"
    assert (expired.state, expired.reason) == (R.EXPIRED, reason)
    assert stack.tool.effects == []


async def test_an_old_plan_is_not_sent(stack):
    """A proposed action that the guard blocks for five minutes fails and is not sent."""
    save_recommendation(stack)
    action = await stack.launcher.journal.propose(
        stack.launcher.action_for(save_recommendation(stack), "trimtab")
    )
    stack.guard.decision = FakeDecision("refuse", "rate", "2 are running")
    await stack.run_for(290, every=10)
    assert stack.ledger.action(action.id).state is ActionState.PROPOSED
    await stack.run_for(20, every=10)
    ended = stack.ledger.action(action.id)
    assert (ended.state, ended.outcome.words) == (
        ActionState.FAILED, "not sent: its plan is too old: 2 are running",
    )  # fmt: skip
    assert stack.ledger.recommendation(ulid(500)).state is R.CLOSED


async def test_a_dismissed_recommendation_is_not_sent(stack):
    """A dismissal fails the proposed action of the recommendation before it is sent."""
    action = await stack.launcher.journal.propose(
        stack.launcher.action_for(save_recommendation(stack), "trimtab")
    )
    await stack.decisions.dismiss(ulid(500), "ann", "no")
    await stack.step()
    ended = stack.ledger.action(action.id)
    assert (ended.state, ended.outcome.words) == (
        ActionState.FAILED,
        "not sent: its recommendation is dismissed",
    )
    assert stack.tool.effects == []


async def test_a_pause_lasts_over_a_restart(ledger):
    """A pause blocks starts and rollbacks, also after a restart; verification continues and notifies."""
    stack = ActionStack(ledger, ledger.clock, make_fake_tool())
    save_recommendation(stack)
    stack.add_history()
    await stack.step()
    stack.ledger.set_pause(Pause(on=True, by="ann"))
    save_recommendation(stack, 501, subject="other")
    stack = ActionStack(ledger, ledger.clock, stack.tool, first=100)  # a restart
    stack.add_history()
    await stack.run_for(6 * 60, level=0.2)
    assert stack.tool.effects == [("fake", "size", 125)]
    assert any("not rolled back while actions are paused" in words for words in stack.notifications)
    await stack.decisions.resume("ann", "")
    await stack.run_for(60, level=0.2)
    assert stack.tool.effects == [("fake", "size", 125), ("fake", "size", 100)]


async def test_a_pause_stops_a_start_in_progress(stack):
    """A pause during the tool's read keeps an allowed action from being sent."""
    save_recommendation(stack)
    stack.tool.gates["read"] = asyncio.Event()
    await stack.scheduler.step(stack.clock.now())
    await wait_until(lambda: any(call[0] == "read" for call in stack.tool.calls))
    await stack.decisions.pause("ann", "")
    stack.tool.gates["read"].set()
    await stack.scheduler.wait_until_idle()
    assert stack.tool.effects == []
    assert only_action(stack).state is ActionState.PROPOSED


async def test_a_rollback_waits_for_guard_and_tool(stack):
    """A rollback is tried again until the guard allows it and the tool answers; it runs once."""
    save_recommendation(stack)
    stack.add_history()
    await stack.step()
    stack.guard.decision = FakeDecision("refuse", "mass", "40 % of all series are unusual")
    await stack.run_for(6 * 60, level=0.2)
    assert any("rollback is waiting: 40 % of all" in words for words in stack.notifications)
    stack.guard.decision = FakeDecision()
    stack.tool.respond_with("read", ToolError("away"))
    await stack.run_for(15, level=0.2)
    assert len(stack.tool.effects) == 1
    await stack.run_for(15, level=0.2)
    assert stack.tool.effects == [("fake", "size", 125), ("fake", "size", 100)]
    assert only_action(stack).state is ActionState.ROLLED_BACK


async def test_a_slow_tool_does_not_block_other_work(stack):
    """A slow send does not block other recommendations and is sent once."""
    save_recommendation(stack)
    stack.executor.deadlines = replace(stack.executor.deadlines, send_s=30)
    stack.tool.gates["apply"] = asyncio.Event()
    for _ in range(5):
        await stack.scheduler.step(stack.clock.now())
    await wait_until(lambda: any(call[0] == "apply" for call in stack.tool.calls))
    other = save_recommendation(stack, 501, mode=Mode.APPROVE, expires=stack.clock.now())
    await stack.scheduler.step(stack.clock.now())
    assert stack.ledger.recommendation(other.id).state is R.EXPIRED
    stack.tool.gates["apply"].set()
    await stack.scheduler.wait_until_idle()
    assert stack.tool.effects == [("fake", "size", 125)]


async def test_times_are_scaled_for_a_trial_only(ledger):
    """Durations are scaled for trial tools only, and the action stores the scale."""
    stack = ActionStack(ledger, ledger.clock, make_fake_tool(trial=True), time_scale=0.1)
    save_recommendation(stack)
    stack.add_history(seconds=120)
    await stack.step()
    await stack.run_for(75, level=0.5, every=2.5)
    assert (only_action(stack).time_scale, only_action(stack).state) == (0.1, ActionState.KEPT)
    other = ActionStack(ledger, ledger.clock, make_fake_tool(), time_scale=0.1)
    assert other.launcher.new_action("fake", "fake", "size", 1, 2, "ann", "k").time_scale == 1.0
