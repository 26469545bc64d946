"""What people decide: each decision is written down before it has an effect, and once only."""

import asyncio

import pytest

from tests.builders.action_stack import Room, Word, fake_redis
from tests.builders.actions import recommendation_of
from tests.builders.series import SECOND, START
from tests.contracts.event_store_contract import ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.actions.journal import locked
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
def room(tmp_path):
    clock = FakeClock()
    store = open_store(tmp_path, clock.now)
    yield Room(ActionLedger(store.fenced, tmp_path / ANCHOR_FILE), clock, fake_redis())
    store.close()


def recommended(room, state=R.PENDING, **changed):
    """One that stands in the ledger."""
    made = recommendation_of(ulid(500), **{**RAISE, "state": state, **changed})
    room.ledger.save_recommendation(made, "recommended", "trimtab")
    return made


async def test_approve_dismiss_and_schedule_are_written_down(room):
    """Who, when, why; each from the states in which it makes sense."""
    recommended(room)
    approved = await room.desk.approve(ulid(500), "ann")
    assert (approved.state, approved.approver, approved.approved) == (R.APPROVED, "ann", START)
    scheduled = await room.desk.schedule(ulid(500), "bob", START + 60 * SECOND)
    assert (scheduled.state, scheduled.approver, scheduled.scheduled) == (
        R.SCHEDULED,
        "bob",
        START + 60 * SECOND,
    )
    dismissed = await room.desk.dismiss(ulid(500), "cid", "not on a Friday")
    assert room.ledger.recommendation(ulid(500)) == dismissed
    assert (dismissed.state, dismissed.reason) == (R.DISMISSED, "not on a Friday")
    said = [(row.what, row.actor) for row in room.ledger.audit_rows()]
    assert said == [
        ("recommended", "trimtab"),
        ("approved", "ann"),
        ("scheduled", "bob"),
        ("dismissed", "cid"),
    ]


@pytest.mark.parametrize("decide", ["approve", "schedule", "apply"])
async def test_nobody_approves_what_they_proposed(room, decide):
    """In whatever way; they may dismiss it."""
    recommended(room, proposer="ann")
    more = {"approve": (), "schedule": (START + SECOND,), "apply": ("k",)}[decide]
    with pytest.raises(RefusedError, match="ann proposed it: somebody else has to approve"):
        await getattr(room.desk, decide)(ulid(500), "ann", *more)
    assert (await room.desk.dismiss(ulid(500), "ann", "no")).state is R.DISMISSED


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
async def test_what_is_decided_stays_decided(room, state, decide, allowed):
    """Nothing is decided twice, and nothing that is over."""
    recommended(room, state, approver="bob" if state in {R.APPROVED, R.SCHEDULED} else "")
    more = {"approve": (), "dismiss": ("no",), "schedule": (START + SECOND,), "apply": ("k",)}[decide]
    if allowed:
        await getattr(room.desk, decide)(ulid(500), "ann", *more)
        return
    with pytest.raises(ConflictError, match=f"is {state}"):
        await getattr(room.desk, decide)(ulid(500), "ann", *more)
    assert room.tool.effects == []


async def test_what_is_old_or_past_is_refused(room):
    """An expired recommendation, and a time that is over."""
    recommended(room)
    with pytest.raises(RefusedError, match="that time is past"):
        await room.desk.schedule(ulid(500), "ann", START)
    room.clock.tick(3600)
    with pytest.raises(ConflictError, match="has expired"):
        await room.desk.approve(ulid(500), "ann")
    with pytest.raises(NotFoundError):
        await room.desk.approve(ulid(9), "ann")


async def test_applying_does_it_once(room):
    """The same person is given the same action again, another one is told; two at once do it once."""
    recommended(room)
    both = await asyncio.gather(
        *(room.desk.apply(ulid(500), by, "k") for by in ("ann", "bob")), return_exceptions=True
    )
    (action,) = [one for one in both if not isinstance(one, BaseException)]
    assert (action.state, action.recommendation_id) == (ActionState.VERIFYING, ulid(500))
    assert room.ledger.recommendation(ulid(500)).state is R.APPLIED
    again = await room.desk.apply(ulid(500), action.by, "k2")
    assert again == room.ledger.action(action.id)
    with pytest.raises(ConflictError, match="somebody was quicker"):
        await room.desk.apply(ulid(500), "cid", "k")
    assert room.tool.effects == [("fake", "size", 125)]


async def test_the_guard_is_asked_with_the_person(room):
    """Twice: before it is written down, and before it is sent; the approver is named."""
    recommended(room)
    await room.desk.apply(ulid(500), "ann", "k")
    (first, person), (second, again) = room.guard.asked
    assert (first.id, first.approver, person) == (ulid(500), "ann", True)
    assert (second.recommendation_id, second.state, again) == (ulid(500), ActionState.PROPOSED, True)


