"""Alertmanager payload of a notification: identifying labels and descriptive annotations."""

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
"""The end time that Alertmanager writes for an alert that has not ended."""


def alert_labels(notice: Notice, earlier: Sequence[Notice] = ()) -> dict[str, str]:
    """Return the labels that identify the alert, taken from the first notification; the severity is current.

    notice  : the notification to send
    earlier : notifications already sent for the same incidents, oldest first

    Alertmanager treats an alert with other labels as another alert, so labels that may change during an
    incident, such as its main entity, keep their first values.
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
    """Return the annotations; unknown ones are omitted."""
    incident = notice.incident
    annotations = {
        "summary": incident_title(incident),
        "description": status_sentence(notice),
        "why": one_line(notice.why, 500),
        "entities": affected_entities(incident),
        "suspects": "\n".join(suspect_lines(incident)),
        "patterns": "\n".join(pattern_lines(incident)),
        "link": incident_url(external_url, incident),
    }
    return {name: text for name, text in annotations.items() if text}


def end_time(incident: Incident, now: int) -> int:
    """Return the end of the incident, int64 ns UTC, limited to the range from its start to `now`."""
    return max(incident.start, min(incident.end if incident.end is not None else now, now))
