"""A notice as an alert of Alertmanager: the labels that identify it, the annotations that tell of it."""

from collections.abc import Sequence

from trimtab.engine.notifications.notice_wording import (
    affected_entities,
    incident_title,
    incident_url,
    one_line,
    pattern_lines,
    status_sentence,
    suspect_lines,
)
from trimtab.engine.types import OWN_ALERT_NAME, Incident, Notice

MAX_LABEL_LENGTH = 200
NO_END_TIME = "0001-01-01T00:00:00Z"
"""What Alertmanager writes where an alert has no end yet."""


def alert_labels(notice: Notice, earlier: Sequence[Notice] = ()) -> dict[str, str]:
    """What identifies the alert: of the first notice that was told, but for the severity, which is today's.

    Alertmanager takes an alert whose labels differ for another one, so what may change in the course of an
    incident, such as what it touches most, stays as it was told first.
    """
    first = (earlier[0] if earlier else notice).incident
    entity = first.suspects[0].entity if first.suspects else next(iter(first.entities), "")
    return {
        "alertname": OWN_ALERT_NAME,
        "entity": one_line(entity, MAX_LABEL_LENGTH),
        "fingerprint": notice.fingerprint,
        "incident": first.id,
        "severity": str(notice.incident.level),
    }


def alert_annotations(notice: Notice, external_url: str) -> dict[str, str]:
    """What people read; what is not known is left out."""
    incident = notice.incident
    given = {
        "summary": incident_title(incident),
        "description": status_sentence(notice),
        "why": one_line(notice.why, 500),
        "entities": affected_entities(incident),
        "suspects": "\n".join(suspect_lines(incident)),
        "patterns": "\n".join(pattern_lines(incident)),
        "link": incident_url(external_url, incident),
    }
    return {name: text for name, text in given.items() if text}


def end_time(incident: Incident, now: int) -> int:
    """When it was over, int64 ns: never in the future and never before its start."""
    return max(incident.start, min(incident.end if incident.end is not None else now, now))
