"""The dashboard and the real API on loopback, with fake stores that tests fill."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from tests.builders.series import SECOND, anomaly_of, series_view, tick_scores
from tests.fakes.ports import FakeClock, FakeLiveView, FakeScoreLog, FakeStore
from tests.servers.prometheus import free_port
from trimtab.engine.api.application import create_app, stop_streams
from trimtab.engine.api.loop_ports import LoopPorts
from trimtab.engine.api.security import api_keys
from trimtab.engine.api.shapes.json_shapes import anomaly_json
from trimtab.engine.settings import Api
from trimtab.engine.types import Anomaly, SeriesKey, SourceState, SourceStatus

DIST = Path(__file__).parents[2] / "engine" / "web" / "dist"
MINUTE = 60 * SECOND
STEP = 5 * SECOND
CPU = SeriesKey.of("host", "cpu_busy_ratio", {"core": "1"})
DISK = SeriesKey.of("host", "disk_read_bytes_per_second", {"device": "sda"})
NEW = SeriesKey.of("host", "memory_used_bytes")
HOSTILE = SeriesKey.of("prometheus", "hostile", {"text": "<img src=x onerror=alert(1)>"})
OPEN = "01J80000000000000000000900"
ENDED = "01J80000000000000000000800"


def now_ns() -> int:
    """Return the real time in ns, as the browser does, rounded down to the scrape interval."""
    return time.time_ns() // STEP * STEP


@dataclass
class DashboardServer:
    """The data behind the API, with methods that change it and publish events.

    `ports` holds incidents, actions and tools; None means that actions are not enabled.
    """

    clock: FakeClock = field(default_factory=lambda: FakeClock(now_ns()))
    live: FakeLiveView = field(default_factory=FakeLiveView)
    store: FakeStore = field(default_factory=FakeStore)
    score_log: FakeScoreLog = field(default_factory=FakeScoreLog)
    url: str = ""
    secret: str = ""
    loop: asyncio.AbstractEventLoop | None = None
    ports: LoopPorts | None = None

    def add_series(self, key: SeriesKey, **changed: Any) -> None:
        """Add a series; fields that are not given are healthy."""
        self.live.views[key.id] = series_view(key, **{"time": now_ns(), **changed})

    def add_anomaly(self, key: SeriesKey, anomaly_id: str, start: int, **changed: Any) -> Anomaly:
        """Store an anomaly."""
        anomaly = anomaly_of(key, anomaly_id, **{"start": start, "peak_time": start + STEP, **changed})
        self.store.save_anomaly(anomaly)
        return anomaly

    def add_score(self, key: SeriesKey, time_ns: int, value: float, score: float) -> None:
        """Append one scored sample whose expected range is 0.04 to 0.12."""
        columns = {"anomaly_score": [score], "yhat": [0.08], "yhat_lower": [0.04], "yhat_upper": [0.12]}
        self.score_log.append([key], tick_scores(key.source, time_ns, [value], **columns))

    def publish(self, event: str, data: dict[str, object]) -> None:
        """Send an event to every open page."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.live.publish, event, data)

    def publish_tick(self) -> None:
        """Publish a tick of the source `host`."""
        self.publish("tick", {"source": "host", "time": now_ns(), "series": 60, "unusual": 1})

    def publish_anomaly(self, anomaly: Anomaly) -> None:
        """Publish an anomaly that opened or changed."""
        self.publish("anomaly", anomaly_json(anomaly))

    def login_link(self) -> str:
        """Return a login link like the one that `trimtab up` prints."""
        return api_keys.create_login_url(self.store, self.clock, self.url)

    def clear_anomalies(self) -> None:
        """Remove all anomalies and the scores that belong to them."""
        self.store.by_id.clear()
        for view in list(self.live.views.values()):
            if view.anomaly_id:
                self.live.views[view.id] = series_view(CPU)

    def seed(self) -> None:
        """Add 60 series (one anomalous, one learning, one with HTML in a label), scores and three sources."""
        now = now_ns()
        self.clock.time = now
        self.live.views.clear()
        self.store.by_id.clear()
        self.store.feedback_by_key.clear()
        self.score_log.rows.clear()
        self._seed_series()
        for i in range(720, 0, -1):
            hot = i <= 48
            self.add_score(CPU, now - i * STEP, 0.9 if hot else 0.08 + 0.01 * (i % 3), 5.0 if hot else 0.2)
        self.add_anomaly(
            CPU, OPEN, now - 4 * MINUTE, value=0.9, expected=0.08, lower=0.04, upper=0.12, score=5.0
        )
        self.add_anomaly(
            DISK, ENDED, now - 50 * MINUTE, end=now - 40 * MINUTE, value=9e6, lower=1e6, upper=3e6,
            detectors=("seasonal_residual", "ew_zscore"), reason="recovered",
        )  # fmt: skip
        self.live.statuses = [
            SourceStatus("host", SourceState.UP, 5.0, 58, now, "this machine"),
            SourceStatus("prometheus", SourceState.UNKNOWN, 15.0, 2, now, "connection refused", 12),
            SourceStatus("files", SourceState.STARTING, 60.0, 0, now, "nab", 0, 0.43),
        ]
        self.live.engine_values = {
            "uptime_s": 61.0, "memory_bytes": 2.3e8, "cpu_ratio": 0.021, "ticks": 12, "tick_seconds": 0.004,
            "tick_lag_s": 1.1, "series": 60, "scored": 59, "learning": 1, "unusual": 1, "anomalies_open": 1,
        }  # fmt: skip

    def _seed_series(self) -> None:
        self.add_series(
            CPU, unit="ratio", value=0.9, anomaly_score=5.0, yhat=0.08, yhat_lower=0.04, yhat_upper=0.12,
            anomaly_id=OPEN,
        )  # fmt: skip
        self.add_series(DISK, unit="B/s", value=2e6, yhat=2e6, yhat_lower=1e6, yhat_upper=3e6)
        unscored: dict[str, Any] = {
            "anomaly_score": None,
            "yhat": None,
            "yhat_lower": None,
            "yhat_upper": None,
        }
        self.add_series(NEW, unit="B", value=6.4e9, learning_s=230.0, **unscored)
        self.add_series(HOSTILE)
        for i in range(56):
            self.add_series(SeriesKey.of("host", f"filler_{i:02}", {"n": str(i)}), anomaly_score=0.01 * i)

    def add_ended_anomalies(self, n: int) -> None:
        """Add `n` ended anomalies that are older than the others."""
        start = now_ns() - 3 * 3600 * SECOND
        for i in range(n):
            key = SeriesKey.of("host", f"filler_{i % 56:02}", {"n": str(i % 56)})
            self.add_anomaly(key, f"01J7{i:022}", start, end=start + MINUTE, reason="recovered")