async def test_what_the_guard_refuses_is_not_done(room):
    """With its reason; a recommendation stays as it was, and can be applied later."""
    recommended(room)
    room.guard.says = Word("refuse", "cooldown", "changed 3 min ago; wait 12 min", START + SECOND)
    with pytest.raises(RefusedError, match="wait 12 min"):
        await room.desk.apply(ulid(500), "ann", "k")
    for work in (
        lambda: room.desk.set_knob("fake", "fake", "size", 100, 110, "ann", "k"),
        lambda: room.desk.run("fake", "fake", "flush", "ann", "k2"),
    ):
        with pytest.raises(RefusedError, match="wait 12 min"):
            await work()
        assert (await work()).outcome.words == room.guard.says.reason  # the same key again
    assert room.tool.effects == []
    tried = [(a.state, a.outcome.words) for a in room.ledger.actions()]
    assert tried == [(ActionState.REFUSED, "changed 3 min ago; wait 12 min")] * 2
    room.guard.says = Word()
    assert (await room.desk.apply(ulid(500), "ann", "k")).state is ActionState.VERIFYING


async def test_a_key_does_one_thing(room):
    """The same request again is given the same action; the same key for another change is a conflict."""
    first = await room.desk.set_knob("fake", "fake", "size", 100, 110, "ann", "k")
    assert await room.desk.set_knob("fake", "fake", "size", 100, 110, "ann", "k") == first
    with pytest.raises(ConflictError, match="Idempotency-Key was used for size of fake"):
        await room.desk.set_knob("fake", "fake", "size", 110, 120, "ann", "k")
    with pytest.raises(ConflictError, match="Idempotency-Key"):
        await room.desk.run("fake", "fake", "flush", "ann", "k")
    other = await room.desk.run("fake", "fake", "flush", "bob", "k")  # keys are a person's own
    assert room.tool.effects == [("fake", "size", 110), ("fake", "flush", other.key)]


async def test_taking_back_restores_the_value_before(room):
    """Exactly; both actions say so, and the audit is whole."""
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    undo = await room.desk.roll_back(action.id, "bob", "k2")
    assert (undo.state, undo.undoes, undo.before, undo.after) == (ActionState.KEPT, action.id, 125, 100)
    taken_back = room.ledger.action(action.id)
    assert (taken_back.state, taken_back.outcome.words) == (
        ActionState.ROLLED_BACK,
        "rolled back: bob took it back",
    )
    assert room.tool.effects[-1] == ("fake", "size", 100)
    assert await room.desk.roll_back(action.id, "cid", "k3") == room.ledger.action(undo.id)
    assert len(room.tool.effects) == 2


async def test_a_value_that_nobody_had_set_is_reset(room):
    """Not written out as the default of today."""
    room.tool.explicitly_set.clear()
    room.tool.defaults["size"] = 100
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    assert action.set_before is False
    undo = await room.desk.roll_back(action.id, "ann", "k2")
    assert (undo.state, undo.after) == (ActionState.KEPT, None)
    assert room.tool.effects[-1] == ("fake", "size", None)
    assert not (await room.tool.read("fake", "size")).set_here


async def test_a_reset_is_taken_back_to_what_was_set(room):
    """The other way round."""
    room.tool.defaults["size"] = 64
    action = await room.desk.set_knob("fake", "fake", "size", 100, None, "ann", "k")
    undo = await room.desk.roll_back(action.id, "ann", "k2")
    assert (undo.state, room.tool.values["fake", "size"]) == (ActionState.KEPT, 100)


async def test_somebody_elses_value_is_left(room):
    """Taking back fails, says so, and the action is inconclusive; tried again it is looked at again."""
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    room.tool.values["fake", "size"] = 300
    undo = await room.desk.roll_back(action.id, "ann", "k2")
    assert undo.state is ActionState.FAILED
    assert "size of fake is 300, 125 was expected" in undo.outcome.words
    left = room.ledger.action(action.id)
    assert (left.state, room.tool.values["fake", "size"]) == (ActionState.INCONCLUSIVE, 300)
    assert "not taken back" in left.outcome.words
    room.tool.values["fake", "size"] = 125
    assert (await room.desk.roll_back(action.id, "ann", "k3")).state is ActionState.KEPT
    assert room.ledger.action(action.id).state is ActionState.ROLLED_BACK


async def test_what_has_no_value_before_cannot_be_taken_back(room):
    """A one-click action, an action that failed, and an undoing."""
    done = await room.desk.run("fake", "fake", "flush", "ann", "k")
    with pytest.raises(RefusedError, match="no value to go back to"):
        await room.desk.roll_back(done.id, "ann", "k2")
    room.tool.respond_with("apply", ToolError("no"))
    failed = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k3")
    with pytest.raises(ConflictError, match="is failed: there is nothing to take back"):
        await room.desk.roll_back(failed.id, "ann", "k4")
    kept = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k5")
    undo = await room.desk.roll_back(kept.id, "ann", "k6")
    with pytest.raises(RefusedError, match="is itself an undoing"):
        await room.desk.roll_back(undo.id, "ann", "k7")


