"""Operator decisions: each is stored before it takes effect, and takes effect once."""

import asyncio

import pytest

from tests.builders.action_stack import ActionStack, FakeDecision, make_fake_tool
from tests.builders.actions import make_recommendation
from tests.builders.series import SECOND, START
from tests.contracts.event_store_contract import ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.actions.journal import lock_reason
from trimtab.engine.errors import (
    ConflictError,
    NotFoundError,
    RefusedError,
    StoreError,
    ToolError,
    ToolUncertainError,
)
from trimtab.engine.store import open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE
from trimtab.engine.types import ActionState, RecommendationState

R = RecommendationState
RAISE = {"tool": "fake", "target": "fake", "subject": "size"}


@pytest.fixture
def stack(tmp_path):
    clock = FakeClock()
    store = open_store(tmp_path, clock.now)
    yield ActionStack(ActionLedger(store.fenced, tmp_path / ANCHOR_FILE), clock, make_fake_tool())
    store.close()


def save_pending_recommendation(stack, state=R.PENDING, **changed):
    """Store a recommendation to change `size`."""
    made = make_recommendation(ulid(500), **{**RAISE, "state": state, **changed})
    stack.ledger.save_recommendation(made, "recommended", "trimtab")
    return made


async def test_approve_dismiss_and_schedule_are_stored(stack):
    """Approval, schedule and dismissal store operator, time and reason, with an audit row each."""
    save_pending_recommendation(stack)
    approved = await stack.decisions.approve(ulid(500), "ann")
    assert (approved.state, approved.approver, approved.approved) == (R.APPROVED, "ann", START)
    scheduled = await stack.decisions.schedule(ulid(500), "bob", START + 60 * SECOND)
    assert (scheduled.state, scheduled.approver, scheduled.scheduled) == (
        R.SCHEDULED,
        "bob",
        START + 60 * SECOND,
    )
    dismissed = await stack.decisions.dismiss(ulid(500), "cid", "not on a Friday")
    assert stack.ledger.recommendation(ulid(500)) == dismissed
    assert (dismissed.state, dismissed.reason) == (R.DISMISSED, "not on a Friday")
    audit_rows = [(row.what, row.actor) for row in stack.ledger.audit_rows()]
    assert audit_rows == [
        ("recommended", "trimtab"),
        ("approved", "ann"),
        ("scheduled", "bob"),
        ("dismissed", "cid"),
    ]


@pytest.mark.parametrize("decide", ["approve", "schedule", "apply"])
async def test_a_proposer_cannot_approve(stack, decide):
    """The proposer of a change cannot approve, schedule or apply it, but may dismiss it."""
    save_pending_recommendation(stack, proposer="ann")
    more = {"approve": (), "schedule": (START + SECOND,), "apply": ("k",)}[decide]
    with pytest.raises(RefusedError, match="ann proposed this change: another operator has to approve it"):
        await getattr(stack.decisions, decide)(ulid(500), "ann", *more)
    assert (await stack.decisions.dismiss(ulid(500), "ann", "no")).state is R.DISMISSED


@pytest.mark.parametrize(
    ("state", "decide", "allowed"),
    [
        (R.PENDING, "approve", True), (R.APPROVED, "approve", False), (R.SCHEDULED, "approve", False),
        (R.APPLIED, "approve", False), (R.CLOSED, "approve", False), (R.DISMISSED, "approve", False),
        (R.EXPIRED, "approve", False), (R.APPLIED, "dismiss", False), (R.DISMISSED, "dismiss", False),
        (R.APPROVED, "dismiss", True), (R.SCHEDULED, "dismiss", True), (R.APPROVED, "schedule", True),
        (R.EXPIRED, "schedule", False), (R.SCHEDULED, "apply", True), (R.APPROVED, "apply", True),
        (R.DISMISSED, "apply", False), (R.EXPIRED, "apply", False),
    ],
)  # fmt: skip
async def test_each_decision_needs_an_open_state(stack, state, decide, allowed):
    """A decision on a recommendation in a wrong state is a conflict."""
    save_pending_recommendation(stack, state, approver="bob" if state in {R.APPROVED, R.SCHEDULED} else "")
    more = {"approve": (), "dismiss": ("no",), "schedule": (START + SECOND,), "apply": ("k",)}[decide]
    if allowed:
        await getattr(stack.decisions, decide)(ulid(500), "ann", *more)
        return
    with pytest.raises(ConflictError, match=f"is {state}"):
        await getattr(stack.decisions, decide)(ulid(500), "ann", *more)
    assert stack.tool.effects == []


