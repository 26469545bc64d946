"""Settings `notify:`, receivers of notifications and their rate."""

import re
from email.headerregistry import Address
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, SecretStr, field_validator, model_validator

from trimtab.engine.settings.section import Credentialed, Duration, Section, Tls
from trimtab.engine.settings.urls import check_http_url

_LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_RESERVED_HEADERS = {"content-type", "host", "webhook-id", "webhook-timestamp", "webhook-signature"}
MIN_SECRET_LENGTH = 24


class HttpReceiver(Credentialed):
    """An HTTP server that receives POSTs. `timeout` is the total timeout of one attempt, in seconds."""

    url: str
    tls: Tls = Tls()
    timeout: Duration = Field(10.0, le=60.0)

    @field_validator("url")
    @classmethod
    def _validate_url(cls, value: str) -> str:
        return check_http_url(value)


class NotifyAlertmanager(HttpReceiver):
    """`notify.alertmanager:` `url` is the base URL; alerts are posted to `/api/v2/alerts` below it.

    >>> NotifyAlertmanager(url="http://alertmanager:9093").timeout
    10.0
    """

    @field_validator("url")
    @classmethod
    def _validate_base_url(cls, value: str) -> str:
        if urlsplit(value).query:
            raise ValueError("it contains a query; remove the question mark and what follows it")
        return value.rstrip("/")


class NotifyWebhook(HttpReceiver):
    """`notify.webhook:` a receiver of Alertmanager's webhook format (version 4).

    With a `secret` (at least 24 characters, or `whsec_` and base64) each POST is signed with HMAC-SHA256
    according to the Standard Webhooks specification.
    """

    secret: SecretStr | None = None
    secret_file: Path | None = None

    @model_validator(mode="after")
    def _validate_secret(self) -> Self:
        if self.secret is not None and self.secret_file is not None:
            raise ValueError("secret and secret_file are both set; keep one")
        if self.secret is not None and len(self.secret.get_secret_value()) < MIN_SECRET_LENGTH:
            raise ValueError(f"secret is too short; use at least {MIN_SECRET_LENGTH} characters")
        taken = {name.lower() for name in (*self.headers, *self.headers_file)} & _RESERVED_HEADERS
        if taken:
            raise ValueError(f"headers contains {min(taken)}, which Trimtab sets itself; remove it")
        return self


class NotifyEmail(Section):
    """`notify.email:` mails over SMTP.

    security : "starttls" (port 587; required, never skipped), "tls" (port 465) or "none" (port 25)
    timeout  : total timeout of one mail, seconds

    >>> NotifyEmail(smtp_host="mail", sender="trimtab@shop.example", to=["ops@shop.example"]).port_number
    587
    """

    smtp_host: str = Field(min_length=1)
    port: int | None = Field(None, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    sender: str
    to: tuple[str, ...] = Field(min_length=1, max_length=50)
    tls: Tls = Tls()
    timeout: Duration = Field(30.0, le=120.0)

    @property
    def port_number(self) -> int:
        """Port of the server; the default depends on `security`."""
        return self.port or _PORTS[self.security]

    @field_validator("sender")
    @classmethod
    def _validate_sender(cls, value: str) -> str:
        return _check_mail_address(value)

    @field_validator("to")
    @classmethod
    def _validate_recipients(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_check_mail_address(address) for address in value)

    @model_validator(mode="after")
    def _validate_login(self) -> Self:
        secret = self.password is not None or self.password_file is not None
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set; keep one")
        if secret != (self.username is not None):
            raise ValueError("username and password belong together; set both or neither")
        if secret and self.security == "none" and not _LOOPBACK.fullmatch(self.smtp_host):
            raise ValueError(
                "security is none, so the password would be sent unencrypted; set security to starttls or tls"
            )
        return self


def _check_mail_address(value: str) -> str:
    try:
        address = Address(addr_spec=value)
        is_valid = bool(address.username and address.domain) and value.isascii()
    except Exception:  # the standard library does not document what its parser raises
        is_valid = False
    if not is_valid:
        raise ValueError(f"{value!r} is not a mail address; write ops@shop.example")
    return value


class NotifySilence(Section):
    """`notify.silences.<name>:` no notifications for incidents of these entities during a time range.

    entities     : name patterns such as "redis/*"; an incident is silenced if all its entities match one
    begin, until : times with time zone, such as 2026-01-31T22:00:00Z; begin <= time < until
    """

    entities: tuple[str, ...] = Field(min_length=1)
    begin: AwareDatetime
    until: AwareDatetime
    note: str = ""

    @model_validator(mode="after")
    def _validate_range(self) -> Self:
        if not self.begin < self.until:
            raise ValueError(f"until is {self.until.isoformat()}; it must be after begin")
        return self


class Notify(Section):
    """`notify:` notifications of incidents.

    notifications_per_week : target number of notified incidents per week for the whole installation;
                             critical incidents are always notified
    external_url           : base URL of Trimtab for links; None = the address of the API

    >>> Notify().notifications_per_week
    5.0
    """

    notifications_per_week: float = Field(5.0, gt=0, le=1000)
    external_url: str | None = None
    alertmanager: NotifyAlertmanager | None = None
    webhook: NotifyWebhook | None = None
    email: NotifyEmail | None = None
    silences: dict[str, NotifySilence] = Field(default_factory=dict)

    @field_validator("external_url")
    @classmethod
    def _validate_external_url(cls, value: str | None) -> str | None:
        return None if value is None else check_http_url(value).rstrip("/")
