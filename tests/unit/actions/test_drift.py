"""Drift: knobs that were set through the engine and have another value now."""

from dataclasses import replace

import pytest

from tests.builders.actions import make_action, make_recommendation
from tests.builders.series import SECOND, START
from tests.contracts.event_store_contract import ulid
from trimtab.engine.actions import drift
from trimtab.engine.types import ActionState, KnobReading, Lasts, Mode, RecommendationState

KNOB_ID = ("redis", "cache-1", "maxmemory")
KEPT = {"state": ActionState.KEPT, "started": START}


def readings_at(value, set_here=True):
    """Return a reading of the knob with this value."""
    return {KNOB_ID: KnobReading(value, set_here, Lasts.UNTIL_RESTART)}


IN_EFFECT = [
    # the newest change that took effect counts
    ([make_action(ulid(2), after=150, **KEPT), make_action(ulid(1), **KEPT)], 150),
    # a failed or refused change has no effect
    ([make_action(ulid(2), state=ActionState.FAILED), make_action(ulid(1), **KEPT)], 125),
    ([make_action(ulid(2), state=ActionState.REFUSED), make_action(ulid(1), **KEPT)], 125),
    ([make_action(ulid(1), state=ActionState.INCONCLUSIVE)], 125),
    ([make_action(ulid(1), state=ActionState.VERIFYING)], 125),
    # rolled back, executing and unknown changes define no value
    (
        [make_action(ulid(2), undoes=ulid(1), **KEPT), make_action(ulid(1), state=ActionState.ROLLED_BACK)],
        None,
    ),
    ([make_action(ulid(1), state=ActionState.ROLLED_BACK)], None),
    ([make_action(ulid(2), state=ActionState.EXECUTING), make_action(ulid(1), **KEPT)], None),
    ([make_action(ulid(2), state=ActionState.UNKNOWN), make_action(ulid(1), **KEPT)], None),
    # a tool action sets no value
    ([make_action(ulid(1), is_action=True, subject="reload", **KEPT)], None),
]


@pytest.mark.parametrize(("actions", "value"), IN_EFFECT)
def test_knobs_in_effect(actions, value):
    """A knob is expected at the value of its newest change in effect."""
    found = drift.knobs_in_effect(actions)
    assert [action.after for action in found.values()] == ([] if value is None else [value])


@pytest.mark.parametrize(
    ("state", "knobs"),
    [
        (ActionState.PROPOSED, {KNOB_ID}), (ActionState.EXECUTING, {KNOB_ID}),
        (ActionState.KEPT, set()), (ActionState.FAILED, set()),
    ],
)  # fmt: skip
def test_knobs_being_changed(state, knobs):
    """A knob with a proposed or executing action is being changed."""
    assert drift.knobs_being_changed([make_action(ulid(1), state=state)]) == knobs


@pytest.mark.parametrize(
    ("after", "readings", "drifted"),
    [
        (125, readings_at(125), False),
        (125, readings_at(100), True),
        # the reading is unknown
        (125, {}, False),
        # it was reset, and was set again since
        (None, readings_at(100, set_here=False), False),
        (None, readings_at(100), True),
    ],
)
def test_drifted_knobs(after, readings, drifted):
    """A knob has drifted when its reading differs; a knob that cannot be read has not."""
    found = drift.knobs_in_effect([make_action(ulid(1), after=after, **KEPT)])
    assert bool(drift.drifted_knobs(found, readings)) is drifted


@pytest.mark.parametrize(
    ("mode", "notice_mode"),
    [(Mode.AUTO, Mode.APPROVE), (Mode.APPROVE, Mode.APPROVE), (Mode.RECOMMEND, Mode.RECOMMEND),
     (Mode.OFF, Mode.RECOMMEND)],
)  # fmt: skip
def test_a_drift_notice_is_never_automatic(mode, notice_mode):
    """A drift notice holds both values, the author and the lifetime, and needs an operator in mode auto."""
    action = make_action(ulid(1), by="ann", told="maxmemory 125", **KEPT)
    made = drift.drift_recommendation(
        START, ulid(9), action, readings_at(100)[KNOB_ID], mode, "redis-cli ..."
    )
    assert (made.before, made.after, made.mode, made.command) == (100, 125, notice_mode, "redis-cli ...")
    assert made.title == "maxmemory of cache-1 is 100, not 125 as it was set"
    assert "ann set it to 125 at 2026-01-01" in made.evidence[0]
    assert "it lasts until restart" in made.evidence[1]
    assert made.evidence[2:] == ("maxmemory 125",)
    assert (made.fingerprint, made.is_action) == ("redis/cache-1/maxmemory/drift", False)
    assert (made.created, made.expires) == (START, START + 86_400 * SECOND)


def test_a_drift_notice_omits_unknown_facts():
    """A drift notice uses the creation time when the start is unknown and omits an empty tool message."""
    action = make_action(ulid(1), created=START + 60 * SECOND, by="ann")
    made = drift.drift_recommendation(START, ulid(9), action, readings_at(100)[KNOB_ID], Mode.APPROVE, "")
    assert "at 2026-01-01T00:01:00" in made.evidence[0]
    assert len(made.evidence) == 2
    assert made.confidence == 0.5


def test_a_dismissed_drift_returns_after_a_new_change():
    """A dismissed drift stays away until the knob is set again or reads another value."""
    action = make_action(ulid(1), **KEPT)
    made = drift.drift_recommendation(START, ulid(9), action, readings_at(100)[KNOB_ID], Mode.AUTO, "")
    dismissed = make_recommendation(
        ulid(3), state=RecommendationState.DISMISSED, fingerprint=made.fingerprint, created=START + SECOND
    )
    assert not drift.is_wanted(made, action, [dismissed])
    assert not drift.is_wanted(made, make_action(ulid(2), created=dismissed.created, **KEPT), [dismissed])
    pending = replace(dismissed, state=RecommendationState.PENDING)
    assert drift.is_wanted(made, action, [pending, replace(dismissed, fingerprint="redis/cache-1/hz/drift")])
    assert drift.is_wanted(made, make_action(ulid(2), created=START + 2 * SECOND, **KEPT), [dismissed])
    other = drift.drift_recommendation(START, ulid(9), action, readings_at(90)[KNOB_ID], Mode.AUTO, "")
    assert drift.is_wanted(other, action, [dismissed])