async def test_expired_recommendations_and_past_times_are_refused(stack):
    """An expired recommendation, an unknown one and a schedule in the past are refused."""
    save_pending_recommendation(stack)
    with pytest.raises(RefusedError, match="the scheduled time is in the past"):
        await stack.decisions.schedule(ulid(500), "ann", START)
    stack.clock.tick(3600)
    with pytest.raises(ConflictError, match="has expired"):
        await stack.decisions.approve(ulid(500), "ann")
    with pytest.raises(NotFoundError):
        await stack.decisions.approve(ulid(9), "ann")


async def test_a_recommendation_is_applied_once(stack):
    """Of two concurrent requests one applies; its operator gets the same action again, others a conflict."""
    save_pending_recommendation(stack)
    both = await asyncio.gather(
        *(stack.decisions.apply(ulid(500), by, "k") for by in ("ann", "bob")), return_exceptions=True
    )
    (action,) = [one for one in both if not isinstance(one, BaseException)]
    assert (action.state, action.recommendation_id) == (ActionState.VERIFYING, ulid(500))
    assert stack.ledger.recommendation(ulid(500)).state is R.APPLIED
    second_person = await stack.decisions.apply(ulid(500), action.by, "k2")
    assert second_person == stack.ledger.action(action.id)
    with pytest.raises(ConflictError, match="by another request"):
        await stack.decisions.apply(ulid(500), "cid", "k")
    assert stack.tool.effects == [("fake", "size", 125)]


async def test_the_guard_checks_a_manual_action_twice(stack):
    """The guard checks before the action is stored and before it is sent, with the operator named."""
    save_pending_recommendation(stack)
    await stack.decisions.apply(ulid(500), "ann", "k")
    (first, person), (second, second_person) = stack.guard.requests
    assert (first.id, first.approver, person) == (ulid(500), "ann", True)
    assert (second.recommendation_id, second.state, second_person) == (ulid(500), ActionState.PROPOSED, True)


async def test_a_guard_refusal_sends_nothing(stack):
    """A refusal raises its reason and stores the action as refused; the recommendation stays pending."""
    save_pending_recommendation(stack)
    stack.guard.decision = FakeDecision(
        "refuse", "cooldown", "changed 3 min ago; wait 12 min", START + SECOND
    )
    with pytest.raises(RefusedError, match="wait 12 min"):
        await stack.decisions.apply(ulid(500), "ann", "k")
    for work in (
        lambda: stack.decisions.set_knob("fake", "fake", "size", 100, 110, "ann", "k"),
        lambda: stack.decisions.run("fake", "fake", "flush", "ann", "k2"),
    ):
        with pytest.raises(RefusedError, match="wait 12 min"):
            await work()
        assert (
            await work()
        ).outcome.words == stack.guard.decision.reason  # the same key returns the refused action
    assert stack.tool.effects == []
    outcomes = [(a.state, a.outcome.words) for a in stack.ledger.actions()]
    assert outcomes == [(ActionState.REFUSED, "changed 3 min ago; wait 12 min")] * 2
    stack.guard.decision = FakeDecision()
    assert (await stack.decisions.apply(ulid(500), "ann", "k")).state is ActionState.VERIFYING


async def test_an_idempotency_key_belongs_to_one_request(stack):
    """A repeated request returns the same action; the same key for another change is a conflict."""
    first = await stack.decisions.set_knob("fake", "fake", "size", 100, 110, "ann", "k")
    assert await stack.decisions.set_knob("fake", "fake", "size", 100, 110, "ann", "k") == first
    with pytest.raises(ConflictError, match="Idempotency-Key was used for size of fake"):
        await stack.decisions.set_knob("fake", "fake", "size", 110, 120, "ann", "k")
    with pytest.raises(ConflictError, match="Idempotency-Key"):
        await stack.decisions.run("fake", "fake", "flush", "ann", "k")
    other = await stack.decisions.run("fake", "fake", "flush", "bob", "k")  # keys are per operator
    assert stack.tool.effects == [("fake", "size", 110), ("fake", "flush", other.key)]


