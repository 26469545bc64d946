"""A notice as an alert of Alertmanager: the labels that identify it, the annotations that tell of it."""

from collections.abc import Sequence

from trimtab.engine.notifications.notice_wording import (
    link,
    looks_like,
    one_line,
    standing,
    suspects,
    title,
    touched,
)
from trimtab.engine.types import OWN_ALERT, Incident, Notice

LONGEST_LABEL = 200
NO_TIME = "0001-01-01T00:00:00Z"
"""What Alertmanager writes where an alert has no end yet."""


def labels_of(notice: Notice, told: Sequence[Notice] = ()) -> dict[str, str]:
    """What identifies the alert: of the first notice that was told, but for the severity, which is today's.

    Alertmanager takes an alert whose labels differ for another one, so what may change in the course of an
    incident, such as what it touches most, stays as it was told first.
    """
    first = (told[0] if told else notice).incident
    entity = first.suspects[0].entity if first.suspects else next(iter(first.entities), "")
    return {
        "alertname": OWN_ALERT,
        "entity": one_line(entity, LONGEST_LABEL),
        "fingerprint": notice.fingerprint,
        "incident": first.id,
        "severity": str(notice.incident.level),
    }


def annotations_of(notice: Notice, external_url: str) -> dict[str, str]:
    """What people read; what is not known is left out."""
    incident = notice.incident
    given = {
        "summary": title(incident),
        "description": standing(notice),
        "why": one_line(notice.why, 500),
        "entities": touched(incident),
        "suspects": "\n".join(suspects(incident)),
        "patterns": "\n".join(looks_like(incident)),
        "link": link(external_url, incident),
    }
    return {name: text for name, text in given.items() if text}


def ended(incident: Incident, now: int) -> int:
    """When it was over, int64 ns: never in the future and never before its start."""
    return max(incident.start, min(incident.end if incident.end is not None else now, now))
