"""Mails over a real SMTP session: content, threading, injection, encryption."""

import asyncio
import ssl
import threading
import time

import pytest

from tests.builders.dns_names import patch_dns
from tests.builders.series import START
from tests.fakes.fake_notifications import make_notice, make_resolved_notice, make_worse_notice
from tests.servers.prometheus import free_port, make_certificates
from tests.servers.smtp import start_smtp_server
from trimtab.engine.errors import NotDeliveredError
from trimtab.engine.notifications.channels.email_channel import EmailChannel
from trimtab.engine.notifications.channels.email_message import build_mail
from trimtab.engine.settings import Tls
from trimtab.engine.settings.notify import NotifyEmail

PASSWORD = "a secret of the mail server"
SENDER = "trimtab@shop.example"
TO = ("ops@shop.example", "ann@shop.example")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Certificates for 127.0.0.1."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def context(files):
    """The TLS context of the server."""
    tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls_context.load_cert_chain(files.server_cert, files.server_key)
    return tls_context


def make_channel(port, **settings):
    """A channel to this port with a fixed time."""
    options = {
        "smtp_host": "127.0.0.1",
        "security": "none",
        "sender": SENDER,
        "to": TO,
        **settings,
    }
    return EmailChannel(NotifyEmail(port=port, **options), lambda: START, "https://trimtab.shop.example")


