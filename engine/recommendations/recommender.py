"""Recommender: patterns of open incidents and target facts to recommendations.

An open recommendation is refreshed instead of repeated. Changes that were dismissed, are running, were just
made or did not help are withheld with the reason. A knob that something else also sets needs an operator.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from trimtab.engine.actions.decision_contracts import OPEN_STATES
from trimtab.engine.recommendations.remedies import ChangeDraft, draft_change
from trimtab.engine.recommendations.target_facts import TargetFacts, matching_targets
from trimtab.engine.types import (
    Action,
    ActionState,
    Incident,
    IncidentState,
    Knob,
    Mode,
    PatternMatch,
    Recommendation,
    RecommendationState,
)

MINUTE_NS, DAY_NS = 60 * 10**9, 86_400 * 10**9
LIFETIMES_NS = {Mode.AUTO: 5 * MINUTE_NS, Mode.APPROVE: DAY_NS, Mode.RECOMMEND: DAY_NS}
"""Validity of a recommendation after its pattern was last matched, ns, by mode."""
DISMISSAL_NS = 7 * DAY_NS
CONFIDENCE_GAIN = 0.2
"""Gain of confidence, 0..1, from which a dismissed recommendation is made again."""
MAX_UNHELPFUL_CHANGES = 3
"""Maximum number of changes in one direction within a day without a measured benefit."""
MIN_CONFIDENCE = 0.3


@dataclass(frozen=True, slots=True)
class Advice:
    """Result of one evaluation.

    recommendations : new and refreshed recommendations
    withheld        : (fingerprint, why it is not recommended)
    switched_off    : recommendations withheld only because their mode is off
    """

    recommendations: tuple[Recommendation, ...]
    withheld: tuple[tuple[str, str], ...]
    switched_off: tuple[Recommendation, ...] = ()


class Recommender:
    """Creates recommendations.

    new_id  : returns a ULID for a time, int64 ns UTC
    command : returns the shell command for a manual change
    """

    def __init__(
        self, new_id: Callable[[int], str], command: Callable[[ChangeDraft], str] = lambda _: ""
    ) -> None:
        self.new_id = new_id
        self.command = command

    def advise(
        self,
        now: int,
        incidents: Iterable[Incident],
        facts: Sequence[TargetFacts],
        before: Sequence[Recommendation],
        actions: Sequence[Action],
        scaling: Sequence[ChangeDraft] = (),
    ) -> Advice:
        """Evaluate open incidents once.

        before  : open and dismissed recommendations
        actions : actions of the last day
        scaling : drafts of scaling steps, which need no incident
        """
        made: dict[str, Recommendation] = {}
        withheld: dict[str, str] = {}
        off: dict[str, Recommendation] = {}
        for incident, match, found in (
            *self._drafts_for_incidents(incidents, facts),
            *((None, None, d) for d in scaling),
        ):
            fingerprint = fingerprint_of(found)
            if fingerprint in made or fingerprint in withheld:
                continue
            fresh = self._recommendation(now, incident, match, found)
            why = _withhold_reason(now, fresh, found, before, actions)
            if not why and fresh.mode is Mode.OFF:
                off[fingerprint] = fresh
                why = f"{fresh.subject} of {fresh.target} is switched off"
            if why:
                withheld[fingerprint] = why
            else:
                made[fingerprint] = _refresh(fresh, found, before, actions)
        return Advice(tuple(made.values()), tuple(withheld.items()), tuple(off.values()))

    def _drafts_for_incidents(
        self, incidents: Iterable[Incident], facts: Sequence[TargetFacts]
    ) -> Iterator[tuple[Incident, PatternMatch, ChangeDraft]]:
        """Yield the drafts for the active patterns of open incidents."""
        for incident in incidents:
            if incident.state is IncidentState.RESOLVED or incident.merged_into is not None:
                continue
            for match in (one for one in incident.patterns if one.until is None):
                yield from ((incident, match, found) for found in self._drafts_for_pattern(match, facts))

    def _drafts_for_pattern(self, match: PatternMatch, facts: Sequence[TargetFacts]) -> list[ChangeDraft]:
        """Return the first matching draft for each target, in the order of the pattern's remedies."""
        found: dict[tuple[str, str], ChangeDraft] = {}
        for name in match.remedies:
            for target in matching_targets(match, name, facts):
                made = draft_change(name, target)
                if made is not None:
                    found.setdefault((target.tool, target.target), made)
        return list(found.values())

    def _recommendation(
        self, now: int, incident: Incident | None, match: PatternMatch | None, d: ChangeDraft
    ) -> Recommendation:
        mode = d.facts.mode_of(d.subject) if d.facts.writable else Mode.RECOMMEND
        return Recommendation(
            id=self.new_id(now), created=now, expires=now + LIFETIMES_NS.get(mode, DAY_NS), tool=d.facts.tool,
            target=d.facts.target, subject=d.subject, is_action=d.is_action, before=d.before, after=d.after,
            title=d.title, effect=d.effect, evidence=(*(match.evidence if match else ()), *d.evidence),
            confidence=round((match.confidence if match else 1.0) * d.certainty, 3), risk=d.risk, cost=d.cost,
            disproof=d.disproof, mode=mode, fingerprint=fingerprint_of(d),
            incident_id=incident.id if incident else None, pattern=match.name if match else "",
            command=self.command(d),
        )  # fmt: skip


