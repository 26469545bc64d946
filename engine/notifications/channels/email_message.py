"""Mail of a notification: subject, text and HTML, threaded by incident."""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from html import escape

from trimtab.engine.notifications.notice_wording import (
    affected_entities,
    incident_title,
    incident_url,
    one_line,
    pattern_lines,
    status_sentence,
    suspect_lines,
)
from trimtab.engine.types import Notice, NoticeKind

_HTML = """\
<html><body style="font-family: sans-serif; max-width: 40em">
<h2 style="font-size: 1.1em">{title}</h2>
{parts}
</body></html>
"""


def build_mail(
    notice: Notice, earlier: Sequence[Notice], sender: str, to: Sequence[str], now: int, external_url: str
) -> EmailMessage:
    """Build the mail. A repeated notification has the same Message-ID, so mail clients deduplicate it.

    earlier      : notifications already sent for the same incidents, oldest first; the mail replies to them
    now          : int64 ns UTC
    external_url : base URL of Trimtab for links; "" = no links
    """
    mail = EmailMessage(policy=SMTP)
    first = earlier[0] if earlier else notice
    subject = incident_title(first.incident)
    mail["Subject"] = f"Re: {subject}" if earlier else subject
    mail["From"] = f"Trimtab <{sender}>"
    mail["To"] = ", ".join(to)
    mail["Date"] = datetime.fromtimestamp(now // 1_000_000_000, UTC)
    domain = sender.rpartition("@")[2]
    mail["Message-ID"] = _message_id(notice, domain)
    if earlier:
        mail["In-Reply-To"] = _message_id(earlier[-1], domain)
        mail["References"] = " ".join(dict.fromkeys(_message_id(sent, domain) for sent in earlier))
    mail["Auto-Submitted"] = "auto-generated"
    parts = _sections(notice, external_url)
    mail.set_content(_text(notice, parts))
    mail.add_alternative(_html(notice, parts), subtype="html")
    return mail


def _message_id(notice: Notice, domain: str) -> str:
    return f"<{notice.incident.id}.{notice.kind}.{notice.fingerprint}@{domain}>"


def _sections(notice: Notice, external_url: str) -> list[tuple[str, list[str]]]:
    """Return (heading, lines) of each section; an empty heading means plain paragraphs."""
    incident = notice.incident
    intro = [status_sentence(notice)]
    if notice.kind is not NoticeKind.RESOLVED:
        intro.append(f"Why you receive this: {one_line(notice.why, 500)}")
    page = incident_url(external_url, incident)
    parts = [
        ("", intro),
        ("Suspected root causes", suspect_lines(incident)),
        ("Matching patterns", pattern_lines(incident)),
        ("Affected", [affected_entities(incident)] if incident.entities else []),
        ("", [page] if page else []),
    ]
    return [(heading, lines) for heading, lines in parts if lines]


def _text(notice: Notice, parts: list[tuple[str, list[str]]]) -> str:
    blocks = [incident_title(notice.incident)]
    for heading, lines in parts:
        blocks.append("\n".join([heading, *(f"- {line}" for line in lines)]) if heading else "\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _html(notice: Notice, parts: list[tuple[str, list[str]]]) -> str:
    blocks = []
    for heading, lines in parts:
        if heading:
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            blocks.append(f"<p><b>{heading}</b></p><ul>{items}</ul>")
        else:
            blocks += [f"<p>{_as_html(line)}</p>" for line in lines]
    return _HTML.format(title=escape(incident_title(notice.incident)), parts="\n".join(blocks))


def _as_html(line: str) -> str:
    safe = escape(line)
    return f'<a href="{safe}">{safe}</a>' if line.startswith(("http://", "https://")) else safe
