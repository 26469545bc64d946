"""Correlates anomalies of all sources into incidents: grouping, root cause, severity, lifecycle.

An anomaly joins the draft that it is related to (see `grouping`) or starts a new one. A draft becomes an
incident when enough series moved to rule out chance, or when it lasted `CONFIRM_AFTER_S`. An incident ends
with its last anomaly and is resolved after `RESOLVE_AFTER_S` without another. No I/O, no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trimtab.engine.incidents.alert_rates import AlertRates
from trimtab.engine.incidents.grouping import REOPEN_WINDOW_S, GroupingContext, find_draft, should_merge
from trimtab.engine.incidents.incident_draft import DraftMember, IncidentDraft, draft_from_state, make_member
from trimtab.engine.incidents.mass_events import WINDOW_NS, MassEvent, MassEventDetector
from trimtab.engine.incidents.memory.incident_memory import MIN_NOVELTY, IncidentMemory
from trimtab.engine.incidents.series_directory import SeriesDirectory, SeriesLocation, locate
from trimtab.engine.incidents.severity import (
    is_user_facing,
    level_of,
    score_weight,
    surprise,
)
from trimtab.engine.types import (
    Anomaly,
    Change,
    Incident,
    IncidentState,
    PatternMatch,
    SeriesInfo,
    SeriesKey,
)
from trimtab.engine.types.ids import derived_ulid

VERSION = 1
"""Version of the state of `IncidentCorrelator.state`."""
CONFIRM_AFTER_S = 180.0
"""A weaker draft becomes an incident when it lasts this long."""
INSTANT_SURPRISE = 7.0
"""Surprise (powers of ten) from which a group of series is an incident at once."""
INSTANT_SCORE = 3.0
"""anomaly_score from which a single series is an incident at once."""
RESOLVE_AFTER_S = 300.0
"""An incident is resolved after this long without an anomaly."""
MIN_BURST_S = 15.0
"""Minimum duration assumed for a burst."""
MAX_USEFUL_SURPRISE = 150.0
"""Above this surprise further series add no information."""
_PARTS = {"pace": "rates", "memory": "memory", "mass": "mass_detector"}
"""Key in the stored state -> attribute."""


class IncidentCorrelator:
    """Correlates the anomalies of an installation into incidents.

    interval_s            : seconds between ticks of the fastest source
    false_alarms_per_week : budget of anomaly intervals per series and week, as for the scorer
    """

    def __init__(self, interval_s: float = 15.0, false_alarms_per_week: float = 1.0) -> None:
        self.interval_s = interval_s
        self.directory = SeriesDirectory()
        self.rates = AlertRates(false_alarms_per_week)
        self.memory = IncidentMemory()
        self.mass_detector = MassEventDetector()
        self.drafts: dict[str, IncidentDraft] = {}
        """By id: active incidents and drafts, and those that may reopen."""
        self.time = 0
        self._draft_of: dict[str, str] = {}
        self._context = GroupingContext(self.directory, self.rates, self.memory.entities, interval_s)
        self._merged: list[Incident] = []
        self._change_revision = 0
        self._has_new_changes = False
        """Change events were added since the last step."""
        self._placed: dict[tuple[str, int], IncidentDraft] = {}
        """(entity, start) -> draft of the anomalies already assigned in this step."""

    def step(
        self,
        time: int,
        anomalies: Sequence[Anomaly],
        infos: Iterable[SeriesInfo] = (),
        patterns: Iterable[PatternMatch] = (),
        source: str = "",
    ) -> list[Incident]:
        """Return new and changed incidents, oldest first; a merged incident has `merged_into`.

        time      : int64 ns of the tick; ticks of all sources, approximately in order of time
        anomalies : those that opened, grew or closed in the tick
        infos     : new series
        patterns  : patterns recognized in this tick of `source`; other patterns of the source have ended
        """
        self.time = max(self.time, time)
        self.directory.add(infos)
        self.rates.advance(self.time, len(self.directory))
        self._merged, self._placed = [], {}
        self._has_new_changes, self._change_revision = (
            self.memory.changes.revision != self._change_revision,
            self.memory.changes.revision,
        )
        new_by_id = {a.id: a for a in anomalies if a.id not in self._draft_of and a.end is None}
        new_anomalies = list(new_by_id.values())
        locations = [self.directory.location_of(anomaly) for anomaly in new_anomalies]
        ids = (anomaly.series_id for anomaly in new_anomalies)
        mass = self.mass_detector.step(self.time, zip(ids, locations, strict=True), self.directory)
        mass_draft = None if mass is None else self._collect_mass_event(mass, new_anomalies)
        affected: list[IncidentDraft | None] = [
            self._assign(a, p, mass_draft if mass and mass.scope in p.scopes else None)
            for a, p in zip(new_anomalies, locations, strict=True)
        ]
        affected += [
            self._update_member(anomaly) for anomaly in anomalies if anomaly is not new_by_id.get(anomaly.id)
        ]
        if mass_draft is None:
            self._merge_coincident({draft.id for draft in affected if draft is not None})
        self._update_patterns(source, patterns)
        return self._merged + self._publish()

    def covers(self, match: PatternMatch) -> bool:
        """Return whether an active draft already concerns the pattern's entity or series."""
        return any(draft.end is None and draft.touches(match) for draft in self.drafts.values())

    def forget_series(self, series_ids: Iterable[str]) -> None:
        """Remove series that are no longer monitored."""
        self.directory.forget(series_ids)

    def add_change(self, change: Change) -> None:
        """Add a change event, which is listed with the incidents near it."""
        self.memory.changes.add(change)

    def add_restart(self, time: int, labels: Mapping[str, str], what: str) -> Change | None:
        """Record a detected restart and return its change event; None if it was recorded just before.

        labels : labels of the series that shows the restart; what : name of the restarted entity
        """
        return self.memory.changes.add_restart(time, labels, what)

    def _assign(
        self, anomaly: Anomaly, place: SeriesLocation, mass_draft: IncidentDraft | None
    ) -> IncidentDraft:
        """Assign a new anomaly to a draft."""
        if mass_draft is not None:
            draft, novelty = mass_draft, 1.0
        else:
            self.rates.events += 1.0
            position = place.entity, anomaly.start
            draft_found = self._placed.get(position) or find_draft(
                place, anomaly.start, self.drafts.values(), self._context
            )
            draft = self._placed[position] = draft_found or self._create_draft(anomaly)
            novelty = 1.0 if draft.surprise > MAX_USEFUL_SURPRISE else self.memory.novelty(draft, place)
            novelty = MIN_NOVELTY if anomaly.pattern else novelty
        self._add_member(draft, make_member(anomaly, place, novelty))
        if draft.state is IncidentState.RESOLVED:
            self._reopen(draft)
        return draft

    def _reopen(self, draft: IncidentDraft) -> None:
        """Reopen a resolved draft; after an operator's resolution only at a higher severity level."""
        before = level_of(draft.severity)
        draft.update_severity(self.time, self.directory.scope_sizes)
        if not draft.by_hand or level_of(draft.severity) is not before:
            draft.by_hand = False
            draft.state = IncidentState.ACKNOWLEDGED if draft.acknowledged_by else IncidentState.OPEN

    def _add_member(self, draft: IncidentDraft, member: DraftMember) -> None:
        draft.add_member(member)
        self._draft_of[member.id] = draft.id
        draft.user_facing |= is_user_facing(member.metric)
        self._update_surprise(draft, member)

    def _create_draft(self, anomaly: Anomaly) -> IncidentDraft:
        draft = IncidentDraft(
            derived_ulid(anomaly.start, "incident", anomaly.id), anomaly.start, anomaly.start
        )
        self.drafts[draft.id] = draft
        return draft

    def _update_surprise(
        self, draft: IncidentDraft, member: DraftMember, weight: float | None = None
    ) -> None:
        """Update the surprise with the bursts that a member, or its growth, is part of."""
        if draft.mass or draft.surprise > MAX_USEFUL_SURPRISE:
            return
        location = self.directory.locations.get(member.series_id)
        location = location or locate(SeriesKey.of(member.source, member.metric, member.labels))
        for scope in location.scopes:
            burst = draft.extend_burst(scope, member.weight if weight is None else weight, member.start)
            window_s = max((burst.last - burst.first) / 1e9, self.interval_s, MIN_BURST_S)
            expected = self.rates.anomaly_rate() * self.directory.scope_sizes[scope] * window_s
            draft.surprise = max(draft.surprise, surprise(burst.weight, expected))

    def _update_member(self, anomaly: Anomaly) -> IncidentDraft | None:
        """Update the draft of a known anomaly that grew or closed."""
        draft = self.drafts.get(self._draft_of.get(anomaly.id, ""))
        if draft is None:
            return None
        member = draft.members[anomaly.id]
        growth = member.new * (score_weight(anomaly.score) - score_weight(member.score))
        member.score, member.direction = anomaly.score, anomaly.direction
        member.value, member.lower, member.upper = anomaly.value, anomaly.lower, anomaly.upper
        draft.worst = max(draft.worst, anomaly.score)
        if growth > 0.0:
            self.directory.location_of(anomaly)
            self._update_surprise(draft, member, growth)
        if anomaly.end is not None:
            draft.close_member(member, anomaly.end)
        return draft

    def _collect_mass_event(self, mass: MassEvent, new_anomalies: Sequence[Anomaly]) -> IncidentDraft | None:
        """Return the one draft of a mass event, after merging all drafts that began within its window."""
        recent = [
            draft
            for draft in self.drafts.values()
            if draft.last >= self.time - WINDOW_NS and draft.state is not IncidentState.RESOLVED
            and (mass.scope in draft.bursts or draft.mass)
        ]  # fmt: skip
        if not recent and not new_anomalies:
            return None
        recent.sort(key=lambda draft: (not draft.mass, draft.start, draft.id))
        target = recent[0] if recent else self._create_draft(new_anomalies[0])
        for other in recent[1:]:
            self._merged += self.absorb(target, other)
        target.mass = True
        target.mass_share = max(target.mass_share, mass.share)
        return target

    def _merge_coincident(self, affected: set[str]) -> None:
        """Merge drafts that began too close to each other for a coincidence."""
        if not affected:
            return
        active = [draft for draft in self.drafts.values() if draft.state is not IncidentState.RESOLVED]
        active.sort(key=lambda draft: (draft.start, draft.id))
        for later in reversed(active):
            for earlier in active:
                if earlier is later or earlier.id not in self.drafts:
                    continue
                if not affected & {earlier.id, later.id} or not _starts_before(earlier, later):
                    continue
                if should_merge(earlier, later, self._context):
                    self._merged += self.absorb(earlier, later)
                    affected.add(earlier.id)
                    break

    def absorb(self, into: IncidentDraft, other: IncidentDraft) -> list[Incident]:
        """Merge `other` into `into`; return the closing version of `other` if it was published."""
        into.absorb(other)
        into.known |= other.known
        self._draft_of.update(dict.fromkeys(other.members, into.id))
        del self.drafts[other.id]
        if not other.known:
            return []
        gone = self.memory.to_incident(other, self.interval_s)
        return [replace(gone, state=IncidentState.RESOLVED, merged_into=into.id)]

    def split(
        self, draft: IncidentDraft, rest: Iterable[str], new: IncidentDraft, apart: Iterable[str]
    ) -> None:
        """Divide the anomalies of a draft between it (`rest`) and a new draft (`apart`)."""
        members = draft.members
        old = IncidentDraft(draft.id, members[next(iter(rest := list(rest)))].start, 0)
        for part, names in ((old, rest), (new, list(apart))):
            for name in names:
                self._add_member(part, members[name])
        for name in ("members", "bursts", "open", "series", "surprise", "weight", "worst", "ended", "seen",
                     "user_facing", "start", "last"):  # fmt: skip
            setattr(draft, name, getattr(old, name))
        draft.severity = 0.0
        self.drafts[new.id] = new
        for both in (draft, new):
            both.update_severity(self.time, self.directory.scope_sizes)

    def follow_stored(self, incident: Incident, anomalies: Iterable[Anomaly]) -> None:
        """Follow a stored incident again: after a restart without state, or for an operator action."""
        draft = IncidentDraft(incident.id, incident.start, incident.start, state=incident.state, known=True)
        draft.acknowledged_by, draft.note = incident.acknowledged_by, incident.note
        draft.mass, draft.severity = incident.mass, incident.severity
        draft.by_hand = _is_resolved_by_hand(incident)
        draft.change_ids, draft.similar = incident.change_ids, incident.similar
        draft.patterns = {f"{match.name} {match.entity}": match for match in incident.patterns}
        for anomaly in sorted(anomalies, key=lambda one: (one.start, one.id)):
            self._add_member(draft, make_member(anomaly, self.directory.location_of(anomaly)))
        if draft.members:
            self.drafts[draft.id] = draft

    def refresh_stored(self, incident: Incident, anomalies: Iterable[Anomaly]) -> None:
        """Update a draft from a newer stored version: operator actions and further anomalies."""
        draft = self.drafts[incident.id]
        draft.state, draft.by_hand = incident.state, _is_resolved_by_hand(incident)
        draft.acknowledged_by, draft.note = incident.acknowledged_by, incident.note
        for anomaly in anomalies:
            if anomaly.id not in draft.members:
                self._add_member(draft, make_member(anomaly, self.directory.location_of(anomaly)))

    def drop(self, incident_id: str) -> None:
        """Stop following an incident that was merged after the state was saved."""
        draft = self.drafts.pop(incident_id)
        for member_id in draft.members:
            if self._draft_of.get(member_id) == incident_id:
                del self._draft_of[member_id]

    def close_missing(self, source: str, open_ids: Iterable[str], time: int) -> None:
        """Close all anomalies of a source, at `time`, that are not among `open_ids` after a restart."""
        still_open = set(open_ids)
        for draft in self.drafts.values():
            for member_id in [one for one in draft.open if one not in still_open]:
                if draft.members[member_id].source == source:
                    draft.close_member(draft.members[member_id], time)

    def close_source(self, source: str, time: int) -> None:
        """Close all anomalies and patterns of a source that is no longer monitored."""
        self.close_missing(source, (), time)
        for draft in self.drafts.values():
            draft.update_patterns(source, {}, time)

    def _update_patterns(self, source: str, patterns: Iterable[PatternMatch]) -> None:
        now = {f"{match.name} {match.entity}": match for match in patterns}
        for draft in self.drafts.values():
            draft.update_patterns(source, now, self.time)

    def _publish(self) -> list[Incident]:
        """Update all drafts, resolve and retire ended ones, and return the incidents to publish."""
        published: list[Incident] = []
        for draft in list(self.drafts.values()):
            draft.update_severity(self.time, self.directory.scope_sizes)
            ended_s = 0.0 if draft.end is None else (self.time - draft.ended) / 1e9
            if ended_s >= RESOLVE_AFTER_S and draft.state is not IncidentState.RESOLVED:
                draft.state = IncidentState.RESOLVED
            if draft.known or self._is_incident(draft):
                published += self.report(draft)
            if ended_s >= (REOPEN_WINDOW_S if draft.known else RESOLVE_AFTER_S):
                self._retire(draft)
        return published

    def _retire(self, draft: IncidentDraft) -> None:
        """Learn from an ended draft and remove it."""
        self.rates.record_group(draft.surprise)
        self.memory.learn(draft, self.time)
        for member_id in draft.members:
            self._draft_of.pop(member_id, None)
        del self.drafts[draft.id]

    def _is_incident(self, draft: IncidentDraft) -> bool:
        """Return whether a draft is an incident yet."""
        has_lasted = bool(draft.open) and (self.time - draft.start) / 1e9 >= CONFIRM_AFTER_S
        is_rare = draft.surprise >= INSTANT_SURPRISE or draft.worst >= INSTANT_SCORE or draft.mass
        draft.known = is_rare or has_lasted or bool(draft.patterns)
        return draft.known

    def report(self, draft: IncidentDraft) -> list[Incident]:
        """Return the incident if enough of it changed since it was last published, else nothing."""
        n_anomalies = len(draft.members)
        size = n_anomalies if n_anomalies <= 20 else 20 + int(10.0 * (n_anomalies / 20.0 - 1.0) ** 0.5)
        summary = (
            draft.end is None,
            str(draft.state),
            str(level_of(draft.severity)),
            size,
            draft.mass,
            len(draft.patterns),
            draft.acknowledged_by,
            draft.note,
            round(draft.severity * 10.0),
            draft.active_patterns(),
        )
        if summary == draft.told[: len(summary)] and not self._has_new_changes:
            return []
        near = self.memory.find_near_changes(draft)
        if (*summary, near) == draft.told:
            return []
        if draft.told[2:6] != summary[2:6]:
            self.memory.find_similar(draft)
        draft.told, draft.change_ids = (*summary, near), near
        return [self.memory.to_incident(draft, self.interval_s)]

    def state(self) -> dict[str, Any]:
        """Return plain values for JSON; `step` receives the monitored series again after a restart."""
        parts: dict[str, Any] = {key: getattr(self, name).state() for key, name in _PARTS.items()}
        cases = [draft.stored_state() for draft in self.drafts.values()]
        return {"version": VERSION, "time": self.time, "cases": cases, **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`; a state of another version is ignored."""
        if state.get("version") != VERSION:
            return
        for key, name in _PARTS.items():
            getattr(self, name).restore(state[key])
        self.time = state["time"]
        self.drafts = {stored["id"]: draft_from_state(stored) for stored in state["cases"]}
        self._draft_of = {member: draft.id for draft in self.drafts.values() for member in draft.members}


def _is_resolved_by_hand(incident: Incident) -> bool:
    """Return whether an operator resolved it: automatic resolution happens only after all anomalies ended."""
    return incident.state is IncidentState.RESOLVED and incident.end is None


def _starts_before(earlier: IncidentDraft, later: IncidentDraft) -> bool:
    return (earlier.start, earlier.id) < (later.start, later.id)
