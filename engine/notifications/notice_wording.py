"""Wording of notifications: sentences for mails and alert annotations."""

from datetime import UTC, datetime

from trimtab.engine.types import Incident, Notice, NoticeKind

MAX_SUSPECTS, MAX_ENTITIES, MAX_PATTERNS = 3, 5, 3
MAX_TITLE_LENGTH = 200


def one_line(text: str, max_length: int = MAX_TITLE_LENGTH) -> str:
    r"""Return the text on one line, without control characters, truncated to `max_length` characters.

    >>> one_line("up\r\nBcc: all@shop.example"), one_line("abcdef", 4)
    ('up Bcc: all@shop.example', 'abc…')
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= max_length else plain[: max_length - 1] + "…"


def format_time(time_ns: int) -> str:
    """Format a time (int64 ns) for people, in UTC.

    >>> format_time(1_767_225_600_000_000_000)
    '2026-01-01 00:00:00 UTC'
    """
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def incident_title(incident: Incident) -> str:
    """Return the title on one line."""
    return one_line(incident.title) or "Untitled incident"


def status_sentence(notice: Notice) -> str:
    """Return one sentence with severity and start, or with start and end if the incident is resolved."""
    incident = notice.incident
    if notice.kind is NoticeKind.RESOLVED:
        end = incident.end if incident.end is not None else notice.time
        return f"Resolved: {format_time(incident.start)} to {format_time(end)}."
    users = "; users are affected" if incident.user_facing else ""
    return f"Severity {incident.level} ({incident.severity:.2f}) since {format_time(incident.start)}{users}."


def affected_entities(incident: Incident) -> str:
    """Return the affected entities on one line, most affected first."""
    names = [one_line(name, 100) for name in incident.entities[:MAX_ENTITIES]]
    more = len(incident.entities) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def suspect_lines(incident: Incident) -> list[str]:
    """Return one line per suspected root cause, most likely first."""
    return [
        one_line(f"{suspect.entity}: {suspect.series}, {suspect.weight:.0%}. {suspect.why}", 300)
        for suspect in incident.suspects[:MAX_SUSPECTS]
    ]


def pattern_lines(incident: Incident) -> list[str]:
    """Return one line per matching pattern."""
    return [
        one_line(f"{match.name.replace('_', ' ')} of {match.entity}: {' '.join(match.evidence[:2])}", 300)
        for match in incident.patterns[:MAX_PATTERNS]
    ]


def incident_url(external_url: str, incident: Incident) -> str:
    """Return the URL of the incident's page; "" if no external URL is known."""
    return f"{external_url}/#/incidents/{incident.id}" if external_url else ""
