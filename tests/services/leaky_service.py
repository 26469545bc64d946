"""A service that leaks memory on purpose, with a cache whose size is a knob in front of a slow database.

    python -m tests.services.leaky_service --port 8000 [--leak-bytes 100000] [--cache 100] [--database-ms 20]

    GET /items/N   an item through the cache, and through Redis when REDIS_URL is set
    GET /leak      leaks --leak-bytes, like every request
    /trimtab/...   the trimtab.service kit, protected by TRIMTAB_TOKEN

Nothing is random: every request leaks the same number of bytes. On SIGINT or SIGTERM the service accepts no
new connections, waits, then stops, so that a reload under PM2 loses no request. It writes PM2's ready signal
to the descriptor in NODE_CHANNEL_FD. Several processes may listen on one port (SO_REUSEPORT).
"""

import argparse
import asyncio
import ctypes
import os
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from trimtab.service import Knobs

TOKEN = "a-token-of-the-tests"
DRAIN_S = 0.3
_PAGE = 4096
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of Linux: a program that filters each packet to the socket


class LruCache:
    """LRU cache of at most `maxsize` entries, each for `ttl` seconds; counts hits and misses."""

    def __init__(self, maxsize: int, ttl: float = 3600.0) -> None:
        self._maxsize = maxsize
        self.ttl = ttl
        self.hits = self.misses = 0
        self._entries: OrderedDict[int, tuple[float, str]] = OrderedDict()

    @property
    def maxsize(self) -> int:
        """Most entries; lowering it evicts the excess."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, value: int) -> None:
        self._maxsize = value
        while len(self._entries) > value:
            self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: int) -> str | None:
        """Return an entry if it exists and is fresh."""
        at, value = self._entries.get(key, (0.0, ""))
        if not value or time.monotonic() - at > self.ttl:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return value

    def put(self, key: int, value: str) -> None:
        """Store an entry."""
        self._entries[key] = (time.monotonic(), value)
        self._entries.move_to_end(key)
        self.maxsize = self._maxsize

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()


class LeakyService:
    """State of the service.

    leak_bytes : bytes leaked per request, in whole pages; a knob
    """

    def __init__(self, cache: LruCache, leak_bytes: int, database_s: float, redis_url: str | None) -> None:
        self.cache = cache
        self.leak_bytes = leak_bytes
        self.database_s = database_s
        self.redis_url = redis_url
        self.database_reads = 0
        self.leaked: list[bytearray] = []
        self.redis = None

    def leak(self) -> None:
        """Leak memory and touch it, so that it becomes resident."""
        if self.leak_bytes > 0:
            block = bytearray(self.leak_bytes)
            block[::_PAGE] = b"x" * len(range(0, self.leak_bytes, _PAGE))
            self.leaked.append(block)

    async def item(self, number: int) -> str:
        """Return an item from the cache, else Redis, else the database."""
        found = self.cache.get(number)
        if found is None:
            found = await self._from_redis(number)
            self.cache.put(number, found)
        return found

    async def _from_redis(self, number: int) -> str:
        if self.redis is None:
            return await self._from_database(number)
        found = await self.redis.get(f"item:{number}")
        if found is None:
            found = await self._from_database(number)
            await self.redis.set(f"item:{number}", found)
        return found if isinstance(found, str) else found.decode()

    async def _from_database(self, number: int) -> str:
        self.database_reads += 1
        await asyncio.sleep(self.database_s)
        return f"item {number} ".ljust(200, "x")

    async def warm(self) -> str:
        """Fetch the first items, which are requested most, as many as fit."""
        numbers = range(min(self.cache.maxsize, 1000))
        for number in numbers:
            await self.item(number)
        return f"{len(numbers)} items are in the cache"


def make_app(leaky: LeakyService, token: str = TOKEN) -> FastAPI:
    """Return the service's application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - FastAPI gives it
        if leaky.redis_url is None:
            yield
            return
        from redis.asyncio import Redis

        async with Redis.from_url(leaky.redis_url) as leaky.redis:
            yield

    app = FastAPI(title="leaky", lifespan=lifespan)
    kit = Knobs("leaky", app, version="1")
    kit.cache("items", leaky.cache, low=1, high=100_000, warm=leaky.warm)
    kit.knob(
        "leak_bytes", lambda: leaky.leak_bytes, lambda value: setattr(leaky, "leak_bytes", value),
        unit="bytes", low=0, high=10**8, help="Lost with each request.",
    )  # fmt: skip
    kit.metric("database_reads_total", lambda: leaky.database_reads, "counter")
    app.mount("/trimtab", kit.app(token=token))

    @app.get("/items/{number}")
    async def item(number: int) -> dict[str, str]:
        leaky.leak()
        return {"item": await leaky.item(number), "pid": str(os.getpid())}

    @app.get("/leak")
    async def leak() -> dict[str, int]:
        leaky.leak()
        return {"lost": sum(map(len, leaky.leaked))}

    return app


def refuse_new_connections(listening: socket.socket) -> None:
    """Make the kernel drop new connection requests; those already queued are still accepted.

    Closing the socket would reset the queued connections. A client repeats a dropped request a second later
    and then reaches another process on this port.
    """
    drop_syn = (0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in drop_syn))
    listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(code)))


class DrainingServer(uvicorn.Server):
    """Server that accepts no new connections after a signal and serves the open ones for DRAIN_S seconds."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then send PM2 the ready signal."""
        await super().startup(sockets)
        channel = os.environ.get("NODE_CHANNEL_FD", "")
        if channel.isdecimal():
            os.write(int(channel), b'"ready"\n')  # one line of JSON

    def handle_exit(self, sig, frame):  # noqa: ARG002 - uvicorn gives them
        """Handle the signal."""
        asyncio.get_running_loop().call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        for server in self.servers:
            for listening in server.sockets:
                refuse_new_connections(listening)
        asyncio.get_running_loop().call_later(DRAIN_S, self._end)

    def _end(self) -> None:
        self.should_exit = True


def bind_shared_port(port: int) -> socket.socket:
    """Return a socket whose port several processes can share."""
    shared_socket = socket.socket()
    shared_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared_socket.bind(("127.0.0.1", port))
    shared_socket.set_inheritable(True)
    return shared_socket


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8000")))
    parser.add_argument("--leak-bytes", type=int, default=0)
    parser.add_argument("--cache", type=int, default=100)
    parser.add_argument("--database-ms", type=float, default=20.0)
    options = parser.parse_args()
    redis_url = os.environ.get("REDIS_URL") or None
    leaky = LeakyService(LruCache(options.cache), options.leak_bytes, options.database_ms / 1000, redis_url)
    app = make_app(leaky, os.environ.get("TRIMTAB_TOKEN", TOKEN))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
    DrainingServer(config).run([bind_shared_port(options.port)])


if __name__ == "__main__":
    main()
