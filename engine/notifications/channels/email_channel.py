"""Incidents as mails, over SMTP: by an address that was checked, encrypted unless the settings say not to."""

import asyncio
import contextlib
import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from email.message import EmailMessage

import structlog

from trimtab.engine.errors import NotDeliveredError, SettingsError
from trimtab.engine.net.addresses import PinnedHost
from trimtab.engine.net.tls import tls_context
from trimtab.engine.notifications.channels.email_message import build_mail
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.notify import NotifyEmail
from trimtab.engine.types import Notice

log = structlog.get_logger(__name__)

SECTION = "notify.email"
_MAX_DETAIL_LENGTH = 200


class _SmtpSession(smtplib.SMTP):
    """One SMTP session whose socket goes to `address`, while names and certificates are those of the host.

    context : with it the session is encrypted from its first byte
    """

    def __init__(self, host: str, address: str, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self.address = address
        self.context = context
        self.connected = False
        self._handle: socket.socket | None = None
        super().__init__(timeout=timeout_s, local_hostname="trimtab.localdomain")
        self._host = host  # what starttls checks the certificate against

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        opened = socket.create_connection((self.address, port), timeout)
        self.connected = True
        self._handle = opened.dup()
        return opened if self.context is None else self.context.wrap_socket(opened, server_hostname=host)

    def abort(self) -> None:
        """End it from another thread: whatever waits for the server wakes up with an error."""
        if self._handle is not None:
            with contextlib.suppress(OSError):  # it has ended already
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        super().close()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


class EmailChannel:
    """A mail a notice, in one thread an incident; each over a session of its own.

    now : nanoseconds UTC
    """

    name = "email"
    repeat_s: float | None = None

    def __init__(self, settings: NotifyEmail, now: Callable[[], int], external_url: str = "") -> None:
        self._settings = settings
        self._now = now
        self._external_url = external_url
        self._pinned = PinnedHost(settings.smtp_host, settings.port_number)

    async def notify(self, notice: Notice, earlier: Sequence[Notice] = ()) -> None:
        """Send it once, to all. Raises NotDeliveredError."""
        s = self._settings
        await self._deliver(build_mail(notice, earlier, s.sender, s.to, self._now(), self._external_url))

    async def probe(self) -> str:
        """It answers, and lets us in where there is a password; no mail is sent. Raises NotDeliveredError."""
        await self._deliver(None)
        s = self._settings
        login = "" if s.username is None else f", knows {s.username}"
        return f"{s.smtp_host}:{s.port_number} answers ({s.security}){login}; no mail was sent"

    async def close(self) -> None:
        """Nothing is open between two mails."""

    async def _deliver(self, mail: EmailMessage | None) -> None:
        """One session, with a mail or without. Raises NotDeliveredError."""
        s = self._settings
        where = f"{SECTION}: {s.smtp_host}:{s.port_number}"
        try:
            async with asyncio.timeout(s.timeout):
                await self._send(mail)
        except TimeoutError as error:
            raise NotDeliveredError(
                f"{where} did not take a mail within {s.timeout:g} s; is it overloaded?", "timeout"
            ) from error
        except SettingsError as error:
            raise NotDeliveredError(f"{SECTION}: {redact_text(str(error))}", "not allowed") from error
        except smtplib.SMTPException as error:
            raise _delivery_error(where, error) from error
        except (OSError, ValueError) as error:
            why = redact_text(str(error) or type(error).__name__)
            raise NotDeliveredError(f"{where} cannot be used: {why}", "unreachable") from error

    async def _send(self, mail: EmailMessage | None) -> None:
        s = self._settings
        address = await self._pinned.resolve_async()
        password = await asyncio.to_thread(self._password)
        context = (
            None if s.security == "none" else await asyncio.to_thread(tls_context, s.tls, f"{SECTION}.tls")
        )
        session = _SmtpSession(s.smtp_host, address, s.timeout, context if s.security == "tls" else None)
        starttls = context if s.security == "starttls" else None
        try:
            await asyncio.to_thread(self._run_session, session, starttls, password, mail)
        except (OSError, asyncio.CancelledError):
            session.abort()
            if not session.connected:
                self._pinned.discard(address)
            raise

    def _run_session(
        self, session: smtplib.SMTP, starttls: ssl.SSLContext | None, password: str, mail: EmailMessage | None
    ) -> None:
        """The whole session, in a thread. Returns once the server took the mail for at least one of all.

        Without a mail the server is greeted, and no more.
        """
        s = self._settings
        try:
            code, said = session.connect(s.smtp_host, s.port_number)
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            if starttls is not None:
                session.starttls(context=starttls)
            if s.username is not None:
                session.login(s.username, password)
            session.ehlo_or_helo_if_needed()
            refused = {} if mail is None else session.send_message(mail, s.sender, s.to)
            if refused:
                log.warning("a mail was not taken for everybody", refused=sorted(refused))
        finally:
            session.close()  # the server has said that it took the mail; it need not say goodbye

    def _password(self) -> str:
        """Read anew each time: passwords are exchanged while we run."""
        given, file = self._settings.password, self._settings.password_file
        if file is None:
            return given.get_secret_value() if given is not None else ""
        try:
            return file.expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OSError(
                f"password_file {file} cannot be read; make it a text file that this user may read"
            ) from error


def _delivery_error(where: str, error: smtplib.SMTPException) -> NotDeliveredError:
    """What a server's refusal means; what it says to a login is not repeated, it may hold the password."""
    match error:
        case smtplib.SMTPAuthenticationError():
            return NotDeliveredError(
                f"{where} does not let us in ({error.smtp_code}); check {SECTION}.username and password",
                "refused",
            )
        case smtplib.SMTPRecipientsRefused():
            codes = {code for code, _ in error.recipients.values()}
            names = ", ".join(sorted(error.recipients))
            why = f"{where} takes no mail for {names} ({', '.join(map(str, sorted(codes)))})"
            return NotDeliveredError(why, "refused", retry=any(code < 500 for code in codes))
        case smtplib.SMTPResponseException():
            code, said = error.smtp_code, error.smtp_error
            text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            why = f"{where} answers {code}: {redact_text(' '.join(text.split()))[:_MAX_DETAIL_LENGTH]}"
            return NotDeliveredError(why, "refused" if code >= 500 else "busy", retry=not 500 <= code < 600)
        case smtplib.SMTPNotSupportedError():
            why = f"{where}: {error} Set {SECTION}.security and username to what it offers"
            return NotDeliveredError(why, "not allowed")
    return NotDeliveredError(f"{where} went away: {redact_text(str(error))}"[:400], "unreachable")
