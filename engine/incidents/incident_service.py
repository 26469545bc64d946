"""Incidents, patterns and notices of all sources, processed once per tick."""

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

LOOKBACK_NS = 1_800_000_000_000
"""A change may explain a pattern for half an hour."""
SETTINGS_PREFIX, OPERATOR_PREFIX = "settings/", "people/"
"""Prefixes of silence ids: from the settings, and from operators."""
STATE_KEY = "sensing/incidents"
"""Key of the learned state in the key-value store."""


_NON_CAUSAL_KINDS = (ChangeKind.ALERT, ChangeKind.RESTART)
"""Kinds of change events that do not explain a lasting degradation."""


class IncidentService:
    """Incidents, patterns and notices of an installation. All calls run in the one work thread.

    store                  : of anomalies
    incident_store         : of incidents and change events
    state_store            : of the learned state
    false_alarms_per_week  : budget of anomaly intervals per series and week
    notifications_per_week : budget of notifications of the installation
    window_s               : seconds of history that patterns use; at least 120 ticks of a source
    read_silences          : silences of operators, read at each tick; raises StoreError
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
        """Change events received since the last tick."""
        self.window_s = window_s
        self.read_silences = read_silences
        self.store_error: str | None = None
        self._watchers: dict[str, PatternWatcher] = {}
        self._keys: dict[str, tuple[SeriesKey, ...]] = {}
        self._unsaved_incidents: dict[str, Incident] = {}
        self._unsaved_anomalies: dict[str, Anomaly] = {}
        self._unsaved_changes: dict[str, Change] = {}
        self._operator_changes: dict[str, Incident] = {}
        """Incidents that operators changed since the last tick, for the notices."""

    def resume(self) -> None:
        """Restore the state; newer stored incidents and changes override it."""
        self._restore_state()
        for change in self.incident_store.changes(limit=100):
            self.correlator.add_change(change)
        drafts = self.correlator.drafts
        stored = {
            incident.id: incident for incident in self.incident_store.incidents(open_only=True, limit=1000)
        }
        for incident_id in [draft.id for draft in drafts.values() if draft.known and draft.id not in stored]:
            with suppress(NotFoundError):
                stored[incident_id] = self.incident_store.incident(incident_id)
        held_ids = self.notification_policy.restored_held
        self._operator_changes |= {name: stored[name] for name in held_ids if name in stored}
        for incident in stored.values():
            if incident.merged_into is not None:
                self.correlator.drop(incident.id)
                continue
            draft = drafts.get(incident.id)
            new_ids = [
                anomaly_id
                for anomaly_id in incident.anomaly_ids
                if draft is None or anomaly_id not in draft.members
            ]
            follow = self.correlator.follow_stored if draft is None else self.correlator.refresh_stored
            follow(incident, self._anomalies(new_ids))

    def _restore_state(self) -> None:
        state = self.state_store.get(STATE_KEY)
        if state is None:
            return
        try:
            self.correlator.restore(_part(state, "incidents"))
            self.notification_policy.restore(_part(state, "notifying"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("incident_state_unreadable", error=repr(error))
            self.correlator = IncidentCorrelator(
                false_alarms_per_week=self.correlator.rates.false_alarms_per_week
            )
            self.operator_actions = OperatorActions(self.correlator)
            self.notification_policy = NotificationPolicy(self.notification_policy.per_week)

    def save_state(self) -> None:
        """Store the learned state. Raises StoreError."""
        state: dict[str, object] = {
            "incidents": self.correlator.state(), "notifying": self.notification_policy.state(),
        }  # fmt: skip
        self.state_store.set(STATE_KEY, state)

    def step(
        self, result: TickResult, interval_s: float, info: Callable[[SeriesKey], SeriesInfo]
    ) -> tuple[list[Incident], list[Notice]]:
        """Process one tick of one source; return new and changed incidents, and notices to send."""
        source, time = result.scores.source, result.scores.time
        while self.pending_changes:
            self.correlator.memory.changes.add(self.pending_changes.popleft())
        new_keys = self._new_keys(source, result.keys)
        watch = self.watcher(source, interval_s, info)
        matches, restarts = watch.observe(result)
        changes = [self.correlator.add_restart(at, dict(key.labels), entity_of(key)) for key, at in restarts]
        pattern_anomalies = watch.anomalies.step(result, matches, self.correlator.covers)
        infos = [info(key) for key in new_keys]
        incidents = self.correlator.step(
            time, [*result.anomalies, *pattern_anomalies], infos, matches, source
        )
        self.save(incidents, pattern_anomalies, [change for change in changes if change is not None])
        operator_changes, self._operator_changes = self._operator_changes, {}
        self._refresh_silences()
        return incidents, self.notification_policy.step(
            time, {**operator_changes, **{incident.id: incident for incident in incidents}}.values()
        )

    def resume_source(
        self,
        source: str,
        keys: tuple[SeriesKey, ...],
        info: Callable[[SeriesKey], SeriesInfo],
        open_ids: Iterable[str],
        time: int,
    ) -> None:
        """Set a source's monitored series and open anomalies after a restart; close others at `time`."""
        self.correlator.directory.add(info(key) for key in self._new_keys(source, keys))
        pattern_ids = self._resume_patterns(source)
        self.correlator.close_missing(source, [*open_ids, *pattern_ids], time)

    def _resume_patterns(self, source: str) -> Collection[str]:
        """Resume the anomalies that patterns began and return their ids; the next tick updates them."""
        try:
            stored = self.store.anomalies(source=source, open_only=True, limit=100_000)
        except StoreError as error:
            log.warning("pattern_anomalies_unreadable", source=source, error=str(error))
            stored = []
        watch = self._watchers.get(source)
        if watch is None:
            return ()
        watch.anomalies.resume(anomaly for anomaly in stored if anomaly.pattern)
        return watch.anomalies.open

    def close_other_sources(self, sources: Collection[str], time: int) -> None:
        """After a start, close the anomalies of all sources that are not monitored any more."""
        drafts = self.correlator.drafts.values()
        known = {one.source for draft in drafts for one in draft.members.values()}
        known |= {match.source for draft in drafts for match in draft.patterns.values()}
        for source in known.difference(sources):
            self.correlator.close_source(source, time)

    def apply_operator_changes(self, changed: Sequence[Incident]) -> list[Notice]:
        """Store incidents that an operator changed and return the notices about them. Raises StoreError.

        A change that the store refused is stored at the next tick; before the first tick no notice is
        returned.
        """
        self._operator_changes |= {incident.id: incident for incident in changed}
        self.save(changed)
        if self.store_error is not None:
            raise StoreError(self.store_error)
        if not self.correlator.time:
            return []
        operator_changes, self._operator_changes = self._operator_changes, {}
        return self.notification_policy.step(self.correlator.time, operator_changes.values())

    def follow(self, incident_id: str) -> None:
        """Load an ended incident for an operator action. Raises NotFoundError or ConflictError."""
        if incident_id not in self.correlator.drafts:
            incident = self.incident_store.incident(incident_id)
            if incident.merged_into is not None:
                raise ConflictError(f"incident {incident_id} was merged into {incident.merged_into}")
            self.correlator.follow_stored(incident, self._anomalies(incident.anomaly_ids))

    def record_alerts(self, alerts: Iterable[Alert], now: int) -> None:
        """Record alerts of another system: their changes are listed with incidents while the alerts fire."""
        extend_changes(self.correlator.memory.changes, alerts, now)

    def save(
        self, incidents: Iterable[Incident], anomalies: Iterable[Anomaly] = (), changes: Iterable[Change] = ()
    ) -> None:
        """Store incidents, anomalies of patterns and changes; retry at the next tick if the store fails."""
        self._unsaved_incidents |= {incident.id: incident for incident in incidents}
        self._unsaved_anomalies |= {anomaly.id: anomaly for anomaly in anomalies}
        self._unsaved_changes |= {change.id: change for change in changes}
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
                log.warning("incidents_not_saved", error=str(error))
            self.store_error = str(error)
            return
        self._unsaved_incidents, self.store_error = {}, None

    def configure_notifications(self, notify: Notify) -> None:
        """Set the notification budget and replace the silences of the settings."""
        self.notification_policy.per_week = notify.notifications_per_week
        self.notification_policy.set_silences(SETTINGS_PREFIX, _silences(notify))

    def configured_silences(self) -> list[Silence]:
        """Return the active silences of the settings."""
        return [
            silence
            for silence in self.notification_policy.silences.values()
            if silence.id.startswith(SETTINGS_PREFIX)
        ]

    def _refresh_silences(self) -> None:
        """Read the silences of operators; keep the previous ones when the store fails."""
        try:
            silences = [replace(silence, id=OPERATOR_PREFIX + silence.id) for silence in self.read_silences()]
        except StoreError as error:
            log.warning("silences_unreadable", error=str(error))
            return
        self.notification_policy.set_silences(OPERATOR_PREFIX, silences)

    def forget_source(self, source: str) -> None:
        """Close the anomalies and patterns of a source that is no longer monitored, and remove its series."""
        time = self.correlator.time
        watch = self._watchers.pop(source, None)
        if watch is not None:
            self.save((), watch.anomalies.close(list(watch.anomalies.open), time))
        self.correlator.close_source(source, time)
        keys = self._keys.pop(source, ())
        self.correlator.forget_series(key.id for key in keys)

    def _new_keys(self, source: str, keys: tuple[SeriesKey, ...]) -> Sequence[SeriesKey]:
        previous = self._keys.get(source, ())
        self._keys[source] = keys
        if keys is previous:
            return []
        return [key for i, key in enumerate(keys) if i >= len(previous) or previous[i] is not key]

    def watcher(
        self, source: str, interval_s: float, info: Callable[[SeriesKey], SeriesInfo]
    ) -> PatternWatcher:
        """Return the pattern watcher of a source; its state is part of the source's snapshot."""
        watcher = self._watchers.get(source)
        if watcher is None or watcher.info != info:
            watcher = self._watchers[source] = PatternWatcher(
                interval_s, info, self.window_s, self._recent_changes
            )
            self.correlator.interval_s = min(interval_s, self.correlator.interval_s)
        return watcher

    def _recent_changes(self, time: int) -> list[Change]:
        return [
            c for c in self.correlator.memory.changes.recent.values()
            if time - LOOKBACK_NS <= c.time <= time and c.kind not in _NON_CAUSAL_KINDS
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
