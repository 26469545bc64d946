"""A pattern recognized before any series is anomalous: its incident, and its end."""

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
    """Return a tick in which only these series are anomalous."""
    slots = {key.id: slot for slot, key in enumerate(keys)}
    x = np.array(values, np.float64)
    band = {"anomaly_score": 0.4 + 0 * x, "yhat": 0.95 * x, "yhat_lower": 0.9 * x, "yhat_upper": 1.1 * x}
    return TickResult(
        keys, tick_scores(source, START + tick * TICK_S * SECOND, x, **band), anomalies,
        np.empty(0, np.int64), np.zeros(len(keys), np.int64), np.ones(len(keys), np.bool_),
        {slots[one.series_id]: one.id for one in anomalies if one.end is None}, complete=True,
    )  # fmt: skip


class LeakingWorker:
    """A worker whose memory is flat, then leaks, fed to an incident service over fakes."""

    def __init__(self, service=None, ticks=0):
        self.store, self.incident_store, self.state_store = FakeStore(), FakeIncidents(), FakeKeyValueStore()
        self.service = service or IncidentService(self.store, self.incident_store, self.state_store)
        self.rng = np.random.default_rng(3)
        self.ticks, self.bytes = ticks, 2e8
        self.incidents, self.notices = [], []

    def run(self, ticks, leak=0.0, *anomalies):
        """Run ticks that leak `leak` bytes each; the anomalies are part of the first one."""
        for _ in range(ticks):
            self.bytes += leak
            row = [self.bytes * self.rng.normal(1, 0.001), 5e8, 100 * self.rng.normal(1, 0.02)]
            told, notices = self.service.step(tick_result(self.ticks, row, *anomalies), TICK_S, info)
            anomalies = ()
            self.incidents += told
            self.notices += notices
            self.ticks += 1
        return self.incidents[-1] if self.incidents else None

    def run_until_leak(self):
        """Run until well after the leak is recognized."""
        return self.run(130) or self.run(100, 1.5e6)


@pytest.fixture
def worker():
    return LeakingWorker()


def test_a_leak_is_an_incident_before_anything_is_unusual(worker):
    """The incident has the pattern, its suspect, and one anomaly with its band."""
    incident = worker.run_until_leak()
    assert (incident.state, incident.end, incident.level) == (IncidentState.OPEN, None, Severity.LOW)
    assert incident.title.startswith("worker-1: memory leak, since")
    (match,) = incident.patterns
    assert (match.name, match.entity, match.until) == ("memory_leak", "worker/worker-1:9000", None)
    (anomaly,) = (worker.store.anomaly(one) for one in incident.anomaly_ids)
    assert (anomaly.series_id, anomaly.detectors) == (MEMORY.id, ("pattern:memory_leak",))
    assert (anomaly.start, anomaly.end) == (match.since, None)
    assert anomaly.lower < anomaly.expected < anomaly.value < anomaly.upper
    assert anomaly.score == 0.4
    (suspect,) = incident.suspects
    assert suspect.series_id == MEMORY.id
    assert "looks like memory leak" in suspect.why
    assert worker.incident_store.incident(incident.id).patterns
    assert worker.notices == []
    assert len({one.id for one in worker.incidents}) == 1


def test_it_ends_with_its_pattern(worker):
    """The incident ends with its pattern and is resolved."""
    begun = worker.run_until_leak()
    worker.bytes = 2e8
    worker.run(12)
    (match,) = worker.incidents[-1].patterns
    assert match.until is not None
    assert worker.incidents[-1].end == match.until
    (anomaly,) = (worker.store.anomaly(one) for one in begun.anomaly_ids)
    assert (anomaly.end, anomaly.reason) == (match.until, "not recognised any more")
    over = worker.run(25)
    assert (over.id, over.state) == (begun.id, IncidentState.RESOLVED)
    worker.run(80)
    assert worker.incidents[-1] == over


def test_an_incident_that_is_there_is_named_and_goes_on_with_its_pattern(worker):
    """A pattern joins an active incident and keeps it open until the pattern ends."""
    worker.run(130)
    worker.run(40, 1.5e6)
    odd = anomaly_of(REQUESTS, "01JGFJJZ" + "5" * 18, start=START + worker.ticks * TICK_S * SECOND, score=6.0)
    worker.store.save_anomaly(odd)
    worker.run(30, 1.5e6, odd)
    worker.run(40, 1.5e6, anomaly_of(REQUESTS, odd.id, start=odd.start, end=odd.start + SECOND, score=6.0))
    incident = worker.incidents[-1]
    assert incident.anomaly_ids == (odd.id,)
    assert (incident.end, incident.state) == (None, IncidentState.OPEN)
    assert LEAK in worker.service.correlator.drafts[incident.id].patterns
    worker.bytes = 2e8
    over = worker.run(40)
    assert (over.id, over.state) == (incident.id, IncidentState.RESOLVED)
    assert len({one.id for one in worker.incidents}) == 1


