"""Once for all sources: what belongs together, what it looks like, and who is told. Asked at each tick."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from trimtab.engine.changes.external_alerts import extend_changes
from trimtab.engine.detection.entities import entity_of
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.errors import ConflictError, NotFoundError, StoreError
from trimtab.engine.incidents.incident_correlator import IncidentCorrelator
from trimtab.engine.incidents.notification_policy import NotificationPolicy
from trimtab.engine.incidents.operator_actions import OperatorActions
from trimtab.engine.patterns.pattern_watcher import PatternWatcher
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
SETTINGS_PREFIX, OPERATOR_PREFIX = "settings/", "people/"
"""Begin the ids of silences that stand in the settings, and of those that people asked for."""
STATE_KEY = "sensing/incidents"
"""Under which the state is remembered."""


_NON_CAUSAL_KINDS = (ChangeKind.ALERT, ChangeKind.RESTART)
"""Kinds of changes after which nothing need be worse for good."""


class IncidentService:
    """Incidents, patterns and notices of an installation. All of it runs in the one work thread.

    store    : of anomalies;  kept : of incidents and changes;  memory : of what was learnt
    window_s : how far back patterns look; a source of long intervals needs 120 of them
    silences : those that people asked for, read at each tick; raises StoreError
    """

    def __init__(
        self,
        store: Store,
        incident_store: IncidentStore,
        state_store: KeyValueStore,
        false_alarms_per_week: float = 1.0,
        notifications_per_week: float = 5.0,
        window_s: float = 1800.0,
        read_silences: Callable[[], Iterable[Silence]] = tuple,
    ) -> None:
        self.store = store
        self.incident_store = incident_store
        self.state_store = state_store
        self.correlator = IncidentCorrelator(false_alarms_per_week=false_alarms_per_week)
        self.operator_actions = OperatorActions(self.correlator)
        self.notification_policy = NotificationPolicy(notifications_per_week)
        self.pending_changes: deque[Change] = deque()
        """Changes that people or programs told of, and that no tick has taken in yet."""
        self.window_s = window_s
        self.read_silences = read_silences
        self.store_error: str | None = None
        self._watchers: dict[str, PatternWatcher] = {}
        self._keys: dict[str, tuple[SeriesKey, ...]] = {}
        self._unsaved_incidents: dict[str, Incident] = {}
        self._unsaved_anomalies: dict[str, Anomaly] = {}
        self._unsaved_changes: dict[str, Change] = {}
        self._operator_changes: dict[str, Incident] = {}
        """What people changed since the last tick, for the notices."""

    def resume(self) -> None:
        """Go on where it was; what was stored after the state was taken counts more than the state."""
        self._restore_state()
        for change in self.incident_store.changes(limit=100):
            self.correlator.add_change(change)
        cases = self.correlator.drafts
        stored = {
            incident.id: incident for incident in self.incident_store.incidents(open_only=True, limit=1000)
        }
        for incident_id in [one.id for one in cases.values() if one.known and one.id not in stored]:
            with suppress(NotFoundError):
                stored[incident_id] = self.incident_store.incident(incident_id)
        held = self.notification_policy.restored_held
        self._operator_changes |= {name: stored[name] for name in held if name in stored}
        for incident in stored.values():
            if incident.merged_into is not None:
                self.correlator.drop(incident.id)
                continue
            case = cases.get(incident.id)
            new = [one for one in incident.anomaly_ids if case is None or one not in case.members]
            take = self.correlator.follow_stored if case is None else self.correlator.refresh_stored
            take(incident, self._anomalies(new))

    def _restore_state(self) -> None:
        state = self.state_store.get(STATE_KEY)
        if state is None:
            return
        try:
            self.correlator.restore(_part(state, "incidents"))
            self.notification_policy.restore(_part(state, "notifying"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("what was learnt of incidents cannot be read, it begins anew", error=repr(error))
            self.correlator = IncidentCorrelator(
                false_alarms_per_week=self.correlator.rates.false_alarms_per_week
            )
            self.operator_actions = OperatorActions(self.correlator)
            self.notification_policy = NotificationPolicy(self.notification_policy.per_week)

    def save_state(self) -> None:
        """Make durable what was learnt, as before an end, and now and then. Raises StoreError."""
        state: dict[str, object] = {
            "incidents": self.correlator.state(), "notifying": self.notification_policy.state(),
        }  # fmt: skip
        self.state_store.set(STATE_KEY, state)

    def step(
        self, sensed: TickResult, interval_s: float, info: Callable[[SeriesKey], SeriesInfo]
    ) -> tuple[list[Incident], list[Notice]]:
        """One tick of one source: incidents that came or changed, and what people are to be told."""
        source, time = sensed.scores.source, sensed.scores.time
        while self.pending_changes:
            self.correlator.memory.changes.add(self.pending_changes.popleft())
        came = self._new_keys(source, sensed.keys)
        watch = self.watcher(source, interval_s, info)
        matches, restarts = watch.observe(sensed)
        changes = [self.correlator.add_restart(at, dict(key.labels), entity_of(key)) for key, at in restarts]
        begun = watch.anomalies.step(sensed, matches, self.correlator.covers)
        infos = [info(key) for key in came]
        told = self.correlator.step(time, [*sensed.anomalies, *begun], infos, matches, source)
        self.save(told, begun, [change for change in changes if change is not None])
        spoken, self._operator_changes = self._operator_changes, {}
        self._refresh_silences()
        return told, self.notification_policy.step(time, {**spoken, **{one.id: one for one in told}}.values())

    def resume_source(
        self,
        source: str,
        keys: tuple[SeriesKey, ...],
        info: Callable[[SeriesKey], SeriesInfo],
        open_ids: Iterable[str],
        time: int,
    ) -> None:
        """After a restart: what of a source is watched and still open; all else ended while nobody looked."""
        self.correlator.directory.add(info(key) for key in self._new_keys(source, keys))
        by_patterns = self._resume_patterns(source)
        self.correlator.close_missing(source, [*open_ids, *by_patterns], time)

    def _resume_patterns(self, source: str) -> Collection[str]:
        """Ids of the anomalies that patterns had begun; whether they go on is seen at the next tick."""
        try:
            stored = self.store.anomalies(source=source, open_only=True, limit=100_000)
        except StoreError as error:
            log.warning("anomalies of patterns cannot be read", source=source, error=str(error))
            stored = []
        watch = self._watchers.get(source)
        if watch is None:
            return ()
        watch.anomalies.resume(anomaly for anomaly in stored if anomaly.pattern)
        return watch.anomalies.open

    def close_other_sources(self, sources: Collection[str], time: int) -> None:
        """After a start: what was open of all other sources is over, they are watched no more."""
        cases = self.correlator.drafts.values()
        known = {one.source for case in cases for one in case.members.values()}
        known |= {match.source for case in cases for match in case.patterns.values()}
        for source in known.difference(sources):
            self.correlator.close_source(source, time)

    def apply_operator_changes(self, changed: Sequence[Incident]) -> list[Notice]:
        """Keep what people said of incidents; what others are to be told of it. Raises StoreError.

        What the store did not take waits for the next tick, and so does everything before the first one.
        """
        self._operator_changes |= {incident.id: incident for incident in changed}
        self.save(changed)
        if self.store_error is not None:
            raise StoreError(self.store_error)
        if not self.correlator.time:
            return []
        spoken, self._operator_changes = self._operator_changes, {}
        return self.notification_policy.step(self.correlator.time, spoken.values())

    def follow(self, incident_id: str) -> None:
        """Take up again what is over and forgotten, so that people can speak of it. Raises NotFoundError."""
        if incident_id not in self.correlator.drafts:
            incident = self.incident_store.incident(incident_id)
            if incident.merged_into is not None:
                raise ConflictError(f"incident {incident_id} was merged into {incident.merged_into}")
            self.correlator.follow_stored(incident, self._anomalies(incident.anomaly_ids))

    def record_alerts(self, alerts: Iterable[Alert], now: int) -> None:
        """Another system told of its alerts: they stand beside incidents while they fire."""
        extend_changes(self.correlator.memory.changes, alerts, now)

    def save(
        self, told: Iterable[Incident], begun: Iterable[Anomaly] = (), seen: Iterable[Change] = ()
    ) -> None:
        """Store incidents, anomalies of patterns, restarts; what is not taken waits for the next time."""
        self._unsaved_incidents |= {incident.id: incident for incident in told}
        self._unsaved_anomalies |= {anomaly.id: anomaly for anomaly in begun}
        self._unsaved_changes |= {change.id: change for change in seen}
        if not (self._unsaved_incidents or self._unsaved_anomalies or self._unsaved_changes):
            return
        try:
            for anomaly in self._unsaved_anomalies.values():
                self.store.save_anomaly(anomaly)
            for change in self._unsaved_changes.values():
                self.incident_store.save_change(change)
            self._unsaved_anomalies, self._unsaved_changes = {}, {}
            if self._unsaved_incidents:
                self.incident_store.save_incidents(self._unsaved_incidents.values())
        except StoreError as error:
            if self.store_error is None:
                log.warning("incidents cannot be kept, they wait", error=str(error))
            self.store_error = str(error)
            return
        self._unsaved_incidents, self.store_error = {}, None

    def configure_notifications(self, notify: Notify) -> None:
        """How much is told from now on, and the silences of the settings in place of those before."""
        self.notification_policy.per_week = notify.notifications_per_week
        self.notification_policy.set_silences(SETTINGS_PREFIX, _silences(notify))

    def configured_silences(self) -> list[Silence]:
        """The silences of the settings that are not over."""
        return [
            one for one in self.notification_policy.silences.values() if one.id.startswith(SETTINGS_PREFIX)
        ]

    def _refresh_silences(self) -> None:
        """The silences of people as they stand now; where they cannot be read those before hold."""
        try:
            asked = [replace(one, id=OPERATOR_PREFIX + one.id) for one in self.read_silences()]
        except StoreError as error:
            log.warning("silences cannot be read, those before hold", error=str(error))
            return
        self.notification_policy.set_silences(OPERATOR_PREFIX, asked)

    def forget_source(self, source: str) -> None:
        """A source is watched no more: its anomalies and patterns are over."""
        time = self.correlator.time
        watch = self._watchers.pop(source, None)
        if watch is not None:
            self.save((), watch.anomalies.close(list(watch.anomalies.open), time))
        self.correlator.close_source(source, time)
        keys = self._keys.pop(source, ())
        self.correlator.forget_series(key.id for key in keys)

    def _new_keys(self, source: str, keys: tuple[SeriesKey, ...]) -> Sequence[SeriesKey]:
        before = self._keys.get(source, ())
        self._keys[source] = keys
        if keys is before:
            return []
        return [key for i, key in enumerate(keys) if i >= len(before) or before[i] is not key]

    def watcher(
        self, source: str, interval_s: float, info: Callable[[SeriesKey], SeriesInfo]
    ) -> PatternWatcher:
        """What looks at this source's ticks beside scores; its state goes with the source's."""
        known = self._watchers.get(source)
        if known is None or known.info != info:
            known = self._watchers[source] = PatternWatcher(
                interval_s, info, self.window_s, self._recent_changes
            )
            self.correlator.interval_s = min(interval_s, self.correlator.interval_s)
        return known

    def _recent_changes(self, time: int) -> list[Change]:
        return [
            c for c in self.correlator.memory.changes.recent.values()
            if time - HALF_HOUR_NS <= c.time <= time and c.kind not in _NON_CAUSAL_KINDS
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
        yield Silence(SETTINGS_PREFIX + name, given.entities, begin, until, "settings", given.note)


def _part(state: dict[str, object], name: str) -> dict[str, object]:
    part = state.get(name)
    return part if isinstance(part, dict) else {}
