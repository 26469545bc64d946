"""What a look at a target has shown, as recommendations that need no incident: never automatic, soon gone."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from trimtab.engine.recommendations.one_off_check import Finding
from trimtab.engine.recommendations.recommender import DAY, DISMISSED_FOR, STANDING, fingerprint_of
from trimtab.engine.recommendations.remedies import Draft
from trimtab.engine.recommendations.target_facts import Facts
from trimtab.engine.types import Mode, Recommendation, RecommendationState, Risk

BY_HAND = "by hand"
"""The subject of what no knob and no action of ours does."""
LOOK = "/look"
"""At the end of fingerprints: such a recommendation never stands for one that an incident asks for."""
CONFIDENCE = 0.3
"""Nothing is wrong yet: what an incident asks for stands above it."""


def notice_of(
    now: int, new_id: str, finding: Finding, facts: Facts, command: Callable[[Draft], str]
) -> Recommendation | None:
    """The recommendation of a finding; None where the mode of its knob is off."""
    change, mode = finding.remedy, Mode.RECOMMEND
    if change is not None and facts.writable:
        mode = facts.mode(change.subject)
    if mode is Mode.OFF:
        return None
    made = Recommendation(
        id=new_id, created=now, expires=now + DAY, tool=finding.tool, target=finding.target, subject=BY_HAND,
        is_action=True, before=None, after=None, title=f"{finding.target}: {finding.title}", effect=None,
        evidence=(*finding.evidence, finding.advice), confidence=CONFIDENCE, risk=Risk.MEDIUM,
        cost="a person looks at it", disproof="it is meant to be so: dismiss it then", mode=Mode.RECOMMEND,
        fingerprint=f"{finding.tool}/{finding.target}/{finding.title}{LOOK}",
    )  # fmt: skip
    if change is None:
        return made
    return replace(
        made, subject=change.subject, is_action=change.is_action, before=change.before, after=change.after,
        title=change.title, effect=change.effect, evidence=(*made.evidence, *change.evidence),
        risk=change.risk, cost=change.cost, disproof=change.disproof, command=command(change),
        mode=Mode.RECOMMEND if mode is Mode.RECOMMEND else Mode.APPROVE,
        fingerprint=f"{fingerprint_of(change)}{LOOK}",
    )  # fmt: skip


def unwanted(now: int, fresh: Recommendation, before: Sequence[Recommendation]) -> bool:
    """Whether it is not said: it was dismissed of late, or an incident asks for the same change."""
    plain = fresh.fingerprint.removesuffix(LOOK)
    return any(
        (old.fingerprint == plain and old.state in STANDING)
        or (
            old.fingerprint == fresh.fingerprint
            and old.state is RecommendationState.DISMISSED
            and now - old.created < DISMISSED_FOR
        )
        for old in before
    )


def refreshed(fresh: Recommendation, before: Sequence[Recommendation]) -> Recommendation:
    """The one that stands already, with what is known now; else the fresh one.

    What a person has approved is not exchanged under their hands.
    """
    for old in before:
        if old.fingerprint != fresh.fingerprint or old.state not in STANDING:
            continue
        same_plan = (old.before, old.after) == (fresh.before, fresh.after)
        if not same_plan and old.state is not RecommendationState.PENDING:
            return old
        return replace(
            fresh, id=old.id, created=old.created, state=old.state, approver=old.approver,
            approved=old.approved, scheduled=old.scheduled,
            generation=old.generation if same_plan else old.generation + 1,
        )  # fmt: skip
    return fresh
