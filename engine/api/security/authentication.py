"""Authentication of requests by Bearer key or session cookie."""

import asyncio
import hashlib
import hmac
from collections import OrderedDict

from starlette.requests import HTTPConnection

from trimtab.engine.api.problems import ProblemError
from trimtab.engine.api.security import api_keys
from trimtab.engine.api.security.request_identity import Principal
from trimtab.engine.ports import Clock, Store
from trimtab.engine.types import ApiKey

COOKIE = "trimtab_session"
CSRF_HEADER = "x-csrf-token"
_NO_KEY = (
    "Send `Authorization: Bearer <key>` (`trimtab key create` makes one), or log in at / with a browser."
)


def csrf_token(token: str) -> str:
    """Return the CSRF token of a session token."""
    return hmac.new(token.encode(), b"trimtab csrf", hashlib.sha256).hexdigest()


class KeyCache:
    """Cache of the stored keys, refreshed when it is older than `max_age_s` seconds."""

    def __init__(self, store: Store, clock: Clock, max_age_s: float = 2.0) -> None:
        self._store = store
        self._clock = clock
        self._max_age_ns = int(max_age_s * 1e9)
        self._keys: dict[str, ApiKey] = {}
        self._by_prefix: dict[str, list[ApiKey]] = {}
        self._read_at: int | None = None
        self._lock = asyncio.Lock()

    def invalidate(self) -> None:
        """Refresh at the next lookup."""
        self._read_at = None

    async def find_live_key(self, secret: str, *, just_made: bool = False) -> ApiKey | None:
        """Return the live key of this secret; None = none. `just_made` = refresh before returning None."""
        await self._refresh()
        key = self._cached_key(secret)
        if key is None and just_made:
            self.invalidate()
            await self._refresh()
            key = self._cached_key(secret)
        return key if key is not None and self._is_live_now(key) else None

    def _cached_key(self, secret: str) -> ApiKey | None:
        return api_keys.find_key(self._by_prefix.get(api_keys.visible_prefix(secret), []), secret)

    async def is_live(self, key: ApiKey) -> bool:
        """Return whether this key is still live."""
        await self._refresh()
        now = self._keys.get(key.id)
        return now is not None and self._is_live_now(now)

    async def display_name(self, key: ApiKey) -> str:
        """Return the name of a key, or of the key that opened a session; "admin" for a login link."""
        parent = api_keys.parent_id(key) if key.prefix.startswith(api_keys.SESSION_PREFIX) else key.id
        return "admin" if parent is None else self._keys[parent].name

    def _is_live_now(self, key: ApiKey) -> bool:
        if not api_keys.is_live(key, self._clock.now()):
            return False
        if not key.prefix.startswith(api_keys.SESSION_PREFIX):
            return True
        parent = api_keys.parent_id(key)
        return parent is None or (parent in self._keys and self._is_live_now(self._keys[parent]))

    async def _refresh(self) -> None:
        if self._is_fresh():
            return
        async with self._lock:
            if self._is_fresh():
                return
            read_at = self._clock.now()
            stored = await asyncio.to_thread(self._store.keys)
            self._keys = {key.id: key for key in stored}
            by_prefix: dict[str, list[ApiKey]] = {}
            for key in stored:
                by_prefix.setdefault(key.prefix, []).append(key)
            self._by_prefix = by_prefix
            self._read_at = read_at

    def _is_fresh(self) -> bool:
        return self._read_at is not None and 0 <= self._clock.now() - self._read_at < self._max_age_ns


class FailureLimiter:
    """Limits failed logins per client address: `burst` at once, then one every `refill_s` seconds.

    addresses : number of addresses that are tracked
    """

    def __init__(self, clock: Clock, burst: int = 10, refill_s: float = 6.0, addresses: int = 10_000) -> None:
        self._clock = clock
        self._burst = burst
        self._refill_ns = int(refill_s * 1e9)
        self._addresses = addresses
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def retry_after_s(self, address: str) -> int:
        """Return the seconds until this address may try again, 0 = now."""
        owed = self._full_at.get(address, 0) - self._clock.now() - (self._burst - 1) * self._refill_ns
        return max(0, -(-owed // 1_000_000_000))

    def record_failure(self, address: str) -> None:
        """Record a failure of this address."""
        now = self._clock.now()
        self._full_at[address] = max(self._full_at.pop(address, now), now) + self._refill_ns
        while len(self._full_at) > self._addresses:
            self._full_at.popitem(last=False)


class Authenticator:
    """Authenticates requests."""

    def __init__(self, keyring: KeyCache, failures: FailureLimiter) -> None:
        self._keyring = keyring
        self._failures = failures
        self.login_link_lock = asyncio.Lock()
        """Hold it while redeeming a login link, so that a link works only once."""

    async def authenticate(self, request: HTTPConnection) -> Principal | None:
        """Return the caller; None = no credentials. Raises ProblemError 401 or 429 for a wrong key."""
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, secret = header.partition(" ")
            if scheme.lower() != "bearer":
                raise unauthorized("Only `Authorization: Bearer <key>` is supported.")
            key = await self.require_key(secret.strip(), client_address(request))
            return Principal(key, await self._keyring.display_name(key))
        token = request.cookies.get(COOKIE)
        if not token:
            return None
        session = (
            await self._keyring.find_live_key(token) if token.startswith(api_keys.SESSION_PREFIX) else None
        )
        if session is None:
            return None
        return Principal(session, await self._keyring.display_name(session), csrf_token(token))

    async def require_key(self, secret: str, address: str) -> ApiKey:
        """Return the live API key of this secret. Raises ProblemError 401, or 429 after many failures."""
        self._check_rate(secret, address)
        found = None
        if not secret.startswith((api_keys.SESSION_PREFIX, api_keys.LINK_PREFIX)):
            found = await self._keyring.find_live_key(
                secret, just_made=not self._failures.retry_after_s(address)
            )
        if found is None:
            self.record_failure(address)
            raise unauthorized("This key is unknown, expired or revoked.")
        return found

    def _check_rate(self, secret: str, address: str) -> None:
        """Raise ProblemError 429 while an address has failed too often.

        Generated secrets cannot be guessed and are still checked, so that nobody can lock others out.
        """
        wait = self._failures.retry_after_s(address)
        if wait and api_keys.visible_prefix(secret) == api_keys.SETTINGS_KEY_PREFIX:
            raise ProblemError(429, f"Too many failed attempts; wait {wait} s.", {"Retry-After": str(wait)})

    def record_failure(self, address: str) -> None:
        """Record a failure. Raises ProblemError 429 if the limit is exceeded."""
        wait = self._failures.retry_after_s(address)
        if wait:
            raise ProblemError(429, f"Too many failed attempts; wait {wait} s.", {"Retry-After": str(wait)})
        self._failures.record_failure(address)


def unauthorized(detail: str = _NO_KEY) -> ProblemError:
    """Return a 401 problem that says how to authenticate."""
    return ProblemError(401, detail, {"WWW-Authenticate": 'Bearer realm="trimtab"'})


def client_address(request: HTTPConnection) -> str:
    """Return the client's IP address; "" = unknown."""
    return request.client.host if request.client else ""
