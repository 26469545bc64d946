"""`notify:` who is told of incidents, and how often that may be."""

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
    """A server that takes POSTs. `timeout` is the total of one try, in seconds."""

    url: str
    tls: Tls = Tls()
    timeout: Duration = Field(10.0, le=60.0)

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, given: str) -> str:
        return check_http_url(given)


class NotifyAlertmanager(HttpReceiver):
    """`notify.alertmanager:` its base URL; `/api/v2/alerts` below it is posted to.

    >>> NotifyAlertmanager(url="http://alertmanager:9093").timeout
    10.0
    """

    @field_validator("url")
    @classmethod
    def _is_a_base(cls, given: str) -> str:
        if urlsplit(given).query:
            raise ValueError("it holds a query; write it without what stands after the question mark")
        return given.rstrip("/")


class NotifyWebhook(HttpReceiver):
    """`notify.webhook:` a receiver of what Alertmanager's webhook (version 4) sends.

    With `secret` (24 characters or more, or `whsec_` and base64) each POST is signed by HMAC-SHA256, as the
    Standard Webhooks specification says.
    """

    secret: SecretStr | None = None
    secret_file: Path | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if self.secret is not None and self.secret_file is not None:
            raise ValueError("secret and secret_file are both set; keep one")
        if self.secret is not None and len(self.secret.get_secret_value()) < MIN_SECRET_LENGTH:
            raise ValueError(f"secret is shorter than {MIN_SECRET_LENGTH} characters; make a longer one")
        taken = {name.lower() for name in (*self.headers, *self.headers_file)} & _RESERVED_HEADERS
        if taken:
            raise ValueError(f"headers holds {min(taken)}, which we write; remove it")
        return self


class NotifyEmail(Section):
    """`notify.email:` mails over SMTP.

    security : "starttls" (port 587; never goes on without it), "tls" (port 465) or "none" (port 25)
    timeout  : of one mail in total, seconds

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
        """Where the server listens."""
        return self.port or _PORTS[self.security]

    @field_validator("sender")
    @classmethod
    def _sender_is_an_address(cls, given: str) -> str:
        return _check_mail_address(given)

    @field_validator("to")
    @classmethod
    def _are_addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_check_mail_address(one) for one in given)

    @model_validator(mode="after")
    def _login_is_whole_and_safe(self) -> Self:
        secret = self.password is not None or self.password_file is not None
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set; keep one")
        if secret != (self.username is not None):
            raise ValueError("username and password belong together; give both or none")
        if secret and self.security == "none" and not _LOOPBACK.fullmatch(self.smtp_host):
            raise ValueError(
                "security is none, so the password would cross the network in the clear; set security to "
                "starttls or tls"
            )
        return self


def _check_mail_address(given: str) -> str:
    try:
        address = Address(addr_spec=given)
        known = bool(address.username and address.domain) and given.isascii()
    except Exception:  # what the parser of the standard library raises is not said
        known = False
    if not known:
        raise ValueError(f"{given!r} is no mail address; write ops@shop.example")
    return given


class NotifySilence(Section):
    """`notify.silences.<name>:` for a time, incidents of these entities are not told.

    entities : names, as "redis/*"; an incident is silenced when all that it touches match one of them
    begin, until : with their zone, as 2026-01-31T22:00:00Z; begin <= time < until
    """

    entities: tuple[str, ...] = Field(min_length=1)
    begin: AwareDatetime
    until: AwareDatetime
    note: str = ""

    @model_validator(mode="after")
    def _ends_after_its_begin(self) -> Self:
        if not self.begin < self.until:
            raise ValueError(f"until is {self.until.isoformat()}, which is not after begin")
        return self


class Notify(Section):
    """`notify:`

    notifications_per_week : incidents a week worth telling, for the whole installation; critical ones are
                             told however many they are
    external_url           : where people reach Trimtab, for links; None = where the API listens

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
    def _is_a_url(cls, given: str | None) -> str | None:
        return None if given is None else check_http_url(given).rstrip("/")
