"""A Prometheus with history: a busy core, services that stop or move, and an outage of Prometheus itself."""

import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.engine import (
    EngineProcess,
    available_cores,
    busy_core,
    trimtab_up,
    unix_seconds,
    wait_until,
)
from tests.acceptance.history import backfill_history, record_exporter
from tests.browser.conftest import DESK, browser  # noqa: F401 - fixtures are requested by name
from tests.servers.prometheus import (
    PrometheusServer,
    ServerProcess,
    start_exporter,
    start_node_exporter,
    start_prometheus,
)

pytestmark = pytest.mark.acceptance


@dataclass(frozen=True)
class TimeScale:
    """Durations of the test.

    interval_s : seconds between scrapes and ticks
    fine_s     : seconds of history at that interval; before it there are two weeks at 5 min
    scrapes    : scrapes in the recording that the history is made of
    busy_s     : seconds that a core is kept busy
    """

    interval_s: int
    fine_s: int
    scrapes: int
    busy_s: float

    def ticks(self, n: float) -> float:
        """Return the seconds of n intervals."""
        return n * self.interval_s


QUICK = TimeScale(interval_s=1, fine_s=3600, scrapes=60, busy_s=15.0)
FULL = TimeScale(interval_s=5, fine_s=6 * 3600, scrapes=66, busy_s=60.0)
"""The recording covers everything that happens every five minutes, such as the engine's snapshots."""
MAX_DELAY_INTERVALS, OUTAGE_INTERVALS = 3, 20
DAYS = 14
WARM_S = 30.0
BUSY = re.compile(
    r"cpu|load|procs|processes|schedstat|scrape|pressure|softnet|context_switches|intr|interrupts|^go_|^process_"
)
"""Metrics that a busy core, or an exporter that gets less of it, may move."""
SERVICE_TEXT = "\n".join(
    ["# TYPE orders_total counter", "orders_total {n}", "# TYPE queue_depth gauge", "queue_depth {depth}", ""]
)


class ServiceMetrics:
    """Metrics of a small service, slightly different at each scrape."""

    def __init__(self) -> None:
        self.scrapes = 0

    def __call__(self) -> str:
        self.scrapes += 1
        return SERVICE_TEXT.format(n=self.scrapes * 7, depth=20 + self.scrapes % 5)


@dataclass
class WatchedPrometheus:
    """A Prometheus, its exporter and the engine that watches it."""

    scale: TimeScale
    prometheus: PrometheusServer
    node: ServerProcess
    engine: EngineProcess

    def open_anomalies(self) -> list[dict]:
        """Return the open anomalies."""
        return self.engine.list_all("anomalies", open=True, source="prometheus")


@pytest.fixture(
    scope="module", params=[QUICK, pytest.param(FULL, marks=pytest.mark.trials)], ids=["1s", "5s"]
)
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchedPrometheus]:
    """The engine on a Prometheus with two weeks of this machine's node exporter."""
    scale: TimeScale = request.param
    directory: Path = tmp_path_factory.mktemp("watched")
    flags = ["--collector.interrupts", "--collector.processes", "--collector.tcpstat"]
    every = f"{scale.interval_s}s"
    with start_node_exporter(directory / "node", flags) as node:
        targets = {"node": [node.address]}
        with (
            start_prometheus(directory / "rehearsal", targets, every) as rehearsal,
            trimtab_up(directory / "watcher", _settings(rehearsal, scale)) as watcher,
        ):
            wait_until(lambda: watcher.source_status("prometheus")["state"] == "up", 60)
            threading.Event().wait(scale.ticks(8))
            recording = record_exporter(node.address, "node", scale.scrapes, scale.interval_s)
        backfill_history(directory / "prometheus", recording, int(time.time()), DAYS, scale.fine_s)
        os.sync()  # otherwise backfilled data reaches the disk while other series are watched
        with start_prometheus(directory / "prometheus", targets, every, _BLOCK_FLAGS) as prometheus:
            wait_until(lambda: prometheus.query("up{job='node'} == 1"), 30)
            with trimtab_up(directory / "trimtab", _settings(prometheus, scale)) as engine:
                yield WatchedPrometheus(scale, prometheus, node, engine)


