"""Filling a cache through the service that fills it anyway, so slowly that its origin does not feel it."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from trimtab.engine.errors import RefusedError, ToolError
from trimtab.engine.settings.data_store_tools import CacheWarmingSettings
from trimtab.engine.tools.host_address import resolve_host

MAX_ORIGIN_SHARE = 0.05
MAX_ERROR_SHARE = 0.01
WARMING_BUDGET_S = 25.0
"""An action ends within 30 s; what is left waits for the next one."""
_REQUEST_TIMEOUT_S = 5.0
_MAX_PROBES = 5
_PROBE_BUDGET_S = 4.0
"""For all probes: less than anybody waits for the guard."""
RESPONSE_WINDOW_S = 60.0
"""For so long answers of the origin say how it does now."""


@dataclass(slots=True)
class WarmingResult:
    """What a round of warming came to."""

    fetched: int = 0
    already_cached: int = 0
    failed: int = 0
    last_error: str = ""
    remaining_keys: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.fetched} fetched", f"{self.already_cached} were there"]
        if self.failed:
            parts.append(f"stopped after {self.failed} failed: {self.last_error}")
        if self.remaining_keys:
            parts.append(f"{len(self.remaining_keys)} left for the next time")
        return ", ".join(parts)


@dataclass(slots=True)
class OriginResponses:
    """What the service behind a cache answered to us lately; at most `most` answers are kept in mind.

    >>> origin = OriginResponses()
    >>> origin.record(0.0, "HTTP 500"); origin.record(50.0, "")
    >>> origin.error_ratio(50.0), origin.error_ratio(70.0), origin.error_ratio(200.0)
    (0.5, 0.0, None)
    """

    max_responses: int = 1000
    responses: list[tuple[float, bool]] = field(default_factory=list)
    """Seconds of the event loop's clock, and whether it was an error."""

    @property
    def last_response_s(self) -> float:
        """When it answered last, by that clock; long ago where it never did."""
        return self.responses[-1][0] if self.responses else -math.inf

    def record(self, at_s: float, error: str) -> None:
        """It answered; why = what went wrong, "" = nothing."""
        self.responses = [*self.responses[1 - self.max_responses :], (at_s, bool(error))]

    def error_ratio(self, now_s: float) -> float | None:
        """Share of errors, 0..1, of the last minute; None = nothing was asked in it."""
        failed = [error for at_s, error in self.responses if now_s - at_s <= RESPONSE_WINDOW_S]
        return sum(failed) / len(failed) if failed else None


@dataclass(slots=True)
class CacheMissRate:
    """How often a cache misses: each miss is a request to the origin.

    >>> misses = CacheMissRate()
    >>> misses.record(0.0, 100); misses.per_second() is None
    True
    >>> misses.record(2.0, 140); misses.per_second()
    20.0
    >>> misses.record(3.0, 5); misses.per_second() is None
    True
    """

    readings: list[tuple[float, int]] = field(default_factory=list)
    """Seconds of the event loop's clock, and the counter."""

    def record(self, at_s: float, counter: object) -> None:
        """The counter as it is now; a counter that fell, or is not told, begins anew."""
        young = [one for one in self.readings if at_s - one[0] <= RESPONSE_WINDOW_S]
        if not isinstance(counter, int) or (young and counter < young[-1][1]):
            young = []
        self.readings = [*young, (at_s, counter)] if isinstance(counter, int) else []

    def per_second(self) -> float | None:
        """Over the last minute; None = a second or more is not yet known."""
        if not self.readings or self.readings[-1][0] - self.readings[0][0] < 0.99:
            return None
        (begin_s, before), (end_s, now) = self.readings[0], self.readings[-1]
        return (now - before) / (end_s - begin_s)


def allowed_request_rate(name: str, origin_rate: float, max_rate: float = 10.0) -> float:
    """Requests/s that may be sent to an origin that serves so many. Raises RefusedError where that is none.

    >>> allowed_request_rate("redis", 1000.0), allowed_request_rate("redis", 40.0), allowed_request_rate("redis", 1000.0, max_rate=4.0)
    (10.0, 2.0, 4.0)
    """
    rate = min(max_rate, MAX_ORIGIN_SHARE * origin_rate)
    if rate * WARMING_BUDGET_S < 1.0:
        raise RefusedError(
            f"{name}: the origin serves {origin_rate:.2g} requests/s now, {MAX_ORIGIN_SHARE:.0%} of that is too "
            f"little to warm anything; set tools.{name}.warm.origin_rate to what it can serve"
        )
    return rate


async def load_keys(name: str, settings: CacheWarmingSettings) -> tuple[str, ...]:
    """The keys to warm, most wanted first. Raises ToolError where their file cannot be read."""
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
    """Fetch each key that is not there, `rate` a second, until time is over or 1 % of the requests fail.

    origin : is told of each answer

    Raises ToolError where the service's host cannot be used.
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
    """Ask the service for a few of the keys, no faster than warming would, and note how that went.

    Raises ToolError where the service's host cannot be used.
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
                    why = await _fetch(client, settings.url.replace("{key}", quote(key, safe="")), address)
            except TimeoutError:
                why = "no answer"
            origin.record(loop.time(), why)
            if why:
                break


async def _origin_address(name: str, settings: CacheWarmingSettings) -> str:
    parts = urlsplit(settings.url)
    default = 443 if parts.scheme == "https" else 80
    return await resolve_host(name, parts.hostname or "", parts.port or default)


def _make_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_REQUEST_TIMEOUT_S)


async def _fetch(client: httpx.AsyncClient, url: str, address: str) -> str:
    """What went wrong; "" = nothing."""
    parts = urlsplit(url)
    inside = f"[{address}]" if ":" in address else address
    netloc = f"{inside}:{parts.port}" if parts.port else inside
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