def test_other_sources_do_not_end_a_pattern(worker):
    """A pattern continues while only other sources have ticks."""
    begun = worker.run_until_leak()
    other = (SeriesKey.of("q", "x", {"instance": "z"}),)
    for tick in range(worker.ticks, worker.ticks + 60):
        worker.service.step(tick_result(tick, [1.0], keys=other, source="q"), TICK_S, SeriesInfo)
    assert worker.service.correlator.drafts[begun.id].end is None
    assert worker.store.anomaly(begun.anomaly_ids[0]).end is None


@pytest.mark.parametrize("how", ["forget", "only"])
def test_a_source_that_goes_takes_its_patterns_with_it(worker, how):
    """Removing a source ends its patterns."""
    begun = worker.run_until_leak()
    if how == "forget":
        worker.service.forget_source("p")
        assert worker.store.anomaly(begun.anomaly_ids[0]).end is not None
    else:
        worker.service.close_other_sources({"q"}, START + worker.ticks * TICK_S * SECOND)
    case = worker.service.correlator.drafts[begun.id]
    assert case.end is not None
    assert case.active_patterns() == 0


def test_resolved_incident_does_not_reopen(worker):
    """A resolved incident does not reopen while its pattern lasts."""
    begun = worker.run_until_leak()
    worker.service.apply_operator_changes(worker.service.operator_actions.resolve(begun.id, "ann"))
    worker.run(60, 1.5e6)
    assert {one.id for one in worker.incidents} == {begun.id}
    assert worker.incident_store.incident(begun.id).state is IncidentState.RESOLVED


def test_a_store_that_fails_gets_the_anomaly_later(worker, monkeypatch):
    """An incident is never stored before its anomaly."""
    save = worker.store.save_anomaly

    def refuse(_anomaly):
        raise StoreError("disk full")

    monkeypatch.setattr(worker.store, "save_anomaly", refuse)
    begun = worker.run_until_leak()
    assert worker.service.store_error == "disk full"
    assert worker.incident_store.by_id == {}
    monkeypatch.setattr(worker.store, "save_anomaly", save)
    worker.run(1)
    assert worker.store.anomaly(begun.anomaly_ids[0]).pattern == "memory_leak"
    assert worker.incident_store.incident(begun.id).id == begun.id


def test_one_pattern_takes_the_place_of_another():
    """An incident continues when one pattern replaces another."""
    worker, incidents = "worker/worker-1:9000", IncidentCorrelator(TICK_S)
    surge = PatternMatch("traffic_surge", worker, 0.8, START, (), (REQUESTS.id,), (), "p")
    full = replace(surge, name="saturation_under_load")
    odd = anomaly_of(REQUESTS, ulid(5), start=START, end=None)
    incidents.step(START, [odd], [info(key) for key in KEYS], [surge], "p")
    now = START + TICK_S * SECOND
    (told,) = incidents.step(now, [replace(odd, end=now)], (), [full], "p")
    assert {one.name: one.until for one in told.patterns} == {"saturation_under_load": None, surge.name: now}
    assert told.end is None
    (over,) = incidents.step(now + SECOND, [], (), [], "p")
    assert (over.id, over.end) == (told.id, now + SECOND)


@pytest.mark.parametrize(
    ("confidence", "ticks", "covered", "lead", "begins"),
    [
        (MIN_CONFIDENCE, MIN_TICKS, False, MEMORY.id, True),
        (MIN_CONFIDENCE - 0.01, MIN_TICKS, False, MEMORY.id, False),
        (MIN_CONFIDENCE, MIN_TICKS - 1, False, MEMORY.id, False),
        (MIN_CONFIDENCE, MIN_TICKS, True, MEMORY.id, False),
        (MIN_CONFIDENCE, MIN_TICKS, False, "gone", False),
    ],
    ids=["strong", "weak", "new", "in an incident", "its series is gone"],
)
def test_conditions_to_begin_an_anomaly(confidence, ticks, covered, lead, begins):
    """A pattern begins an anomaly if it is confident, lasting, and not covered by an incident."""
    begun = PatternAnomalies(TICK_S)
    match = PatternMatch("memory_leak", "worker/worker-1:9000", confidence, START, (), (lead,), (), "p")
    told = begun.step(tick_result(ticks, [2e8, 5e8, 100.0]), [match], lambda _: covered)
    assert [one.pattern for one in told] == ["memory_leak"] * begins
    assert [one.id for one in begun.step(tick_result(ticks + 1, [2e8, 5e8, 1.0]), [], lambda _: covered)] == [
        one.id for one in told
    ]


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
        story = incident_detail(engine.components.ports, engine.store, engine.incidents.incident(second.id))
        (past,) = story["alike"]
        assert (past["id"], past["patterns"][0]["name"]) == (first.id, "memory_leak")
        assert past["done"] == [
            {"title": "Give cache-1 more memory", "state": ActionState.KEPT, "words": "no harm seen"}
        ]
        assert [one["detectors"] for one in story["anomalies"]] == [("pattern:memory_leak",)]
        await engine.stop()