_BLOCK_FLAGS = ("--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h")
"""Keep blocks as backfilled: a Prometheus of two weeks has merged its history long ago, and merging 3.6 GB
while it is watched would be load that the recorded history does not have.
"""


def _settings(prometheus: PrometheusServer, scale: TimeScale) -> dict:
    source = {
        "url": prometheus.url, "interval": f"{scale.interval_s}s", "noise_window": f"{scale.fine_s}s",
    }  # fmt: skip
    return {"sources": {"host": {"enabled": False}, "prometheus": source}}


def test_warm_from_history(watched):
    """More than 500 series are found and scored within 30 s, because their history is known."""
    engine = watched.engine
    wait_until(lambda: engine.source_status("prometheus")["state"] == "up", WARM_S)
    left_s = WARM_S - (time.monotonic() - engine.started_at - engine.startup_s)
    wait_until(lambda: _scored_share(engine) > 0.9, left_s)
    assert engine.get("series", limit=1)["total"] >= 500


@pytest.mark.trials
def test_a_busy_core_is_an_anomaly(watched, request: pytest.FixtureRequest):
    """A busy core is an anomaly within 3 intervals, in API and page; few other series are flagged; it closes.

    The browser starts after the other series are counted: its memory and files are another load.
    """
    engine, core, scale = watched.engine, available_cores()[-1], watched.scale
    tick = scale.interval_s  # polling more often finds nothing new and loads the machine
    wait_until(lambda: not _core_anomalies(watched.open_anomalies(), core), scale.ticks(90), tick)
    began = time.time()
    with busy_core(core):
        found = wait_until(lambda: _core_anomalies(watched.open_anomalies(), core), scale.ticks(10), tick)
        threading.Event().wait(max(0.0, began + scale.busy_s - time.time()))
        since = engine.list_all("anomalies", since=_iso(began), source="prometheus")
        flagged = {a["series"]: a for a in since if unix_seconds(a["start"]) >= began and _unrelated(a)}
        browser: Browser = request.getfixturevalue("browser")
        page = browser.new_context(viewport=DESK).new_page()
        page.goto(engine.login_link())
        page.goto(f"{engine.url}/#/")
        expect(page.locator(".unusual-row", has_text="node_cpu_seconds").first).to_be_visible(timeout=8000)
    late_s = min(unix_seconds(a["start"]) for a in found) - began
    unrelated = [row for row in engine.list_all("series") if _unrelated(row)]
    assert late_s <= scale.ticks(MAX_DELAY_INTERVALS + 1)
    print(f"found after {late_s:.1f} s, {len(flagged)} of {len(unrelated)} unrelated series flagged")
    print(*(_describe_anomaly(anomaly, began) for anomaly in flagged.values()), sep="\n")
    assert len(flagged) <= 0.02 * len(unrelated), sorted(flagged)
    wait_until(lambda: not _core_anomalies(watched.open_anomalies(), core), scale.ticks(60), tick)


