"""Names with `/` in a path: an escaped one belongs to a name, a plain one parts two names.

Servers hand the path on unescaped, so that `api%2Fweb` would be two parts and lead to another route, or none.
"""

from urllib.parse import unquote

from starlette.types import Scope

KEPT = "\ue000"
"""Stands for an escaped slash until the name is read; of private use, so nobody writes it."""
_HERE = b"/api/tools/"
_ESCAPED = "%EE%80%80"


def with_kept_slashes(scope: Scope) -> Scope:
    r"""The request with its escaped slashes kept apart, where names may hold some.

    >>> with_kept_slashes({"path": "/api/tools/a/b", "raw_path": b"/api/tools/a%2fb"})["path"]
    '/api/tools/a\ue000b'
    >>> with_kept_slashes({"path": "/api/series/a/b", "raw_path": b"/api/series/a%2Fb"})["path"]
    '/api/series/a/b'
    """
    raw = scope.get("raw_path") or b""
    if not raw.startswith(_HERE) or b"%2f" not in raw.lower():
        return scope
    text = raw.decode("ascii", "replace").replace("%2F", _ESCAPED).replace("%2f", _ESCAPED)
    return {**scope, "path": unquote(text)}


def name_of(part: str) -> str:
    """A part of the path as the name that it was escaped from."""
    return part.replace(KEPT, "/")