async def test_a_rollback_restores_the_previous_value(stack):
    """A rollback restores the exact value, marks both actions and runs once."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    undo = await stack.decisions.roll_back(action.id, "bob", "k2")
    assert (undo.state, undo.undoes, undo.before, undo.after) == (ActionState.KEPT, action.id, 125, 100)
    rolled_back = stack.ledger.action(action.id)
    assert (rolled_back.state, rolled_back.outcome.words) == (
        ActionState.ROLLED_BACK,
        "rolled back: requested by bob",
    )
    assert stack.tool.effects[-1] == ("fake", "size", 100)
    assert await stack.decisions.roll_back(action.id, "cid", "k3") == stack.ledger.action(undo.id)
    assert len(stack.tool.effects) == 2


async def test_a_rollback_resets_an_unset_knob(stack):
    """A rollback of a knob that was unset resets it instead of writing the default."""
    stack.tool.explicitly_set.clear()
    stack.tool.defaults["size"] = 100
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    assert action.set_before is False
    undo = await stack.decisions.roll_back(action.id, "ann", "k2")
    assert (undo.state, undo.after) == (ActionState.KEPT, None)
    assert stack.tool.effects[-1] == ("fake", "size", None)
    assert not (await stack.tool.read("fake", "size")).set_here


async def test_a_rollback_of_a_reset_restores_the_value(stack):
    """A rollback of a reset restores the value that was set."""
    stack.tool.defaults["size"] = 64
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, None, "ann", "k")
    undo = await stack.decisions.roll_back(action.id, "ann", "k2")
    assert (undo.state, stack.tool.values["fake", "size"]) == (ActionState.KEPT, 100)


async def test_a_rollback_leaves_a_foreign_value(stack):
    """A rollback fails when the value was changed since, and may be tried again."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    stack.tool.values["fake", "size"] = 300
    undo = await stack.decisions.roll_back(action.id, "ann", "k2")
    assert undo.state is ActionState.FAILED
    assert "size of fake is 300, 125 was expected" in undo.outcome.words
    ended = stack.ledger.action(action.id)
    assert (ended.state, stack.tool.values["fake", "size"]) == (ActionState.INCONCLUSIVE, 300)
    assert "rollback failed" in ended.outcome.words
    stack.tool.values["fake", "size"] = 125
    assert (await stack.decisions.roll_back(action.id, "ann", "k3")).state is ActionState.KEPT
    assert stack.ledger.action(action.id).state is ActionState.ROLLED_BACK


async def test_actions_that_cannot_be_rolled_back(stack):
    """Tool actions, failed actions and undos cannot be rolled back."""
    done = await stack.decisions.run("fake", "fake", "flush", "ann", "k")
    with pytest.raises(RefusedError, match="no previous value to restore"):
        await stack.decisions.roll_back(done.id, "ann", "k2")
    stack.tool.respond_with("apply", ToolError("no"))
    failed = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k3")
    with pytest.raises(ConflictError, match="is failed: there is nothing to roll back"):
        await stack.decisions.roll_back(failed.id, "ann", "k4")
    kept = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k5")
    undo = await stack.decisions.roll_back(kept.id, "ann", "k6")
    with pytest.raises(RefusedError, match="is itself an undo"):
        await stack.decisions.roll_back(undo.id, "ann", "k7")


async def test_an_unknown_action_that_took_effect_is_rolled_back(stack):
    """A rollback of an unknown action restores the value when the change took effect."""
    stack.tool.fail_after_effect("apply", ToolUncertainError("lost"))
    stack.tool.respond_with("read", None, ToolError("away"))
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    assert action.state is ActionState.UNKNOWN
    assert (await stack.decisions.roll_back(action.id, "ann", "k2")).state is ActionState.KEPT
    assert stack.tool.values["fake", "size"] == 100


