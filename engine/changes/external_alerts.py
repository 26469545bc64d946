"""Alerts of other systems: whom they concern, and how long they stand beside incidents. No I/O, no clock."""

from collections.abc import Iterable

from trimtab.engine.changes.change_log import ChangeLog
from trimtab.engine.detection.entities import entity_of
from trimtab.engine.types import Alert, SeriesKey

STALE_AFTER_NS = 90_000_000_000_000
"""An alert that nobody told again for 25 h is over: Alertmanagers repeat what goes on once a day or more."""
_SOURCE = "alertmanager"


def extend_changes(changes: ChangeLog, alerts: Iterable[Alert], now: int) -> None:
    """Let the changes that stand for these alerts last as long as they fire; ours, come back, say nothing.

    now : int64 ns
    """
    for alert in alerts:
        if not alert.is_own:
            until = now + STALE_AFTER_NS if alert.end is None else alert.end
            changes.extend(alert.change_id, until, entities_of(alert))


def entities_of(alert: Alert) -> tuple[str, ...]:
    """What the alert is of, by its labels, in the names that series give; () = they do not say.

    >>> entities_of(Alert("c1f0", 0, None, {"alertname": "Down", "job": "redis", "instance": "cache-1:9121"}))
    ('redis/cache-1:9121',)
    >>> entities_of(Alert("c1f0", 0, None, {"alertname": "Watchdog", "severity": "none"}))
    ()
    """
    labels = {name: value for name, value in alert.labels.items() if value and name != "alertname"}
    found = entity_of(SeriesKey.of(_SOURCE, alert.labels.get("alertname", ""), labels))
    return () if found == _SOURCE else (found,)
