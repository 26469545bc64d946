"""A shop in front of a slow origin, with Redis as its cache: a typical user service.

    python -m tests.services.shop_service --port 8000 --redis redis://127.0.0.1:6379 [--origin-ms 40]

    GET /basket?ids=1,2,3   the sum of the prices: cached items, the others by one query of the origin
    /trimtab/...            the trimtab.service kit, protected by TRIMTAB_TOKEN

Nothing is random: item N costs N % 1000 cents, and the origin answers each query in the same time.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from redis.asyncio import Redis

from trimtab.service import Knobs

TOKEN = "a-token-of-the-shop"
ITEM_BYTES = 2_000
_KEPT_S = 3600


class Origin:
    """Slow database with at most `size` concurrent connections; size is a knob."""

    def __init__(self, query_s: float, size: int = 4) -> None:
        self.query_s = query_s
        self.size = size
        self.queries = 0
        self._busy = 0
        self._free = asyncio.Condition()

    async def items(self, numbers: list[int]) -> list[str]:
        """Return these items, by one query."""
        async with self._free:
            await self._free.wait_for(lambda: self._busy < self.size)
            self._busy += 1
        try:
            await asyncio.sleep(self.query_s)
        finally:
            async with self._free:
                self._busy -= 1
                self._free.notify()
        self.queries += 1
        return [f"{price(number)} ".ljust(ITEM_BYTES, "x") for number in numbers]


def price(number: int) -> int:
    """Return the price of an item in cents."""
    return number % 1000


async def basket(numbers: list[int], cache: Redis, origin: Origin) -> int:
    """Return the sum of the prices in cents; items missing from the cache are added to it."""
    found = await cache.mget([f"item:{number}" for number in numbers])
    missed = [number for number, item in zip(numbers, found, strict=True) if item is None]
    fetched = await origin.items(missed) if missed else []
    pipe = cache.pipeline(transaction=False)
    for number, item in zip(missed, fetched, strict=True):
        pipe.set(f"item:{number}", item, ex=_KEPT_S)
    await pipe.execute()
    return sum(int(item.partition(" ")[0]) for item in [*filter(None, found), *fetched])


def make_app(redis_url: str, origin: Origin, token: str) -> FastAPI:
    """Return the service; Trimtab needs only the three lines of `kit`."""
    cache = Redis.from_url(redis_url, decode_responses=True)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - FastAPI gives it
        async with cache:
            yield

    app = FastAPI(title="shop", lifespan=lifespan)
    kit = Knobs("shop", app, version="1")
    kit.knob(
        "origin_connections", lambda: origin.size, lambda size: setattr(origin, "size", size),
        unit="connections", low=1, high=16, help="To the origin at once.",
    )  # fmt: skip
    app.mount("/trimtab", kit.app(token=token))

    @app.get("/basket")
    async def answer(ids: str) -> dict[str, int]:
        return {"cents": await basket([int(number) for number in ids.split(",")], cache, origin)}

    return app


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379")
    parser.add_argument("--origin-ms", type=float, default=40.0)
    options = parser.parse_args()
    token = os.environ.get("TRIMTAB_TOKEN", TOKEN)
    app = make_app(options.redis, Origin(options.origin_ms / 1000), token)
    uvicorn.run(app, port=options.port, log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
