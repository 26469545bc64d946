"""An answer that arrives in the second in which it is too late: one thing holds, and nothing is half done."""

from dataclasses import replace

import pytest

from tests.builders.action_stack import Room, fake_redis, only_action, open_ledger, recommended
from tests.builders.guard_requests import LIMITS, around
from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.audit.audit_export import verify
from trimtab.engine.errors import ConflictError
from trimtab.engine.types import (
    ActionState,
    Knob,
    KnobReading,
    KnobType,
    Lasts,
    Mode,
    Recommendation,
    RecommendationState,
)

R = RecommendationState
SIZE = Knob("size", KnobType.INT, low=1, high=1000, step=50)
LIFE = 3600 * SECOND
"""Of the recommendation."""
HOLDS = 900 * SECOND
"""So long an approval does."""


@pytest.fixture
def room(tmp_path):
    """Asks the guard itself; everything is well but the time."""
    with open_ledger(tmp_path) as ledger:
        made = Room(ledger, ledger.clock, fake_redis())

        async def asked(proposal, person):
            if not isinstance(proposal, Recommendation):
                proposal = ledger.recommendation(proposal.recommendation_id)
            now, since = ledger.clock.now(), proposal.approved
            reading = KnobReading(made.tool.values["fake", "size"], True, Lasts.UNTIL_RESTART)
            seen = around(
                now=now, mode=Mode.APPROVE, knob=SIZE, reading=reading, targets=("fake",), memory=None,
                approval_age_s=None if since is None else (now - since) / 1e9,
            )  # fmt: skip
            return decide(proposal, seen, LIMITS, person)

        made.starter.decide = asked
        yield made


def decided(room):
    """What the audit says that was decided, in its order."""
    return [row.what for row in room.ledger.audit_rows() if row.subject == ulid(500)][1:]


@pytest.mark.parametrize(
    ("approved", "stepped", "done"),
    [
        (LIFE - 1, LIFE - 1, True),
        (LIFE - 1, LIFE, False),
        (LIFE - SECOND, LIFE - 1, True),
        (LIFE - SECOND, LIFE + SECOND, False),
        (LIFE - HOLDS, LIFE - 1, True),
        (LIFE - HOLDS - 1, LIFE - 1, False),  # the approval is over before the recommendation is
    ],
)
async def test_an_approval_in_time_counts_until_the_next_step_only(room, approved, stepped, done):
    """What is sent is sent before recommendation and approval are over; else it says why, and ends."""
    made = recommended(room, mode=Mode.APPROVE)
    room.clock.time = made.created + approved
    await room.desk.approve(made.id, "ann")
    room.clock.time = made.created + stepped
    await room.step()
    assert room.tool.effects == ([("fake", "size", 125)] if done else [])
    room.clock.time = made.created + approved + HOLDS
    await room.step()
    assert decided(room) == ["approved", "applied" if done else "expired"]
    assert len(room.tool.effects) == done
    if not done:
        assert room.ledger.actions() == []
        reason = room.ledger.recommendation(made.id).reason
        assert "the recommendation expired" in reason or reason == "nobody decided in time"
    assert verify(room.ledger) == []


@pytest.mark.parametrize("decide_it", ["approve", "schedule", "apply"])
@pytest.mark.parametrize("late", [0, 1, SECOND])
async def test_an_answer_at_the_end_or_later_is_told_that_it_is_too_late(room, decide_it, late):
    """Whether or not the engine has looked since; nothing is written down."""
    made = recommended(room, mode=Mode.APPROVE)
    room.clock.time = made.expires + late
    more = {"approve": (), "schedule": (room.clock.now() + 1,), "apply": ("k",)}[decide_it]
    with pytest.raises(ConflictError, match="has expired"):
        await getattr(room.desk, decide_it)(made.id, "ann", *more)
    await room.step()
    with pytest.raises(ConflictError, match="is expired"):
        await getattr(room.desk, decide_it)(made.id, "ann", *more)
    assert decided(room) == ["expired"]
    assert room.tool.effects == room.ledger.actions() == []


def overtaken(room, change):
    """Somebody's `change` is stored just before the next one that is on its way."""
    real = room.ledger.save_recommendation

    def save(*given):
        room.ledger.save_recommendation = real
        found = room.ledger.recommendation(ulid(500))
        real(replace(found, **change), str(change["state"]), "rival", found.state)
        return real(*given)

    room.ledger.save_recommendation = save


async def test_an_approval_that_the_end_overtakes_is_told_so(room):
    """It was read as pending, and has expired before it is written: whoever approves hears of it."""
    made = recommended(room, mode=Mode.APPROVE)
    room.clock.time = made.expires - 1
    overtaken(room, {"state": R.EXPIRED, "reason": "nobody decided in time"})
    with pytest.raises(ConflictError):
        await room.desk.approve(made.id, "ann")
    await room.step()
    assert decided(room) == ["expired"]
    assert room.tool.effects == []


async def test_an_end_that_an_approval_overtakes_does_not_undo_it(room):
    """The engine read it as pending, too; the approval holds, and the guard says that its plan is old."""
    made = recommended(room, mode=Mode.APPROVE)
    room.clock.time = made.expires
    overtaken(room, {"state": R.APPROVED, "approver": "ann", "approved": made.expires - 1})
    await room.step()
    assert decided(room) == ["approved"]
    await room.step()
    assert room.ledger.recommendation(made.id).state is R.APPROVED
    assert "the recommendation expired" in room.conductor.waiting[made.id]
    assert room.tool.effects == []


async def test_a_dismissal_that_the_start_overtakes_is_told_so(room):
    """It is being done already: nobody is told that it will not be."""
    made = recommended(room, mode=Mode.APPROVE)
    await room.desk.approve(made.id, "ann")
    overtaken(room, {"state": R.APPLIED})
    with pytest.raises(ConflictError):
        await room.desk.dismiss(made.id, "bob", "not now")
    assert decided(room) == ["approved", "applied"]


async def test_a_start_that_a_dismissal_overtakes_sends_nothing(room):
    """Its action is written down, and ends unsent."""
    made = recommended(room, mode=Mode.APPROVE)
    await room.desk.approve(made.id, "ann")
    overtaken(room, {"state": R.DISMISSED, "reason": "not now"})
    await room.step()
    assert room.tool.effects == []
    assert (only_action(room).state, only_action(room).outcome.words) == (
        ActionState.FAILED, "not sent: its recommendation is dismissed",
    )  # fmt: skip
    assert decided(room) == ["approved", "dismissed"]
