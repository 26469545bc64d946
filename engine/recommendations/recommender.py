"""Patterns of open incidents and facts of targets -> recommendations that know the control loop.

What is standing is refreshed instead of said again. What was dismissed, is running, has just been done or did
not help before is withheld, with the reason. Where somebody else sets the same knob a person decides.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from trimtab.engine.recommendations.remedies import Draft, draft
from trimtab.engine.recommendations.target_facts import Facts
from trimtab.engine.recommendations.target_matching import facts_for
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

MINUTE, DAY = 60 * 10**9, 86_400 * 10**9
LIVES = {Mode.AUTO: 5 * MINUTE, Mode.APPROVE: DAY, Mode.RECOMMEND: DAY}
"""How long a recommendation holds when its pattern is not seen any more, by mode."""
DISMISSED_FOR = 7 * DAY
MORE_CERTAIN = 0.2
"""A dismissed recommendation is made again when it has become so much more certain."""
RATCHET = 3
"""Changes one way within a day, none of which was measured to help, after which no further one is made."""
LEAST_CONFIDENCE = 0.3
STANDING = frozenset(
    {RecommendationState.PENDING, RecommendationState.APPROVED, RecommendationState.SCHEDULED}
)


@dataclass(frozen=True, slots=True)
class Advice:
    """What came of one look.

    made     : recommendations that are new or were refreshed
    withheld : (fingerprint, why it is not recommended now)
    off      : those that are not recommended for no other reason than their mode
    """

    made: tuple[Recommendation, ...]
    withheld: tuple[tuple[str, str], ...]
    off: tuple[Recommendation, ...] = ()


class Recommender:
    """Makes recommendations.

    new_id  : gives a ULID of a time
    command : how a person would do a draft by hand
    """

    def __init__(self, new_id: Callable[[int], str], command: Callable[[Draft], str] = lambda _: "") -> None:
        self.new_id = new_id
        self.command = command

    def advise(
        self,
        now: int,
        incidents: Iterable[Incident],
        facts: Sequence[Facts],
        before: Sequence[Recommendation],
        actions: Sequence[Action],
        scaling: Sequence[Draft] = (),
    ) -> Advice:
        """Look at what goes on once.

        before  : recommendations of the last week;  actions : of the last day
        scaling : changes that follow a load, without anything being wrong
        """
        made: dict[str, Recommendation] = {}
        withheld: dict[str, str] = {}
        off: dict[str, Recommendation] = {}
        for incident, match, found in (*self._against(incidents, facts), *((None, None, d) for d in scaling)):
            fingerprint = fingerprint_of(found)
            if fingerprint in made or fingerprint in withheld:
                continue
            fresh = self._recommendation(now, incident, match, found)
            why = _unwanted(now, fresh, found, before, actions)
            if not why and fresh.mode is Mode.OFF:
                off[fingerprint] = fresh
                why = f"{fresh.subject} of {fresh.target} is switched off"
            if why:
                withheld[fingerprint] = why
            else:
                made[fingerprint] = _standing(fresh, found, before, actions)
        return Advice(tuple(made.values()), tuple(withheld.items()), tuple(off.values()))

    def _against(
        self, incidents: Iterable[Incident], facts: Sequence[Facts]
    ) -> Iterator[tuple[Incident, PatternMatch, Draft]]:
        """What helps against the patterns of what goes on."""
        for incident in incidents:
            if incident.state is IncidentState.RESOLVED or incident.merged_into is not None:
                continue
            for match in (one for one in incident.patterns if one.until is None):
                yield from ((incident, match, found) for found in self._drafts(match, facts))

    def _drafts(self, match: PatternMatch, facts: Sequence[Facts]) -> list[Draft]:
        """What helps against a pattern, best first: the first that fits each target."""
        found: dict[tuple[str, str], Draft] = {}
        for name in match.remedies:
            for target in facts_for(match, name, facts):
                made = draft(name, target)
                if made is not None:
                    found.setdefault((target.tool, target.target), made)
        return list(found.values())

    def _recommendation(
        self, now: int, incident: Incident | None, match: PatternMatch | None, d: Draft
    ) -> Recommendation:
        mode = d.facts.mode(d.subject) if d.facts.writable else Mode.RECOMMEND
        return Recommendation(
            id=self.new_id(now), created=now, expires=now + LIVES.get(mode, DAY), tool=d.facts.tool,
            target=d.facts.target, subject=d.subject, is_action=d.is_action, before=d.before, after=d.after,
            title=d.title, effect=d.effect, evidence=(*(match.evidence if match else ()), *d.evidence),
            confidence=round((match.confidence if match else 1.0) * d.certainty, 3), risk=d.risk, cost=d.cost,
            disproof=d.disproof, mode=mode, fingerprint=fingerprint_of(d),
            incident_id=incident.id if incident else None, pattern=match.name if match else "",
            command=self.command(d),
        )  # fmt: skip


def fingerprint_of(d: Draft) -> str:
    """Same tool, target, subject and direction.

    >>> from trimtab.engine.types import Risk
    >>> cache = Facts("redis", "redis", "c1")
    >>> fingerprint_of(Draft(cache, "maxmemory", False, 1, 2, "", None, (), Risk.LOW, "", "", 1.0))
    'redis/c1/maxmemory/up'
    """
    return f"{d.facts.tool}/{d.facts.target}/{d.subject}/{_direction(d.before, d.after)}"


def _direction(before: object, after: object) -> str:
    if isinstance(before, (int, float)) and isinstance(after, (int, float)):
        return "up" if after > before else "down"
    return "do" if after is None else f"to {after}"


def _standing(
    fresh: Recommendation, d: Draft, before: Sequence[Recommendation], actions: Sequence[Action]
) -> Recommendation:
    """The same recommendation with what is known now, where one stands already; else the fresh one."""
    foreign = _set_by_others(fresh, d, actions)
    if foreign and fresh.mode is Mode.AUTO:
        fresh = replace(fresh, mode=Mode.APPROVE, evidence=(*fresh.evidence, foreign))
    for old in before:
        if old.fingerprint == fresh.fingerprint and old.state in STANDING:
            same_plan = (old.before, old.after) == (fresh.before, fresh.after)
            if not same_plan and old.state is not RecommendationState.PENDING:
                return old  # what a person approved is not exchanged under their hands: it expires
            return replace(
                fresh, id=old.id, created=old.created, state=old.state, approver=old.approver,
                approved=old.approved, scheduled=old.scheduled, incident_id=old.incident_id,
                generation=old.generation if same_plan else old.generation + 1, shadow=old.shadow,
            )  # fmt: skip
    return fresh


def _unwanted(
    now: int,
    fresh: Recommendation,
    d: Draft,
    before: Sequence[Recommendation],
    actions: Sequence[Action],
) -> str:
    """Why it is not recommended now; "" = it is."""
    if fresh.confidence < LEAST_CONFIDENCE:
        return f"too uncertain: {fresh.confidence:.2f} of {LEAST_CONFIDENCE}"
    return (
        _dismissed(now, fresh, before)
        or _busy(now, fresh, d.facts.knobs.get(d.subject, (None,))[0], d.facts, actions)
        or _did_not_help(now, fresh, actions)
    )


def _dismissed(now: int, fresh: Recommendation, before: Sequence[Recommendation]) -> str:
    for old in before:
        if old.fingerprint == fresh.fingerprint and old.state is RecommendationState.DISMISSED:
            surer = fresh.confidence >= old.confidence + MORE_CERTAIN
            if now - old.created < DISMISSED_FOR and not surer:
                return f"dismissed by {old.approver or 'a person'}: {old.reason or 'no reason given'}"
    return ""


def _busy(now: int, fresh: Recommendation, knob: Knob | None, facts: Facts, actions: Sequence[Action]) -> str:
    """An action on the same target's group runs, or has just ended and has not shown its effect."""
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
            return f"{action.subject} was changed just now: its effect shows after {warm_up // 10**9} s"
    return ""


