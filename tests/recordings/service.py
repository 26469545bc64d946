"""A small service for recordings whose faults can be switched on while it runs.

Requests arrive in an open loop (Poisson). Each reads Redis, takes a connection from a bounded pool, calls
a dependency, computes and answers; jobs wait in a queue for workers. Settings come as JSON lines
on the standard input. `python -m tests.recordings.service PORT '{"rate": 20}'` serves metrics on PORT.
"""

import asyncio
import json
import math
import random
import sys
import time
from contextlib import suppress
from typing import ClassVar

from prometheus_client import Counter, Gauge, Histogram, start_http_server

REQUESTS = Counter("http_requests", "Requests answered.", ["code"])
LATENCY = Histogram(
    "http_request_duration_seconds", "Time to an answer.",
    buckets=(0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 2, 4),
)  # fmt: skip
CALLS = Counter("dependency_requests", "Calls of the dependency.", ["upstream", "code"])
CALL_LATENCY = Histogram(
    "dependency_request_duration_seconds", "Time of a call.", ["upstream"],
    buckets=(0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1, 2, 4),
)  # fmt: skip
ACTIVE = Gauge("db_pool_connections_active", "Connections in use.")
POOL_LIMIT = Gauge("db_pool_connections_max", "Connections allowed.")
WAITING = Gauge("db_pool_connections_waiting", "Requests that wait for a connection.")
QUEUE = Gauge("job_queue_length", "Jobs that wait.")
JOBS = Counter("jobs_processed", "Jobs done.")
BUSY = Gauge("event_loop_busy_ratio", "Share of time in which the event loop did not wait.")
LIMIT = Gauge("process_memory_limit_bytes", "Memory that it may use.")
CALL_TIMEOUT_S = 1.0


class Settings(dict):
    """Settings of the service.

    rate, burn_ms      : requests/s; CPU milliseconds per request
    wave, wave_s       : season of the rate: amplitude 0..1 and period in seconds
    key_space, value_bytes : of the cache, with a Zipf-like distribution
    leak_bytes, garbage: bytes per request that are kept forever, or until garbage collection
    pool, dependency, redis, postgresql : pool size, and ports or URL
    forget             : ratio of requests that do not return their connection
    job_rate, workers, job_ms, queue_most : of the job queue
    errors             : ratio of requests that fail without another cause
    """

    DEFAULTS: ClassVar = {
        "rate": 80.0, "burn_ms": 0.5, "wave": 0.0, "wave_s": 20.0, "key_space": 3000, "value_bytes": 1000,
        "leak_bytes": 0, "garbage": 0, "pool": 10, "dependency": 0, "redis": 0, "postgresql": "",
        "forget": 0.0, "job_rate": 0.0, "workers": 4, "job_ms": 20.0, "queue_most": 500, "errors": 0.002,
        "memory_limit": 400e6, "hold_ms": 3.0, "ballast": 0, "seed": 1,
    }  # fmt: skip

    def __getattr__(self, name):
        return self[name]


class ConnectionPool:
    """A few connections to a line-based server; a failed one is reopened."""

    def __init__(self, size):
        self.free = asyncio.LifoQueue()
        for _ in range(size):
            self.free.put_nowait(None)

    async def ask(self, port, line, answer):
        """Send a line or RESP command and return what `answer` reads."""
        streams = await self.free.get()
        try:
            reader, writer = streams or await asyncio.open_connection("127.0.0.1", port)
            writer.write(line)
            got = await answer(reader)
            streams = (reader, writer)
            return got
        except BaseException:
            streams = None
            raise
        finally:
            self.free.put_nowait(streams)


async def read_line(reader):
    """Return a line. Raises ConnectionError at the end."""
    line = await reader.readline()
    if not line:
        raise ConnectionResetError("closed")
    return line


async def read_bulk(reader):
    """Return a RESP answer to GET or SET."""
    head = await read_line(reader)
    if head.startswith(b"$") and head != b"$-1\r\n":
        return await reader.readexactly(int(head[1:]) + 2)
    return None if head == b"$-1\r\n" else head


def resp(*words):
    """Return a RESP command."""
    parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


