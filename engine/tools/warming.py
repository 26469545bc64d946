"""Filling a cache through the service that fills it anyway, so slowly that its origin does not feel it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from trimtab.engine.errors import RefusedError, ToolError
from trimtab.engine.settings.tools_data import Warm
from trimtab.engine.tools.hosts import address_of

MOST_PER_S = 10.0
ORIGIN_SHARE = 0.05
ERROR_SHARE = 0.01
BUDGET_S = 25.0
"""An action ends within 30 s; what is left waits for the next one."""
_REQUEST_S = 5.0


@dataclass(slots=True)
class Warmed:
    """What a round of warming came to."""

    fetched: int = 0
    present: int = 0
    failed: int = 0
    why: str = ""
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.fetched} fetched", f"{self.present} were there"]
        if self.failed:
            parts.append(f"stopped after {self.failed} failed: {self.why}")
        if self.left:
            parts.append(f"{len(self.left)} left for the next time")
        return ", ".join(parts)


def pace(name: str, origin_rate: float) -> float:
    """Requests/s that may be sent to an origin that serves so many. Raises RefusedError where that is none.

    >>> pace("redis", 1000.0), pace("redis", 40.0)
    (10.0, 2.0)
    """
    rate = min(MOST_PER_S, ORIGIN_SHARE * origin_rate)
    if rate * BUDGET_S < 1.0:
        raise RefusedError(
            f"{name}: the origin serves {origin_rate:.2g} requests/s now, {ORIGIN_SHARE:.0%} of that is too "
            f"little to warm anything; set tools.{name}.warm.origin_rate to what it can serve"
        )
    return rate


async def keys_of(name: str, settings: Warm) -> tuple[str, ...]:
    """The keys to warm, most wanted first. Raises ToolError where their file cannot be read."""
    file = settings.keys_file
    if file is None:
        return settings.keys
    try:
        text = await asyncio.to_thread(file.expanduser().read_text, "utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"{name}: {file} cannot be read: {error}; see tools.{name}.warm.keys_file") from None
    return tuple(line.strip() for line in text.splitlines() if line.strip())


async def warm(
    name: str,
    settings: Warm,
    rate: float,
    is_there: Callable[[str], Awaitable[bool]],
) -> Warmed:
    """Fetch each key that is not there, `rate` a second, until time is over or 1 % of the requests fail.

    Raises ToolError where the service's host cannot be used.
    """
    parts = urlsplit(settings.url)
    host = parts.hostname or ""
    address = await address_of(name, host, parts.port or (443 if parts.scheme == "https" else 80))
    keys, done, loop = list(await keys_of(name, settings)), Warmed(), asyncio.get_running_loop()
    end = due = loop.time()
    end += BUDGET_S
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=_REQUEST_S) as client:
        for number, key in enumerate(keys):
            if await is_there(settings.key.replace("{key}", key)):
                done.present += 1
                continue
            if due >= end:
                done.left = keys[number:]
                break
            await asyncio.sleep(due - loop.time())
            due = max(due, loop.time()) + 1.0 / rate
            done.why = await _fetch(client, settings.url.replace("{key}", quote(key, safe="")), address)
            done.failed += bool(done.why)
            done.fetched += not done.why
            if done.failed >= ERROR_SHARE * (done.fetched + done.failed) and done.failed:
                done.left = keys[number + 1 :]
                break
    return done


async def _fetch(client: httpx.AsyncClient, url: str, address: str) -> str:
    """What went wrong; "" = nothing."""
    parts = urlsplit(url)
    inside = f"[{address}]" if ":" in address else address
    netloc = f"{inside}:{parts.port}" if parts.port else inside
    pinned = urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))
    try:
        async with asyncio.timeout(_REQUEST_S):
            async with client.stream(
                "GET", pinned, headers={"Host": parts.netloc}, extensions={"sni_hostname": parts.hostname}
            ) as answer:
                status = answer.status_code
                async for _ in answer.aiter_raw():
                    pass
    except (httpx.HTTPError, OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
    return "" if status < 300 else f"HTTP {status}"
