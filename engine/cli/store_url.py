"""Parses the URL of a data store given on the command line; passwords are never printed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from trimtab.engine.errors import SettingsError

if TYPE_CHECKING:
    from trimtab.engine.settings.tools import ToolSettings

PASSWORD_VARIABLES = {"redis": "REDISCLI_AUTH", "postgresql": "PGPASSWORD"}
"""Kind -> environment variable from which the store's own client reads a password."""


def tool_settings_from_url(
    kind: str, url: str, password_file: Path | None, environ: Mapping[str, str]
) -> "ToolSettings":
    """Return the tool settings of a data store; a password file takes precedence over URL, then environment.

    Raises SettingsError, whose message contains neither user nor password.

    >>> redis = tool_settings_from_url("redis", "redis://bob:s%40crt@cache:6379/1", None, {})
    >>> redis.url, redis.username, redis.password
    ('redis://cache:6379/1', 'bob', SecretStr('**********'))
    """
    from pydantic import ValidationError

    from trimtab.engine.settings.tools import tool_settings_class

    section = tool_settings_class(kind)
    if section is None:
        raise SettingsError(f"there is no tool of kind {kind!r}")
    plain_url, credentials = _split_credentials(kind, url)
    if password_file is not None:
        credentials = {**credentials, "password": None, "password_file": password_file.absolute()}
    elif "password" not in credentials and environ.get(PASSWORD_VARIABLES[kind]):
        credentials["password"] = environ[PASSWORD_VARIABLES[kind]]
    try:
        return section.model_validate({"kind": kind, "url": plain_url, **credentials})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SettingsError(f"--{kind} {plain_url!r}: {reason}") from None


def _split_credentials(kind: str, url: str) -> tuple[str, dict[str, Any]]:
    """Return the URL without credentials, and the credentials."""
    try:
        parts = urlsplit(url)
        userinfo, at_sign, host = parts.netloc.rpartition("@")
    except ValueError:
        raise SettingsError(f"--{kind} is no valid URL; use {kind}://host and a password file") from None
    if not at_sign and "@" in parts.path:
        raise SettingsError(
            f"--{kind}: escape '/', '?' and '#' in the password as %2F, %3F and %23, or use "
            f"--{kind}-password-file"
        )
    user, colon, password = userinfo.partition(":")
    credentials: dict[str, Any] = {"username": unquote(user)} if user else {}
    if colon and password:
        credentials["password"] = unquote(password)
    return urlunsplit(parts._replace(netloc=host)), credentials
