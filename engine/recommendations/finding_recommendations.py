"""Recommendations from findings of target checks, without an incident. They never start automatically."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from trimtab.engine.actions.decision_contracts import OPEN_STATES
from trimtab.engine.recommendations.one_off_check import Finding
from trimtab.engine.recommendations.recommender import DAY_NS, DISMISSAL_NS, fingerprint_of
from trimtab.engine.recommendations.remedies import ChangeDraft
from trimtab.engine.recommendations.target_facts import TargetFacts
from trimtab.engine.types import Mode, Recommendation, RecommendationState, Risk

MANUAL_SUBJECT = "by hand"
"""Subject of a finding that no knob or action resolves."""
CHECK_SUFFIX = "/look"
"""Fingerprint suffix that keeps these recommendations apart from those of incidents."""
CONFIDENCE = 0.3
"""Confidence of all findings, so that recommendations of incidents rank higher."""


def recommendation_for(
    now: int, new_id: str, finding: Finding, facts: TargetFacts, command: Callable[[ChangeDraft], str]
) -> Recommendation | None:
    """Return the recommendation of a finding; None if the mode of its knob is off."""
    change, mode = finding.remedy, Mode.RECOMMEND
    if change is not None and facts.writable:
        mode = facts.mode_of(change.subject)
    if mode is Mode.OFF:
        return None
    made = Recommendation(
        id=new_id, created=now, expires=now + DAY_NS, tool=finding.tool, target=finding.target,
        subject=MANUAL_SUBJECT,
        is_action=True, before=None, after=None, title=f"{finding.target}: {finding.title}", effect=None,
        evidence=(*finding.evidence, finding.advice), confidence=CONFIDENCE, risk=Risk.MEDIUM,
        cost="an operator checks it", disproof="it is intended: dismiss the recommendation",
        mode=Mode.RECOMMEND,
        fingerprint=f"{finding.tool}/{finding.target}/{finding.title}{CHECK_SUFFIX}",
    )  # fmt: skip
    if change is None:
        return made
    return replace(
        made, subject=change.subject, is_action=change.is_action, before=change.before, after=change.after,
        title=change.title, effect=change.effect, evidence=(*made.evidence, *change.evidence),
        risk=change.risk, cost=change.cost, disproof=change.disproof, command=command(change),
        mode=Mode.RECOMMEND if mode is Mode.RECOMMEND else Mode.APPROVE,
        fingerprint=f"{fingerprint_of(change)}{CHECK_SUFFIX}",
    )  # fmt: skip


def is_unwanted(now: int, fresh: Recommendation, before: Sequence[Recommendation]) -> bool:
    """Return whether it was dismissed recently, or an incident recommends the same change."""
    plain = fresh.fingerprint.removesuffix(CHECK_SUFFIX)
    return any(
        (old.fingerprint == plain and old.state in OPEN_STATES)
        or (
            old.fingerprint == fresh.fingerprint
            and old.state is RecommendationState.DISMISSED
            and now - old.created < DISMISSAL_NS
        )
        for old in before
    )


def refresh(fresh: Recommendation, before: Sequence[Recommendation]) -> Recommendation:
    """Return the open recommendation of the same fingerprint with current values; else the fresh one.

    An approved or scheduled recommendation is not replaced by another plan.
    """
    for old in before:
        if old.fingerprint != fresh.fingerprint or old.state not in OPEN_STATES:
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
