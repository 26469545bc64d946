"""Windows excluded from training: incidents, and the time after own actions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from trimtab.engine.detection.entities import entity_of, shared_labels_of
from trimtab.engine.ports import Ledger
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.store.incident_store import IncidentStore
from trimtab.engine.types import Action, Anomaly, Incident, SeriesInfo, SeriesKey
from trimtab.pipelines.training.excluded_windows import ExcludedWindow

EXCLUDED_AFTER_ACTION_S = 1800.0
"""Seconds after an own action that are excluded, because they show its effect."""
_NS = 1_000_000_000
_PAGE = 1000
SeriesInfos = Mapping[str, SeriesInfo]
"""Name -> info of the series to train on."""
_Record = TypeVar("_Record", Incident, Anomaly, Action)


def excluded_windows(
    store: EventStore, ledger: Ledger, since: int, infos: SeriesInfos
) -> list[ExcludedWindow]:
    """Return the windows of all incidents and actions that were open at `since` (int64 ns UTC) or later."""
    incidents = _incidents(IncidentStore(store.fenced), since)
    anomalies = {anomaly.id: anomaly for anomaly in _anomalies(store, since)}
    found = [incident_window(incident, anomalies, infos) for incident in incidents]
    return [
        *found,
        *(action_window(action, infos) for action in _actions(ledger, since) if action.started is not None),
    ]


def incident_window(
    incident: Incident, anomalies: Mapping[str, Anomaly], infos: SeriesInfos
) -> ExcludedWindow:
    """Return the window of an incident: the series of its anomalies and entities.

    A mass incident covers all series.

    anomalies : by id
    """
    if incident.mass:
        return ExcludedWindow("mass incident", incident.start, incident.end)
    names = {anomalies[anomaly_id].series for anomaly_id in incident.anomaly_ids if anomaly_id in anomalies}
    touched = set(incident.entities)
    names |= {name for name, info in infos.items() if entity_of(info.key) in touched}
    return ExcludedWindow("incident", incident.start, incident.end, frozenset(names))


def action_window(action: Action, infos: SeriesInfos) -> ExcludedWindow:
    """Return the window of an action: series of its target, until half an hour after its end.

    If no series belongs to the target, the window covers all series: an unknown scope is not an empty one.
    """
    assert action.started is not None  # noqa: S101 - called for started actions only
    end = (action.ended or action.started) + int(EXCLUDED_AFTER_ACTION_S * _NS)
    names = frozenset(name for name, info in infos.items() if _is_affected(info.key, action))
    return ExcludedWindow("own action", action.started, end, names or None)


def _is_affected(key: SeriesKey, action: Action) -> bool:
    """Return whether a series is labelled with the target, or belongs to a host of that name."""
    labels = dict(key.labels)
    if "tool" in labels:
        return (labels["tool"], labels.get("target")) == (action.tool, action.target)
    return action.target in labels.values() or f"host={action.target}" in shared_labels_of(key)


def _incidents(incidents: IncidentStore, since: int) -> list[Incident]:
    return _read_all_pages(lambda after: incidents.incidents(since=since, after=after, limit=_PAGE))


def _anomalies(store: EventStore, since: int) -> list[Anomaly]:
    return _read_all_pages(lambda after: store.anomalies(since=since, after=after, limit=_PAGE))


def _actions(ledger: Ledger, since: int) -> list[Action]:
    return _read_all_pages(lambda after: ledger.actions(since=since, after=after, limit=_PAGE))


def _read_all_pages(read_page: Callable[[str | None], Sequence[_Record]]) -> list[_Record]:
    """Read page after page until one is empty."""
    found: list[_Record] = []
    after: str | None = None
    while page := read_page(after):
        found += page
        after = page[-1].id
    return found
