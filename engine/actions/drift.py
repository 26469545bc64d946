"""Configuration drift: knobs set by an action that now have another value.

Pure functions. A drifted knob yields a recommendation to set it again, which never starts automatically.
"""

from collections.abc import Iterable, Mapping, Sequence

from trimtab.engine.actions.journal import ENGINE, is_at_value
from trimtab.engine.types import (
    Action,
    ActionState,
    KnobReading,
    Mode,
    Recommendation,
    RecommendationState,
    Risk,
    iso,
)

IN_EFFECT = frozenset({ActionState.VERIFYING, ActionState.KEPT, ActionState.INCONCLUSIVE})
"""States of an action whose value is in effect."""
DRIFT_SUFFIX = "/drift"
"""Suffix of the fingerprints of drift recommendations."""
LIFETIME_NS = 86_400 * 10**9
KnobKey = tuple[str, str, str]
"""Tool, target, knob."""


def knobs_in_effect(actions: Iterable[Action]) -> dict[KnobKey, Action]:
    """Return, by knob, the action that set its current value.

    actions : newest first. A knob whose newest action was rolled back, is running or has an unknown outcome
              is left out.
    """
    newest: dict[KnobKey, Action] = {}
    for action in actions:
        if not action.is_action and not action.state.changed_nothing:
            newest.setdefault((action.tool, action.target, action.subject), action)
    return {
        place: action
        for place, action in newest.items()
        if action.undoes is None and action.state in IN_EFFECT
    }


def knobs_being_changed(actions: Iterable[Action]) -> set[KnobKey]:
    """Return the knobs that a proposed or executing action is about to set."""
    return {
        (action.tool, action.target, action.subject) for action in actions
        if not action.is_action and action.state in {ActionState.PROPOSED, ActionState.EXECUTING}
    }  # fmt: skip


def drifted_knobs(
    found: Mapping[KnobKey, Action], readings: Mapping[KnobKey, KnobReading]
) -> dict[KnobKey, Action]:
    """Return the actions of `knobs_in_effect` whose knob now has another value; unread knobs are left out."""
    return {
        place: action
        for place, action in found.items()
        if place in readings and not is_at_value(readings[place], action.after)
    }


def fingerprint_of(place: KnobKey) -> str:
    """Return the fingerprint of a knob's drift recommendation.

    >>> fingerprint_of(("redis", "cache-1", "maxmemory"))
    'redis/cache-1/maxmemory/drift'
    """
    return "/".join(place) + DRIFT_SUFFIX


def drift_recommendation(
    now: int, new_id: str, action: Action, reading: KnobReading, mode: Mode, command: str
) -> Recommendation:
    """Return the recommendation to set a drifted knob again.

    mode : mode of the knob; the recommendation needs an operator even with mode auto
    """
    subject, target = action.subject, action.target
    return Recommendation(
        id=new_id, created=now, expires=now + LIFETIME_NS, tool=action.tool, target=target, subject=subject,
        is_action=False, before=reading.value, after=action.after,
        title=f"{subject} of {target} is {reading.value}, not {action.after} as it was set",
        effect=None,
        evidence=(
            f"{action.by} set it to {action.after} at {iso(action.started or action.created)}",
            f"it was changed since, or the value was lost (it lasts {reading.lasts})",
            *((action.told,) if action.told else ()),
        ),
        confidence=0.5, risk=Risk.LOW, cost="none beyond that of the change itself",
        disproof="the current value is intended: dismiss the recommendation",
        mode=Mode.APPROVE if mode in {Mode.APPROVE, Mode.AUTO} else Mode.RECOMMEND,
        fingerprint=fingerprint_of((action.tool, target, subject)), command=command, proposer=ENGINE,
    )  # fmt: skip


def is_wanted(found: Recommendation, action: Action, before: Sequence[Recommendation]) -> bool:
    """Return whether to recommend it: not if an operator dismissed it for this action and value."""
    return not any(
        old.fingerprint == found.fingerprint
        and old.state is RecommendationState.DISMISSED
        and old.created >= action.created
        and old.before == found.before
        for old in before
    )