async def test_a_pause_blocks_operators_too(stack):
    """A pause refuses every new action and stores nothing; only an operator can resume."""
    save_pending_recommendation(stack)
    await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    pause = await stack.decisions.pause("ann", "a release")
    assert pause == stack.ledger.pause()
    for work in (
        lambda: stack.decisions.apply(ulid(500), "bob", "k"),
        lambda: stack.decisions.set_knob("fake", "fake", "size", 125, 130, "bob", "k"),
        lambda: stack.decisions.run("fake", "fake", "flush", "bob", "k"),
    ):
        with pytest.raises(RefusedError, match=r"ann paused all actions \(a release\): resume first"):
            await work()
    assert len(stack.tool.effects) == len(stack.ledger.actions()) == 1
    for nobody in ("trimtab", ""):
        with pytest.raises(RefusedError, match="only an operator can resume"):
            await stack.decisions.resume(nobody, "")
    assert not (await stack.decisions.resume("bob", "done")).on
    assert (await stack.decisions.run("fake", "fake", "flush", "bob", "k")).state is ActionState.VERIFYING


async def test_operators_may_roll_back_during_a_pause(stack):
    """An operator may roll back during a pause; the engine's own rollback waits."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    await stack.decisions.pause("ann", "")
    made = stack.decisions.undo.new_undo(action, "trimtab", "undo", "it did harm")
    own = await stack.executor.execute(await stack.launcher.journal.propose(made))
    assert (own.state, stack.tool.values["fake", "size"]) == (ActionState.PROPOSED, 125)
    await stack.launcher.journal.end(own, ActionState.FAILED, "out of the way")
    undo = await stack.decisions.roll_back(action.id, "bob", "k")
    assert (undo.state, stack.tool.values["fake", "size"]) == (ActionState.KEPT, 100)
    assert stack.ledger.action(action.id).state is ActionState.ROLLED_BACK


async def test_a_refused_undo_can_be_repeated(stack):
    """A refused undo does not lock the target, and another request creates another undo."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    stack.guard.decision = FakeDecision("refuse", "rate", "another is being changed")
    with pytest.raises(RefusedError, match="another is being changed"):
        await stack.decisions.roll_back(action.id, "ann", "k2")
    assert lock_reason(stack.ledger.actions()) is None
    stack.guard.decision = FakeDecision()
    assert (await stack.decisions.roll_back(action.id, "ann", "k3")).state is ActionState.KEPT


async def test_a_refused_undo_keeps_the_verification(stack):
    """After a refused undo the change is still verified."""
    action = await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    stack.guard.decision = FakeDecision("refuse", "rate", "another is being changed")
    with pytest.raises(RefusedError):
        await stack.decisions.roll_back(action.id, "ann", "k2")
    await stack.step()
    assert stack.ledger.action(action.id).state is ActionState.VERIFYING


async def test_a_failing_guard_check_fails_the_action(stack):
    """When the guard check raises, the caller gets the error and the action is not sent later."""

    async def broken(*_):
        raise ToolError("no reading")

    stack.launcher.decide = broken
    with pytest.raises(ToolError, match="no reading"):
        await stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    await stack.step()
    assert [action.state for action in stack.ledger.actions()] == [ActionState.FAILED]
    assert stack.tool.effects == []


async def test_nothing_takes_effect_without_its_audit_row(stack, monkeypatch):
    """No decision, action or pause takes effect when its audit row cannot be stored."""
    save_pending_recommendation(stack)

    def full(*_args, **_more):
        raise StoreError("disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("trimtab.engine.store.action_ledger._AuditedTransaction.append_audit", full)
        for work in (
            lambda: stack.decisions.approve(ulid(500), "ann"),
            lambda: stack.decisions.apply(ulid(500), "ann", "k"),
            lambda: stack.decisions.set_knob("fake", "fake", "size", 100, 125, "ann", "k"),
            lambda: stack.decisions.pause("ann", ""),
        ):
            with pytest.raises(StoreError):
                await work()
    assert stack.tool.effects == []
    assert stack.ledger.actions() == []
    assert not stack.ledger.pause().on
    assert (await stack.decisions.apply(ulid(500), "ann", "k")).state is ActionState.VERIFYING
