"""Anomalies of all sources -> incidents: what belongs together, who began, how much it matters.

An anomaly joins the case that it would be a rare accident to be so near to (`grouping`), or begins one. A
case becomes an incident, and is told, when so many series moved that it is no chance, or when it stayed for
`WAIT_S`. It is over when all its anomalies are, and resolved after `QUIET_S` without another; what people
said of it stays. No I/O, no clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trimtab.engine.incidents.alert_rates import Pace
from trimtab.engine.incidents.grouping import AGAIN_S, Known, joins, merges
from trimtab.engine.incidents.incident_draft import Case, Member, case_from, member_of
from trimtab.engine.incidents.mass_events import WINDOW_NS, Mass, MassWatch
from trimtab.engine.incidents.memory.incident_memory import LEAST_NEW, Memory
from trimtab.engine.incidents.series_directory import Place, Watched, place_of
from trimtab.engine.incidents.severity import (
    felt_by_users,
    level_of,
    severity_of,
    size_of,
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
WAIT_S = 180.0
"""What is weaker must stay unusual for so long before it is an incident."""
TELLING = 7.0
"""Surprise (powers of ten) from which several series are an incident at once."""
STRONG = 3.0
"""anomaly_score of a single series that is told at once."""
QUIET_S = 300.0
"""After so long without an anomaly an incident is resolved."""
BURST_S = 15.0
"""Bursts are taken for at least as long."""
CERTAIN = 150.0
"""Surprise beyond which another series tells nothing more."""
_PARTS = ("pace", "memory", "mass")


class Incidents:
    """The incidents of an installation.

    interval_s            : seconds between ticks, of the quickest source
    false_alarms_per_week : the budget a series, as the scorer has it
    """

    def __init__(self, interval_s: float = 15.0, false_alarms_per_week: float = 1.0) -> None:
        self.interval_s = interval_s
        self.watched = Watched()
        self.pace = Pace(false_alarms_per_week)
        self.memory = Memory()
        self.mass = MassWatch()
        self.cases: dict[str, Case] = {}
        """By id: those that go on, or might open again."""
        self.time = 0
        self._case_of: dict[str, str] = {}
        self._known = Known(self.watched, self.pace, self.memory.entities, interval_s)
        self._gone: list[Incident] = []
        self._added = 0
        self._news = False
        """Changes were told of since the last step."""
        self._moments: dict[tuple[str, int], Case] = {}
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
        self.watched.add(infos)
        self.pace.pass_to(self.time, len(self.watched))
        self._gone, self._moments = [], {}
        self._news, self._added = self.memory.changes.added != self._added, self.memory.changes.added
        began = {a.id: a for a in anomalies if a.id not in self._case_of and a.end is None}
        fresh = list(began.values())
        places = [self.watched.of(anomaly) for anomaly in fresh]
        ids = (anomaly.series_id for anomaly in fresh)
        mass = self.mass.step(self.time, zip(ids, places, strict=True), self.watched)
        gathering = None if mass is None else self._gather(mass, fresh)
        touched: list[Case | None] = [
            self._place(a, p, gathering if mass and mass.scope in p.scopes else None)
            for a, p in zip(fresh, places, strict=True)
        ]
        touched += [self._follow(anomaly) for anomaly in anomalies if anomaly is not began.get(anomaly.id)]
        if gathering is None:
            self._merge({case.id for case in touched if case is not None})
        self._recognise(source, patterns)
        return self._gone + self._settle()

    def covers(self, match: PatternMatch) -> bool:
        """Whether something that goes on has to do with a pattern already."""
        return any(case.end is None and case.touches(match) for case in self.cases.values())

    def forget(self, series_ids: Iterable[str]) -> None:
        """Series that are watched no more."""
        self.watched.forget(series_ids)

    def change(self, change: Change) -> None:
        """Somebody changed something: it is shown beside the incidents near it."""
        self.memory.changes.add(change)

    def restarted(self, time: int, key_labels: Mapping[str, str], what: str) -> Change | None:
        """A restart was seen (a start time that moved, counters that began again).

        Its Change, to be kept; None = it was told of a moment ago, by another series of the same thing.
        """
        return self.memory.changes.restarted(time, key_labels, what)

    def _place(self, anomaly: Anomaly, place: Place, gathering: Case | None) -> Case:
        """Find the case of an anomaly that began."""
        if gathering is not None:
            case, new = gathering, 1.0
        else:
            self.pace.events += 1.0
            moment = place.entity, anomaly.start
            found = self._moments.get(moment) or joins(place, anomaly.start, self.cases.values(), self._known)
            case = self._moments[moment] = found or self._begin(anomaly)
            new = 1.0 if case.surprise > CERTAIN else self.memory.novelty(case, place)
            new = LEAST_NEW if anomaly.pattern else new
        self._put(case, member_of(anomaly, place, new))
        if case.state is IncidentState.RESOLVED:
            self._again(case)
        return case

    def _again(self, case: Case) -> None:
        """What was over goes on; what a person resolved only where it is worse than it was then."""
        before = level_of(case.severity)
        self._judge(case)
        if not case.by_hand or level_of(case.severity) is not before:
            case.by_hand = False
            case.state = IncidentState.ACKNOWLEDGED if case.acknowledged_by else IncidentState.OPEN

    def _put(self, case: Case, member: Member) -> None:
        case.add(member)
        self._case_of[member.id] = case.id
        case.user_facing |= felt_by_users(member.metric)
        self._weigh(case, member)

    def _begin(self, anomaly: Anomaly) -> Case:
        case = Case(derived_ulid(anomaly.start, "incident", anomaly.id), anomaly.start, anomaly.start)
        self.cases[case.id] = case
        return case

    def _weigh(self, case: Case, member: Member, weight: float | None = None) -> None:
        """How surprising the bursts are that a member is part of, with it (or with its growth)."""
        if case.mass or case.surprise > CERTAIN:
            return
        place = self.watched.places.get(member.series_id)
        place = place or place_of(SeriesKey.of(member.source, member.metric, member.labels))
        for scope in place.scopes:
            burst = case.burst(scope, member.weight if weight is None else weight, member.start)
            window_s = max((burst.last - burst.first) / 1e9, self.interval_s, BURST_S)
            expected = self.pace.rate() * self.watched.sizes[scope] * window_s
            case.surprise = max(case.surprise, surprise(burst.weight, expected))

    def _follow(self, anomaly: Anomaly) -> Case | None:
        """An anomaly that is known grew or ended."""
        case = self.cases.get(self._case_of.get(anomaly.id, ""))
        if case is None:
            return None
        member = case.members[anomaly.id]
        grown = member.new * (size_of(anomaly.score) - size_of(member.score))
        member.score, member.direction = anomaly.score, anomaly.direction
        member.value, member.lower, member.upper = anomaly.value, anomaly.lower, anomaly.upper
        case.worst = max(case.worst, anomaly.score)
        if grown > 0.0:
            self.watched.of(anomaly)
            self._weigh(case, member, grown)
        if anomaly.end is not None:
            case.close(member, anomaly.end)
        return case

    def _gather(self, mass: Mass, fresh: Sequence[Anomaly]) -> Case | None:
        """The one case of a mass event: all that began within its window is part of it."""
        recent = [
            case
            for case in self.cases.values()
            if case.last >= self.time - WINDOW_NS and case.state is not IncidentState.RESOLVED
            and (mass.scope in case.bursts or case.mass)
        ]  # fmt: skip
        if not recent and not fresh:
            return None
        recent.sort(key=lambda case: (not case.mass, case.start, case.id))
        whole = recent[0] if recent else self._begin(fresh[0])
        for other in recent[1:]:
            self._gone += self.absorb(whole, other)
        whole.mass = True
        whole.mass_share = max(whole.mass_share, mass.share)
        return whole

    def _merge(self, touched: set[str]) -> None:
        """Merge cases that began so near each other that it is no accident."""
        if not touched:
            return
        going = [case for case in self.cases.values() if case.state is not IncidentState.RESOLVED]
        going.sort(key=lambda case: (case.start, case.id))
        for later in reversed(going):
            for earlier in going:
                if earlier is later or earlier.id not in self.cases:
                    continue
                if not touched & {earlier.id, later.id} or not _before(earlier, later):
                    continue
                if merges(earlier, later, self._known):
                    self._gone += self.absorb(earlier, later)
                    touched.add(earlier.id)
                    break

    def absorb(self, into: Case, other: Case) -> list[Incident]:
        """One case takes another over; where that was told, this is how it is told that it is gone."""
        into.take_over(other)
        into.known |= other.known
        self._case_of.update(dict.fromkeys(other.members, into.id))
        del self.cases[other.id]
        if not other.known:
            return []
        gone = self.memory.describe(other, self.interval_s)
        return [replace(gone, state=IncidentState.RESOLVED, merged_into=into.id)]

    def divide(self, case: Case, rest: Iterable[str], new: Case, apart: Iterable[str]) -> None:
        """Give each of two cases its part of the anomalies of one."""
        members = case.members
        old = Case(case.id, members[next(iter(rest := list(rest)))].start, 0)
        for part, names in ((old, rest), (new, list(apart))):
            for name in names:
                self._put(part, members[name])
        for name in ("members", "bursts", "open", "series", "surprise", "weight", "worst", "ended", "seen",
                     "user_facing", "start", "last"):  # fmt: skip
            setattr(case, name, getattr(old, name))
        case.severity = 0.0
        self.cases[new.id] = new
        for both in (case, new):
            self._judge(both)

    def take_up(self, incident: Incident, anomalies: Iterable[Anomaly]) -> None:
        """Follow a stored incident (again): after a restart without a state, or to let people speak of it."""
        case = Case(incident.id, incident.start, incident.start, state=incident.state, known=True)
        case.acknowledged_by, case.note = incident.acknowledged_by, incident.note
        case.mass, case.severity = incident.mass, incident.severity
        case.by_hand = _by_hand(incident)
        case.change_ids, case.similar = incident.change_ids, incident.similar
        case.patterns = {f"{match.name} {match.entity}": match for match in incident.patterns}
        for anomaly in sorted(anomalies, key=lambda one: (one.start, one.id)):
            self._put(case, member_of(anomaly, self.watched.of(anomaly)))
        if case.members:
            self.cases[case.id] = case

    def catch_up(self, incident: Incident, anomalies: Iterable[Anomaly]) -> None:
        """A followed one as it was stored after `state` was taken: words of people, further anomalies."""
        case = self.cases[incident.id]
        case.state, case.by_hand = incident.state, _by_hand(incident)
        case.acknowledged_by, case.note = incident.acknowledged_by, incident.note
        for anomaly in anomalies:
            if anomaly.id not in case.members:
                self._put(case, member_of(anomaly, self.watched.of(anomaly)))

    def let_go(self, incident_id: str) -> None:
        """Follow it no more: another took it over after `state` was taken."""
        case = self.cases.pop(incident_id)
        for member_id in case.members:
            if self._case_of.get(member_id) == incident_id:
                del self._case_of[member_id]

    def still_open(self, source: str, anomaly_ids: Iterable[str], time: int) -> None:
        """After a restart: all other anomalies of this source ended while nobody looked."""
        going = set(anomaly_ids)
        for case in self.cases.values():
            for member_id in [one for one in case.open if one not in going]:
                if case.members[member_id].source == source:
                    case.close(case.members[member_id], time)

    def lose(self, source: str, time: int) -> None:
        """A source is watched no more: its anomalies and patterns are over."""
        self.still_open(source, (), time)
        for case in self.cases.values():
            case.recognise(source, {}, time)

    def _recognise(self, source: str, patterns: Iterable[PatternMatch]) -> None:
        now = {f"{match.name} {match.entity}": match for match in patterns}
        for case in self.cases.values():
            case.recognise(source, now, self.time)

    def _settle(self) -> list[Incident]:
        """Judge what goes on, end what is over, and tell what is worth telling."""
        told: list[Incident] = []
        for case in list(self.cases.values()):
            self._judge(case)
            over_s = 0.0 if case.end is None else (self.time - case.ended) / 1e9
            if over_s >= QUIET_S and case.state is not IncidentState.RESOLVED:
                case.state = IncidentState.RESOLVED
            if case.known or self._matters(case):
                told += self.tell(case)
            if over_s >= (AGAIN_S if case.known else QUIET_S):
                self._forget(case)
        return told

    def _forget(self, case: Case) -> None:
        """It is over for good: what is to be learnt from it is learnt."""
        self.pace.ended(case.surprise)
        self.memory.learn(case, self.time)
        for member_id in case.members:
            self._case_of.pop(member_id, None)
        del self.cases[case.id]

    def _judge(self, case: Case) -> None:
        until = self.time if case.end is None else case.ended
        found = severity_of(
            surprise=case.surprise,
            weight=case.weight,
            share=0.0 if case.mass else self._share(case),
            entities=len(case.series),
            lasting_s=(until - case.start) / 1e9,
            user_facing=case.user_facing,
            worst=case.worst,
        )
        if case.mass:
            found = max(found, 0.6 + 0.4 * case.mass_share)
        case.severity = max(case.severity, min(found, 1.0))

    def _share(self, case: Case) -> float:
        """Of the series of the entity that is hit most."""
        sizes = self.watched.sizes
        return max(n / max(sizes[f"entity={entity}"], 4) for entity, n in case.series.items())

    def _matters(self, case: Case) -> bool:
        """Whether a case is an incident yet."""
        lasted = bool(case.open) and (self.time - case.start) / 1e9 >= WAIT_S
        rare = case.surprise >= TELLING or case.worst >= STRONG or case.mass
        case.known = rare or lasted or bool(case.patterns)
        return case.known

    def tell(self, case: Case) -> list[Incident]:
        """The incident, where enough of it changed since it was told last."""
        n = len(case.members)
        size = n if n <= 20 else 20 + int(10.0 * (n / 20.0 - 1.0) ** 0.5)
        now = (
            case.end is None, str(case.state), str(level_of(case.severity)), size, case.mass,
            len(case.patterns), case.acknowledged_by, case.note, round(case.severity * 10.0), case.shown(),
        )  # fmt: skip
        if now == case.told[: len(now)] and not self._news:
            return []
        near = self.memory.changes.near(case)
        if (*now, near) == case.told:
            return []
        if case.told[2:6] != now[2:6]:
            self.memory.look_back(case)
        case.told, case.change_ids = (*now, near), near
        return [self.memory.describe(case, self.interval_s)]

    def state(self) -> dict[str, Any]:
        """As plain values, for JSON. The series that are watched are told again by `step` after a restart."""
        parts: dict[str, Any] = {name: getattr(self, name).state() for name in _PARTS}
        cases = [case.state_of() for case in self.cases.values()]
        return {"version": VERSION, "time": self.time, "cases": cases, **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; a state of another version is left alone."""
        if state.get("version") != VERSION:
            return
        for name in _PARTS:
            getattr(self, name).restore(state[name])
        self.time = state["time"]
        self.cases = {stored["id"]: case_from(stored) for stored in state["cases"]}
        self._case_of = {member: case.id for case in self.cases.values() for member in case.members}


def _by_hand(incident: Incident) -> bool:
    """Whether a person resolved it: by itself that is never done while an anomaly goes on."""
    return incident.state is IncidentState.RESOLVED and incident.end is None


def _before(earlier: Case, later: Case) -> bool:
    return (earlier.start, earlier.id) < (later.start, later.id)
