"""A Prometheus with a past: a busy core, services that go and move, and an outage of Prometheus itself."""

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.engine import Engine, busy_core, cores, seconds, trimtab_up, until
from tests.acceptance.history import record, tile_back
from tests.browser.conftest import DESK, browser  # noqa: F401 - a fixture is found by its name
from tests.servers import PrometheusServer, Server, start_exporter, start_node_exporter, start_prometheus

pytestmark = pytest.mark.acceptance

INTERVAL_S = 1
INTERVALS = 3
SETTLE_S, RECORDED_S, FINE_S, DAYS = 8, 30, 3600, 14
WARM_S = 30.0
CALM_S, BUSY_S = 90.0, 15.0
"""What was started for the test moves some series itself; they get used to it."""
BUSY = re.compile(
    r"cpu|load|procs|processes|schedstat|scrape|pressure|softnet|context_switches|intr|interrupts|timex|^go_|^process_"
)
"""Metrics that a busy core, or an exporter that gets less of it, may well move."""
SERVICE = "\n".join(
    ["# TYPE orders_total counter", "orders_total {n}", "# TYPE queue_depth gauge", "queue_depth {depth}", ""]
)


class Service:
    """Figures of a small service, a little different at each scrape."""

    def __init__(self) -> None:
        self.scrapes = 0

    def __call__(self) -> str:
        self.scrapes += 1
        return SERVICE.format(n=self.scrapes * 7, depth=20 + self.scrapes % 5)


@dataclass
class Watched:
    """Everything that runs."""

    prometheus: PrometheusServer
    node: Server
    engine: Engine

    def open_anomalies(self) -> list[dict]:
        """Those that go on."""
        return self.engine.every("anomalies", open=True, source="prometheus")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The engine on a Prometheus that has two weeks of this machine's node exporter."""
    directory: Path = tmp_path_factory.mktemp("watched")
    flags = ["--collector.interrupts", "--collector.processes", "--collector.tcpstat"]
    with start_node_exporter(directory / "node", flags) as node:
        with start_prometheus(directory / "rehearsal", {"node": [node.address]}) as rehearsal:
            until(lambda: rehearsal.query("up{job='node'} == 1"), 30)
            threading.Event().wait(SETTLE_S)
            recording = record(node.address, "node", RECORDED_S)
        tile_back(directory / "prometheus", [recording], int(time.time()), DAYS, FINE_S)
        with start_prometheus(directory / "prometheus", {"node": [node.address]}) as prometheus:
            until(lambda: prometheus.query("up{job='node'} == 1"), 30)
            settings = {
                "sources": {
                    "host": {"enabled": False},
                    "prometheus": {
                        "url": prometheus.url,
                        "interval": f"{INTERVAL_S}s",
                        "noise_window": f"{FINE_S}s",
                    },
                }
            }
            with trimtab_up(directory / "trimtab", settings) as engine:
                yield Watched(prometheus, node, engine)


def test_warm_from_history(watched):
    """Over 500 series are found, and scored within 30 s because their history is known."""
    engine = watched.engine
    until(lambda: engine.source("prometheus")["state"] == "up", WARM_S)
    left_s = WARM_S - (time.monotonic() - engine.began - engine.ready_s)
    until(lambda: _scored_share(engine) > 0.9, left_s)
    assert engine.get("series", limit=1)["total"] >= 500