class _Server(uvicorn.Server):
    """A uvicorn server that sets an event once it listens."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._listening = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()


async def _serve(
    dashboard: DashboardServer, port: int, started: threading.Event, stop: threading.Event
) -> None:
    app = create_app(
        live=dashboard.live, store=dashboard.store, score_log=dashboard.score_log, settings=Api(port=port),
        clock=dashboard.clock, web_dir=DIST, metrics_text=lambda: "", version="0.1.0", loop=dashboard.ports,
    )  # fmt: skip
    config = uvicorn.Config(app, "127.0.0.1", port, log_level="error", ws="none", lifespan="on")
    server = _Server(config, started)
    dashboard.loop = asyncio.get_running_loop()
    serving = asyncio.create_task(server.serve())
    await asyncio.to_thread(stop.wait)
    stop_streams(app)
    server.should_exit = True
    await serving


@contextmanager
def serve_dashboard(dashboard: DashboardServer | None = None) -> Iterator[DashboardServer]:
    """Serve the dashboard until the block ends."""
    dashboard = dashboard or DashboardServer()
    port = free_port()
    dashboard.url = f"http://127.0.0.1:{port}"
    _, dashboard.secret = api_keys.create_key(dashboard.store, dashboard.clock, "tester", ["admin"])
    started, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(dashboard, port, started, stop)), daemon=True)
    thread.start()
    try:
        assert started.wait(20), "the API did not start"
        yield dashboard
    finally:
        stop.set()
        thread.join(20)
