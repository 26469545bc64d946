"""API keys, browser sessions and login links: random 256-bit secrets, kept only as SHA-256.

All three are `ApiKey` rows in the store; a secret's first letters tell them apart. The functions block
on the store: the API calls them in threads, the command line directly.
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
"""Stands as prefix of a key that the settings give, so that no part of it is shown."""
KEY_LIFETIME_S = 365 * 86_400.0
SESSION_LIFETIME_S = 30 * 86_400.0
LINK_LIFETIME_S = 600.0
ENDED_SESSION_RETENTION_S = 86_400.0
"""A session or link that ended is remembered so long."""
MIN_ADMIN_KEY_LENGTH = 20
_PREFIX_LENGTH = 10
_GENERATED_LENGTH = 46
_SETTINGS_KEY_NAME = "admin key of the settings"


@dataclass(frozen=True, slots=True)
class FirstAccess:
    """How the first person gets in. Both None = keys exist already.

    login_url : to print on the terminal; works once, for 10 minutes
    key_file  : where the admin key was written, mode 0600
    """

    login_url: str | None = None
    key_file: Path | None = None


def hash_secret(secret: str) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def visible_prefix(secret: str) -> str:
    """What may be shown of a secret.

    >>> visible_prefix("tt_abcdefg" + "h" * 36), visible_prefix("my own password, long")
    ('tt_abcdefg', 'seeded')
    """
    generated = (
        secret.startswith((KEY_PREFIX, SESSION_PREFIX, LINK_PREFIX)) and len(secret) == _GENERATED_LENGTH
    )
    return secret[:_PREFIX_LENGTH] if generated else SETTINGS_KEY_PREFIX


def find_key(keys: Iterable[ApiKey], secret: str) -> ApiKey | None:
    """The key of this secret, live or not; compared in constant time."""
    prefix, digest = visible_prefix(secret), hash_secret(secret)
    same = [key for key in keys if key.prefix == prefix and hmac.compare_digest(key.hash, digest)]
    return same[0] if same else None


def is_live(key: ApiKey, now: int) -> bool:
    """Neither revoked nor expired at `now`, int64 ns."""
    return key.revoked is None and (key.expires is None or now < key.expires)


def create_key(
    store: Store, clock: Clock, name: str, scopes: Sequence[str], lifetime_s: float | None = KEY_LIFETIME_S
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is shown this once and never again.

    lifetime_s : seconds; None = it does not expire
    Raises InputError for an empty name or unknown scope, ConflictError when a live key has that name.
    """
    allowed = [str(scope) for scope in SCOPES]
    wrong = sorted(set(scopes) - set(allowed))
    if wrong or not scopes:
        raise InputError(f"scopes {wrong or list(scopes)} are not possible; choose from {', '.join(allowed)}")
    if not name.strip() or len(name) > 100:
        raise InputError(f"a key's name has 1 to 100 characters, not {len(name.strip())}")
    if any(key.name == name for key in list_keys(store) if is_live(key, clock.now())):
        raise ConflictError(f"a live key is named {name!r} already; revoke it or take another name")
    ordered = tuple(scope for scope in allowed if scope in scopes)
    return _create_secret(store, clock, KEY_PREFIX, name, ordered, lifetime_s)


def list_keys(store: Store) -> list[ApiKey]:
    """Every key, newest first, revoked and expired ones too; without sessions and login links."""
    keys = [
        key
        for key in store.keys()  # noqa: SIM118 - a port, no dict
        if not key.prefix.startswith((SESSION_PREFIX, LINK_PREFIX))
    ]
    return sorted(keys, key=lambda key: key.id, reverse=True)


