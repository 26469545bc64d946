"""Who asks: a Bearer key or a browser's session, looked up among the live ones."""

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
    """The CSRF token of a session, which only who holds its cookie can know."""
    return hmac.new(token.encode(), b"trimtab csrf", hashlib.sha256).hexdigest()


class KeyCache:
    """The stored keys, read again at most every `max_age_s` seconds, so that a revocation counts soon."""

    def __init__(self, store: Store, clock: Clock, max_age_s: float = 2.0) -> None:
        self._store = store
        self._clock = clock
        self._max_age_ns = int(max_age_s * 1e9)
        self._keys: dict[str, ApiKey] = {}
        self._by_prefix: dict[str, list[ApiKey]] = {}
        self._read_at: int | None = None
        self._lock = asyncio.Lock()

    def invalidate(self) -> None:
        """Read the store again at the next question: something was changed."""
        self._read_at = None

    async def find_live_key(self, secret: str, *, just_made: bool = False) -> ApiKey | None:
        """The live key of this secret; `just_made` = look into the store again before saying no."""
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
        """Whether this key may still be used."""
        await self._refresh()
        now = self._keys.get(key.id)
        return now is not None and self._is_live_now(now)

    async def display_name(self, key: ApiKey) -> str:
        """How a person knows this key; a session bears the name of the key that opened it."""
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
    """Failed tries of each client address: `burst` at once, then one every `refill_s` seconds."""

    def __init__(self, clock: Clock, burst: int = 10, refill_s: float = 6.0, addresses: int = 10_000) -> None:
        self._clock = clock
        self._burst = burst
        self._refill_ns = int(refill_s * 1e9)
        self._addresses = addresses
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def retry_after_s(self, address: str) -> int:
        """Seconds until this address may try again, 0 = now."""
        owed = self._full_at.get(address, 0) - self._clock.now() - (self._burst - 1) * self._refill_ns
        return max(0, -(-owed // 1_000_000_000))

    def record_failure(self, address: str) -> None:
        """Note one more failure of this address."""
        now = self._clock.now()
        self._full_at[address] = max(self._full_at.pop(address, now), now) + self._refill_ns
        while len(self._full_at) > self._addresses:
            self._full_at.popitem(last=False)


class Authenticator:
    """Turns a request into a Principal."""

    def __init__(self, keyring: KeyCache, failures: FailureLimiter) -> None:
        self._keyring = keyring
        self._failures = failures
        self.login_link_lock = asyncio.Lock()
        """To be held while a login link is used up, so that once means once."""

    async def authenticate(self, request: HTTPConnection) -> Principal | None:
        """Who asks; None = nobody said who they are. Raises ProblemError (401, 429) for a wrong key."""
        header = request.headers.get("authorization")
        if header is not None:
            scheme, _, secret = header.partition(" ")
            if scheme.lower() != "bearer":
                raise unauthorized("Only `Authorization: Bearer <key>` is understood.")
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
        """The live API key of this secret. Raises ProblemError 401, or 429 after many failures."""
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
        """Raises ProblemError 429 while an address has failed too often.

        Secrets of our own making cannot be guessed and are still looked at, so that nobody locks others out.
        """
        wait = self._failures.retry_after_s(address)
        if wait and api_keys.visible_prefix(secret) == api_keys.SETTINGS_KEY_PREFIX:
            raise ProblemError(429, f"Too many failed tries; wait {wait} s.", {"Retry-After": str(wait)})

    def record_failure(self, address: str) -> None:
        """Count a failure. Raises ProblemError 429 when it was one too many."""
        wait = self._failures.retry_after_s(address)
        if wait:
            raise ProblemError(429, f"Too many failed tries; wait {wait} s.", {"Retry-After": str(wait)})
        self._failures.record_failure(address)


def unauthorized(detail: str = _NO_KEY) -> ProblemError:
    """401, with what to do."""
    return ProblemError(401, detail, {"WWW-Authenticate": 'Bearer realm="trimtab"'})


def client_address(request: HTTPConnection) -> str:
    """The client's address; "" where the server does not know it."""
    return request.client.host if request.client else ""
