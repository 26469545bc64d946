"""`tools:` of the kinds http_service, webhook, process and pm2."""

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from trimtab.engine.settings.section import Credentialed, Duration, Section, Tls
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.types import Risk

_ACTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class _HttpTool(ToolSettings, Credentialed):
    """One server, at one URL."""

    url: str
    tls: Tls = Tls()

    @model_validator(mode="after")
    def _url_fits(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url must be such as http://127.0.0.1:8000/trimtab")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url holds a user or password; write bearer_token_file or basic_auth below it")
        return self

    def hosts(self) -> tuple[str, ...]:
        """The server's machine."""
        return (urlsplit(self.url).hostname or "",)


class HttpServiceTool(_HttpTool):
    """A service that declares its knobs and actions over HTTP, as `trimtab.service` does below its mount."""

    @model_validator(mode="after")
    def _one_service_is_one_target(self) -> Self:
        if self.targets is not None and len(self.targets) > 1:
            raise ValueError("targets names several, url is one service; write one tool for each")
        if urlsplit(self.url).query:
            raise ValueError("url holds a query; write it without what stands after the question mark")
        return self


class WebhookAction(Section):
    """What a receiver does when it is told; said to people, and to the guardrails."""

    help: str
    risk: Risk = Risk.MEDIUM
    reduces: bool = False
    idempotent: bool = False


class WebhookTool(_HttpTool):
    """A receiver of signed POSTs. `secret`: at least 24 characters, known to the receiver."""

    secret: SecretStr | None = None
    secret_file: Path | None = None
    actions: dict[str, WebhookAction] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_signed(self) -> Self:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("give either secret or secret_file; the receiver knows us by it")
        for name in self.actions:
            if not _ACTION_NAME.fullmatch(name):
                raise ValueError(f"actions holds {name!r}; use small letters, digits and '_'")
        return self

    def subjects(self) -> frozenset[str]:
        """The actions that are named."""
        return frozenset(self.actions)


class WatchedProcess(Section):
    """One process: the one in its pid file, or the only one of that name whose command line matches.

    command : regular expression, found anywhere in the command line
    restart : a program and its arguments; no shell reads it
    """

    pid_file: Path | None = None
    name: str | None = None
    command: str | None = None
    restart: tuple[str, ...] = ()
    signals: tuple[Literal["HUP", "USR1", "USR2", "TERM"], ...] = ()
    stop_timeout: Duration = Field(10.0, le=25.0)

    @field_validator("command")
    @classmethod
    def _is_an_expression(cls, given: str | None) -> str | None:
        try:
            re.compile(given or "")
        except re.error as error:
            raise ValueError(f"{given!r} is no regular expression: {error}") from None
        return given

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.pid_file is None and not self.name:
            raise ValueError("give pid_file, or name and perhaps command")
        if self.restart and not self.restart[0]:
            raise ValueError("restart begins with an empty word; write a program, then its arguments")
        return self


class ProcessTool(ToolSettings):
    """Processes of this machine, by the name that they have here."""

    processes: dict[str, WatchedProcess] = Field(min_length=1)

    @model_validator(mode="after")
    def _targets_are_known(self) -> Self:
        unknown = set(self.targets or ()) - set(self.processes)
        if unknown:
            raise ValueError(f"targets names {min(unknown)!r}, which is not one of processes")
        return self

    def targets_of(self, name: str) -> tuple[str, ...]:  # noqa: ARG002 - the name says nothing here
        """All processes, or those that are named."""
        return self.targets or tuple(self.processes)

    def subjects(self) -> frozenset[str]:
        """A restart, and the signals."""
        return frozenset({"restart", "hup", "usr1", "usr2", "term"})


class Pm2Tool(ToolSettings):
    """A PM2 that the user brings. `targets`: names of its applications.

    command       : how it is started, a program and its arguments
    home          : its PM2_HOME; None = ~/.pm2
    max_instances : most instances of one application; None = the number of cores
    """

    command: tuple[str, ...] = Field(("pm2",), min_length=1)
    home: Path | None = None
    max_instances: int | None = Field(None, ge=1)

    @field_validator("targets")
    @classmethod
    def _are_names(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for target in given or ():
            if target == "all" or target.isdecimal() or target.startswith(("-", "/")):
                raise ValueError(f"targets holds {target!r}, which means something else to PM2; write a name")
        return given

    def subjects(self) -> frozenset[str]:
        """Its knobs and actions."""
        return frozenset({"instances", "max_memory_restart", "reload", "restart"})