def test_a_stopped_service_is_absent_and_a_moved_one_is_not(watched):
    """A stopped service is absent within 3 intervals; one replaced under a new instance label never is."""
    engine, prometheus, node, scale = watched.engine, watched.prometheus, watched.node.address, watched.scale
    with (
        start_exporter(ServiceMetrics()) as stays,
        start_exporter(ServiceMetrics()) as moved,
        start_exporter(ServiceMetrics()) as old,
    ):
        with start_exporter(ServiceMetrics()) as dies:
            prometheus.set_targets(
                {"node": [node], "shop": [dies.address], "pay": [old.address, stays.address]}
            )
            wait_until(
                lambda: len(_service_series(engine)) >= 6 and all(_service_series(engine).values()),
                120 + scale.ticks(60),
            )
            began = time.time()
        prometheus.set_targets(
            {"node": [node], "shop": [dies.address], "pay": [moved.address, stays.address]}
        )
        absent = wait_until(lambda: _absences(engine, "shop", began), scale.ticks(20))
        assert min(unix_seconds(a["start"]) for a in absent) - began <= scale.ticks(MAX_DELAY_INTERVALS + 1)
        wait_until(lambda: f'instance="{moved.address}"' in " ".join(_service_series(engine)), 60)
        threading.Event().wait(scale.ticks(MAX_DELAY_INTERVALS))
        assert _absences(engine, "pay", began) == []


def test_an_outage_of_prometheus_is_unknown(watched):
    """Stopping Prometheus for 20 intervals opens no anomaly, closes none, and shows as unknown."""
    engine, prometheus, scale = watched.engine, watched.prometheus, watched.scale
    wait_until(lambda: engine.source_status("prometheus")["state"] == "up", 60)
    began = time.time()
    prometheus.stop()
    wait_until(lambda: engine.source_status("prometheus")["state"] == "unknown", scale.ticks(5) + 5)
    before = {a["id"]: a["end"] for a in engine.list_all("anomalies")}
    threading.Event().wait(max(0.0, began + scale.ticks(OUTAGE_INTERVALS) - time.time()))
    assert {a["id"]: a["end"] for a in engine.list_all("anomalies")} == before
    back = time.time()
    prometheus.start()
    wait_until(lambda: engine.source_status("prometheus")["state"] == "up", 60)
    threading.Event().wait(scale.ticks(MAX_DELAY_INTERVALS))
    later = {a["id"]: a for a in engine.list_all("anomalies")}
    assert [
        a["series"] for key, a in later.items() if key not in before and unix_seconds(a["start"]) < back
    ] == []
    assert [a["series"] for a in later.values() if a["direction"] == "absent" and a["id"] not in before] == []
    closed = [later[key] for key, end in before.items() if end is None and later[key]["end"] is not None]
    assert {a["reason"] for a in closed} <= {"recovered"}, closed


def _scored_share(engine: EngineProcess) -> float:
    rows = engine.list_all("series")
    return sum(row["anomaly_score"] is not None for row in rows) / max(len(rows), 1)


def _unrelated(noun: dict) -> bool:
    """Return whether a series, or an anomaly of it, is unrelated to a busy core."""
    return not BUSY.search(noun["series"])


def _describe_anomaly(anomaly: dict, began: float) -> str:
    """Return one line about why an anomaly was flagged."""
    late_s, why = unix_seconds(anomaly["start"]) - began, ", ".join(anomaly["detectors"])
    band = f"{anomaly['value']} in {anomaly['lower']} .. {anomaly['upper']}"
    return f"{late_s:.1f} s, score {anomaly['score']:.2f} by {why}, {band}: {anomaly['series']}"


def _core_anomalies(anomalies: list[dict], core: int) -> list[dict]:
    return [
        a for a in anomalies
        if a["labels"].get("cpu") == str(core) and a["series"].startswith("node_cpu_seconds")
    ]  # fmt: skip


def _service_series(engine: EngineProcess) -> dict[str, bool]:
    """Return the series of the services -> whether they are scored."""
    rows = [row for row in engine.list_all("series") if row["labels"].get("job") in {"shop", "pay"}]
    return {
        row["series"]: row["anomaly_score"] is not None
        for row in rows
        if "orders" in row["series"] or "queue" in row["series"]
    }


def _absences(engine: EngineProcess, job: str, began: float) -> list[dict]:
    found = engine.list_all("anomalies", direction="absent", since=_iso(began - 5))
    return [a for a in found if a["labels"].get("job") == job]


def _iso(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
