"""One click on cache warming: from the desk through the guard to a real Redis and the service behind it."""

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
    """Fills the cache with what it is asked for; `failing` = it answers 503 to each."""

    def __init__(self, redis):
        self.redis, self.failing = redis, False
        self.asked = deque()
        """When, by the loop's clock, and the path."""


@contextmanager
def serving(service, now):
    """It over HTTP; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            service.asked.append((now(), self.path))
            if not service.failing:
                service.redis.cli("SET", f"item:{self.path.rsplit('/', 1)[1]}", "x")
            self.send_response(503 if service.failing else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join(5)


@contextmanager
def users(server):
    """People who ask the cache for what it does not have: each miss is a request to the service."""
    stop = threading.Event()

    def ask():
        while not stop.wait(0.002):
            server.cli("GET", "nothing")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(5)


@pytest.fixture
async def room(server, tmp_path):
    """A function that builds the acting part around the real cache; and the service behind it."""
    service, rooms = CachedService(server), []
    with serving(service, asyncio.get_running_loop().time) as url:

        async def build(**warm):
            given = {"url": url + "/items/{key}", "key": "item:{key}", "keys": list(KEYS), **warm}
            tool = {"url": server.url, "warm": given}
            folder = tmp_path / f"data{len(rooms)}"
            settings = Settings.model_validate({"settings": {"data_dir": folder}, "tools": {"redis": tool}})
            rooms.append(await EngineActions(settings, FakeClock(), FakeScoreLog()).start())
            return rooms[-1].acts.ports.desk

        yield build, service, rooms
        for built in rooms:
            await built.stop()


async def test_one_click_warms_within_the_guardrails(server, room):
    """The keys are there afterwards, asked for at no more than 10 requests/s, and audited."""
    build, service, rooms = room
    with users(server):
        desk = await build()
        action = await desk.run("redis", "redis", "warm_keys", "ann", "key-1")
    assert (action.state, action.by) == (ActionState.VERIFYING, "ann")
    assert "fetched" in action.told
    assert server.cli("EXISTS", *(f"item:{key}" for key in KEYS)) == f":{len(KEYS)}"
    times = [at for at, _ in service.asked]
    assert len({path for _, path in service.asked}) == len(KEYS)
    assert len(times) < 2 * len(KEYS)
    assert (len(times) - 1) / (times[-1] - times[0]) < 10.5
    words = [row.what for row in rooms[0].ledger.audit(limit=100)]
    assert {"proposed", "executing", "verifying"} <= set(words)


async def test_a_service_that_fails_is_not_asked_for_more(room):
    """1 % of errors and more refuse it before it begins, after one request."""
    build, service, rooms = room
    service.failing = True
    desk = await build(origin_rate=1000)
    with pytest.raises(RefusedError, match=r"100\.0% of the origin's answers are errors, 1\.0% end it"):
        await desk.run("redis", "redis", "warm_keys", "ann", "key-1")
    assert len(service.asked) == 1
    (action,) = rooms[0].ledger.actions()
    assert action.state is ActionState.REFUSED


async def test_a_service_that_nobody_asks_for_anything(room):
    """5 % of nothing is nothing: it is refused with what to set, and nothing is sent."""
    build, service, _ = room
    desk = await build()
    with pytest.raises(RefusedError, match=r"set tools\.redis\.warm\.origin_rate"):
        await desk.run("redis", "redis", "warm_keys", "ann", "key-1")
    assert not service.asked


async def test_it_is_stopped_when_the_service_begins_to_fail(room):
    """An error on the way ends it at once."""
    build, service, _ = room
    desk = await build(origin_rate=1000)
    going = asyncio.create_task(desk.run("redis", "redis", "warm_keys", "ann", "key-1"))
    await wait_until(lambda: len(service.asked) >= 8)
    service.failing = True
    told = (await going).told
    assert "stopped after 1 failed: HTTP 503" in told
    assert len(service.asked) <= 10