def test_a_busy_core_shows(watched, browser: Browser):  # noqa: F811 - the fixture
    """A busy core is an anomaly within 3 intervals, in API and page; few others are flagged; it closes."""
    engine, core = watched.engine, cores()[-1]
    until(lambda: _is_calm(watched.open_anomalies(), core), CALM_S)
    began = time.time()
    with busy_core(core):
        found = until(lambda: _of_core(watched.open_anomalies(), core), 30)
        threading.Event().wait(max(0.0, began + BUSY_S - time.time()))
        flagged = {a["series"] for a in engine.every("anomalies", since=_iso(began)) if _unrelated(a)}
        page = browser.new_context(viewport=DESK).new_page()
        page.goto(engine.login_link())
        page.goto(f"{engine.url}/#/")
        expect(page.locator(".unusual-row", has_text="node_cpu_seconds").first).to_be_visible(timeout=8000)
    late_s = min(seconds(a["start"]) for a in found) - began
    unrelated = [row for row in engine.every("series") if _unrelated(row)]
    assert late_s <= (INTERVALS + 1) * INTERVAL_S
    assert len(flagged) <= 0.02 * len(unrelated), sorted(flagged)
    until(lambda: not _of_core(watched.open_anomalies(), core), 60)


def test_a_service_that_goes_is_absent_and_one_that_moves_is_not(watched):
    """A killed service is absent within 3 intervals; one replaced under a new instance label never is."""
    engine, prometheus, node = watched.engine, watched.prometheus, watched.node.address
    with (
        start_exporter(Service()) as stays,
        start_exporter(Service()) as moved,
        start_exporter(Service()) as old,
    ):
        with start_exporter(Service()) as dies:
            prometheus.set_targets(
                {"node": [node], "shop": [dies.address], "pay": [old.address, stays.address]}
            )
            until(lambda: len(_services(engine)) >= 6 and all(_services(engine).values()), 150)
            began = time.time()
        prometheus.set_targets(
            {"node": [node], "shop": [dies.address], "pay": [moved.address, stays.address]}
        )
        absent = until(lambda: _absent(engine, "shop", began), 30)
        assert min(seconds(a["start"]) for a in absent) - began <= (INTERVALS + 1) * INTERVAL_S
        until(lambda: f'instance="{moved.address}"' in " ".join(_services(engine)), 60)
        threading.Event().wait(INTERVALS * INTERVAL_S)
        assert _absent(engine, "pay", began) == []


def test_an_outage_of_prometheus_is_unknown(watched):
    """Prometheus stopped for 20 intervals and started opens no anomaly, closes none, and shows as unknown."""
    engine, prometheus = watched.engine, watched.prometheus
    before = {a["id"]: a["end"] for a in engine.every("anomalies")}
    began = time.time()
    prometheus.stop()
    until(lambda: engine.source("prometheus")["state"] == "unknown", 10)
    threading.Event().wait(max(0.0, began + 20 * INTERVAL_S - time.time()))
    during = {a["id"]: a["end"] for a in engine.every("anomalies")}
    assert during == before
    prometheus.start()
    until(lambda: engine.source("prometheus")["state"] == "up", 60)


def _unrelated(noun: dict) -> bool:
    """Whether a series, or an anomaly of it, has nothing to do with a busy core."""
    return not BUSY.search(noun["series"])


def _is_calm(anomalies: list[dict], core: int) -> bool:
    return not _of_core(anomalies, core) and not any(_unrelated(a) for a in anomalies)


def _scored_share(engine: Engine) -> float:
    rows = engine.every("series")
    return sum(row["anomaly_score"] is not None for row in rows) / max(len(rows), 1)


def _of_core(anomalies: list[dict], core: int) -> list[dict]:
    return [
        a for a in anomalies
        if a["labels"].get("cpu") == str(core) and a["series"].startswith("node_cpu_seconds")
    ]  # fmt: skip


def _services(engine: Engine) -> dict[str, bool]:
    """Series of the services -> whether they are scored."""
    rows = [row for row in engine.every("series") if row["labels"].get("job") in {"shop", "pay"}]
    return {
        row["series"]: row["anomaly_score"] is not None
        for row in rows
        if "orders" in row["series"] or "queue" in row["series"]
    }


def _absent(engine: Engine, job: str, began: float) -> list[dict]:
    found = engine.every("anomalies", direction="absent", since=_iso(began - 5))
    return [a for a in found if a["labels"].get("job") == job]


def _iso(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))