class Service:
    """The simulated service."""

    def __init__(self, settings):
        self.settings = settings
        self.random = random.Random(settings.seed)
        self.retained, self.ballast = [], []
        self.pool = asyncio.Condition()
        self.active = self.waiting = 0
        self.cache, self.calls = ConnectionPool(8), ConnectionPool(200)
        self.queue = asyncio.Queue()
        self.sessions = asyncio.LifoQueue()

    async def run(self):
        """Run until the standard input ends."""
        tasks = [
            asyncio.create_task(t)
            for t in (self.arrivals(), self.jobs(), self.adjust_workers(), self.update_gauges())
        ]
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            self.settings.update(json.loads(line))
        for task in tasks:
            task.cancel()

    async def arrivals(self):
        """Start requests at the current rate."""
        running, due = set(), time.monotonic()
        while True:
            s = self.settings
            wave = 1.0 + s.wave * math.sin(2 * math.pi * time.monotonic() / s.wave_s)
            due = max(due, time.monotonic() - 1.0) + self.random.expovariate(max(s.rate * wave, 0.01))
            await asyncio.sleep(max(due - time.monotonic(), 0))
            if len(running) < 3000:
                running.add(task := asyncio.create_task(self.request()))
                task.add_done_callback(running.discard)

    async def request(self):
        """Handle and count one request."""
        begun, code = time.monotonic(), "200"
        try:
            await asyncio.wait_for(self.answer(), 2.0)
        except (OSError, TimeoutError, RuntimeError):
            code = "503"
        REQUESTS.labels(code).inc()
        LATENCY.observe(time.monotonic() - begun)

    async def answer(self):
        """Do the work of a request."""
        s = self.settings
        if s.redis:
            key = int(s.key_space * self.random.random() ** 3)
            if await self.cache.ask(s.redis, resp("GET", f"k{key}"), read_bulk) is None:
                await self.work()
                value = b"x" * s.value_bytes
                await self.cache.ask(s.redis, resp("SET", f"k{key}", value), read_bulk)
        else:
            await self.work()
        end = time.thread_time() + s.burn_ms / 1000 * self.random.uniform(0.7, 1.3)
        while time.thread_time() < end:
            sum(range(50))
        if s.leak_bytes:
            self.retained.append(bytearray(int(s.leak_bytes)))
        if s.garbage:
            ring = [bytearray(s.garbage)]
            ring.append(ring)
        if s.ballast and len(self.ballast) * 2**20 < s.ballast:
            self.ballast.append(bytearray(2**20))
        if self.random.random() < s.errors:
            raise RuntimeError("as set")

    async def work(self):
        """Do the work that needs a pooled connection."""
        async with self.pool:
            self.waiting += 1
            try:
                await self.pool.wait_for(lambda: self.active < self.settings.pool)
            finally:
                self.waiting -= 1
            self.active += 1
        keep = self.random.random() < self.settings.forget
        try:
            await self.call(keep)
        finally:
            async with self.pool:
                self.active -= 0 if keep else 1
                self.pool.notify()

    async def call(self, keep):
        """Call the database, the dependency, or nothing."""
        if self.settings.postgresql:
            await self.query(keep)
        elif self.settings.dependency:
            await self.call_dependency()
        else:
            await asyncio.sleep(self.settings.hold_ms / 1000 * self.random.uniform(0.5, 1.5))

    async def query(self, keep):
        """Query on an own session; one that is kept stays idle in its transaction."""
        import psycopg

        with suppress(asyncio.QueueEmpty):
            session = self.sessions.get_nowait()
            return await self._ask(session, keep)
        try:
            session = await psycopg.AsyncConnection.connect(self.settings.postgresql)
        except psycopg.Error as error:
            raise RuntimeError("no session") from error
        return await self._ask(session, keep)

    async def _ask(self, session, keep):
        await session.execute("select count(*) from generate_series(1, 200)")
        if keep:
            self.retained.append(session)
            return
        await session.commit()
        self.sessions.put_nowait(session)

    async def call_dependency(self):
        """Make and count one call."""
        begun, code = time.monotonic(), "200"
        try:
            asked = self.calls.ask(self.settings.dependency, b"go\n", read_line)
            if await asyncio.wait_for(asked, CALL_TIMEOUT_S) != b"ok\n":
                code = "500"
        except (OSError, TimeoutError):
            code = "504"
        finally:
            CALL_LATENCY.labels("inventory").observe(time.monotonic() - begun)
            CALLS.labels("inventory", code).inc()
        if code != "200":
            raise RuntimeError(code)

    async def jobs(self):
        """Enqueue jobs at the current rate."""
        while True:
            await asyncio.sleep(self.random.expovariate(max(self.settings.job_rate, 0.5)))
            if self.settings.job_rate and self.queue.qsize() < self.settings.queue_most:
                for _ in range(int(self.settings.pop("batch", 1))):
                    self.queue.put_nowait(None)

    async def adjust_workers(self):
        """Keep the configured number of queue workers."""
        workers = []
        while True:
            while len(workers) < self.settings.workers:
                workers.append(asyncio.create_task(self.worker()))
            while len(workers) > self.settings.workers:
                workers.pop().cancel()
            await asyncio.sleep(0.1)

    async def worker(self):
        """Process jobs one after the other."""
        while True:
            await self.queue.get()
            await asyncio.sleep(self.settings.job_ms / 1000 * self.random.uniform(0.5, 1.5))
            JOBS.inc()

    async def update_gauges(self):
        """Update the gauges every 0.1 s."""
        selector = asyncio.get_running_loop()._selector
        select, waited, last = selector.select, 0.0, time.monotonic()

        def timed(timeout=None):
            nonlocal waited
            begun = time.monotonic()
            found = select(timeout)
            waited += time.monotonic() - begun
            return found

        selector.select = timed
        while True:
            now = time.monotonic()
            BUSY.set(max(1.0 - waited / max(now - last, 1e-3), 0.0))
            waited, last = 0.0, now
            ACTIVE.set(self.active)
            WAITING.set(self.waiting)
            POOL_LIMIT.set(self.settings.pool)
            QUEUE.set(self.queue.qsize())
            LIMIT.set(self.settings.memory_limit)
            await asyncio.sleep(0.1)


class Dependency:
    """A line-based server with configurable delay and failures."""

    def __init__(self):
        self.now = {"delay_ms": 3.0, "fail": 0.0, "stall": 0.0}

    async def serve(self, reader, writer):
        """Serve one connection."""
        with suppress(ConnectionError):
            while await reader.readline():
                stall = 5.0 if random.random() < self.now["stall"] else 0.0
                await asyncio.sleep(stall + self.now["delay_ms"] / 1000 * random.uniform(0.5, 1.5))
                writer.write(b"no\n" if random.random() < self.now["fail"] else b"ok\n")
                await writer.drain()
        writer.close()

    async def run(self, port):
        """Run until the standard input ends."""
        await asyncio.start_server(self.serve, "127.0.0.1", port)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            self.now.update(json.loads(line))


async def _service(port, given):
    start_http_server(port, "127.0.0.1")
    await Service(Settings(Settings.DEFAULTS | given)).run()


def main(port, given):
    """Run the service with these settings, or the dependency."""
    if given == "dependency":
        asyncio.run(Dependency().run(port))
    else:
        asyncio.run(_service(port, json.loads(given)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
