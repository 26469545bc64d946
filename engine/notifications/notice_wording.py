"""A notice in the words of people: sentences for mails and for annotations of alerts."""

from datetime import UTC, datetime

from trimtab.engine.types import Incident, Notice, NoticeKind

MAX_SUSPECTS, MAX_ENTITIES, MAX_PATTERNS = 3, 5, 3
MAX_TITLE_LENGTH = 200


def one_line(text: str, max_length: int = MAX_TITLE_LENGTH) -> str:
    r"""The text on one line, without control characters, cut where it is too long.

    >>> one_line("up\r\nBcc: all@shop.example"), one_line("abcdef", 4)
    ('up Bcc: all@shop.example', 'abc…')
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= max_length else plain[: max_length - 1] + "…"


def format_time(time_ns: int) -> str:
    """A time as people read it.

    >>> at(1_767_225_600_000_000_000)
    '2026-01-01 00:00:00 UTC'
    """
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def incident_title(incident: Incident) -> str:
    """Its title, on one line."""
    return one_line(incident.title) or "An incident without a title"


def status_sentence(notice: Notice) -> str:
    """One sentence: how severe it is, since when, and that it is over if it is."""
    incident = notice.incident
    if notice.kind is NoticeKind.RESOLVED:
        end = incident.end if incident.end is not None else notice.time
        return f"It is over: {format_time(incident.start)} to {format_time(end)}."
    users = "; users feel it" if incident.user_facing else ""
    return f"Severity {incident.level} ({incident.severity:.2f}) since {format_time(incident.start)}{users}."


def affected_entities(incident: Incident) -> str:
    """What it touches, most touched first, on one line."""
    names = [one_line(name, 100) for name in incident.entities[:MAX_ENTITIES]]
    more = len(incident.entities) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def suspect_lines(incident: Incident) -> list[str]:
    """Where it may have begun, most suspected first, a line each."""
    return [
        one_line(f"{one.entity}: {one.series}, {one.weight:.0%}. {one.why}", 300)
        for one in incident.suspects[:MAX_SUSPECTS]
    ]


def pattern_lines(incident: Incident) -> list[str]:
    """The patterns that it shows, a line each."""
    return [
        one_line(f"{match.name.replace('_', ' ')} of {match.entity}: {' '.join(match.evidence[:2])}", 300)
        for match in incident.patterns[:MAX_PATTERNS]
    ]


def incident_url(external_url: str, incident: Incident) -> str:
    """The page of the incident; "" where nobody knows how Trimtab is reached."""
    return f"{external_url}/#/incidents/{incident.id}" if external_url else ""
