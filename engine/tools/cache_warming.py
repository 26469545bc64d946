"""Cache warming: fetch missing keys through the service that fills the cache at a small share of its load."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from trimtab.engine.errors import RefusedError, ToolError
from trimtab.engine.settings.data_store_tools import CacheWarmingSettings
from trimtab.engine.tools.server_access import resolve_host

MAX_ORIGIN_SHARE = 0.05
"""Largest share of the origin's request rate that warming may add, 0..1."""
MAX_ERROR_SHARE = 0.01
"""Warming stops when this share of its requests has failed, 0..1."""
WARMING_BUDGET_S = 25.0
"""Time for one run; an action must end within 30 s. The next run fetches the remaining keys."""
_REQUEST_TIMEOUT_S = 5.0
_MAX_PROBES = 5
_PROBE_BUDGET_S = 4.0
"""Time for all probes together; the guard waits longer than this."""
RESPONSE_WINDOW_S = 60.0
"""Responses and counter readings older than this are ignored."""


@dataclass(slots=True)
class WarmingResult:
    """Result of one warming run: numbers of keys, the last error, and the keys that were not fetched."""

    fetched: int = 0
    already_cached: int = 0
    failed: int = 0
    last_error: str = ""
    remaining_keys: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.fetched} fetched", f"{self.already_cached} already cached"]
        if self.failed:
            parts.append(f"stopped after {self.failed} failed: {self.last_error}")
        if self.remaining_keys:
            parts.append(f"{len(self.remaining_keys)} left for the next run")
        return ", ".join(parts)


@dataclass(slots=True)
class OriginResponses:
    """Recent responses of the service behind a cache; at most `max_responses` are kept.

    >>> origin = OriginResponses()
    >>> origin.record(0.0, "HTTP 500"); origin.record(50.0, "")
    >>> origin.error_ratio(50.0), origin.error_ratio(70.0), origin.error_ratio(200.0)
    (0.5, 0.0, None)
    """

    max_responses: int = 1000
    responses: list[tuple[float, bool]] = field(default_factory=list)
    """Time on the event loop's clock (seconds), and whether the response was an error."""

    @property
    def last_response_s(self) -> float:
        """Time of the newest response on the event loop's clock; -inf when there is none."""
        return self.responses[-1][0] if self.responses else -math.inf

    def record(self, at_s: float, error: str) -> None:
        """Record a response; `error` describes what failed, "" means success."""
        self.responses = [*self.responses[1 - self.max_responses :], (at_s, bool(error))]

    def error_ratio(self, now_s: float) -> float | None:
        """Return the error ratio (0..1) of the last minute; None when there was no request."""
        failed = [error for at_s, error in self.responses if now_s - at_s <= RESPONSE_WINDOW_S]
        return sum(failed) / len(failed) if failed else None


@dataclass(slots=True)
class CacheMissRate:
    """Cache misses per second, from readings of the miss counter. Each miss is one request to the origin.

    >>> misses = CacheMissRate()
    >>> misses.record(0.0, 100); misses.per_second() is None
    True
    >>> misses.record(2.0, 140); misses.per_second()
    20.0
    >>> misses.record(3.0, 5); misses.per_second() is None
    True
    """

    readings: list[tuple[float, int]] = field(default_factory=list)
    """Time on the event loop's clock (seconds), and the counter."""

    def record(self, at_s: float, counter: object) -> None:
        """Record the counter's value; a decreased or missing counter discards earlier readings."""
        recent = [reading for reading in self.readings if at_s - reading[0] <= RESPONSE_WINDOW_S]
        if not isinstance(counter, int) or (recent and counter < recent[-1][1]):
            recent = []
        self.readings = [*recent, (at_s, counter)] if isinstance(counter, int) else []

    def per_second(self) -> float | None:
        """Return the mean rate of the last minute; None while the readings span less than about a second."""
        if not self.readings or self.readings[-1][0] - self.readings[0][0] < 0.99:
            return None
        (begin_s, before), (end_s, now) = self.readings[0], self.readings[-1]
        return (now - before) / (end_s - begin_s)