def _did_not_help(now: int, fresh: Recommendation, actions: Sequence[Action]) -> str:
    alike = [
        a for a in actions
        if (a.tool, a.target, a.subject) == (fresh.tool, fresh.target, fresh.subject)
        and now - a.created < DAY and a.undoes is None
        and _direction(a.before, a.after) == _direction(fresh.before, fresh.after)
    ]  # fmt: skip
    if any(a.state is ActionState.ROLLED_BACK for a in alike):
        return f"{fresh.subject} was changed this way within a day, and it had to be taken back"
    if fresh.incident_id is None:
        return ""  # it follows a load, which may rise as often as it likes
    if len(alike) >= RATCHET and not any(_helped(a) for a in alike):
        return f"{len(alike)} changes of {fresh.subject} within a day did not help: look for another cause"
    return ""


def _helped(action: Action) -> bool:
    effect = action.outcome.effect if action.outcome is not None else None
    if effect is None:
        return False
    return effect.low > effect.before if effect.more_is_better else effect.high < effect.before


def _set_by_others(fresh: Recommendation, d: Draft, actions: Sequence[Action]) -> str:
    """Whether somebody else changed the knob since we did: two controllers on one knob."""
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
    return f"somebody else set {d.subject} to {d.before} since we set it to {last.after}: a person decides"