def revoke_key(store: Store, clock: Clock, which: str) -> ApiKey:
    """Revoke a key by id, prefix or name; the sessions that it opened end with it.

    Raises NotFoundError when none or several live keys answer to `which`.
    """
    found = [
        key for key in list_keys(store) if which in {key.id, key.prefix, key.name} and key.revoked is None
    ]
    if len(found) != 1:
        what = "no live key" if not found else f"{len(found)} keys"
        raise NotFoundError(f"{what} with id, prefix or name {which!r}; `trimtab key list` shows them")
    gone = replace(found[0], revoked=clock.now())
    store.save_key(gone)
    return gone


def open_session(store: Store, clock: Clock, parent: ApiKey | None) -> tuple[ApiKey, str]:
    """A browser session and its token; it has the scopes of `parent`, all of them after a login link."""
    scopes = parent.scopes if parent else tuple(str(scope) for scope in SCOPES)
    name = f"session of {parent.id}" if parent else "session"
    lifetime_s = SESSION_LIFETIME_S
    if parent and parent.expires:
        lifetime_s = min(lifetime_s, (parent.expires - clock.now()) / 1e9)
    return _create_secret(store, clock, SESSION_PREFIX, name, scopes, lifetime_s)


def parent_id(session: ApiKey) -> str | None:
    """Id of the key that opened a session; None for a login link's."""
    return session.name.removeprefix("session of ") if session.name != "session" else None


def close_session(store: Store, clock: Clock, session: ApiKey) -> None:
    """Log out."""
    store.save_key(replace(session, revoked=clock.now()))


def create_login_url(store: Store, clock: Clock, base_url: str) -> str:
    """A link that logs one browser in as administrator, once and within 10 minutes.

    base_url : such as http://127.0.0.1:8600
    """
    _, token = _create_secret(store, clock, LINK_PREFIX, "login link", (str(Scope.ADMIN),), LINK_LIFETIME_S)
    return f"{base_url.rstrip('/')}/login?token={token}"


def redeem_login_link(store: Store, clock: Clock, token: str) -> tuple[ApiKey, str] | None:
    """Use a login link up and open a session; None = wrong, used or too old. One call at a time."""
    link = find_key(store.keys(), token) if token.startswith(LINK_PREFIX) else None
    if link is None or not is_live(link, clock.now()):
        return None
    store.save_key(replace(link, revoked=clock.now()))
    return open_session(store, clock, None)


def delete_ended_sessions(store: Store, clock: Clock, limit: int) -> int:
    """Remove at most `limit` sessions and login links that ended DEAD_KEPT_S ago; how many. Keys stay."""
    return store.delete_keys(
        (SESSION_PREFIX, LINK_PREFIX), clock.now() - int(ENDED_SESSION_RETENTION_S * 1e9), limit
    )


def apply_settings_key(store: Store, clock: Clock, settings: Api) -> ApiKey | None:
    """Make the admin key of the settings a live key; an earlier one of the settings expires now.

    None where the settings have none. Raises SettingsError when it is too short or its file cannot be read.
    """
    secret = _read_settings_secret(settings)
    known = [key for key in list_keys(store) if key.name == _SETTINGS_KEY_NAME]
    same = find_key(known, secret) if secret else None
    for key in known:
        if key is not same and is_live(key, clock.now()):
            store.save_key(replace(key, expires=clock.now()))
    if secret is None:
        return None
    if same and same.revoked is None:
        again = replace(same, expires=None)
        if again != same:
            store.save_key(again)
        return again
    if same:
        raise SettingsError(
            "api.admin_key was revoked; give another one, or remove it and use `trimtab key create`"
        )
    scopes = tuple(str(scope) for scope in SCOPES)
    return _save_new_key(store, clock, secret, _SETTINGS_KEY_NAME, scopes, None)


def ensure_first_access(
    store: Store, clock: Clock, settings: Api, data_dir: Path, base_url: str, *, terminal: bool
) -> FirstAccess:
    """Seed the settings' key; where no live key is there, open a way in.

    On a terminal that is a login link for the caller to print, else a key in `data_dir`/admin.key.
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
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
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
