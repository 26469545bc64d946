"""A notice in the words of people: sentences for mails and for annotations of alerts."""

from datetime import UTC, datetime

from trimtab.engine.types import Incident, Notice, NoticeKind

MOST_SUSPECTS, MOST_ENTITIES, MOST_PATTERNS = 3, 5, 3
LONGEST_TITLE = 200


def one_line(text: str, longest: int = LONGEST_TITLE) -> str:
    r"""The text on one line, without control characters, cut where it is too long.

    >>> one_line("up\r\nBcc: all@shop.example"), one_line("abcdef", 4)
    ('up Bcc: all@shop.example', 'abc…')
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def at(time_ns: int) -> str:
    """A time as people read it.

    >>> at(1_767_225_600_000_000_000)
    '2026-01-01 00:00:00 UTC'
    """
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def title(incident: Incident) -> str:
    """Its title, on one line."""
    return one_line(incident.title) or "An incident without a title"


def standing(notice: Notice) -> str:
    """One sentence: how severe it is, since when, and that it is over if it is."""
    incident = notice.incident
    if notice.kind is NoticeKind.RESOLVED:
        end = incident.end if incident.end is not None else notice.time
        return f"It is over: {at(incident.start)} to {at(end)}."
    users = "; users feel it" if incident.user_facing else ""
    return f"Severity {incident.level} ({incident.severity:.2f}) since {at(incident.start)}{users}."


def touched(incident: Incident) -> str:
    """What it touches, most touched first, on one line."""
    names = [one_line(name, 100) for name in incident.entities[:MOST_ENTITIES]]
    more = len(incident.entities) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def suspects(incident: Incident) -> list[str]:
    """Where it may have begun, most suspected first, a line each."""
    return [
        one_line(f"{one.entity}: {one.series}, {one.weight:.0%}. {one.why}", 300)
        for one in incident.suspects[:MOST_SUSPECTS]
    ]


def looks_like(incident: Incident) -> list[str]:
    """The patterns that it shows, a line each."""
    return [
        one_line(f"{match.name.replace('_', ' ')} of {match.entity}: {' '.join(match.evidence[:2])}", 300)
        for match in incident.patterns[:MOST_PATTERNS]
    ]


def link(external_url: str, incident: Incident) -> str:
    """The page of the incident; "" where nobody knows how Trimtab is reached."""
    return f"{external_url}/#/incidents/{incident.id}" if external_url else ""