def fingerprint_of(d: ChangeDraft) -> str:
    """Return the fingerprint: tool, target, subject and direction.

    >>> from trimtab.engine.types import Risk
    >>> cache = TargetFacts("redis", "redis", "c1")
    >>> fingerprint_of(ChangeDraft(cache, "maxmemory", False, 1, 2, "", None, (), Risk.LOW, "", "", 1.0))
    'redis/c1/maxmemory/up'
    """
    return f"{d.facts.tool}/{d.facts.target}/{d.subject}/{_direction(d.before, d.after)}"


def _direction(before: object, after: object) -> str:
    if isinstance(before, (int, float)) and isinstance(after, (int, float)):
        return "up" if after > before else "down"
    return "do" if after is None else f"to {after}"


def _refresh(
    fresh: Recommendation, d: ChangeDraft, before: Sequence[Recommendation], actions: Sequence[Action]
) -> Recommendation:
    """Return the open recommendation of the same fingerprint with current values; else the fresh one."""
    foreign = _set_by_others(fresh, d, actions)
    if foreign and fresh.mode is Mode.AUTO:
        fresh = replace(fresh, mode=Mode.APPROVE, evidence=(*fresh.evidence, foreign))
    for old in before:
        if old.fingerprint == fresh.fingerprint and old.state in OPEN_STATES:
            same_plan = (old.before, old.after) == (fresh.before, fresh.after)
            if not same_plan and old.state is not RecommendationState.PENDING:
                return old  # an approved plan is not replaced: it expires
            return replace(
                fresh, id=old.id, created=old.created, state=old.state, approver=old.approver,
                approved=old.approved, scheduled=old.scheduled, incident_id=old.incident_id,
                generation=old.generation if same_plan else old.generation + 1, shadow=old.shadow,
            )  # fmt: skip
    return fresh


def _withhold_reason(
    now: int,
    fresh: Recommendation,
    d: ChangeDraft,
    before: Sequence[Recommendation],
    actions: Sequence[Action],
) -> str:
    """Return why it is not recommended; "" = it is."""
    if fresh.confidence < MIN_CONFIDENCE:
        return f"too uncertain: {fresh.confidence:.2f} of {MIN_CONFIDENCE}"
    return (
        _dismissal_reason(now, fresh, before)
        or _busy_reason(now, fresh, d.facts.knobs.get(d.subject, (None,))[0], d.facts, actions)
        or _unhelpful_reason(now, fresh, actions)
    )


def _dismissal_reason(now: int, fresh: Recommendation, before: Sequence[Recommendation]) -> str:
    for old in before:
        if old.fingerprint == fresh.fingerprint and old.state is RecommendationState.DISMISSED:
            surer = fresh.confidence >= old.confidence + CONFIDENCE_GAIN
            if now - old.created < DISMISSAL_NS and not surer:
                return f"dismissed by {old.approver or 'an operator'}: {old.reason or 'no reason given'}"
    return ""


def _busy_reason(
    now: int, fresh: Recommendation, knob: Knob | None, facts: TargetFacts, actions: Sequence[Action]
) -> str:
    """Return the running or just finished action on the same knob or group; "" = none."""
    group = knob.group if knob is not None else ""
    for action in actions:
        if (action.tool, action.target) != (fresh.tool, fresh.target):
            continue
        other = facts.knobs.get(action.subject, (None,))[0]
        same = action.subject == fresh.subject or (group != "" and other is not None and other.group == group)
        if same and not action.state.is_final:
            return f"{action.subject} of {action.target} is being changed"
        warm_up = int((other.warm_up_s if other is not None else 60.0) * 1e9)
        if same and action.ended is not None and now - action.ended < warm_up:
            return f"{action.subject} was just changed: its effect shows after {warm_up // 10**9} s"
    return ""


def _unhelpful_reason(now: int, fresh: Recommendation, actions: Sequence[Action]) -> str:
    alike = [
        a for a in actions
        if (a.tool, a.target, a.subject) == (fresh.tool, fresh.target, fresh.subject)
        and now - a.created < DAY_NS and a.undoes is None
        and _direction(a.before, a.after) == _direction(fresh.before, fresh.after)
    ]  # fmt: skip
    if any(a.state is ActionState.ROLLED_BACK for a in alike):
        return f"{fresh.subject} was changed in this direction within a day and rolled back"
    if fresh.incident_id is None:
        return ""  # scaling follows a load, which may rise any number of times
    if len(alike) >= MAX_UNHELPFUL_CHANGES and not any(_helped(a) for a in alike):
        return f"{len(alike)} changes of {fresh.subject} within a day did not help: check for another cause"
    return ""


def _helped(action: Action) -> bool:
    effect = action.outcome.effect if action.outcome is not None else None
    if effect is None:
        return False
    return effect.low > effect.before if effect.more_is_better else effect.high < effect.before


def _set_by_others(fresh: Recommendation, d: ChangeDraft, actions: Sequence[Action]) -> str:
    """Return a warning if something else changed the knob after our last kept action; "" = no."""
    ours = [
        a for a in actions
        if (a.tool, a.target, a.subject) == (fresh.tool, fresh.target, fresh.subject)
        and a.state is ActionState.KEPT and not a.is_action
    ]  # fmt: skip
    if not ours:
        return ""
    last = max(ours, key=lambda a: a.created)
    if last.after == d.before:
        return ""
    return (
        f"{d.subject} was set to {d.before} by something else after Trimtab set it to {last.after}: "
        "an operator decides"
    )
