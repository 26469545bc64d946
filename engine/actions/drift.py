"""Knobs that were set through us and are at another value now: somebody reverted them, or a restart did.

Pure: what is stored and what is read are arguments. A notice is a recommendation to set the knob again, which
waits in the inbox for a person and never goes by itself.
"""

from collections.abc import Iterable, Mapping, Sequence

from trimtab.engine.actions.journal import ENGINE, reads
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

STANDS = frozenset({ActionState.VERIFYING, ActionState.KEPT, ActionState.INCONCLUSIVE})
"""Of an action whose value is in the knob."""
DRIFT = "/drift"
"""At the end of the fingerprints of notices about knobs."""
LIFE_NS = 86_400 * 10**9
Place = tuple[str, str, str]
"""Tool, target, knob."""


def held(actions: Iterable[Action]) -> dict[Place, Action]:
    """The action of each knob that its value comes from; none where that is not ours to say.

    actions : newest first. What was taken back, is under way or may have taken effect says nothing.
    """
    newest: dict[Place, Action] = {}
    for action in actions:
        if not action.is_action and not action.state.changed_nothing:
            newest.setdefault((action.tool, action.target, action.subject), action)
    return {
        place: action for place, action in newest.items() if action.undoes is None and action.state in STANDS
    }


def under_way(actions: Iterable[Action]) -> set[Place]:
    """Knobs that an action is about to set: a notice that it was made for still stands."""
    return {
        (action.tool, action.target, action.subject) for action in actions
        if not action.is_action and action.state in {ActionState.PROPOSED, ActionState.EXECUTING}
    }  # fmt: skip


def drifted(found: Mapping[Place, Action], readings: Mapping[Place, KnobReading]) -> dict[Place, Action]:
    """Those of `held` whose knob reads otherwise; what could not be read is not among them."""
    return {
        place: action
        for place, action in found.items()
        if place in readings and not reads(readings[place], action.after)
    }


def fingerprint_of(place: Place) -> str:
    """Of the notice about a knob; unlike that of any recommendation to change it for a reason.

    >>> fingerprint_of(("redis", "cache-1", "maxmemory"))
    'redis/cache-1/maxmemory/drift'
    """
    return "/".join(place) + DRIFT


def notice(
    now: int, new_id: str, action: Action, reading: KnobReading, mode: Mode, command: str
) -> Recommendation:
    """The recommendation to set a knob again. mode : of the knob; a person decides all the same"""
    subject, target = action.subject, action.target
    return Recommendation(
        id=new_id, created=now, expires=now + LIFE_NS, tool=action.tool, target=target, subject=subject,
        is_action=False, before=reading.value, after=action.after,
        title=f"{subject} of {target} is {reading.value}, not {action.after} as it was set",
        effect=None,
        evidence=(
            f"{action.by} set it to {action.after} at {iso(action.started or action.created)}",
            f"since then somebody changed it, or what was set was lost (it lasts {reading.lasts})",
            *((action.told,) if action.told else ()),
        ),
        confidence=0.5, risk=Risk.LOW, cost="none beyond that of the change itself",
        disproof="whoever changed it wants the value that is there now: dismiss it then",
        mode=Mode.APPROVE if mode in {Mode.APPROVE, Mode.AUTO} else Mode.RECOMMEND,
        fingerprint=fingerprint_of((action.tool, target, subject)), command=command, proposer=ENGINE,
    )  # fmt: skip


def wanted(found: Recommendation, action: Action, before: Sequence[Recommendation]) -> bool:
    """Whether it is to be said: not where a person dismissed it since the knob was set, at the same value."""
    return not any(
        old.fingerprint == found.fingerprint
        and old.state is RecommendationState.DISMISSED
        and old.created >= action.created
        and old.before == found.before
        for old in before
    )
