"""Once for all sources: what belongs together, what it looks like, and who is told. Asked at each tick."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from trimtab.engine.changes.external_alerts import hear
from trimtab.engine.detection.entities import entity_of
from trimtab.engine.detection.tick_result import Sensed
from trimtab.engine.errors import ConflictError, NotFoundError, StoreError
from trimtab.engine.incidents.incident_correlator import Incidents
from trimtab.engine.incidents.notification_policy import Notifying
from trimtab.engine.incidents.operator_actions import Said
from trimtab.engine.patterns.pattern_watcher import PatternWatch
from trimtab.engine.ports import Incidents as IncidentStore
from trimtab.engine.ports import KeyValueStore, Store
from trimtab.engine.settings.notify import Notify
from trimtab.engine.types import (
    Alert,
    Anomaly,
    Change,
    ChangeKind,
    Incident,
    Notice,
    SeriesInfo,
    SeriesKey,
    Silence,
)

log = structlog.get_logger(__name__)

HALF_HOUR_NS = 1_800_000_000_000
"""How far back changes may explain a pattern."""
SET, PEOPLE = "settings/", "people/"
"""Begin the ids of silences that stand in the settings, and of those that people asked for."""
STATE = "sensing/incidents"
"""Under which the state is remembered."""


_EXPLAIN_NOTHING = (ChangeKind.ALERT, ChangeKind.RESTART)
"""Kinds of changes after which nothing need be worse for good."""


class Judging:
    """Incidents, patterns and notices of an installation. All of it runs in the one work thread.

    store    : of anomalies;  kept : of incidents and changes;  memory : of what was learnt
    window_s : how far back patterns look; a source of long intervals needs 120 of them
    silences : those that people asked for, read at each tick; raises StoreError
    """

    def __init__(
        self,
        store: Store,
        kept: IncidentStore,
        memory: KeyValueStore,
        false_alarms_per_week: float = 1.0,
        notifications_per_week: float = 5.0,
        window_s: float = 1800.0,
        silences: Callable[[], Iterable[Silence]] = tuple,
    ) -> None:
        self.store = store
        self.kept = kept
        self.memory = memory
        self.incidents = Incidents(false_alarms_per_week=false_alarms_per_week)
        self.said = Said(self.incidents)
        self.notifying = Notifying(notifications_per_week)
        self.heard: deque[Change] = deque()
        """Changes that people or programs told of, and that no tick has taken in yet."""
        self.window_s = window_s
        self.silences = silences
        self.problem: str | None = None
        self._watches: dict[str, PatternWatch] = {}
        self._keys: dict[str, tuple[SeriesKey, ...]] = {}
        self._unsaved: dict[str, Incident] = {}
        self._unsaved_begun: dict[str, Anomaly] = {}
        self._unsaved_seen: dict[str, Change] = {}
        self._spoken: dict[str, Incident] = {}
        """What people changed since the last tick, for the notices."""

    def resume(self) -> None:
        """Go on where it was; what was stored after the state was taken counts more than the state."""
        self._restore()
        for change in self.kept.changes(limit=100):
            self.incidents.change(change)
        cases = self.incidents.cases
        stored = {incident.id: incident for incident in self.kept.incidents(open_only=True, limit=1000)}
        for incident_id in [one.id for one in cases.values() if one.known and one.id not in stored]:
            with suppress(NotFoundError):
                stored[incident_id] = self.kept.incident(incident_id)
        held = self.notifying.held_before
        self._spoken |= {name: stored[name] for name in held if name in stored}
        for incident in stored.values():
            if incident.merged_into is not None:
                self.incidents.let_go(incident.id)
                continue
            case = cases.get(incident.id)
            new = [one for one in incident.anomaly_ids if case is None or one not in case.members]
            take = self.incidents.take_up if case is None else self.incidents.catch_up
            take(incident, self._anomalies(new))

    def _restore(self) -> None:
        state = self.memory.get(STATE)
        if state is None:
            return
        try:
            self.incidents.restore(_part(state, "incidents"))
            self.notifying.restore(_part(state, "notifying"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("what was learnt of incidents cannot be read, it begins anew", error=repr(error))
            self.incidents = Incidents(false_alarms_per_week=self.incidents.pace.false_alarms_per_week)
            self.said = Said(self.incidents)
            self.notifying = Notifying(self.notifying.per_week)

    def remember(self) -> None:
        """Make durable what was learnt, as before an end, and now and then. Raises StoreError."""
        state: dict[str, object] = {
            "incidents": self.incidents.state(), "notifying": self.notifying.state(),
        }  # fmt: skip
        self.memory.set(STATE, state)

    def step(
        self, sensed: Sensed, interval_s: float, info: Callable[[SeriesKey], SeriesInfo]
    ) -> tuple[list[Incident], list[Notice]]:
        """One tick of one source: incidents that came or changed, and what people are to be told."""
        source, time = sensed.scores.source, sensed.scores.time
        while self.heard:
            self.incidents.memory.changes.add(self.heard.popleft())
        came = self._came(source, sensed.keys)
        watch = self.watch(source, interval_s, info)
        matches, restarts = watch.look(sensed)
        changes = [self.incidents.restarted(at, dict(key.labels), entity_of(key)) for key, at in restarts]
        begun = watch.begun.step(sensed, matches, self.incidents.covers)
        infos = [info(key) for key in came]
        told = self.incidents.step(time, [*sensed.anomalies, *begun], infos, matches, source)
        self.keep(told, begun, [change for change in changes if change is not None])
        spoken, self._spoken = self._spoken, {}
        self._hush()
        return told, self.notifying.step(time, {**spoken, **{one.id: one for one in told}}.values())

    def went_on(
        self,
        source: str,
        keys: tuple[SeriesKey, ...],
        info: Callable[[SeriesKey], SeriesInfo],
        open_ids: Iterable[str],
        time: int,
    ) -> None:
        """After a restart: what of a source is watched and still open; all else ended while nobody looked."""
        self.incidents.watched.add(info(key) for key in self._came(source, keys))
        by_patterns = self._resumed(source)
        self.incidents.still_open(source, [*open_ids, *by_patterns], time)

    def _resumed(self, source: str) -> Collection[str]:
        """Ids of the anomalies that patterns had begun; whether they go on is seen at the next tick."""
        try:
            stored = self.store.anomalies(source=source, open_only=True, limit=100_000)
        except StoreError as error:
            log.warning("anomalies of patterns cannot be read", source=source, error=str(error))
            stored = []
        watch = self._watches.get(source)
        if watch is None:
            return ()
        watch.begun.resume(anomaly for anomaly in stored if anomaly.pattern)
        return watch.begun.open

    def only(self, sources: Collection[str], time: int) -> None:
        """After a start: what was open of all other sources is over, they are watched no more."""
        cases = self.incidents.cases.values()
        known = {one.source for case in cases for one in case.members.values()}
        known |= {match.source for case in cases for match in case.patterns.values()}
        for source in known.difference(sources):
            self.incidents.lose(source, time)

    def say(self, changed: Sequence[Incident]) -> list[Notice]:
        """Keep what people said of incidents; what others are to be told of it. Raises StoreError.

        What the store did not take waits for the next tick, and so does everything before the first one.
        """
        self._spoken |= {incident.id: incident for incident in changed}
        self.keep(changed)
        if self.problem is not None:
            raise StoreError(self.problem)
        if not self.incidents.time:
            return []
        spoken, self._spoken = self._spoken, {}
        return self.notifying.step(self.incidents.time, spoken.values())

    def follow(self, incident_id: str) -> None:
        """Take up again what is over and forgotten, so that people can speak of it. Raises NotFoundError."""
        if incident_id not in self.incidents.cases:
            incident = self.kept.incident(incident_id)
            if incident.merged_into is not None:
                raise ConflictError(f"incident {incident_id} was merged into {incident.merged_into}")
            self.incidents.take_up(incident, self._anomalies(incident.anomaly_ids))

    def alerted(self, alerts: Iterable[Alert], now: int) -> None:
        """Another system told of its alerts: they stand beside incidents while they fire."""
        hear(self.incidents.memory.changes, alerts, now)

    def keep(
        self, told: Iterable[Incident], begun: Iterable[Anomaly] = (), seen: Iterable[Change] = ()
    ) -> None:
        """Store incidents, anomalies of patterns, restarts; what is not taken waits for the next time."""
        self._unsaved |= {incident.id: incident for incident in told}
        self._unsaved_begun |= {anomaly.id: anomaly for anomaly in begun}
        self._unsaved_seen |= {change.id: change for change in seen}
        if not (self._unsaved or self._unsaved_begun or self._unsaved_seen):
            return
        try:
            for anomaly in self._unsaved_begun.values():
                self.store.save_anomaly(anomaly)
            for change in self._unsaved_seen.values():
                self.kept.save_change(change)
            self._unsaved_begun, self._unsaved_seen = {}, {}
            if self._unsaved:
                self.kept.save_incidents(self._unsaved.values())
        except StoreError as error:
            if self.problem is None:
                log.warning("incidents cannot be kept, they wait", error=str(error))
            self.problem = str(error)
            return
        self._unsaved, self.problem = {}, None

    def set_telling(self, notify: Notify) -> None:
        """How much is told from now on, and the silences of the settings in place of those before."""
        self.notifying.per_week = notify.notifications_per_week
        self.notifying.set_silences(SET, _silences(notify))

    def set_down(self) -> list[Silence]:
        """The silences of the settings that are not over."""
        return [one for one in self.notifying.silences.values() if one.id.startswith(SET)]

    def _hush(self) -> None:
        """The silences of people as they stand now; where they cannot be read those before hold."""
        try:
            asked = [replace(one, id=PEOPLE + one.id) for one in self.silences()]
        except StoreError as error:
            log.warning("silences cannot be read, those before hold", error=str(error))
            return
        self.notifying.set_silences(PEOPLE, asked)

    def forget(self, source: str) -> None:
        """A source is watched no more: its anomalies and patterns are over."""
        time = self.incidents.time
        watch = self._watches.pop(source, None)
        if watch is not None:
            self.keep((), watch.begun.end(list(watch.begun.open), time))
        self.incidents.lose(source, time)
        keys = self._keys.pop(source, ())
        self.incidents.forget(key.id for key in keys)

    def _came(self, source: str, keys: tuple[SeriesKey, ...]) -> Sequence[SeriesKey]:
        before = self._keys.get(source, ())
        self._keys[source] = keys
        if keys is before:
            return []
        return [key for i, key in enumerate(keys) if i >= len(before) or before[i] is not key]

    def watch(self, source: str, interval_s: float, info: Callable[[SeriesKey], SeriesInfo]) -> PatternWatch:
        """What looks at this source's ticks beside scores; its state goes with the source's."""
        known = self._watches.get(source)
        if known is None or known.info != info:
            known = self._watches[source] = PatternWatch(interval_s, info, self.window_s, self._changes)
            self.incidents.interval_s = min(interval_s, self.incidents.interval_s)
        return known

    def _changes(self, time: int) -> list[Change]:
        return [
            c for c in self.incidents.memory.changes.recent.values()
            if time - HALF_HOUR_NS <= c.time <= time and c.kind not in _EXPLAIN_NOTHING
        ]  # fmt: skip

    def _anomalies(self, ids: Iterable[str]) -> list[Anomaly]:
        found = []
        for anomaly_id in ids:
            try:
                found.append(self.store.anomaly(anomaly_id))
            except NotFoundError:
                continue
        return found


def _silences(notify: Notify) -> Iterator[Silence]:
    for name, given in notify.silences.items():
        begin, until = (round(moment.timestamp() * 1e9) for moment in (given.begin, given.until))
        yield Silence(SET + name, given.entities, begin, until, "settings", given.note)


def _part(state: dict[str, object], name: str) -> dict[str, object]:
    part = state.get(name)
    return part if isinstance(part, dict) else {}
