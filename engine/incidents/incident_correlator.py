"""Anomalies of all sources -> incidents: what belongs together, who began, how much it matters.

An anomaly joins the case that it would be a rare accident to be so near to (`grouping`), or begins one. A
case becomes an incident, and is told, when so many series moved that it is no chance, or when it stayed for
`WAIT_S`. It is over when all its anomalies are, and resolved after `QUIET_S` without another; what people
said of it stays. No I/O, no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trimtab.engine.incidents.alert_rates import AlertRates
from trimtab.engine.incidents.grouping import REOPEN_WINDOW_S, GroupingContext, find_draft, should_merge
from trimtab.engine.incidents.incident_draft import IncidentDraft, DraftMember, draft_from_state, make_member
from trimtab.engine.incidents.mass_events import WINDOW_NS, MassEvent, MassEventDetector
from trimtab.engine.incidents.memory.incident_memory import MIN_NOVELTY, IncidentMemory
from trimtab.engine.incidents.series_directory import SeriesLocation, SeriesDirectory, locate
from trimtab.engine.incidents.severity import (
    is_user_facing,
    level_of,
    severity_of,
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
"""Of what `Incidents.state` gives."""
CONFIRM_AFTER_S = 180.0
"""What is weaker must stay unusual for so long before it is an incident."""
INSTANT_SURPRISE = 7.0
"""Surprise (powers of ten) from which several series are an incident at once."""
INSTANT_SCORE = 3.0
"""anomaly_score of a single series that is told at once."""
RESOLVE_AFTER_S = 300.0
"""After so long without an anomaly an incident is resolved."""
MIN_BURST_S = 15.0
"""Bursts are taken for at least as long."""
MAX_USEFUL_SURPRISE = 150.0
"""Surprise beyond which another series tells nothing more."""
_PARTS = {"pace": "rates", "memory": "memory", "mass": "mass_detector"}
"""Key in the stored state -> attribute."""


class IncidentCorrelator:
    """The incidents of an installation.

    interval_s            : seconds between ticks, of the quickest source
    false_alarms_per_week : the budget a series, as the scorer has it
    """

    def __init__(self, interval_s: float = 15.0, false_alarms_per_week: float = 1.0) -> None:
        self.interval_s = interval_s
        self.directory = SeriesDirectory()
        self.rates = AlertRates(false_alarms_per_week)
        self.memory = IncidentMemory()
        self.mass_detector = MassEventDetector()
        self.drafts: dict[str, IncidentDraft] = {}
        """By id: those that go on, or might open again."""
        self.time = 0
        self._draft_of: dict[str, str] = {}
        self._context = GroupingContext(self.directory, self.rates, self.memory.entities, interval_s)
        self._merged: list[Incident] = []
        self._change_revision = 0
        self._has_new_changes = False
        """Changes were told of since the last step."""
        self._placed: dict[tuple[str, int], IncidentDraft] = {}
        """(entity, when) -> where what moved there and then in this step was put."""

    def step(
        self,
        time: int,
        anomalies: Sequence[Anomaly],
        infos: Iterable[SeriesInfo] = (),
        patterns: Iterable[PatternMatch] = (),
        source: str = "",
    ) -> list[Incident]:
        """Incidents that came or changed, oldest first; one that another took over has `merged_into`.

        time      : int64 ns of the tick; of all sources, in about the order of time
        anomalies : that the tick told: opened, grown, closed
        infos     : series that came
        patterns  : that are recognised now in the ticks of this source; its others are over
        """
        self.time = max(self.time, time)
        self.directory.add(infos)
        self.rates.advance(self.time, len(self.directory))
        self._merged, self._placed = [], {}
        self._has_new_changes, self._change_revision = (
            self.memory.changes.revision != self._change_revision,
            self.memory.changes.revision,
        )
        began = {a.id: a for a in anomalies if a.id not in self._draft_of and a.end is None}
        fresh = list(began.values())
        places = [self.directory.location_of(anomaly) for anomaly in fresh]
        ids = (anomaly.series_id for anomaly in fresh)
        mass = self.mass_detector.step(self.time, zip(ids, places, strict=True), self.directory)
        gathering = None if mass is None else self._collect_mass_event(mass, fresh)
        touched: list[IncidentDraft | None] = [
            self._assign(a, p, gathering if mass and mass.scope in p.scopes else None)
            for a, p in zip(fresh, places, strict=True)
        ]
        touched += [
            self._update_member(anomaly) for anomaly in anomalies if anomaly is not began.get(anomaly.id)
        ]
        if gathering is None:
            self._merge_coincident({case.id for case in touched if case is not None})
        self._update_patterns(source, patterns)
        return self._merged + self._publish()

    def covers(self, match: PatternMatch) -> bool:
        """Whether something that goes on has to do with a pattern already."""
        return any(case.end is None and case.touches(match) for case in self.drafts.values())

    def forget_series(self, series_ids: Iterable[str]) -> None:
        """Series that are watched no more."""
        self.directory.forget(series_ids)

    def add_change(self, change: Change) -> None:
        """Somebody changed something: it is shown beside the incidents near it."""
        self.memory.changes.add(change)

    def add_restart(self, time: int, labels: Mapping[str, str], what: str) -> Change | None:
        """A restart was seen (a start time that moved, counters that began again).

        Its Change, to be kept; None = it was told of a moment ago, by another series of the same thing.
        """
        return self.memory.changes.add_restart(time, labels, what)

    def _assign(
        self, anomaly: Anomaly, place: SeriesLocation, gathering: IncidentDraft | None
    ) -> IncidentDraft:
        """Find the case of an anomaly that began."""
        if gathering is not None:
            case, new = gathering, 1.0
        else:
            self.rates.events += 1.0
            moment = place.entity, anomaly.start
            found = self._placed.get(moment) or find_draft(
                place, anomaly.start, self.drafts.values(), self._context
            )
            case = self._placed[moment] = found or self._create_draft(anomaly)
            new = 1.0 if case.surprise > MAX_USEFUL_SURPRISE else self.memory.novelty(case, place)
            new = MIN_NOVELTY if anomaly.pattern else new
        self._add_member(case, make_member(anomaly, place, new))
        if case.state is IncidentState.RESOLVED:
            self._reopen(case)
        return case

    def _reopen(self, case: IncidentDraft) -> None:
        """What was over goes on; what a person resolved only where it is worse than it was then."""
        before = level_of(case.severity)
        self._update_severity(case)
        if not case.by_hand or level_of(case.severity) is not before:
            case.by_hand = False
            case.state = IncidentState.ACKNOWLEDGED if case.acknowledged_by else IncidentState.OPEN

    def _add_member(self, case: IncidentDraft, member: DraftMember) -> None:
        case.add_member(member)
        self._draft_of[member.id] = case.id
        case.user_facing |= is_user_facing(member.metric)
        self._update_surprise(case, member)

    def _create_draft(self, anomaly: Anomaly) -> IncidentDraft:
        case = IncidentDraft(
            derived_ulid(anomaly.start, "incident", anomaly.id), anomaly.start, anomaly.start
        )
        self.drafts[case.id] = case
        return case

    def _update_surprise(self, case: IncidentDraft, member: DraftMember, weight: float | None = None) -> None:
        """How surprising the bursts are that a member is part of, with it (or with its growth)."""
        if case.mass or case.surprise > MAX_USEFUL_SURPRISE:
            return
        place = self.directory.locations.get(member.series_id)
        place = place or locate(SeriesKey.of(member.source, member.metric, member.labels))
        for scope in place.scopes:
            burst = case.extend_burst(scope, member.weight if weight is None else weight, member.start)
            window_s = max((burst.last - burst.first) / 1e9, self.interval_s, MIN_BURST_S)
            expected = self.rates.anomaly_rate() * self.directory.scope_sizes[scope] * window_s
            case.surprise = max(case.surprise, surprise(burst.weight, expected))

    def _update_member(self, anomaly: Anomaly) -> IncidentDraft | None:
        """An anomaly that is known grew or ended."""
        case = self.drafts.get(self._draft_of.get(anomaly.id, ""))
        if case is None:
            return None
        member = case.members[anomaly.id]
        grown = member.new * (score_weight(anomaly.score) - score_weight(member.score))
        member.score, member.direction = anomaly.score, anomaly.direction
        member.value, member.lower, member.upper = anomaly.value, anomaly.lower, anomaly.upper
        case.worst = max(case.worst, anomaly.score)
        if grown > 0.0:
            self.directory.location_of(anomaly)
            self._update_surprise(case, member, grown)
        if anomaly.end is not None:
            case.close_member(member, anomaly.end)
        return case

    def _collect_mass_event(self, mass: MassEvent, fresh: Sequence[Anomaly]) -> IncidentDraft | None:
        """The one case of a mass event: all that began within its window is part of it."""
        recent = [
            case
            for case in self.drafts.values()
            if case.last >= self.time - WINDOW_NS and case.state is not IncidentState.RESOLVED
            and (mass.scope in case.bursts or case.mass)
        ]  # fmt: skip
        if not recent and not fresh:
            return None
        recent.sort(key=lambda case: (not case.mass, case.start, case.id))
        whole = recent[0] if recent else self._create_draft(fresh[0])
        for other in recent[1:]:
            self._merged += self.absorb(whole, other)
        whole.mass = True
        whole.mass_share = max(whole.mass_share, mass.share)
        return whole

    def _merge_coincident(self, touched: set[str]) -> None:
        """Merge cases that began so near each other that it is no accident."""
        if not touched:
            return
        going = [case for case in self.drafts.values() if case.state is not IncidentState.RESOLVED]
        going.sort(key=lambda case: (case.start, case.id))
        for later in reversed(going):
            for earlier in going:
                if earlier is later or earlier.id not in self.drafts:
                    continue
                if not touched & {earlier.id, later.id} or not _starts_before(earlier, later):
                    continue
                if should_merge(earlier, later, self._context):
                    self._merged += self.absorb(earlier, later)
                    touched.add(earlier.id)
                    break

    def absorb(self, into: IncidentDraft, other: IncidentDraft) -> list[Incident]:
        """One case takes another over; where that was told, this is how it is told that it is gone."""
        into.absorb(other)
        into.known |= other.known
        self._draft_of.update(dict.fromkeys(other.members, into.id))
        del self.drafts[other.id]
        if not other.known:
            return []
        gone = self.memory.to_incident(other, self.interval_s)
        return [replace(gone, state=IncidentState.RESOLVED, merged_into=into.id)]

    def split(
        self, case: IncidentDraft, rest: Iterable[str], new: IncidentDraft, apart: Iterable[str]
    ) -> None:
        """Give each of two cases its part of the anomalies of one."""
        members = case.members
        old = IncidentDraft(case.id, members[next(iter(rest := list(rest)))].start, 0)
        for part, names in ((old, rest), (new, list(apart))):
            for name in names:
                self._add_member(part, members[name])
        for name in ("members", "bursts", "open", "series", "surprise", "weight", "worst", "ended", "seen",
                     "user_facing", "start", "last"):  # fmt: skip
            setattr(case, name, getattr(old, name))
        case.severity = 0.0
        self.drafts[new.id] = new
        for both in (case, new):
            self._update_severity(both)

    def follow_stored(self, incident: Incident, anomalies: Iterable[Anomaly]) -> None:
        """Follow a stored incident (again): after a restart without a state, or to let people speak of it."""
        case = IncidentDraft(incident.id, incident.start, incident.start, state=incident.state, known=True)
        case.acknowledged_by, case.note = incident.acknowledged_by, incident.note
        case.mass, case.severity = incident.mass, incident.severity
        case.by_hand = _is_resolved_by_hand(incident)
        case.change_ids, case.similar = incident.change_ids, incident.similar
        case.patterns = {f"{match.name} {match.entity}": match for match in incident.patterns}
        for anomaly in sorted(anomalies, key=lambda one: (one.start, one.id)):
            self._add_member(case, make_member(anomaly, self.directory.location_of(anomaly)))
        if case.members:
            self.drafts[case.id] = case

    def refresh_stored(self, incident: Incident, anomalies: Iterable[Anomaly]) -> None:
        """A followed one as it was stored after `state` was taken: words of people, further anomalies."""
        case = self.drafts[incident.id]
        case.state, case.by_hand = incident.state, _is_resolved_by_hand(incident)
        case.acknowledged_by, case.note = incident.acknowledged_by, incident.note
        for anomaly in anomalies:
            if anomaly.id not in case.members:
                self._add_member(case, make_member(anomaly, self.directory.location_of(anomaly)))

    def drop(self, incident_id: str) -> None:
        """Follow it no more: another took it over after `state` was taken."""
        case = self.drafts.pop(incident_id)
        for member_id in case.members:
            if self._draft_of.get(member_id) == incident_id:
                del self._draft_of[member_id]

    def close_missing(self, source: str, open_ids: Iterable[str], time: int) -> None:
        """After a restart: all other anomalies of this source ended while nobody looked."""
        going = set(open_ids)
        for case in self.drafts.values():
            for member_id in [one for one in case.open if one not in going]:
                if case.members[member_id].source == source:
                    case.close_member(case.members[member_id], time)

    def close_source(self, source: str, time: int) -> None:
        """A source is watched no more: its anomalies and patterns are over."""
        self.close_missing(source, (), time)
        for case in self.drafts.values():
            case.update_patterns(source, {}, time)

    def _update_patterns(self, source: str, patterns: Iterable[PatternMatch]) -> None:
        now = {f"{match.name} {match.entity}": match for match in patterns}
        for case in self.drafts.values():
            case.update_patterns(source, now, self.time)

    def _publish(self) -> list[Incident]:
        """Judge what goes on, end what is over, and tell what is worth telling."""
        told: list[Incident] = []
        for case in list(self.drafts.values()):
            self._update_severity(case)
            over_s = 0.0 if case.end is None else (self.time - case.ended) / 1e9
            if over_s >= RESOLVE_AFTER_S and case.state is not IncidentState.RESOLVED:
                case.state = IncidentState.RESOLVED
            if case.known or self._is_incident(case):
                told += self.report(case)
            if over_s >= (REOPEN_WINDOW_S if case.known else RESOLVE_AFTER_S):
                self._retire(case)
        return told

    def _retire(self, case: IncidentDraft) -> None:
        """It is over for good: what is to be learnt from it is learnt."""
        self.rates.record_group(case.surprise)
        self.memory.learn(case, self.time)
        for member_id in case.members:
            self._draft_of.pop(member_id, None)
        del self.drafts[case.id]

    def _update_severity(self, case: IncidentDraft) -> None:
        until = self.time if case.end is None else case.ended
        found = severity_of(
            surprise=case.surprise,
            weight=case.weight,
            share=0.0 if case.mass else self._hit_ratio(case),
            entities=len(case.series),
            lasting_s=(until - case.start) / 1e9,
            user_facing=case.user_facing,
            worst=case.worst,
        )
        if case.mass:
            found = max(found, 0.6 + 0.4 * case.mass_share)
        case.severity = max(case.severity, min(found, 1.0))

    def _hit_ratio(self, case: IncidentDraft) -> float:
        """Of the series of the entity that is hit most."""
        sizes = self.directory.scope_sizes
        return max(n / max(sizes[f"entity={entity}"], 4) for entity, n in case.series.items())

    def _is_incident(self, case: IncidentDraft) -> bool:
        """Whether a case is an incident yet."""
        lasted = bool(case.open) and (self.time - case.start) / 1e9 >= CONFIRM_AFTER_S
        rare = case.surprise >= INSTANT_SURPRISE or case.worst >= INSTANT_SCORE or case.mass
        case.known = rare or lasted or bool(case.patterns)
        return case.known

    def report(self, case: IncidentDraft) -> list[Incident]:
        """The incident, where enough of it changed since it was told last."""
        n = len(case.members)
        size = n if n <= 20 else 20 + int(10.0 * (n / 20.0 - 1.0) ** 0.5)
        now = (
            case.end is None, str(case.state), str(level_of(case.severity)), size, case.mass,
            len(case.patterns), case.acknowledged_by, case.note, round(case.severity * 10.0), case.active_patterns(),
        )  # fmt: skip
        if now == case.told[: len(now)] and not self._has_new_changes:
            return []
        near = self.memory.changes.find_near(case)
        if (*now, near) == case.told:
            return []
        if case.told[2:6] != now[2:6]:
            self.memory.find_similar(case)
        case.told, case.change_ids = (*now, near), near
        return [self.memory.to_incident(case, self.interval_s)]

    def state(self) -> dict[str, Any]:
        """As plain values, for JSON. The series that are watched are told again by `step` after a restart."""
        parts: dict[str, Any] = {key: getattr(self, name).state() for key, name in _PARTS.items()}
        cases = [case.stored_state() for case in self.drafts.values()]
        return {"version": VERSION, "time": self.time, "cases": cases, **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; a state of another version is left alone."""
        if state.get("version") != VERSION:
            return
        for key, name in _PARTS.items():
            getattr(self, name).restore(state[key])
        self.time = state["time"]
        self.drafts = {stored["id"]: draft_from_state(stored) for stored in state["cases"]}
        self._draft_of = {member: case.id for case in self.drafts.values() for member in case.members}


def _is_resolved_by_hand(incident: Incident) -> bool:
    """Whether a person resolved it: by itself that is never done while an anomaly goes on."""
    return incident.state is IncidentState.RESOLVED and incident.end is None


def _starts_before(earlier: IncidentDraft, later: IncidentDraft) -> bool:
    return (earlier.start, earlier.id) < (later.start, later.id)