async def test_a_mail_describes_the_incident():
    """The subject is the title; the text has severity, start, suspects and link."""
    async with start_smtp_server() as server:
        await make_channel(server.port).notify(make_notice(user_facing=True))
    (mail,) = server.mails
    assert server.envelopes == [("trimtab@shop.example", list(TO))]
    assert mail["Subject"] == "cache-1: evictions far above usual"
    assert mail["Date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    text = mail.get_body(("plain",)).get_content()
    html = mail.get_body(("html",)).get_content()
    for words in (
        "Severity high (0.70) since 2026-01-01 00:00:00 UTC; users are affected.",
        "redis/cache-1: redis_evicted_keys{job=",
        "60%. It moved first.",
        "cache thrash of redis/cache-1: Hit ratio fell to 31 %.",
        "https://trimtab.shop.example/#/incidents/01K",
    ):
        assert words in text
        assert words.replace('"', "&quot;") in html


async def test_an_incident_is_one_thread():
    """Later mails reply to the first one under its subject, even if the title has changed."""
    notices = [
        make_notice(),
        make_worse_notice(title="cache-1: much worse"),
        make_resolved_notice(title="cache-1 and 3 others"),
    ]
    async with start_smtp_server() as server:
        sender, earlier = make_channel(server.port), []
        for notice in notices:
            await sender.notify(notice, tuple(earlier))
            earlier.append(notice)
    first, second, third = server.mails
    assert [mail["Subject"] for mail in (second, third)] == ["Re: cache-1: evictions far above usual"] * 2
    assert first["In-Reply-To"] is None
    assert second["In-Reply-To"] == first["Message-ID"]
    assert third["References"].split() == [first["Message-ID"], second["Message-ID"]]
    text = third.get_body(("plain",)).get_content()
    assert "Resolved: 2026-01-01 00:00:00 UTC to 2026-01-01 00:01:00 UTC." in text


def test_a_repetition_has_the_same_message_id():
    """A repetition after a crash has the same Message-ID, so that mail clients can deduplicate it."""
    first, second = (build_mail(make_notice(), (), "a@b.example", TO, START + k, "") for k in (0, 10**12))
    assert first["Message-ID"] == second["Message-ID"]
    assert (
        first["Message-ID"]
        != build_mail(make_resolved_notice(), (), "a@b.example", TO, START, "")["Message-ID"]
    )


@pytest.mark.parametrize(
    "title",
    [
        "up\r\nBcc: all@shop.example",
        "up\nX-Evil: 1\n\nbody",
        "up\x0b\x1c\x85\u2028Bcc: x",
        "<script>alert(1)</script>",
        "\r\n.\r\nMAIL FROM:<evil@shop.example>\r\n",
        "Störung ☂ " + "lang " * 200,
        "",
    ],
)
async def test_titles_inject_nothing(title):
    """Series names add no header, recipient, command or markup."""
    hostile = make_notice(title=title, entities=(title, "web"))
    async with start_smtp_server() as server:
        await make_channel(server.port).notify(hostile)
    (mail,) = server.mails
    assert server.envelopes == [("trimtab@shop.example", list(TO))]
    assert set(mail.keys()) == {
        "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    }  # fmt: skip
    assert "\n" not in mail["Subject"]
    assert 1 <= len(mail["Subject"]) <= 210  # folding of what is not ASCII may add a space
    assert "<script" not in mail.get_body(("html",)).get_content()


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mails_and_passwords_are_encrypted(security, files, context, tmp_path):
    """The password, possibly from a file, is sent only over the encrypted session."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    async with start_smtp_server(
        context=context, uses_implicit_tls=security == "tls", login=("trimtab", PASSWORD)
    ) as server:
        await make_channel(
            server.port, security=security, username="trimtab", password_file=tmp_path / "password",
            tls=Tls(ca_file=files.ca),
        ).notify(make_notice())  # fmt: skip
    assert len(server.mails) == 1
    assert server.encrypted


REFUSALS = [
    # no unencrypted session with a server without STARTTLS
    ({}, {"security": "starttls"}, "not allowed", True, "STARTTLS extension not supported"),
    ({"replies": {"": "554 go away"}}, {}, "refused", False, "answers 554: go away"),
    ({"replies": {"": "421 later"}}, {}, "busy", True, "answers 421: later"),
    ({"replies": {"MAIL": "550 who are you"}}, {}, "refused", False, "answers 550: who are you"),
    ({"replies": {"RCPT": "550 nobody"}}, {}, "refused", False, "refuses mail for ann@shop.example"),
    ({"replies": {"RCPT": "450 grey"}}, {}, "refused", True, "refuses mail for ann@shop.example"),
    ({"replies": {".": "552 too big"}}, {}, "refused", False, "answers 552: too big"),
    ({"replies": {".": "451 disk"}}, {}, "busy", True, "answers 451: disk"),
    ({"replies": {"": None}}, {"timeout": 0.3}, "timeout", True, "within 0.3 s"),
    ({"replies": {".": None}}, {"timeout": 0.3}, "timeout", True, "within 0.3 s"),
    ({"drips_greeting": True}, {"timeout": 0.3}, "timeout", True, "within 0.3 s"),
]


@pytest.mark.parametrize(("server", "settings", "reason", "retry", "words"), REFUSALS)
async def test_a_refused_mail_is_explained(server, settings, reason, retry, words):
    """The error has the reason and whether to retry, within the total timeout; no thread remains."""
    threads = threading.active_count()
    async with start_smtp_server(**server) as running:
        begin = time.monotonic()
        with pytest.raises(NotDeliveredError) as refused:
            await make_channel(running.port, **settings).notify(make_notice())
        assert time.monotonic() - begin < 5
        assert (refused.value.reason, refused.value.retry) == (reason, retry)
        assert words in str(refused.value)
        assert running.mails == []
    async with asyncio.timeout(10):
        while threading.active_count() > threads + 3:  # noqa: ASYNC110 - idle threads of the loop's own pool
            await asyncio.sleep(0.01)


async def test_an_echoed_password_is_not_shown(context, files, caplog):
    """A server that echoes the password puts it into no error and no log."""
    async with start_smtp_server(context=context, login=("trimtab", "another")) as server:
        sender = make_channel(
            server.port, security="starttls", username="trimtab", password=PASSWORD, tls=Tls(ca_file=files.ca)
        )
        with pytest.raises(NotDeliveredError, match=r"refuses the login \(535\)") as refused:
            await sender.notify(make_notice())
    assert refused.value.retry
    assert PASSWORD not in str(refused.value) + caplog.text + repr(sender)


async def test_a_wrong_certificate_is_refused(context):
    """Nothing is sent to a server with an untrusted certificate."""
    async with start_smtp_server(context=context, login=("trimtab", PASSWORD)) as server:
        sender = make_channel(server.port, security="starttls", username="trimtab", password=PASSWORD)
        with pytest.raises(NotDeliveredError, match="certificate"):
            await sender.notify(make_notice())
    assert [line for line in server.lines if line.startswith(("AUTH", "MAIL"))] == []


async def test_a_closed_port_is_retried():
    """A refused connection may be retried."""
    with pytest.raises(NotDeliveredError, match="cannot be used") as refused:
        await make_channel(free_port()).notify(make_notice())
    assert refused.value.retry


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "224.0.0.1"])
async def test_no_mail_goes_to_a_refused_address(monkeypatch, address):
    """A name that resolves to a metadata service is not connected to."""
    patch_dns(monkeypatch, address)
    with pytest.raises(NotDeliveredError, match="refused") as refused:
        await make_channel(25, smtp_host="mail.shop.example").notify(make_notice())
    assert refused.value.reason == "not allowed"


async def test_the_next_address_of_a_name_is_tried(monkeypatch):
    """An unreachable address does not prevent delivery to another one at the next attempt."""
    patch_dns(monkeypatch, "127.0.0.2", "127.0.0.1")
    async with start_smtp_server() as server:
        sender = make_channel(server.port, smtp_host="mail.shop.example")
        with pytest.raises(NotDeliveredError, match="cannot be used"):
            await sender.notify(make_notice())
        await sender.notify(make_notice())
    assert len(server.mails) == 1


async def test_a_missing_password_file_is_named(tmp_path):
    """The error names the setting and the file, and allows a retry."""
    async with start_smtp_server() as server:
        sender = make_channel(server.port, username="trimtab", password_file=tmp_path / "gone")
        with pytest.raises(NotDeliveredError, match=r"password_file .*gone cannot be read"):
            await sender.notify(make_notice())
