"""API keys, browser sessions and login links: random 256-bit secrets, stored only as SHA-256.

All three are `ApiKey` rows in the store, distinguished by the prefix of the secret. The functions block on
the store: the API calls them in threads, the command line directly.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trimtab.engine.api.security.access_table import SCOPES, Scope
from trimtab.engine.errors import ConflictError, InputError, NotFoundError, SettingsError
from trimtab.engine.ports import Clock, Store
from trimtab.engine.settings import Api
from trimtab.engine.types import ApiKey, new_ulid

KEY_PREFIX, SESSION_PREFIX, LINK_PREFIX = "tt_", "ts_", "tl_"
SETTINGS_KEY_PREFIX = "seeded"
"""Prefix shown for a key from the settings, so that no part of its secret is visible."""
KEY_LIFETIME_S = 365 * 86_400.0
SESSION_LIFETIME_S = 30 * 86_400.0
LINK_LIFETIME_S = 600.0
ENDED_SESSION_RETENTION_S = 86_400.0
"""Seconds for which an ended session or login link is kept."""
MIN_ADMIN_KEY_LENGTH = 20
_PREFIX_LENGTH = 10
_GENERATED_LENGTH = 46
_SETTINGS_KEY_NAME = "admin key of the settings"


@dataclass(frozen=True, slots=True)
class FirstAccess:
    """Access for the first operator. Both None = keys exist already.

    login_url : to print on the terminal; works once, within 10 minutes
    key_file  : file with the admin key, mode 0600
    """

    login_url: str | None = None
    key_file: Path | None = None


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of a secret, hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def visible_prefix(secret: str) -> str:
    """Return the part of a secret that may be shown.

    >>> visible_prefix("tt_abcdefg" + "h" * 36), visible_prefix("my own password, long")
    ('tt_abcdefg', 'seeded')
    """
    generated = (
        secret.startswith((KEY_PREFIX, SESSION_PREFIX, LINK_PREFIX)) and len(secret) == _GENERATED_LENGTH
    )
    return secret[:_PREFIX_LENGTH] if generated else SETTINGS_KEY_PREFIX


def find_key(keys: Iterable[ApiKey], secret: str) -> ApiKey | None:
    """Return the key with this secret, live or not; None = unknown. Compares in constant time."""
    prefix, digest = visible_prefix(secret), hash_secret(secret)
    same = [key for key in keys if key.prefix == prefix and hmac.compare_digest(key.hash, digest)]
    return same[0] if same else None


def is_live(key: ApiKey, now: int) -> bool:
    """Return whether a key is neither revoked nor expired at `now` (int64 ns UTC)."""
    return key.revoked is None and (key.expires is None or now < key.expires)


def create_key(
    store: Store, clock: Clock, name: str, scopes: Sequence[str], lifetime_s: float | None = KEY_LIFETIME_S
) -> tuple[ApiKey, str]:
    """Create a key and return it with its secret, which is never stored.

    lifetime_s : seconds; None = does not expire
    Raises InputError for an empty name or an unknown scope, ConflictError if a live key has this name.
    """
    allowed = [str(scope) for scope in SCOPES]
    wrong = sorted(set(scopes) - set(allowed))
    if wrong or not scopes:
        raise InputError(f"scopes {wrong or list(scopes)} are not valid; choose from {', '.join(allowed)}")
    if not name.strip() or len(name) > 100:
        raise InputError(f"a key's name must have 1 to 100 characters, but has {len(name.strip())}")
    if any(key.name == name for key in list_keys(store) if is_live(key, clock.now())):
        raise ConflictError(f"a live key is already named {name!r}; revoke it or choose another name")
    ordered = tuple(scope for scope in allowed if scope in scopes)
    return _create_secret(store, clock, KEY_PREFIX, name, ordered, lifetime_s)


def list_keys(store: Store) -> list[ApiKey]:
    """Return all keys, newest first, including revoked and expired ones; no sessions or login links."""
    keys = [
        key
        for key in store.keys()  # noqa: SIM118 - a port, no dict
        if not key.prefix.startswith((SESSION_PREFIX, LINK_PREFIX))
    ]
    return sorted(keys, key=lambda key: key.id, reverse=True)


def revoke_key(store: Store, clock: Clock, which: str) -> ApiKey:
    """Revoke a key by id, prefix or name, and thereby its sessions.

    Raises NotFoundError unless exactly one live key matches `which`.
    """
    found = [
        key for key in list_keys(store) if which in {key.id, key.prefix, key.name} and key.revoked is None
    ]
    if len(found) != 1:
        what = "no live key" if not found else f"{len(found)} keys"
        raise NotFoundError(f"{what} with id, prefix or name {which!r}; `trimtab key list` shows them")
    revoked = replace(found[0], revoked=clock.now())
    store.save_key(revoked)
    return revoked


def open_session(store: Store, clock: Clock, parent: ApiKey | None) -> tuple[ApiKey, str]:
    """Create a browser session; return it with its token.

    parent : key whose scopes and expiry apply; None = a login link, which gives all scopes
    """
    scopes = parent.scopes if parent else tuple(str(scope) for scope in SCOPES)
    name = f"session of {parent.id}" if parent else "session"
    lifetime_s = SESSION_LIFETIME_S
    if parent and parent.expires:
        lifetime_s = min(lifetime_s, (parent.expires - clock.now()) / 1e9)
    return _create_secret(store, clock, SESSION_PREFIX, name, scopes, lifetime_s)


def parent_id(session: ApiKey) -> str | None:
    """Return the id of the key that opened a session; None = a login link opened it."""
    return session.name.removeprefix("session of ") if session.name != "session" else None


def close_session(store: Store, clock: Clock, session: ApiKey) -> None:
    """Revoke a session."""
    store.save_key(replace(session, revoked=clock.now()))


def create_login_url(store: Store, clock: Clock, base_url: str) -> str:
    """Create a link that logs in one browser as administrator, once, within 10 minutes.

    base_url : URL of the API, such as http://127.0.0.1:8600
    """
    _, token = _create_secret(store, clock, LINK_PREFIX, "login link", (str(Scope.ADMIN),), LINK_LIFETIME_S)
    return f"{base_url.rstrip('/')}/login?token={token}"


def redeem_login_link(store: Store, clock: Clock, token: str) -> tuple[ApiKey, str] | None:
    """Invalidate a login link and open a session; None = invalid, used or expired. Serialize the calls."""
    link = find_key(store.keys(), token) if token.startswith(LINK_PREFIX) else None
    if link is None or not is_live(link, clock.now()):
        return None
    store.save_key(replace(link, revoked=clock.now()))
    return open_session(store, clock, None)


def delete_ended_sessions(store: Store, clock: Clock, limit: int) -> int:
    """Delete up to `limit` sessions and links that ended long enough ago; return the count. Keys stay."""
    return store.delete_keys(
        (SESSION_PREFIX, LINK_PREFIX), clock.now() - int(ENDED_SESSION_RETENTION_S * 1e9), limit
    )


def apply_settings_key(store: Store, clock: Clock, settings: Api) -> ApiKey | None:
    """Make the admin key of the settings live; an earlier key of the settings expires now.

    Returns None if the settings have no key. Raises SettingsError if it is too short or unreadable.
    """
    secret = _read_settings_secret(settings)
    settings_keys = [key for key in list_keys(store) if key.name == _SETTINGS_KEY_NAME]
    same = find_key(settings_keys, secret) if secret else None
    for key in settings_keys:
        if key is not same and is_live(key, clock.now()):
            store.save_key(replace(key, expires=clock.now()))
    if secret is None:
        return None
    if same and same.revoked is None:
        renewed = replace(same, expires=None)
        if renewed != same:
            store.save_key(renewed)
        return renewed
    if same:
        raise SettingsError(
            "api.admin_key was revoked; set another one, or remove it and use `trimtab key create`"
        )
    scopes = tuple(str(scope) for scope in SCOPES)
    return _save_new_key(store, clock, secret, _SETTINGS_KEY_NAME, scopes, None)


def ensure_first_access(
    store: Store, clock: Clock, settings: Api, data_dir: Path, base_url: str, *, terminal: bool
) -> FirstAccess:
    """Apply the settings' key; if no live key exists, create access for the first operator.

    terminal : True = return a login link to print, False = write a key to `data_dir`/admin.key
    """
    apply_settings_key(store, clock, settings)
    if any(is_live(key, clock.now()) for key in list_keys(store)):
        return FirstAccess()
    if terminal:
        return FirstAccess(login_url=create_login_url(store, clock, base_url))
    path = data_dir / "admin.key"
    _, secret = create_key(store, clock, "admin", [str(scope) for scope in SCOPES], None)
    _write_private(path, secret)
    return FirstAccess(key_file=path)


def _create_secret(
    store: Store, clock: Clock, kind: str, name: str, scopes: Sequence[str], lifetime_s: float | None
) -> tuple[ApiKey, str]:
    secret = kind + secrets.token_urlsafe(32)
    return _save_new_key(store, clock, secret, name, scopes, lifetime_s), secret


def _save_new_key(
    store: Store, clock: Clock, secret: str, name: str, scopes: Sequence[str], lifetime_s: float | None
) -> ApiKey:
    now = clock.now()
    expires = None if lifetime_s is None else now + int(lifetime_s * 1e9)
    key = ApiKey(
        id=new_ulid(now), name=name, prefix=visible_prefix(secret), hash=hash_secret(secret),
        scopes=tuple(scopes), created=now, expires=expires,
    )  # fmt: skip
    store.save_key(key)
    return key


def _read_settings_secret(settings: Api) -> str | None:
    secret = settings.admin_key.get_secret_value() if settings.admin_key else None
    name = "api.admin_key"
    if secret is None and settings.admin_key_file is not None:
        name, path = "api.admin_key_file", settings.admin_key_file.expanduser()
        try:
            secret = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{name} {path} cannot be read: {reason}") from None
    if secret is not None and len(secret) < MIN_ADMIN_KEY_LENGTH:
        raise SettingsError(
            f"{name} has {len(secret)} characters and needs at least {MIN_ADMIN_KEY_LENGTH}; "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes a good one"
        )
    return secret


def _write_private(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".admin.key.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