def allowed_request_rate(name: str, origin_rate: float, max_rate: float = 10.0) -> float:
    """Return how many requests/s warming may send to an origin that serves `origin_rate` requests/s.

    Raises RefusedError when the allowed rate is too small to fetch a single key.

    >>> allowed_request_rate("redis", 1000.0), allowed_request_rate("redis", 40.0)
    (10.0, 2.0)
    >>> allowed_request_rate("redis", 1000.0, max_rate=4.0)
    4.0
    """
    rate = min(max_rate, MAX_ORIGIN_SHARE * origin_rate)
    if rate * WARMING_BUDGET_S < 1.0:
        raise RefusedError(
            f"{name}: the origin serves {origin_rate:.2g} requests/s and {MAX_ORIGIN_SHARE:.0%} of that is "
            f"too little to warm anything; set tools.{name}.warm.origin_rate to the rate it can serve"
        )
    return rate


async def load_keys(name: str, settings: CacheWarmingSettings) -> tuple[str, ...]:
    """Return the keys to warm, most important first. Raises ToolError when the key file cannot be read."""
    file = settings.keys_file
    if file is None:
        return settings.keys
    try:
        text = await asyncio.to_thread(file.expanduser().read_text, "utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"{name}: {file} cannot be read: {error}; see tools.{name}.warm.keys_file") from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())


async def warm_cache(
    name: str,
    settings: CacheWarmingSettings,
    rate: float,
    is_cached: Callable[[str], Awaitable[bool]],
    origin: OriginResponses,
) -> WarmingResult:
    """Fetch each uncached key, at most `rate` requests/s.

    Stops when the time budget is used up or 1 % of the requests have failed.

    is_cached : returns whether the cache holds a key
    origin    : records every response

    Raises ToolError when the service's host cannot be resolved.
    """
    address = await _origin_address(name, settings)
    keys, done, loop = list(await load_keys(name, settings)), WarmingResult(), asyncio.get_running_loop()
    end = loop.time() + WARMING_BUDGET_S
    due = max(loop.time(), origin.last_response_s + 1.0 / rate)
    async with _make_client() as client:
        for number, key in enumerate(keys):
            if await is_cached(settings.key.replace("{key}", key)):
                done.already_cached += 1
                continue
            if due >= end:
                done.remaining_keys = keys[number:]
                break
            await asyncio.sleep(due - loop.time())
            due = max(due, loop.time()) + 1.0 / rate
            done.last_error = await _fetch(
                client, settings.url.replace("{key}", quote(key, safe="")), address
            )
            origin.record(loop.time(), done.last_error)
            done.failed += bool(done.last_error)
            done.fetched += not done.last_error
            if done.failed >= MAX_ERROR_SHARE * (done.fetched + done.failed) and done.failed:
                done.remaining_keys = keys[number + 1 :]
                break
    return done


async def probe_origin(
    name: str, settings: CacheWarmingSettings, rate: float, origin: OriginResponses
) -> None:
    """Request a few keys, no faster than `rate` requests/s, and record the responses in `origin`.

    Raises ToolError when the service's host cannot be resolved.
    """
    address, loop = await _origin_address(name, settings), asyncio.get_running_loop()
    keys = await load_keys(name, settings)
    end = loop.time() + _PROBE_BUDGET_S
    async with _make_client() as client:
        for number, key in enumerate(keys[:_MAX_PROBES]):
            if number and loop.time() + 1.0 / rate >= end:
                break
            await asyncio.sleep(1.0 / rate if number else 0.0)
            try:
                async with asyncio.timeout_at(end):
                    error = await _fetch(client, settings.url.replace("{key}", quote(key, safe="")), address)
            except TimeoutError:
                error = "no answer"
            origin.record(loop.time(), error)
            if error:
                break


async def _origin_address(name: str, settings: CacheWarmingSettings) -> str:
    parts = urlsplit(settings.url)
    default = 443 if parts.scheme == "https" else 80
    return await resolve_host(name, parts.hostname or "", parts.port or default)


def _make_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_REQUEST_TIMEOUT_S)


async def _fetch(client: httpx.AsyncClient, url: str, address: str) -> str:
    """Fetch a URL from an already resolved address; return the error, "" on success."""
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    netloc = f"{host}:{parts.port}" if parts.port else host
    pinned = urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT_S):
            async with client.stream(
                "GET", pinned, headers={"Host": parts.netloc}, extensions={"sni_hostname": parts.hostname}
            ) as answer:
                status = answer.status_code
                async for _ in answer.aiter_raw():
                    pass
    except (httpx.HTTPError, OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
    return "" if status < 300 else f"HTTP {status}"