async def test_an_unknown_action_is_taken_back_where_it_took_effect(room):
    """The value tells, whoever asks."""
    room.tool.fail_after_effect("apply", ToolUncertainError("lost"))
    room.tool.respond_with("read", None, ToolError("away"))
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    assert action.state is ActionState.UNKNOWN
    assert (await room.desk.roll_back(action.id, "ann", "k2")).state is ActionState.KEPT
    assert room.tool.values["fake", "size"] == 100


async def test_a_pause_stops_everything_until_a_person_resumes(room):
    """People, too; nothing is written down meanwhile."""
    recommended(room)
    await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    pause = await room.desk.pause("ann", "a release")
    assert pause == room.ledger.pause()
    for work in (
        lambda: room.desk.apply(ulid(500), "bob", "k"),
        lambda: room.desk.set_knob("fake", "fake", "size", 125, 130, "bob", "k"),
        lambda: room.desk.run("fake", "fake", "flush", "bob", "k"),
    ):
        with pytest.raises(RefusedError, match=r"ann paused everything \(a release\): resume first"):
            await work()
    assert len(room.tool.effects) == len(room.ledger.actions()) == 1
    for nobody in ("trimtab", ""):
        with pytest.raises(RefusedError, match="a person has to resume"):
            await room.desk.resume(nobody, "")
    assert not (await room.desk.resume("bob", "done")).on
    assert (await room.desk.run("fake", "fake", "flush", "bob", "k")).state is ActionState.VERIFYING


async def test_people_take_back_while_all_is_paused(room):
    """It restores what was there; what the engine itself wants to take back waits."""
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    await room.desk.pause("ann", "")
    made = room.desk.undoing.made(action, "trimtab", "undo", "it did harm")
    own = await room.executor.execute(await room.starter.journal.propose(made))
    assert (own.state, room.tool.values["fake", "size"]) == (ActionState.PROPOSED, 125)
    await room.starter.journal.end(own, ActionState.FAILED, "out of the way")
    undo = await room.desk.roll_back(action.id, "bob", "k")
    assert (undo.state, room.tool.values["fake", "size"]) == (ActionState.KEPT, 100)
    assert room.ledger.action(action.id).state is ActionState.ROLLED_BACK


async def test_an_undo_that_was_refused_can_be_tried_again(room):
    """It locks nothing, and another try is another action."""
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    room.guard.says = Word("refuse", "rate", "another is being changed")
    with pytest.raises(RefusedError, match="another is being changed"):
        await room.desk.roll_back(action.id, "ann", "k2")
    assert locked(room.ledger.actions()) is None
    room.guard.says = Word()
    assert (await room.desk.roll_back(action.id, "ann", "k3")).state is ActionState.KEPT


async def test_an_undo_that_was_refused_ends_no_watch(room):
    """The change is watched on, so that the engine still takes it back should it do harm."""
    action = await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    room.guard.says = Word("refuse", "rate", "another is being changed")
    with pytest.raises(RefusedError):
        await room.desk.roll_back(action.id, "ann", "k2")
    await room.step()
    assert room.ledger.action(action.id).state is ActionState.VERIFYING


async def test_a_tool_that_cannot_be_asked_about_leaves_nothing_waiting(room):
    """Who asked is told, and the action has failed: it is not sent behind their back later."""

    async def broken(*_):
        raise ToolError("no reading")

    room.starter.decide = broken
    with pytest.raises(ToolError, match="no reading"):
        await room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k")
    await room.step()
    assert [action.state for action in room.ledger.actions()] == [ActionState.FAILED]
    assert room.tool.effects == []


async def test_what_cannot_be_written_down_is_not_done(room, monkeypatch):
    """No decision, no action, no pause without its audit row."""
    recommended(room)

    def full(*_args, **_more):
        raise StoreError("disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("trimtab.engine.store.action_ledger._AuditedTransaction.audit", full)
        for work in (
            lambda: room.desk.approve(ulid(500), "ann"),
            lambda: room.desk.apply(ulid(500), "ann", "k"),
            lambda: room.desk.set_knob("fake", "fake", "size", 100, 125, "ann", "k"),
            lambda: room.desk.pause("ann", ""),
        ):
            with pytest.raises(StoreError):
                await work()
    assert room.tool.effects == []
    assert room.ledger.actions() == []
    assert not room.ledger.pause().on
    assert (await room.desk.apply(ulid(500), "ann", "k")).state is ActionState.VERIFYING
