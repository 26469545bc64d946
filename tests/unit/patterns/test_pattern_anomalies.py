"""Anomalies opened by a pattern before any series is anomalous: their incident and their end."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.actions import make_action, make_recommendation
from tests.builders.engine_actions import EngineActions, fake_caches, make_settings
from tests.builders.series import SECOND, START, anomaly_of, tick_scores
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock, FakeScoreLog, FakeStore
from trimtab.engine.api.detail_views import incident_detail
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.errors import StoreError
from trimtab.engine.incidents.incident_correlator import IncidentCorrelator
from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.patterns.pattern_anomalies import MIN_CONFIDENCE, MIN_TICKS, PatternAnomalies
from trimtab.engine.types import (
    ActionState,
    IncidentState,
    Outcome,
    PatternMatch,
    SeriesInfo,
    SeriesKey,
    Severity,
)

TICK_S = 15
WORKER = {"job": "worker", "instance": "worker-1:9000"}
MEMORY, LIMIT, REQUESTS = KEYS = tuple(
    SeriesKey.of("p", name, WORKER)
    for name in ("process_resident_memory_bytes", "process_memory_limit_bytes", "http_requests_total")
)
UNITS = {MEMORY: "B", LIMIT: "B"}
LEAK = "memory_leak worker/worker-1:9000"


def info(key):
    """Return the metadata of a series."""
    return SeriesInfo(key, UNITS.get(key, "1/s"), "gauge" if key in UNITS else "rate")


def tick_result(tick, values, *anomalies, keys=KEYS, source="p"):
    """Return the result of a tick with these values and anomalies."""
    slots = {key.id: slot for slot, key in enumerate(keys)}
    x = np.array(values, np.float64)
    band = {"anomaly_score": 0.4 + 0 * x, "yhat": 0.95 * x, "yhat_lower": 0.9 * x, "yhat_upper": 1.1 * x}
    return TickResult(
        keys, tick_scores(source, START + tick * TICK_S * SECOND, x, **band), anomalies,
        np.empty(0, np.int64), np.zeros(len(keys), np.int64), np.ones(len(keys), np.bool_),
        {slots[a.series_id]: a.id for a in anomalies if a.end is None}, complete=True,
    )  # fmt: skip


class LeakingWorker:
    """Feeds an incident service over fakes with a worker whose memory is flat, then leaks."""

    def __init__(self, service=None, ticks=0):
        self.store, self.incident_store, self.state_store = FakeStore(), FakeIncidents(), FakeKeyValueStore()
        self.service = service or IncidentService(self.store, self.incident_store, self.state_store)
        self.rng = np.random.default_rng(3)
        self.ticks, self.bytes = ticks, 2e8
        self.incidents, self.notices = [], []

    def run(self, ticks, leak=0.0, *anomalies):
        """Run ticks in which memory grows by `leak` bytes each; the first tick has these anomalies."""
        for _ in range(ticks):
            self.bytes += leak
            row = [self.bytes * self.rng.normal(1, 0.001), 5e8, 100 * self.rng.normal(1, 0.02)]
            incidents, notices = self.service.step(tick_result(self.ticks, row, *anomalies), TICK_S, info)
            anomalies = ()
            self.incidents += incidents
            self.notices += notices
            self.ticks += 1
        return self.incidents[-1] if self.incidents else None

    def run_until_leak(self):
        """Run until well after the leak is recognized."""
        return self.run(130) or self.run(100, 1.5e6)


@pytest.fixture
def worker():
    return LeakingWorker()


def test_leak_is_an_incident_before_any_anomaly(worker):
    """The incident of a leak has the pattern, its suspect, and one anomaly with its expected range."""
    incident = worker.run_until_leak()
    assert (incident.state, incident.end, incident.level) == (IncidentState.OPEN, None, Severity.LOW)
    assert incident.title.startswith("worker-1: memory leak, since")
    (match,) = incident.patterns
    assert (match.name, match.entity, match.until) == ("memory_leak", "worker/worker-1:9000", None)
    (anomaly,) = (worker.store.anomaly(item) for item in incident.anomaly_ids)
    assert (anomaly.series_id, anomaly.detectors) == (MEMORY.id, ("pattern:memory_leak",))
    assert (anomaly.start, anomaly.end) == (match.since, None)
    assert anomaly.lower < anomaly.expected < anomaly.value < anomaly.upper
    assert anomaly.score == 0.4
    (suspect,) = incident.suspects
    assert suspect.series_id == MEMORY.id
    assert "looks like memory leak" in suspect.why
    assert worker.incident_store.incident(incident.id).patterns
    assert worker.notices == []
    assert len({item.id for item in worker.incidents}) == 1


def test_incident_ends_with_its_pattern(worker):
    """An incident ends with its pattern and is then resolved."""
    first = worker.run_until_leak()
    worker.bytes = 2e8
    worker.run(12)
    (match,) = worker.incidents[-1].patterns
    assert match.until is not None
    assert worker.incidents[-1].end == match.until
    (anomaly,) = (worker.store.anomaly(item) for item in first.anomaly_ids)
    assert (anomaly.end, anomaly.reason) == (match.until, "not recognised any more")
    resolved = worker.run(25)
    assert (resolved.id, resolved.state) == (first.id, IncidentState.RESOLVED)
    worker.run(80)
    assert worker.incidents[-1] == resolved


def test_pattern_joins_an_open_incident(worker):
    """A pattern joins an open incident and keeps it open until the pattern ends."""
    worker.run(130)
    worker.run(40, 1.5e6)
    anomaly = anomaly_of(
        REQUESTS, "01JGFJJZ" + "5" * 18, start=START + worker.ticks * TICK_S * SECOND, score=6.0
    )
    worker.store.save_anomaly(anomaly)
    worker.run(30, 1.5e6, anomaly)
    worker.run(
        40,
        1.5e6,
        anomaly_of(REQUESTS, anomaly.id, start=anomaly.start, end=anomaly.start + SECOND, score=6.0),
    )
    incident = worker.incidents[-1]
    assert incident.anomaly_ids == (anomaly.id,)
    assert (incident.end, incident.state) == (None, IncidentState.OPEN)
    assert LEAK in worker.service.correlator.drafts[incident.id].patterns
    worker.bytes = 2e8
    resolved = worker.run(40)
    assert (resolved.id, resolved.state) == (incident.id, IncidentState.RESOLVED)
    assert len({item.id for item in worker.incidents}) == 1


def test_other_sources_do_not_end_a_pattern(worker):
    """A pattern continues while only other sources have ticks."""
    first = worker.run_until_leak()
    other = (SeriesKey.of("q", "x", {"instance": "z"}),)
    for tick in range(worker.ticks, worker.ticks + 60):
        worker.service.step(tick_result(tick, [1.0], keys=other, source="q"), TICK_S, SeriesInfo)
    assert worker.service.correlator.drafts[first.id].end is None
    assert worker.store.anomaly(first.anomaly_ids[0]).end is None


@pytest.mark.parametrize("how", ["forget", "only"])
def test_removed_source_ends_its_patterns(worker, how):
    """Removing a source ends its patterns."""
    first = worker.run_until_leak()
    if how == "forget":
        worker.service.forget_source("p")
        assert worker.store.anomaly(first.anomaly_ids[0]).end is not None
    else:
        worker.service.close_other_sources({"q"}, START + worker.ticks * TICK_S * SECOND)
    draft = worker.service.correlator.drafts[first.id]
    assert draft.end is not None
    assert draft.active_patterns() == 0


def test_resolved_incident_does_not_reopen(worker):
    """A resolved incident does not reopen while its pattern lasts."""
    first = worker.run_until_leak()
    worker.service.apply_operator_changes(worker.service.operator_actions.resolve(first.id, "ann"))
    worker.run(60, 1.5e6)
    assert {item.id for item in worker.incidents} == {first.id}
    assert worker.incident_store.incident(first.id).state is IncidentState.RESOLVED


def test_anomaly_is_stored_before_its_incident(worker, monkeypatch):
    """An incident is never stored before its anomaly."""
    save = worker.store.save_anomaly

    def refuse(_anomaly):
        raise StoreError("disk full")

    monkeypatch.setattr(worker.store, "save_anomaly", refuse)
    first = worker.run_until_leak()
    assert worker.service.store_error == "disk full"
    assert worker.incident_store.by_id == {}
    monkeypatch.setattr(worker.store, "save_anomaly", save)
    worker.run(1)
    assert worker.store.anomaly(first.anomaly_ids[0]).pattern == "memory_leak"
    assert worker.incident_store.incident(first.id).id == first.id


def test_incident_continues_when_patterns_change():
    """An incident continues when one pattern replaces another."""
    worker, correlator = "worker/worker-1:9000", IncidentCorrelator(TICK_S)
    surge = PatternMatch("traffic_surge", worker, 0.8, START, (), (REQUESTS.id,), (), "p")
    full = replace(surge, name="saturation_under_load")
    anomaly = anomaly_of(REQUESTS, ulid(5), start=START, end=None)
    correlator.step(START, [anomaly], [info(key) for key in KEYS], [surge], "p")
    now = START + TICK_S * SECOND
    (incident,) = correlator.step(now, [replace(anomaly, end=now)], (), [full], "p")
    assert {pattern.name: pattern.until for pattern in incident.patterns} == {
        "saturation_under_load": None,
        surge.name: now,
    }
    assert incident.end is None
    (ended,) = correlator.step(now + SECOND, [], (), [], "p")
    assert (ended.id, ended.end) == (incident.id, now + SECOND)


@pytest.mark.parametrize(
    ("confidence", "ticks", "covered", "lead", "opens"),
    [
        (MIN_CONFIDENCE, MIN_TICKS, False, MEMORY.id, True),
        (MIN_CONFIDENCE - 0.01, MIN_TICKS, False, MEMORY.id, False),
        (MIN_CONFIDENCE, MIN_TICKS - 1, False, MEMORY.id, False),
        (MIN_CONFIDENCE, MIN_TICKS, True, MEMORY.id, False),
        (MIN_CONFIDENCE, MIN_TICKS, False, "gone", False),
    ],
    ids=["strong", "weak", "new", "in an incident", "its series is gone"],
)
def test_conditions_to_open_an_anomaly(confidence, ticks, covered, lead, opens):
    """A pattern opens an anomaly if it is confident, lasting, and not covered by an incident."""
    pattern_anomalies = PatternAnomalies(TICK_S)
    match = PatternMatch("memory_leak", "worker/worker-1:9000", confidence, START, (), (lead,), (), "p")
    opened = pattern_anomalies.step(tick_result(ticks, [2e8, 5e8, 100.0]), [match], lambda _: covered)
    assert [a.pattern for a in opened] == ["memory_leak"] * opens
    closed = pattern_anomalies.step(tick_result(ticks + 1, [2e8, 5e8, 1.0]), [], lambda _: covered)
    assert [a.id for a in closed] == [a.id for a in opened]


async def test_past_actions_are_listed_with_similar_incidents(tmp_path, monkeypatch):
    """Actions that helped in a similar past incident are listed, also after a restart."""
    clock = FakeClock(START)
    with fake_caches(monkeypatch, clock):
        engine = await EngineActions(make_settings(tmp_path), clock, FakeScoreLog()).start()
        worker = LeakingWorker(engine.incident_service)
        first = worker.run_until_leak()
        ledger = engine.ledger
        ledger.save_recommendation(
            make_recommendation(ulid(1), incident_id=first.id), "recommended", "trimtab"
        )
        action = ledger.propose(make_action(ulid(2), recommendation_id=ulid(1)), "proposed", "trimtab")
        for state in (ActionState.EXECUTING, ActionState.VERIFYING):
            action = ledger.transition(replace(action, state=state), action.state, str(state), "trimtab")
        done = replace(action, state=ActionState.KEPT, outcome=Outcome(ActionState.KEPT, "no harm seen"))
        ledger.transition(done, action.state, "kept", "trimtab")
        worker.bytes = 2e8
        worker.run(200)
        assert worker.incidents[-1].state is IncidentState.RESOLVED
        await engine.stop()
        engine = await EngineActions(make_settings(tmp_path), clock, FakeScoreLog()).start()
        again = LeakingWorker(engine.incident_service, worker.ticks)
        second = again.run_until_leak()
        assert second.id != first.id
        detail = incident_detail(engine.components.ports, engine.store, engine.incidents.incident(second.id))
        (past,) = detail["alike"]
        assert (past["id"], past["patterns"][0]["name"]) == (first.id, "memory_leak")
        assert past["done"] == [
            {"title": "Give cache-1 more memory", "state": ActionState.KEPT, "words": "no harm seen"}
        ]
        assert [a["detectors"] for a in detail["anomalies"]] == [("pattern:memory_leak",)]
        await engine.stop()
