"""Decides which incidents cause a notification, by a learned severity threshold. No I/O, no clock."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

from trimtab.engine.incidents.severity import CRITICAL, MEDIUM
from trimtab.engine.types import Incident, IncidentState, Notice, NoticeKind, Severity, Silence

VERSION = 1
"""Version of the state of `NotificationPolicy.state`."""
WEEK_NS = 604_800_000_000_000
PAST_WEEKS = 4
INITIAL_THRESHOLD = 0.65
"""Severity threshold during the first week."""
BUDGET_RATIO = 0.5
"""Share of the weekly budget that the threshold is set for, so that an uneven week stays within the budget.
"""
REPEAT_NS = 1_800_000_000_000
"""An incident of the same cause is not notified again within this time after the previous one ended."""
MAX_PAST = 5000


class NotificationPolicy:
    """Decides which incidents cause a notice.

    per_week : budget of notices per week for the whole installation. It sets the severity threshold; critical
               incidents always cause a notice

    The threshold is the severity that this many incidents a week exceeded in the last four weeks, between
    MEDIUM and
    CRITICAL. It rises with the non-critical notices of the last week, so that a noisy week stays within the
    budget.
    """

    def __init__(self, per_week: float = 5.0) -> None:
        self.per_week = per_week
        self.silences: dict[str, Silence] = {}
        self._since: int | None = None
        self._past: dict[str, tuple[int, float]] = {}
        """Incident id -> (start, largest severity): incidents for which the threshold decides."""
        self._notified: dict[str, dict[str, Any]] = {}
        """Incident id -> fingerprint, time of the notice, largest severity since, time it ended (None =
        active).
        """
        self._held: dict[str, Incident] = {}
        """Incidents above the threshold that a silence holds back."""
        self.restored_held: tuple[str, ...] = ()
        """Ids of incidents that were held back when the restored state was saved; pass them to `step` again.
        """

    def step(self, time: int, incidents: Iterable[Incident]) -> list[Notice]:
        """Return the notices to send now.

        time      : int64 ns
        incidents : new and changed incidents, as `IncidentCorrelator.step` returns them
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
        """Insert or replace a silence."""
        self.silences[silence.id] = silence

    def set_silences(self, prefix: str, silences: Iterable[Silence]) -> None:
        """Replace all silences whose id begins with `prefix`."""
        kept = {k: silence for k, silence in self.silences.items() if not k.startswith(prefix)}
        self.silences = kept | {silence.id: silence for silence in silences}

    def end_silence(self, silence_id: str) -> None:
        """End a silence; the next step notifies about active incidents that it held back."""
        self.silences.pop(silence_id, None)

    def threshold(self, time: int) -> float:
        """Return the severity, 0..1, from which an incident causes a notice now."""
        learned = self._learned_threshold(time)
        recent = [
            notified["severity"] for notified in self._notified.values()
            if notified["time"] > time - WEEK_NS and notified["severity"] < CRITICAL
        ]  # fmt: skip
        used_ratio = min(len(recent) / max(self.per_week, 1e-9), 1.0)
        return learned + (CRITICAL - learned) * used_ratio**2

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
            notified = self._notified[incident.id]
            notified["severity"] = max(notified["severity"], severity)

    def _forget(self, time: int) -> None:
        oldest = time - PAST_WEEKS * WEEK_NS
        if self._past and next(iter(self._past.values()))[0] < oldest:
            self._past = {k: past for k, past in self._past.items() if past[0] >= oldest}
        while len(self._past) > MAX_PAST:
            self._past.pop(min(self._past, key=lambda incident_id: self._past[incident_id][1]))
        expired = [
            k
            for k, notified in self._notified.items()
            if notified["over"] is not None and notified["over"] < oldest
        ]
        for incident_id in expired:
            del self._notified[incident_id]
        self.silences = {k: silence for k, silence in self.silences.items() if silence.until > time}

    def _decide(self, incident: Incident, time: int) -> list[Notice]:
        cause = fingerprint(incident)
        notified = self._notified.get(incident.id)
        if incident.merged_into is not None:
            self._inherit(incident, time)
            return []
        if notified is not None:
            return self._follow_up(incident, notified, time)
        if incident.state is not IncidentState.OPEN:
            return []  # it ended, or an operator works on it already
        if incident.severity < MEDIUM or incident.severity < (threshold := self.threshold(time)):
            return []
        if self._silenced(incident, time):
            self._held[incident.id] = incident
            return []
        previous = self._recent_severity(cause, time)
        self._notified[incident.id] = {
            "fingerprint": cause, "time": time, "severity": incident.severity, "level": str(incident.level),
            "over": None,
        }  # fmt: skip
        if previous is not None and incident.severity < previous + 0.1:
            return []
        return [Notice(NoticeKind.FIRING, incident, cause, time, self._reason(incident, threshold))]

    def _follow_up(self, incident: Incident, notified: dict[str, Any], time: int) -> list[Notice]:
        cause = notified["fingerprint"]
        if incident.state is IncidentState.RESOLVED:
            if notified["over"] is not None:
                return []
            notified["over"] = time
            return [Notice(NoticeKind.RESOLVED, incident, cause, time, "The incident has ended.")]
        notified["over"] = None
        if incident.level is not Severity.CRITICAL or notified["level"] == Severity.CRITICAL:
            return []
        notified["level"] = str(incident.level)
        if self._silenced(incident, time) or incident.state is IncidentState.ACKNOWLEDGED:
            return []
        return [Notice(NoticeKind.WORSE, incident, cause, time, "The incident has become critical.")]

    def _inherit(self, incident: Incident, time: int) -> None:
        """Transfer the notice of a merged incident to the one it was merged into."""
        notified = self._notified.pop(incident.id, None)
        into = incident.merged_into
        if notified is not None and into is not None:
            self._notified.setdefault(into, notified)
            self._notified[into]["time"] = min(notified["time"], time)

    def _recent_severity(self, cause: str, time: int) -> float | None:
        """Return the severity last notified for the same cause, active or just ended; None if none."""
        severities = [
            notified["severity"]
            for notified in self._notified.values()
            if notified["fingerprint"] == cause
            and (notified["over"] is None or time - notified["over"] < REPEAT_NS)
        ]
        return max(severities, default=None)

    def _silenced(self, incident: Incident, time: int) -> bool:
        active = [s for s in self.silences.values() if s.begin <= time < s.until]
        return any(all_match(silence.entities, incident.entities) for silence in active)

    def _reason(self, incident: Incident, threshold: float) -> str:
        users = ", and users are affected" if incident.user_facing else ""
        if incident.severity >= CRITICAL:
            return f"It is critical (severity {incident.severity:.2f}){users}."
        return (
            f"Its severity {incident.severity:.2f} exceeds the threshold {threshold:.2f}{users}; "
            f"the budget is {self.per_week:g} notifications a week."
        )

    def state(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "version": VERSION, "since": self._since, "told": self._notified,
            "past": {incident_id: list(past) for incident_id, past in self._past.items()},
            "silences": [asdict(silence) for silence in self.silences.values()], "held": list(self._held),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore `state`; a state of another version is ignored."""
        if state.get("version") != VERSION:
            return
        self._since = state["since"]
        self._notified = {incident_id: dict(told) for incident_id, told in state["told"].items()}
        self._past = {incident_id: (start, s) for incident_id, (start, s) in state["past"].items()}
        silences = [Silence(**{**s, "entities": tuple(s["entities"])}) for s in state["silences"]]
        self.silences = {silence.id: silence for silence in silences}
        self.restored_held = tuple(state.get("held", ()))


def fingerprint(incident: Incident) -> str:
    """Return 16 hex digits that are equal for incidents of the same cause, also under another incident id."""
    cause = (
        "mass"
        if incident.mass
        else incident.suspects[0].entity
        if incident.suspects
        else incident.entities[0]
    )
    return hashlib.blake2b(cause.encode(), digest_size=8).hexdigest()


def all_match(patterns: Sequence[str], entities: Iterable[str]) -> bool:
    """Return whether every entity matches one of the patterns.

    >>> all_match(["redis/*"], ["redis/cache-1"]), all_match(["redis/*"], ["redis/cache-1", "web"])
    (True, False)
    """
    return all(any(fnmatchcase(entity, pattern) for pattern in patterns) for entity in entities)
