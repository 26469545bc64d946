"""Names with `/` in a path: an escaped one belongs to a name, a plain one parts two names.

Servers hand the path on unescaped, so that `api%2Fweb` would be two parts and lead to another route, or none.
"""

from urllib.parse import unquote

from starlette.types import Scope

ESCAPED_SLASH = "\ue000"
"""Stands for an escaped slash until the name is read; of private use, so nobody writes it."""
_TOOLS_PREFIX = b"/api/tools/"
_ENCODED_ESCAPED_SLASH = "%EE%80%80"


def keep_escaped_slashes(scope: Scope) -> Scope:
    r"""The request with its escaped slashes kept apart, where names may hold some.

    >>> keep_escaped_slashes({"path": "/api/tools/a/b", "raw_path": b"/api/tools/a%2fb"})["path"]
    '/api/tools/a\ue000b'
    >>> keep_escaped_slashes({"path": "/api/series/a/b", "raw_path": b"/api/series/a%2Fb"})["path"]
    '/api/series/a/b'
    """
    raw = scope.get("raw_path") or b""
    if not raw.startswith(_TOOLS_PREFIX) or b"%2f" not in raw.lower():
        return scope
    text = (
        raw.decode("ascii", "replace")
        .replace("%2F", _ENCODED_ESCAPED_SLASH)
        .replace("%2f", _ENCODED_ESCAPED_SLASH)
    )
    return {**scope, "path": unquote(text)}


def decode_name(part: str) -> str:
    """A part of the path as the name that it was escaped from."""
    return part.replace(ESCAPED_SLASH, "/")
