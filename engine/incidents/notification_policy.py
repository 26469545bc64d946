"""Which incidents people are told of: a line learnt from the installation's own past. No I/O, no clock."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

from trimtab.engine.incidents.severity import CRITICAL, MEDIUM
from trimtab.engine.types import Incident, IncidentState, Notice, NoticeKind, Severity, Silence

VERSION = 1
"""Of what `Notifying.state` gives."""
WEEK_NS = 604_800_000_000_000
PAST_WEEKS = 4
INITIAL_THRESHOLD = 0.65
"""The line while less than a week is known."""
BUDGET_RATIO = 0.5
"""Share of the weekly notices that the line is set for, so that an uneven week stays within them."""
REPEAT_NS = 1_800_000_000_000
"""The same trouble is not told again so soon after it was over."""
MAX_PAST = 5000


class NotificationPolicy:
    """Notices of incidents.

    per_week : notices a week that are worth people's attention, for the whole installation. It sets how
               severe an incident must be; what is critical is told however many there are

    The line is where so many incidents a week lay in the last four weeks, between MEDIUM and CRITICAL. It
    rises with what was told in the last week and was not critical, so that a noisy week does not run over.
    """

    def __init__(self, per_week: float = 5.0) -> None:
        self.per_week = per_week
        self.silences: dict[str, Silence] = {}
        self._since: int | None = None
        self._past: dict[str, tuple[int, float]] = {}
        """Incident -> (start, largest severity): those for which it depends on the line."""
        self._notified: dict[str, dict[str, Any]] = {}
        """Incident -> fingerprint, when it was told, severity since, when it was over (None = it goes on)."""
        self._held: dict[str, Incident] = {}
        """Severe enough, but silenced."""
        self.restored_held: tuple[str, ...] = ()
        """Ids of those that were held back when the restored state was taken: to be told of again."""

    def step(self, time: int, incidents: Iterable[Incident]) -> list[Notice]:
        """Notices of this moment.

        incidents : those that came or changed, as `Incidents.step` gives them
        """
        self._since = time if self._since is None else self._since
        self._forget(time)
        waiting = {**self._held, **{incident.id: incident for incident in incidents}}
        self._held = {}
        notices: list[Notice] = []
        for incident in waiting.values():
            self._record(incident)
            notices += self._decide(incident, time)
        return notices

    def add_silence(self, silence: Silence) -> None:
        """Insert or replace."""
        self.silences[silence.id] = silence

    def set_silences(self, prefix: str, silences: Iterable[Silence]) -> None:
        """These in place of all whose id begins with `prefix`."""
        kept = {k: silence for k, silence in self.silences.items() if not k.startswith(prefix)}
        self.silences = kept | {silence.id: silence for silence in silences}

    def end_silence(self, silence_id: str) -> None:
        """What was held back and still goes on is told at the next step."""
        self.silences.pop(silence_id, None)

    def threshold(self, time: int) -> float:
        """How severe an incident must be now, 0..1."""
        learnt = self._learned_threshold(time)
        recent = [
            told["severity"] for told in self._notified.values()
            if told["time"] > time - WEEK_NS and told["severity"] < CRITICAL
        ]  # fmt: skip
        used = min(len(recent) / max(self.per_week, 1e-9), 1.0)
        return learnt + (CRITICAL - learnt) * used**2

    def _learned_threshold(self, time: int) -> float:
        weeks = min((time - (self._since or time)) / WEEK_NS, float(PAST_WEEKS))
        if weeks < 1.0:
            return INITIAL_THRESHOLD
        allowed = int(self.per_week * BUDGET_RATIO * weeks)
        severities = sorted((severity for _, severity in self._past.values()), reverse=True)
        quantile = severities[allowed] + 0.01 if allowed < len(severities) else MEDIUM
        return min(max(quantile, MEDIUM), CRITICAL)

    def _record(self, incident: Incident) -> None:
        if incident.merged_into is not None:
            self._past.pop(incident.id, None)
            return
        severity = max(incident.severity, self._past.get(incident.id, (0, 0.0))[1])
        self._past.pop(incident.id, None)
        if MEDIUM <= severity < CRITICAL:
            self._past[incident.id] = incident.start, severity
        if incident.id in self._notified:
            told = self._notified[incident.id]
            told["severity"] = max(told["severity"], severity)

    def _forget(self, time: int) -> None:
        oldest = time - PAST_WEEKS * WEEK_NS
        if self._past and next(iter(self._past.values()))[0] < oldest:
            self._past = {k: past for k, past in self._past.items() if past[0] >= oldest}
        while len(self._past) > MAX_PAST:
            self._past.pop(min(self._past, key=lambda one: self._past[one][1]))
        gone = [k for k, told in self._notified.items() if told["over"] is not None and told["over"] < oldest]
        for incident_id in gone:
            del self._notified[incident_id]
        self.silences = {k: silence for k, silence in self.silences.items() if silence.until > time}

    def _decide(self, incident: Incident, time: int) -> list[Notice]:
        print_ = fingerprint(incident)
        told = self._notified.get(incident.id)
        if incident.merged_into is not None:
            self._inherit(incident, time)
            return []
        if told is not None:
            return self._follow_up(incident, told, time)
        if incident.state is not IncidentState.OPEN:
            return []  # it is over, or somebody works on it already
        if incident.severity < MEDIUM or incident.severity < (line := self.threshold(time)):
            return []
        if self._silenced(incident, time):
            self._held[incident.id] = incident
            return []
        before = self._recent_severity(print_, time)
        self._notified[incident.id] = {
            "fingerprint": print_, "time": time, "severity": incident.severity, "level": str(incident.level),
            "over": None,
        }  # fmt: skip
        if before is not None and incident.severity < before + 0.1:
            return []
        return [Notice(NoticeKind.FIRING, incident, print_, time, self._reason(incident, line))]

    def _follow_up(self, incident: Incident, told: dict[str, Any], time: int) -> list[Notice]:
        print_ = told["fingerprint"]
        if incident.state is IncidentState.RESOLVED:
            if told["over"] is not None:
                return []
            told["over"] = time
            return [Notice(NoticeKind.RESOLVED, incident, print_, time, "It is over.")]
        told["over"] = None
        if incident.level is not Severity.CRITICAL or told["level"] == Severity.CRITICAL:
            return []
        told["level"] = str(incident.level)
        if self._silenced(incident, time) or incident.state is IncidentState.ACKNOWLEDGED:
            return []
        return [Notice(NoticeKind.WORSE, incident, print_, time, "It has become critical.")]

    def _inherit(self, incident: Incident, time: int) -> None:
        """What was told of an incident counts for the one that took it over."""
        told = self._notified.pop(incident.id, None)
        into = incident.merged_into
        if told is not None and into is not None:
            self._notified.setdefault(into, told)
            self._notified[into]["time"] = min(told["time"], time)

    def _recent_severity(self, print_: str, time: int) -> float | None:
        """Severity that the same trouble was told with, while it goes on or just after; None = it was not."""
        near = [
            told["severity"] for told in self._notified.values()
            if told["fingerprint"] == print_ and (told["over"] is None or time - told["over"] < REPEAT_NS)
        ]  # fmt: skip
        return max(near, default=None)

    def _silenced(self, incident: Incident, time: int) -> bool:
        holding = [s for s in self.silences.values() if s.begin <= time < s.until]
        return any(all_match(silence.entities, incident.entities) for silence in holding)

    def _reason(self, incident: Incident, line: float) -> str:
        users = ", and users feel it" if incident.user_facing else ""
        if incident.severity >= CRITICAL:
            return f"It is critical (severity {incident.severity:.2f}){users}."
        return (
            f"Its severity {incident.severity:.2f} is above {line:.2f}{users}: about {self.per_week:g} such "
            f"incidents a week are told."
        )

    def state(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "version": VERSION, "since": self._since, "told": self._notified,
            "past": {incident_id: list(past) for incident_id, past in self._past.items()},
            "silences": [asdict(silence) for silence in self.silences.values()], "held": list(self._held),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; a state of another version is left alone."""
        if state.get("version") != VERSION:
            return
        self._since = state["since"]
        self._notified = {incident_id: dict(told) for incident_id, told in state["told"].items()}
        self._past = {incident_id: (start, s) for incident_id, (start, s) in state["past"].items()}
        silences = [Silence(**{**s, "entities": tuple(s["entities"])}) for s in state["silences"]]
        self.silences = {silence.id: silence for silence in silences}
        self.restored_held = tuple(state.get("held", ()))


def fingerprint(incident: Incident) -> str:
    """The same for the same trouble, also when a restart finds it anew: of what it is of, 16 hex digits."""
    of = (
        "mass"
        if incident.mass
        else incident.suspects[0].entity
        if incident.suspects
        else incident.entities[0]
    )
    return hashlib.blake2b(of.encode(), digest_size=8).hexdigest()


def all_match(patterns: Sequence[str], entities: Iterable[str]) -> bool:
    """Whether all entities match one of the patterns.

    >>> covers(["redis/*"], ["redis/cache-1"]), covers(["redis/*"], ["redis/cache-1", "web"])
    (True, False)
    """
    return all(any(fnmatchcase(entity, pattern) for pattern in patterns) for entity in entities)
