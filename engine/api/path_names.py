"""Escaped slashes in paths: `%2F` is part of a name, `/` separates two names.

Servers pass the path unescaped, so that `api%2Fweb` would become two path segments.
"""

from urllib.parse import unquote

from starlette.types import Scope

ESCAPED_SLASH = "\ue000"
"""Placeholder of an escaped slash until the name is decoded; a private-use character."""
_TOOLS_PREFIX = b"/api/tools/"
_ENCODED_ESCAPED_SLASH = "%EE%80%80"


def keep_escaped_slashes(scope: Scope) -> Scope:
    r"""Return the request scope with a placeholder for each escaped slash, where names may contain slashes.

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
    """Return the name that a path segment encodes."""
    return part.replace(ESCAPED_SLASH, "/")
