"""Knobs that were set through us and are at another value now."""

from dataclasses import replace

import pytest

from tests.builders.actions import make_action, make_recommendation
from tests.builders.series import SECOND, START
from tests.contracts.event_store_contract import ulid
from trimtab.engine.actions import drift
from trimtab.engine.types import ActionState, KnobReading, Lasts, Mode, RecommendationState

PLACE = ("redis", "cache-1", "maxmemory")
KEPT = {"state": ActionState.KEPT, "started": START}


def read(value, set_here=True):
    """The knob at that value."""
    return {PLACE: KnobReading(value, set_here, Lasts.UNTIL_RESTART)}


HELD = [
    # the newest that took effect counts
    ([make_action(ulid(2), after=150, **KEPT), make_action(ulid(1), **KEPT)], 150),
    # one that failed changed nothing
    ([make_action(ulid(2), state=ActionState.FAILED), make_action(ulid(1), **KEPT)], 125),
    ([make_action(ulid(2), state=ActionState.REFUSED), make_action(ulid(1), **KEPT)], 125),
    ([make_action(ulid(1), state=ActionState.INCONCLUSIVE)], 125),
    ([make_action(ulid(1), state=ActionState.VERIFYING)], 125),
    # what was taken back, is on its way or may have taken effect is not ours to hold
    (
        [make_action(ulid(2), undoes=ulid(1), **KEPT), make_action(ulid(1), state=ActionState.ROLLED_BACK)],
        None,
    ),
    ([make_action(ulid(1), state=ActionState.ROLLED_BACK)], None),
    ([make_action(ulid(2), state=ActionState.EXECUTING), make_action(ulid(1), **KEPT)], None),
    ([make_action(ulid(2), state=ActionState.UNKNOWN), make_action(ulid(1), **KEPT)], None),
    # an action of a tool sets nothing
    ([make_action(ulid(1), is_action=True, subject="reload", **KEPT)], None),
]


@pytest.mark.parametrize(("actions", "value"), HELD)
def test_whose_value_a_knob_has(actions, value):
    """A knob is held to be at the value of the newest change that stands."""
    found = drift.knobs_in_effect(actions)
    assert [action.after for action in found.values()] == ([] if value is None else [value])


@pytest.mark.parametrize(
    ("state", "place"),
    [
        (ActionState.PROPOSED, {PLACE}), (ActionState.EXECUTING, {PLACE}),
        (ActionState.KEPT, set()), (ActionState.FAILED, set()),
    ],
)  # fmt: skip
def test_a_notice_waits_for_the_action_that_it_was_made_for(state, place):
    """While a knob is about to be set, what is told of it is not over."""
    assert drift.knobs_being_changed([make_action(ulid(1), state=state)]) == place


@pytest.mark.parametrize(
    ("after", "readings", "apart"),
    [
        (125, read(125), False),
        (125, read(100), True),
        # nobody knows
        (125, {}, False),
        # it was reset, and is set by somebody
        (None, read(100, set_here=False), False),
        (None, read(100), True),
    ],
)
def test_what_has_drifted(after, readings, apart):
    """A value that reads otherwise has drifted; what cannot be read has not."""
    found = drift.knobs_in_effect([make_action(ulid(1), after=after, **KEPT)])
    assert bool(drift.drifted_knobs(found, readings)) is apart


@pytest.mark.parametrize(
    ("mode", "given"),
    [(Mode.AUTO, Mode.APPROVE), (Mode.APPROVE, Mode.APPROVE), (Mode.RECOMMEND, Mode.RECOMMEND),
     (Mode.OFF, Mode.RECOMMEND)],
)  # fmt: skip
def test_a_notice_never_goes_by_itself(mode, given):
    """It says both values, who set it and how long that lasts; a person decides whatever the mode is."""
    action = make_action(ulid(1), by="ann", told="maxmemory 125", **KEPT)
    made = drift.drift_recommendation(START, ulid(9), action, read(100)[PLACE], mode, "redis-cli ...")
    assert (made.before, made.after, made.mode, made.command) == (100, 125, given, "redis-cli ...")
    assert made.title == "maxmemory of cache-1 is 100, not 125 as it was set"
    assert "ann set it to 125 at 2026-01-01" in made.evidence[0]
    assert "it lasts until restart" in made.evidence[1]
    assert made.evidence[2:] == ("maxmemory 125",)
    assert (made.fingerprint, made.is_action) == ("redis/cache-1/maxmemory/drift", False)
    assert (made.created, made.expires) == (START, START + 86_400 * SECOND)


def test_a_notice_says_only_what_is_known():
    """When it was written down where nobody knows when it was sent; nothing where its tool told nothing."""
    action = make_action(ulid(1), created=START + 60 * SECOND, by="ann")
    made = drift.drift_recommendation(START, ulid(9), action, read(100)[PLACE], Mode.APPROVE, "")
    assert "at 2026-01-01T00:01:00" in made.evidence[0]
    assert len(made.evidence) == 2
    assert made.confidence == 0.5


def test_a_dismissal_is_heard_until_it_is_set_anew():
    """Who dismissed it wants the value that is there; another value, or another change, is told again."""
    action = make_action(ulid(1), **KEPT)
    made = drift.drift_recommendation(START, ulid(9), action, read(100)[PLACE], Mode.AUTO, "")
    gone = make_recommendation(
        ulid(3), state=RecommendationState.DISMISSED, fingerprint=made.fingerprint, created=START + SECOND
    )
    assert not drift.is_wanted(made, action, [gone])
    assert not drift.is_wanted(made, make_action(ulid(2), created=gone.created, **KEPT), [gone])
    pending = replace(gone, state=RecommendationState.PENDING)
    assert drift.is_wanted(made, action, [pending, replace(gone, fingerprint="redis/cache-1/hz/drift")])
    assert drift.is_wanted(made, make_action(ulid(2), created=START + 2 * SECOND, **KEPT), [gone])
    other = drift.drift_recommendation(START, ulid(9), action, read(90)[PLACE], Mode.AUTO, "")
    assert drift.is_wanted(other, action, [gone])
