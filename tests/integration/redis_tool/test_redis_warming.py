"""Cache warming by one approval: from a decision through the guard to a real Redis and its service."""

import asyncio
import threading
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.builders.action_stack import wait_until
from tests.builders.engine_actions import EngineActions
from tests.fakes.ports import FakeClock, FakeScoreLog
from trimtab.engine.errors import RefusedError
from trimtab.engine.settings import Settings
from trimtab.engine.types import ActionState

KEYS = tuple(f"k{number}" for number in range(12))


class CachedService:
    """A service that fills the cache; `failing` makes it answer 503."""

    def __init__(self, redis):
        self.redis, self.failing = redis, False
        self.requests = deque()
        """(time on the loop's clock, path) of each request."""


@contextmanager
def serve_origin(service, now):
    """Serve the service over HTTP and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            service.requests.append((now(), self.path))
            if not service.failing:
                service.redis.cli("SET", f"item:{self.path.rsplit('/', 1)[1]}", "x")
            self.send_response(503 if service.failing else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join(5)


@contextmanager
def cache_users(server):
    """Clients that read missing keys: each miss is a request to the service."""
    stop = threading.Event()

    def read_missing_keys():
        while not stop.wait(0.002):
            server.cli("GET", "nothing")

    thread = threading.Thread(target=read_missing_keys, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(5)


@pytest.fixture
async def warming_stack(server, tmp_path):
    """A function that builds the action components around the real cache, the service, and the stacks."""
    service, stacks = CachedService(server), []
    with serve_origin(service, asyncio.get_running_loop().time) as url:

        async def build(**warm):
            options = {"url": url + "/items/{key}", "key": "item:{key}", "keys": list(KEYS), **warm}
            tool = {"url": server.url, "warm": options}
            folder = tmp_path / f"data{len(stacks)}"
            settings = Settings.model_validate({"settings": {"data_dir": folder}, "tools": {"redis": tool}})
            stacks.append(await EngineActions(settings, FakeClock(), FakeScoreLog()).start())
            return stacks[-1].components.ports.decisions

        yield build, service, stacks
        for built in stacks:
            await built.stop()


async def test_one_click_warms_within_the_guardrails(server, warming_stack):
    """The keys are cached afterwards, fetched at no more than 10 requests/s, and audited."""
    build, service, stacks = warming_stack
    with cache_users(server):
        decisions = await build()
        action = await decisions.run("redis", "redis", "warm_keys", "ann", "key-1")
    assert (action.state, action.by) == (ActionState.VERIFYING, "ann")
    assert "fetched" in action.told
    assert server.cli("EXISTS", *(f"item:{key}" for key in KEYS)) == f":{len(KEYS)}"
    times = [at for at, _ in service.requests]
    assert len({path for _, path in service.requests}) == len(KEYS)
    assert len(times) < 2 * len(KEYS)
    assert (len(times) - 1) / (times[-1] - times[0]) < 10.5
    audit_kinds = [row.what for row in stacks[0].ledger.audit_rows(limit=100)]
    assert {"proposed", "executing", "verifying"} <= set(audit_kinds)


async def test_a_failing_service_is_refused(warming_stack):
    """An error ratio of 1 % or more refuses warming before it starts."""
    build, service, stacks = warming_stack
    service.failing = True
    decisions = await build(origin_rate=1000)
    with pytest.raises(RefusedError, match=r"100\.0% of the origin's answers are errors; the limit is 1\.0%"):
        await decisions.run("redis", "redis", "warm_keys", "ann", "key-1")
    assert len(service.requests) == 1
    (action,) = stacks[0].ledger.actions()
    assert action.state is ActionState.REFUSED


async def test_an_idle_service_is_refused(warming_stack):
    """Warming an idle service is refused with the setting's name, and nothing is sent."""
    build, service, _ = warming_stack
    decisions = await build()
    with pytest.raises(RefusedError, match=r"set tools\.redis\.warm\.origin_rate"):
        await decisions.run("redis", "redis", "warm_keys", "ann", "key-1")
    assert not service.requests


async def test_warming_stops_when_the_service_fails(warming_stack):
    """An error during warming stops it at once."""
    build, service, _ = warming_stack
    decisions = await build(origin_rate=1000)
    running = asyncio.create_task(decisions.run("redis", "redis", "warm_keys", "ann", "key-1"))
    await wait_until(lambda: len(service.requests) >= 8)
    service.failing = True
    result = (await running).told
    assert "stopped after 1 failed: HTTP 503" in result
    assert len(service.requests) <= 10
