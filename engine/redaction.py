"""Redaction: recognises secrets and removes them from logs, errors and responses."""

import re
from collections.abc import Mapping

from pydantic import SecretStr

HIDDEN = "(hidden)"
_SECRET_WORDS = (
    "password",
    "passwd",
    "secret",
    "token",
    "authorization",
    "apikey",
    "adminkey",
    "cookie",
    "csrf",
)
_FILE_ENDINGS = ("file", "path", "prefix")
_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@?#'\"]+@")
_QUERY_SECRET = re.compile(
    r"(?P<name>[?&](?:[a-z_]*token|api_?key|password|secret)=)[^&\s'\"]+", re.IGNORECASE
)
_CREDENTIAL = re.compile(r"\b(?P<scheme>Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_OWN_KEY = re.compile(r"\b(?P<kind>t[tsl]_)[A-Za-z0-9_-]{43}\b")


def is_secret_name(name: str) -> bool:
    """Return whether a value with this name must not be shown.

    >>> is_secret_name("X-Api-Key"), is_secret_name("bearer_token_file"), is_secret_name("series_key")
    (True, False, False)
    """
    plain = re.sub(r"[^a-z]", "", name.lower())
    return not plain.endswith(_FILE_ENDINGS) and any(word in plain for word in _SECRET_WORDS)


def redact_text(text: str) -> str:
    """Return the text with URL users, header credentials, query secrets and Trimtab keys redacted.

    >>> redact_text("GET http://bob:hunter2@db:9090/?token=abc failed")
    'GET http://(hidden)@db:9090/?token=(hidden) failed'
    """
    text = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _QUERY_SECRET.sub(rf"\g<name>{HIDDEN}", text)
    text = _CREDENTIAL.sub(rf"\g<scheme> {HIDDEN}", text)
    return _OWN_KEY.sub(rf"\g<kind>{HIDDEN}", text)


def redact(value: object, depth: int = 6) -> object:
    """Return the value with secrets redacted, also inside mappings and sequences up to `depth` levels.

    >>> redact({"user": "bob", "password": "x", "urls": ["http://a:b@c"]})
    {'user': 'bob', 'password': '(hidden)', 'urls': ['http://(hidden)@c']}
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, SecretStr):
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return redact_text(repr(value))
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if isinstance(key, str) and is_secret_name(key) and item else redact(item, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth - 1) for item in value]
    return redact_text(str(value))
