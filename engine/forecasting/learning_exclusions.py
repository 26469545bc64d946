"""From which series nothing is learnt, and when: in incidents, and after own actions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from trimtab.engine.detection.entities import entity_of, surroundings_of
from trimtab.engine.ports import Ledger
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.store.incident_store import SqlIncidents
from trimtab.engine.types import Action, Anomaly, Incident, SeriesInfo, SeriesKey
from trimtab.pipelines.training.excluded_windows import Window

AFTER_ACTION_S = 1800.0
"""So long after an action of ours nothing is learnt: what follows is its doing."""
_NS = 1_000_000_000
_PAGE = 1000
Infos = Mapping[str, SeriesInfo]
"""Of the series that are learnt, by name."""
_Kept = TypeVar("_Kept", Incident, Anomaly, Action)


def unlearnt(store: EventStore, ledger: Ledger, since: int, infos: Infos) -> list[Window]:
    """Windows of all that was going on at `since` (int64 ns UTC) or later."""
    incidents = _incidents(SqlIncidents(store.fenced), since)
    anomalies = {one.id: one for one in _anomalies(store, since)}
    found = [of_incident(one, anomalies, infos) for one in incidents]
    return [*found, *(of_action(one, infos) for one in _actions(ledger, since) if one.started is not None)]


def of_incident(incident: Incident, anomalies: Mapping[str, Anomaly], infos: Infos) -> Window:
    """The series of its anomalies, and those of what it touches; all where it is a mass incident.

    anomalies : by id
    """
    if incident.mass:
        return Window("mass incident", incident.start, incident.end)
    names = {anomalies[one].series for one in incident.anomaly_ids if one in anomalies}
    touched = set(incident.entities)
    names |= {name for name, info in infos.items() if entity_of(info.key) in touched}
    return Window("incident", incident.start, incident.end, frozenset(names))


def of_action(action: Action, infos: Infos) -> Window:
    """The series of its target, from its start to half an hour after its end.

    Where no series can be told to be the target's, all are meant: an unknown reach is not none.
    """
    assert action.started is not None  # noqa: S101 - those that never began are not asked for
    end = (action.ended or action.started) + int(AFTER_ACTION_S * _NS)
    names = frozenset(name for name, info in infos.items() if _belongs(info.key, action))
    return Window("own action", action.started, end, names or None)


def _belongs(key: SeriesKey, action: Action) -> bool:
    """Whether a series is told by its target, names it, or stands on a host of that name."""
    labels = dict(key.labels)
    if "tool" in labels:
        return (labels["tool"], labels.get("target")) == (action.tool, action.target)
    return action.target in labels.values() or f"host={action.target}" in surroundings_of(key)


def _incidents(incidents: SqlIncidents, since: int) -> list[Incident]:
    return _paged(lambda after: incidents.incidents(since=since, after=after, limit=_PAGE))


def _anomalies(store: EventStore, since: int) -> list[Anomaly]:
    return _paged(lambda after: store.anomalies(since=since, after=after, limit=_PAGE))


def _actions(ledger: Ledger, since: int) -> list[Action]:
    return _paged(lambda after: ledger.actions(since=since, after=after, limit=_PAGE))


def _paged(ask: Callable[[str | None], Sequence[_Kept]]) -> list[_Kept]:
    """All pages, one after the other."""
    found: list[_Kept] = []
    after: str | None = None
    while page := ask(after):
        found += page
        after = page[-1].id
    return found
