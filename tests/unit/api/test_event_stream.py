"""Server-sent event streams."""

import asyncio
import json
from dataclasses import asdict

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import START, anomaly_of
from tests.fakes.ports import settle
from trimtab.engine.api import event_streams
from trimtab.engine.api.application import stop_streams
from trimtab.engine.api.security import api_keys
from trimtab.engine.api.shapes.examples import ACTION, INCIDENT, RECOMMENDATION
from trimtab.engine.api.shapes.json_shapes import to_json
from trimtab.engine.api.shapes.loop_shapes import record_json
from trimtab.engine.types import Pause, SeriesKey, SourceState, SourceStatus

ANOMALY = "01JGFJJZ000000000000000000"


class StreamClient:
    """An ASGI client of the event stream; httpx's ASGI transport cannot stream responses."""

    def __init__(self, api, secret):
        self.api = api
        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode())]
        self.scope = {
            "type": "http", "method": "GET", "path": "/api/stream", "raw_path": b"/api/stream",
            "headers": headers, "query_string": b"", "client": ("127.0.0.1", 1), "server": ("localhost", 80),
            "scheme": "http", "root_path": "", "http_version": "1.1", "asgi": {"version": "3.0"},
        }  # fmt: skip
        self.messages = []
        self.disconnected = asyncio.Event()
        self.changed = asyncio.Event()
        self.task = asyncio.create_task(api.app(self.scope, self._receive, self._send))
        self.task.add_done_callback(lambda _: self.changed.set())

    async def _receive(self):
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.messages.append(message)
        self.changed.set()

    @property
    def status(self):
        return self.messages[0]["status"] if self.messages else None

    @property
    def ended(self):
        return self.messages[-1].get("more_body") is False

    @property
    def events(self):
        """Return the (event, data) pairs received so far."""
        text = b"".join(message.get("body", b"") for message in self.messages).decode()
        found = []
        for block in text.replace("\r\n", "\n").split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "event" in lines:
                found.append((lines["event"], json.loads(lines["data"])))
        return found

    async def wait_until(self, done):
        """Wait until the condition is true, checking it after each message."""
        async with asyncio.timeout(10):
            while not done():
                self.changed.clear()
                await self.changed.wait()

    async def open(self):
        """Wait until the stream is open or refused."""
        await self.wait_until(lambda: len(self.messages) > 1)
        return self


@pytest.fixture
async def api():
    """Return an API whose streams are closed after the test."""
    api = ApiHarness()
    yield api
    stop_streams(api.app)
    await settle()


async def open_stream(api, secret=None):
    """Return an open stream."""
    return await StreamClient(api, secret or api.create_key("read")).open()


async def test_events_have_the_documented_format(api):
    """Ticks, anomalies and sources are named events with ISO 8601 times and null for unknown."""
    stream = await open_stream(api)
    assert stream.status == 200
    anomaly = anomaly_of(SeriesKey.of("host", "cpu"), ANOMALY, value=float("nan"))
    api.live.publish("tick", {"source": "host", "time": START, "series": 3, "unusual": 1})
    api.live.publish("anomaly", asdict(anomaly))
    api.live.publish("source", asdict(SourceStatus("host", SourceState.UNKNOWN, 5.0, since=START)))
    await stream.wait_until(lambda: len(stream.events) == 3)
    (tick, tick_data), (kind, anomaly_data), (source, state) = stream.events
    assert (tick, kind, source) == ("tick", "anomaly", "source")
    assert tick_data == {"source": "host", "time": "2026-01-01T00:00:00.000Z", "series": 3, "unusual": 1}
    assert (anomaly_data["start"], anomaly_data["end"], anomaly_data["value"]) == (
        "2026-01-01T00:00:00.000Z",
        None,
        None,
    )
    assert (state["state"], state["since"]) == ("unknown", "2026-01-01T00:00:00.000Z")


async def test_control_loop_events_match_the_api(api):
    """Incidents, recommendations, actions and the pause have the same JSON as in the API."""
    stream = await open_stream(api)
    for event, record in [("incident", INCIDENT), ("recommendation", RECOMMENDATION), ("action", ACTION)]:
        api.live.publish(event, asdict(record))
    api.live.publish("pause", asdict(Pause(on=True, by="anna", since=START)))
    await stream.wait_until(lambda: len(stream.events) == 4)
    (_, incident), (_, recommendation), (_, action), (name, pause) = stream.events
    assert incident == json.loads(to_json(record_json(INCIDENT)))
    assert recommendation == json.loads(to_json(record_json(RECOMMENDATION)))
    assert action == json.loads(to_json(record_json(ACTION)))
    assert (name, pause["since"]) == ("pause", "2026-01-01T00:00:00.000Z")


async def test_a_stream_has_the_headers_of_server_sent_events(api):
    """A stream has the media type of server-sent events, a trace id, and headers against buffering."""
    stream = await open_stream(api)
    headers = {name.decode().lower(): value.decode() for name, value in stream.messages[0]["headers"]}
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    assert len(headers["x-trace-id"]) == 32


async def test_a_quiet_stream_is_pinged(api, monkeypatch):
    """A comment keeps an idle connection open."""
    assert event_streams.PING_S == 15
    monkeypatch.setattr(event_streams, "PING_S", 0.01)
    stream = await open_stream(api)
    await stream.wait_until(lambda: any(b": ping" in m.get("body", b"") for m in stream.messages))
    assert stream.events == []


async def test_a_stream_ends_when_the_engine_stops(api):
    """Stopping the engine ends every stream completely, and new streams are refused."""
    first, second = await open_stream(api), await open_stream(api)
    stop_streams(api.app)
    await asyncio.wait_for(asyncio.gather(first.task, second.task), 5)
    assert first.ended
    assert second.ended
    assert api.live.readers == []
    assert_problem(await api.key_client("read").get("/api/stream"), 503, "the engine is stopping")


async def test_a_stream_ends_when_the_live_view_ends(api):
    """When the live view ends, the response is complete."""
    stream = await open_stream(api)
    api.live.end()
    await asyncio.wait_for(stream.task, 5)
    assert stream.ended


async def test_a_disconnected_client_frees_its_stream(api):
    """Disconnecting removes the client's subscription and releases its stream."""
    stream = await open_stream(api)
    assert len(api.live.readers) == api.app.state.context.streams.open_count == 1
    stream.disconnected.set()
    await asyncio.wait_for(stream.task, 5)
    assert api.live.readers == []
    assert api.app.state.context.streams.open_count == 0


async def test_a_stream_ends_with_its_key(api):
    """The stream of a revoked key ends without further events."""
    stream = await open_stream(api, api.create_key("read", name="mine"))
    api_keys.revoke_key(api.store, api.clock, "mine")
    api.clock.tick(2)
    api.live.publish("tick", {"source": "host"})
    await asyncio.wait_for(stream.task, 5)
    assert stream.ended
    assert stream.events == []


async def test_the_number_of_streams_is_bounded(api):
    """A client over the limit gets a 503 with Retry-After; a released stream can be used again."""
    assert event_streams.MAX_STREAMS == 100
    api.app.state.context.streams.max_streams = 2
    secret = api.create_key("read")
    first, _ = await open_stream(api, secret), await open_stream(api, secret)
    refused = await api.anonymous_client(headers={"Authorization": f"Bearer {secret}"}).get("/api/stream")
    assert_problem(refused, 503, "2 are open")
    assert refused.headers["retry-after"] == "15"
    first.disconnected.set()
    await asyncio.wait_for(first.task, 5)
    assert (await open_stream(api, secret)).status == 200
