"""Alerts of other systems: which entities they concern, and for how long. No I/O, no clock."""

from collections.abc import Iterable

from trimtab.engine.changes.change_log import ChangeLog
from trimtab.engine.detection.entities import entity_of
from trimtab.engine.types import Alert, SeriesKey

STALE_AFTER_NS = 90_000_000_000_000
"""An open alert that was not repeated for 25 h is over: an Alertmanager repeats open alerts at least once a
day.
"""
_SOURCE = "alertmanager"


def extend_changes(changes: ChangeLog, alerts: Iterable[Alert], now: int) -> None:
    """Extend the changes of these alerts while the alerts fire; ignore our own alerts.

    now : int64 ns
    """
    for alert in alerts:
        if not alert.is_own:
            until = now + STALE_AFTER_NS if alert.end is None else alert.end
            changes.extend(alert.change_id, until, entities_of(alert))


def entities_of(alert: Alert) -> tuple[str, ...]:
    """Return the entities of an alert, named as for series; empty when its labels name none.

    >>> entities_of(Alert("c1f0", 0, None, {"alertname": "Down", "job": "redis", "instance": "cache-1:9121"}))
    ('redis/cache-1:9121',)
    >>> entities_of(Alert("c1f0", 0, None, {"alertname": "Watchdog", "severity": "none"}))
    ()
    """
    labels = {name: value for name, value in alert.labels.items() if value and name != "alertname"}
    entity = entity_of(SeriesKey.of(_SOURCE, alert.labels.get("alertname", ""), labels))
    return () if entity == _SOURCE else (entity,)
