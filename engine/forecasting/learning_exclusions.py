"""From which series nothing is learnt, and when: in incidents, and after own actions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from trimtab.engine.detection.entities import entity_of, surroundings_of
from trimtab.engine.ports import Ledger
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.store.incident_store import IncidentStore
from trimtab.engine.types import Action, Anomaly, Incident, SeriesInfo, SeriesKey
from trimtab.pipelines.training.excluded_windows import ExcludedWindow

EXCLUDED_AFTER_ACTION_S = 1800.0
"""So long after an action of ours nothing is learnt: what follows is its doing."""
_NS = 1_000_000_000
_PAGE = 1000
SeriesInfos = Mapping[str, SeriesInfo]
"""Of the series that are learnt, by name."""
_Record = TypeVar("_Record", Incident, Anomaly, Action)


def excluded_windows(
    store: EventStore, ledger: Ledger, since: int, infos: SeriesInfos
) -> list[ExcludedWindow]:
    """Windows of all that was going on at `since` (int64 ns UTC) or later."""
    incidents = _incidents(IncidentStore(store.fenced), since)
    anomalies = {one.id: one for one in _anomalies(store, since)}
    found = [incident_window(one, anomalies, infos) for one in incidents]
    return [
        *found,
        *(action_window(one, infos) for one in _actions(ledger, since) if one.started is not None),
    ]


def incident_window(
    incident: Incident, anomalies: Mapping[str, Anomaly], infos: SeriesInfos
) -> ExcludedWindow:
    """The series of its anomalies, and those of what it touches; all where it is a mass incident.

    anomalies : by id
    """
    if incident.mass:
        return ExcludedWindow("mass incident", incident.start, incident.end)
    names = {anomalies[one].series for one in incident.anomaly_ids if one in anomalies}
    touched = set(incident.entities)
    names |= {name for name, info in infos.items() if entity_of(info.key) in touched}
    return ExcludedWindow("incident", incident.start, incident.end, frozenset(names))


def action_window(action: Action, infos: SeriesInfos) -> ExcludedWindow:
    """The series of its target, from its start to half an hour after its end.

    Where no series can be told to be the target's, all are meant: an unknown reach is not none.
    """
    assert action.started is not None  # noqa: S101 - those that never began are not asked for
    end = (action.ended or action.started) + int(EXCLUDED_AFTER_ACTION_S * _NS)
    names = frozenset(name for name, info in infos.items() if _is_affected(info.key, action))
    return ExcludedWindow("own action", action.started, end, names or None)


def _is_affected(key: SeriesKey, action: Action) -> bool:
    """Whether a series is told by its target, names it, or stands on a host of that name."""
    labels = dict(key.labels)
    if "tool" in labels:
        return (labels["tool"], labels.get("target")) == (action.tool, action.target)
    return action.target in labels.values() or f"host={action.target}" in surroundings_of(key)


def _incidents(incidents: IncidentStore, since: int) -> list[Incident]:
    return _read_all_pages(lambda after: incidents.incidents(since=since, after=after, limit=_PAGE))


def _anomalies(store: EventStore, since: int) -> list[Anomaly]:
    return _read_all_pages(lambda after: store.anomalies(since=since, after=after, limit=_PAGE))


def _actions(ledger: Ledger, since: int) -> list[Action]:
    return _read_all_pages(lambda after: ledger.actions(since=since, after=after, limit=_PAGE))


def _read_all_pages(ask: Callable[[str | None], Sequence[_Record]]) -> list[_Record]:
    """All pages, one after the other."""
    found: list[_Record] = []
    after: str | None = None
    while page := ask(after):
        found += page
        after = page[-1].id
    return found
