"""An answer that arrives in the second in which it is too late: one thing holds, and nothing is half done."""

from dataclasses import replace

import pytest

from tests.builders.action_stack import (
    ActionStack,
    make_fake_tool,
    only_action,
    open_ledger,
    save_recommendation,
)
from tests.builders.guard_requests import LIMITS, make_situation
from tests.builders.series import SECOND
from tests.contracts.event_store_contract import ulid
from trimtab.engine.actions.guard.guard import decide
from trimtab.engine.audit.audit_export import verify_audit
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
def stack(tmp_path):
    """Asks the guard itself; everything is well but the time."""
    with open_ledger(tmp_path) as ledger:
        made = ActionStack(ledger, ledger.clock, make_fake_tool())

        async def asked(proposal, person):
            if not isinstance(proposal, Recommendation):
                proposal = ledger.recommendation(proposal.recommendation_id)
            now, since = ledger.clock.now(), proposal.approved
            reading = KnobReading(made.tool.values["fake", "size"], True, Lasts.UNTIL_RESTART)
            seen = make_situation(
                now=now, mode=Mode.APPROVE, knob=SIZE, reading=reading, targets=("fake",), memory=None,
                approval_age_s=None if since is None else (now - since) / 1e9,
            )  # fmt: skip
            return decide(proposal, seen, LIMITS, person)

        made.launcher.decide = asked
        yield made


def decided(stack):
    """What the audit says that was decided, in its order."""
    return [row.what for row in stack.ledger.audit_rows() if row.subject == ulid(500)][1:]


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
async def test_an_approval_in_time_counts_until_the_next_step_only(stack, approved, stepped, done):
    """What is sent is sent before recommendation and approval are over; else it says why, and ends."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    stack.clock.time = made.created + approved
    await stack.decisions.approve(made.id, "ann")
    stack.clock.time = made.created + stepped
    await stack.step()
    assert stack.tool.effects == ([("fake", "size", 125)] if done else [])
    stack.clock.time = made.created + approved + HOLDS
    await stack.step()
    assert decided(stack) == ["approved", "applied" if done else "expired"]
    assert len(stack.tool.effects) == done
    if not done:
        assert stack.ledger.actions() == []
        reason = stack.ledger.recommendation(made.id).reason
        assert "the recommendation expired" in reason or reason == "no operator decided in time"
    assert verify_audit(stack.ledger) == []


@pytest.mark.parametrize("decide_it", ["approve", "schedule", "apply"])
@pytest.mark.parametrize("late", [0, 1, SECOND])
async def test_an_answer_at_the_end_or_later_is_told_that_it_is_too_late(stack, decide_it, late):
    """Whether or not the engine has looked since; nothing is written down."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    stack.clock.time = made.expires + late
    more = {"approve": (), "schedule": (stack.clock.now() + 1,), "apply": ("k",)}[decide_it]
    with pytest.raises(ConflictError, match="has expired"):
        await getattr(stack.decisions, decide_it)(made.id, "ann", *more)
    await stack.step()
    with pytest.raises(ConflictError, match="is expired"):
        await getattr(stack.decisions, decide_it)(made.id, "ann", *more)
    assert decided(stack) == ["expired"]
    assert stack.tool.effects == stack.ledger.actions() == []


def overtaken(stack, change):
    """Somebody's `change` is stored just before the next one that is on its way."""
    real = stack.ledger.save_recommendation

    def save(*given):
        stack.ledger.save_recommendation = real
        found = stack.ledger.recommendation(ulid(500))
        real(replace(found, **change), str(change["state"]), "rival", found.state)
        return real(*given)

    stack.ledger.save_recommendation = save


async def test_an_approval_that_the_end_overtakes_is_told_so(stack):
    """It was read as pending, and has expired before it is written: whoever approves hears of it."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    stack.clock.time = made.expires - 1
    overtaken(stack, {"state": R.EXPIRED, "reason": "no operator decided in time"})
    with pytest.raises(ConflictError):
        await stack.decisions.approve(made.id, "ann")
    await stack.step()
    assert decided(stack) == ["expired"]
    assert stack.tool.effects == []


async def test_an_end_that_an_approval_overtakes_does_not_undo_it(stack):
    """The engine read it as pending, too; the approval holds, and the guard says that its plan is old."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    stack.clock.time = made.expires
    overtaken(stack, {"state": R.APPROVED, "approver": "ann", "approved": made.expires - 1})
    await stack.step()
    assert decided(stack) == ["approved"]
    await stack.step()
    assert stack.ledger.recommendation(made.id).state is R.APPROVED
    assert "the recommendation expired" in stack.scheduler.blocked_reasons[made.id]
    assert stack.tool.effects == []


async def test_a_dismissal_that_the_start_overtakes_is_told_so(stack):
    """It is being done already: nobody is told that it will not be."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    await stack.decisions.approve(made.id, "ann")
    overtaken(stack, {"state": R.APPLIED})
    with pytest.raises(ConflictError):
        await stack.decisions.dismiss(made.id, "bob", "not now")
    assert decided(stack) == ["approved", "applied"]


async def test_a_start_that_a_dismissal_overtakes_sends_nothing(stack):
    """Its action is written down, and ends unsent."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    await stack.decisions.approve(made.id, "ann")
    overtaken(stack, {"state": R.DISMISSED, "reason": "not now"})
    await stack.step()
    assert stack.tool.effects == []
    assert (only_action(stack).state, only_action(stack).outcome.words) == (
        ActionState.FAILED, "not sent: its recommendation is dismissed",
    )  # fmt: skip
    assert decided(stack) == ["approved", "dismissed"]
