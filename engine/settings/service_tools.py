"""Settings of tools of the kinds http_service, webhook, process and pm2."""

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
    """Common settings of tools that are reached over HTTP at one URL."""

    url: str
    tls: Tls = Tls()

    @model_validator(mode="after")
    def _validate_http_url(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url must be such as http://127.0.0.1:8000/trimtab")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url contains a user or password; set bearer_token_file or basic_auth instead")
        return self

    def hosts(self) -> tuple[str, ...]:
        """Return the host of the server."""
        return (urlsplit(self.url).hostname or "",)


class HttpServiceTool(_HttpTool):
    """A service that declares its knobs and actions over HTTP, as implemented by `trimtab.service`."""

    @model_validator(mode="after")
    def _validate_single_target(self) -> Self:
        if self.targets is not None and len(self.targets) > 1:
            raise ValueError("targets has several names, but url is one service; define one tool per service")
        if urlsplit(self.url).query:
            raise ValueError("url contains a query; remove the question mark and what follows it")
        return self


class WebhookAction(Section):
    """An action that a webhook receiver can run, as described to operators and guardrails."""

    help: str
    risk: Risk = Risk.MEDIUM
    reduces: bool = False
    idempotent: bool = False


class WebhookTool(_HttpTool):
    """A receiver of signed POSTs. `secret`: at least 24 characters, shared with the receiver."""

    secret: SecretStr | None = None
    secret_file: Path | None = None
    actions: dict[str, WebhookAction] = Field(min_length=1)

    @model_validator(mode="after")
    def _validate_secret_and_actions(self) -> Self:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("set either secret or secret_file; the receiver verifies requests with it")
        for name in self.actions:
            if not _ACTION_NAME.fullmatch(name):
                raise ValueError(f"actions contains {name!r}; use lower-case letters, digits and '_'")
        return self

    def subjects(self) -> frozenset[str]:
        """Return the names of the actions."""
        return frozenset(self.actions)


class WatchedProcess(Section):
    """One process, found by its pid file, or as the only one with that name and command line.

    command      : regular expression that matches any part of the command line
    restart      : program and arguments, run without a shell
    stop_timeout : seconds to wait for the process to end
    """

    pid_file: Path | None = None
    name: str | None = None
    command: str | None = None
    restart: tuple[str, ...] = ()
    signals: tuple[Literal["HUP", "USR1", "USR2", "TERM"], ...] = ()
    stop_timeout: Duration = Field(10.0, le=25.0)

    @field_validator("command")
    @classmethod
    def _validate_command(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _validate_lookup(self) -> Self:
        if self.pid_file is None and not self.name:
            raise ValueError("set pid_file, or name and optionally command")
        if self.restart and not self.restart[0]:
            raise ValueError("restart starts with an empty string; write a program, then its arguments")
        return self


class ProcessTool(ToolSettings):
    """Processes on this machine, by target name."""

    processes: dict[str, WatchedProcess] = Field(min_length=1)

    @model_validator(mode="after")
    def _validate_known_targets(self) -> Self:
        unknown = set(self.targets or ()) - set(self.processes)
        if unknown:
            raise ValueError(f"targets contains {min(unknown)!r}, which is not defined in processes")
        return self

    def targets_of(self, name: str) -> tuple[str, ...]:  # noqa: ARG002 - the targets are the processes
        """Return `targets` if set, else all processes."""
        return self.targets or tuple(self.processes)

    def subjects(self) -> frozenset[str]:
        """Return the names of its actions: restart and the signals."""
        return frozenset({"restart", "hup", "usr1", "usr2", "term"})


class Pm2Tool(ToolSettings):
    """An installed PM2. `targets`: names of its applications.

    command       : program and arguments that run PM2
    home          : PM2_HOME; None = ~/.pm2
    max_instances : maximum instances of one application; None = the number of cores
    """

    command: tuple[str, ...] = Field(("pm2",), min_length=1)
    home: Path | None = None
    max_instances: int | None = Field(None, ge=1)

    @field_validator("targets")
    @classmethod
    def _validate_application_names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for target in value or ():
            if target == "all" or target.isdecimal() or target.startswith(("-", "/")):
                raise ValueError(
                    f"targets contains {target!r}, which PM2 does not read as a name; write a name"
                )
        return value

    def subjects(self) -> frozenset[str]:
        """Return the names of its knobs and actions."""
        return frozenset({"instances", "max_memory_restart", "reload", "restart"})
