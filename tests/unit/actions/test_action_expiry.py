"""Decisions at the moment a recommendation or approval expires: exactly one of both takes effect."""

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
LIFETIME = 3600 * SECOND
"""Lifetime of the recommendation, ns."""
APPROVAL_VALIDITY = 900 * SECOND
"""Validity of an approval, ns."""


@pytest.fixture
def stack(tmp_path):
    """An action stack with the real guard, which allows everything that is in time."""
    with open_ledger(tmp_path) as ledger:
        made = ActionStack(ledger, ledger.clock, make_fake_tool())

        async def decide_by_time(proposal, person):
            if not isinstance(proposal, Recommendation):
                proposal = ledger.recommendation(proposal.recommendation_id)
            now, approved_at = ledger.clock.now(), proposal.approved
            reading = KnobReading(made.tool.values["fake", "size"], True, Lasts.UNTIL_RESTART)
            situation = make_situation(
                now=now, mode=Mode.APPROVE, knob=SIZE, reading=reading, targets=("fake",), memory=None,
                approval_age_s=None if approved_at is None else (now - approved_at) / 1e9,
            )  # fmt: skip
            return decide(proposal, situation, LIMITS, person)

        made.launcher.decide = decide_by_time
        yield made


def audit_words(stack):
    """Return the audit words on the recommendation after its creation, oldest first."""
    return [row.what for row in stack.ledger.audit_rows() if row.subject == ulid(500)][1:]


@pytest.mark.parametrize(
    ("approved", "stepped", "done"),
    [
        (LIFETIME - 1, LIFETIME - 1, True),
        (LIFETIME - 1, LIFETIME, False),
        (LIFETIME - SECOND, LIFETIME - 1, True),
        (LIFETIME - SECOND, LIFETIME + SECOND, False),
        (LIFETIME - APPROVAL_VALIDITY, LIFETIME - 1, True),
        (
            LIFETIME - APPROVAL_VALIDITY - 1,
            LIFETIME - 1,
            False,
        ),  # the approval expires before the recommendation
    ],
)
async def test_an_approval_is_sent_before_it_expires_or_never(stack, approved, stepped, done):
    """An approved change is sent before recommendation and approval expire; otherwise it expires."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    stack.clock.time = made.created + approved
    await stack.decisions.approve(made.id, "ann")
    stack.clock.time = made.created + stepped
    await stack.step()
    assert stack.tool.effects == ([("fake", "size", 125)] if done else [])
    stack.clock.time = made.created + approved + APPROVAL_VALIDITY
    await stack.step()
    assert audit_words(stack) == ["approved", "applied" if done else "expired"]
    assert len(stack.tool.effects) == done
    if not done:
        assert stack.ledger.actions() == []
        reason = stack.ledger.recommendation(made.id).reason
        assert "the recommendation expired" in reason or reason == "no operator decided in time"
    assert verify_audit(stack.ledger) == []


@pytest.mark.parametrize("decision", ["approve", "schedule", "apply"])
@pytest.mark.parametrize("late_ns", [0, 1, SECOND])
async def test_a_decision_after_expiry_is_a_conflict(stack, decision, late_ns):
    """A decision at or after expiry is a conflict and stores nothing, before and after the engine's step."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    stack.clock.time = made.expires + late_ns
    more = {"approve": (), "schedule": (stack.clock.now() + 1,), "apply": ("k",)}[decision]
    with pytest.raises(ConflictError, match="has expired"):
        await getattr(stack.decisions, decision)(made.id, "ann", *more)
    await stack.step()
    with pytest.raises(ConflictError, match="is expired"):
        await getattr(stack.decisions, decision)(made.id, "ann", *more)
    assert audit_words(stack) == ["expired"]
    assert stack.tool.effects == stack.ledger.actions() == []


def store_concurrently(stack, change):
    """Store a concurrent change of the recommendation just before the next save."""
    real = stack.ledger.save_recommendation

    def save(*given):
        stack.ledger.save_recommendation = real
        found = stack.ledger.recommendation(ulid(500))
        real(replace(found, **change), str(change["state"]), "rival", found.state)
        return real(*given)

    stack.ledger.save_recommendation = save


async def test_an_approval_that_loses_to_expiry_is_a_conflict(stack):
    """An approval is a conflict when the recommendation expires between its read and its write."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    stack.clock.time = made.expires - 1
    store_concurrently(stack, {"state": R.EXPIRED, "reason": "no operator decided in time"})
    with pytest.raises(ConflictError):
        await stack.decisions.approve(made.id, "ann")
    await stack.step()
    assert audit_words(stack) == ["expired"]
    assert stack.tool.effects == []


async def test_an_expiry_that_loses_to_an_approval_leaves_it(stack):
    """An expiry that loses to an approval leaves it stored; the guard then blocks the expired plan."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    stack.clock.time = made.expires
    store_concurrently(stack, {"state": R.APPROVED, "approver": "ann", "approved": made.expires - 1})
    await stack.step()
    assert audit_words(stack) == ["approved"]
    await stack.step()
    assert stack.ledger.recommendation(made.id).state is R.APPROVED
    assert "the recommendation expired" in stack.scheduler.blocked_reasons[made.id]
    assert stack.tool.effects == []


async def test_a_dismissal_that_loses_to_the_start_is_a_conflict(stack):
    """A dismissal is a conflict when the action starts first."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    await stack.decisions.approve(made.id, "ann")
    store_concurrently(stack, {"state": R.APPLIED})
    with pytest.raises(ConflictError):
        await stack.decisions.dismiss(made.id, "bob", "not now")
    assert audit_words(stack) == ["approved", "applied"]


async def test_a_start_that_loses_to_a_dismissal_sends_nothing(stack):
    """A start that loses to a dismissal journals the action as failed and sends nothing."""
    made = save_recommendation(stack, mode=Mode.APPROVE)
    await stack.decisions.approve(made.id, "ann")
    store_concurrently(stack, {"state": R.DISMISSED, "reason": "not now"})
    await stack.step()
    assert stack.tool.effects == []
    assert (only_action(stack).state, only_action(stack).outcome.words) == (
        ActionState.FAILED, "not sent: its recommendation is dismissed",
    )  # fmt: skip
    assert audit_words(stack) == ["approved", "dismissed"]
