"""Email channel: sends incidents over SMTP, to a checked address, encrypted unless configured otherwise."""

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
    """An SMTP session that connects to `address`, but checks the certificate against the host name.

    context : implicit TLS from the first byte; None = plain connection (STARTTLS may follow)
    """

    def __init__(self, host: str, address: str, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self.address = address
        self.context = context
        self.connected = False
        self._handle: socket.socket | None = None
        super().__init__(timeout=timeout_s, local_hostname="trimtab.localdomain")
        self._host = host  # starttls checks the certificate against this name

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        opened = socket.create_connection((self.address, port), timeout)
        self.connected = True
        self._handle = opened.dup()
        return opened if self.context is None else self.context.wrap_socket(opened, server_hostname=host)

    def abort(self) -> None:
        """End the session from another thread: a blocked read or write raises an error."""
        if self._handle is not None:
            with contextlib.suppress(OSError):  # the connection is already closed
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        super().close()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


class EmailChannel:
    """Sends one mail per notification, threaded by incident; each mail uses a new SMTP session.

    settings     : section notify.email
    now          : returns the current time, int64 ns UTC
    external_url : base URL of Trimtab for links; "" = no links
    """

    name = "email"
    repeat_s: float | None = None

    def __init__(self, settings: NotifyEmail, now: Callable[[], int], external_url: str = "") -> None:
        self._settings = settings
        self._now = now
        self._external_url = external_url
        self._pinned = PinnedHost(settings.smtp_host, settings.port_number)

    async def notify(self, notice: Notice, earlier: Sequence[Notice] = ()) -> None:
        """Send one mail to all recipients. Raises NotDeliveredError."""
        s = self._settings
        await self._deliver(build_mail(notice, earlier, s.sender, s.to, self._now(), self._external_url))

    async def probe(self) -> str:
        """Connect and log in without sending a mail, and describe the result. Raises NotDeliveredError."""
        await self._deliver(None)
        s = self._settings
        login = "" if s.username is None else f", accepts the login of {s.username}"
        return f"{s.smtp_host}:{s.port_number} answers ({s.security}){login}; no mail was sent"

    async def close(self) -> None:
        """Do nothing: no connection stays open between mails."""

    async def _deliver(self, mail: EmailMessage | None) -> None:
        """Run one session within the timeout, with a mail or (None) without. Raises NotDeliveredError."""
        s = self._settings
        where = f"{SECTION}: {s.smtp_host}:{s.port_number}"
        try:
            async with asyncio.timeout(s.timeout):
                await self._send(mail)
        except TimeoutError as error:
            raise NotDeliveredError(
                f"{where} did not accept a mail within {s.timeout:g} s; check its load", "timeout"
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
        """Run a whole session; blocks. Returns once the server accepted the mail for at least one recipient.

        Without a mail the session only connects, logs in and greets.
        """
        s = self._settings
        try:
            code, reply = session.connect(s.smtp_host, s.port_number)
            if code != 220:
                raise smtplib.SMTPConnectError(code, reply)
            if starttls is not None:
                session.starttls(context=starttls)
            if s.username is not None:
                session.login(s.username, password)
            session.ehlo_or_helo_if_needed()
            refused = {} if mail is None else session.send_message(mail, s.sender, s.to)
            if refused:
                log.warning("mail_partially_refused", refused=sorted(refused))
        finally:
            session.close()  # the server has confirmed the mail, so QUIT is not needed

    def _password(self) -> str:
        """Return the password, read again for each mail because it may be rotated. Raises OSError."""
        password, file = self._settings.password, self._settings.password_file
        if file is None:
            return password.get_secret_value() if password is not None else ""
        try:
            return file.expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OSError(
                f"password_file {file} cannot be read; it must be a text file that this user can read"
            ) from error


def _delivery_error(where: str, error: smtplib.SMTPException) -> NotDeliveredError:
    """Return the error for an SMTP refusal. The reply to a login is omitted; it may contain the password."""
    match error:
        case smtplib.SMTPAuthenticationError():
            return NotDeliveredError(
                f"{where} refuses the login ({error.smtp_code}); check {SECTION}.username and password",
                "refused",
            )
        case smtplib.SMTPRecipientsRefused():
            codes = {code for code, _ in error.recipients.values()}
            names = ", ".join(sorted(error.recipients))
            why = f"{where} refuses mail for {names} ({', '.join(map(str, sorted(codes)))})"
            return NotDeliveredError(why, "refused", retry=any(code < 500 for code in codes))
        case smtplib.SMTPResponseException():
            code, reply = error.smtp_code, error.smtp_error
            text = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
            why = f"{where} answers {code}: {redact_text(' '.join(text.split()))[:_MAX_DETAIL_LENGTH]}"
            return NotDeliveredError(why, "refused" if code >= 500 else "busy", retry=not 500 <= code < 600)
        case smtplib.SMTPNotSupportedError():
            why = f"{where}: {error} Set {SECTION}.security and username to what the server supports"
            return NotDeliveredError(why, "not allowed")
    return NotDeliveredError(f"{where} closed the connection: {redact_text(str(error))}"[:400], "unreachable")
