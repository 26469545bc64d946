"""A pattern that is recognised before any series is unusual: its incident, and how that ends."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.actions import action_of, recommendation_of
from tests.builders.engine_actions import Built, caches, settings_of
from tests.builders.series import SECOND, START, anomaly_of, tick_scores
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock, FakeScoreLog, FakeStore
from trimtab.engine.api.detail_views import incident_detail
from trimtab.engine.detection.tick_result import Sensed
from trimtab.engine.errors import StoreError
from trimtab.engine.incidents.incident_correlator import Incidents
from trimtab.engine.incidents.incident_service import Judging
from trimtab.engine.patterns.pattern_anomalies import BEGIN_TICKS, BEGINS, PatternAnomalies
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
    """What the source tells of a series."""
    return SeriesInfo(key, UNITS.get(key, "1/s"), "gauge" if key in UNITS else "rate")


def sensed(tick, values, *anomalies, keys=KEYS, source="p"):
    """A tick in which nothing is unusual but these."""
    slots = {key.id: slot for slot, key in enumerate(keys)}
    x = np.array(values, np.float64)
    band = {"anomaly_score": 0.4 + 0 * x, "yhat": 0.95 * x, "yhat_lower": 0.9 * x, "yhat_upper": 1.1 * x}
    return Sensed(
        keys, tick_scores(source, START + tick * TICK_S * SECOND, x, **band), anomalies,
        np.empty(0, np.int64), np.zeros(len(keys), np.int64), np.ones(len(keys), np.bool_),
        {slots[one.series_id]: one.id for one in anomalies if one.end is None}, certain=True,
    )  # fmt: skip


class Worker:
    """A worker whose memory is flat, then leaks, tick by tick through a judging over memory."""

    def __init__(self, judging=None, ticks=0):
        self.store, self.kept, self.memory = FakeStore(), FakeIncidents(), FakeKeyValueStore()
        self.judging = judging or Judging(self.store, self.kept, self.memory)
        self.rng = np.random.default_rng(3)
        self.ticks, self.bytes = ticks, 2e8
        self.told, self.notices = [], []

    def live(self, ticks, leak=0.0, *anomalies):
        """So many ticks, in each of which it keeps `leak` bytes; the anomalies are told in the first."""
        for _ in range(ticks):
            self.bytes += leak
            row = [self.bytes * self.rng.normal(1, 0.001), 5e8, 100 * self.rng.normal(1, 0.02)]
            told, notices = self.judging.step(sensed(self.ticks, row, *anomalies), TICK_S, info)
            anomalies = ()
            self.told += told
            self.notices += notices
            self.ticks += 1
        return self.told[-1] if self.told else None

    def leaks(self):
        """Until well after it is recognised."""
        return self.live(130) or self.live(100, 1.5e6)


@pytest.fixture
def worker():
    return Worker()


def test_a_leak_is_an_incident_before_anything_is_unusual(worker):
    """It has the pattern, its suspect, and one anomaly with value and band; it hurts nobody yet."""
    incident = worker.leaks()
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
    assert worker.kept.incident(incident.id).patterns
    assert worker.notices == []
    assert len({one.id for one in worker.told}) == 1


def test_it_ends_with_its_pattern(worker):
    """After a reload the pattern says until when it was seen; then the incident is over, and stays so."""
    begun = worker.leaks()
    worker.bytes = 2e8
    worker.live(12)
    (match,) = worker.told[-1].patterns
    assert match.until is not None
    assert worker.told[-1].end == match.until
    (anomaly,) = (worker.store.anomaly(one) for one in begun.anomaly_ids)
    assert (anomaly.end, anomaly.reason) == (match.until, "not recognised any more")
    over = worker.live(25)
    assert (over.id, over.state) == (begun.id, IncidentState.RESOLVED)
    worker.live(80)
    assert worker.told[-1] == over


def test_an_incident_that_is_there_is_named_and_goes_on_with_its_pattern(worker):
    """No second one is made; when its anomaly is over the pattern keeps it open, and ends it."""
    worker.live(130)
    worker.live(40, 1.5e6)
    odd = anomaly_of(REQUESTS, "01JGFJJZ" + "5" * 18, start=START + worker.ticks * TICK_S * SECOND, score=6.0)
    worker.store.save_anomaly(odd)
    worker.live(30, 1.5e6, odd)
    worker.live(40, 1.5e6, anomaly_of(REQUESTS, odd.id, start=odd.start, end=odd.start + SECOND, score=6.0))
    incident = worker.told[-1]
    assert incident.anomaly_ids == (odd.id,)
    assert (incident.end, incident.state) == (None, IncidentState.OPEN)
    assert LEAK in worker.judging.incidents.cases[incident.id].patterns
    worker.bytes = 2e8
    over = worker.live(40)
    assert (over.id, over.state) == (incident.id, IncidentState.RESOLVED)
    assert len({one.id for one in worker.told}) == 1


def test_other_sources_say_nothing_of_it(worker):
    """While its own source is silent a pattern goes on, however many ticks of others pass."""
    begun = worker.leaks()
    other = (SeriesKey.of("q", "x", {"instance": "z"}),)
    for tick in range(worker.ticks, worker.ticks + 60):
        worker.judging.step(sensed(tick, [1.0], keys=other, source="q"), TICK_S, SeriesInfo)
    assert worker.judging.incidents.cases[begun.id].end is None
    assert worker.store.anomaly(begun.anomaly_ids[0]).end is None


@pytest.mark.parametrize("how", ["forget", "only"])
def test_a_source_that_goes_takes_its_patterns_with_it(worker, how):
    """Nobody would end them."""
    begun = worker.leaks()
    if how == "forget":
        worker.judging.forget("p")
        assert worker.store.anomaly(begun.anomaly_ids[0]).end is not None
    else:
        worker.judging.only({"q"}, START + worker.ticks * TICK_S * SECOND)
    case = worker.judging.incidents.cases[begun.id]
    assert case.end is not None
    assert case.shown() == 0


def test_what_a_person_resolved_does_not_begin_again_while_it_lasts(worker):
    """Their word stands until the pattern is over."""
    begun = worker.leaks()
    worker.judging.say(worker.judging.said.resolve(begun.id, "ann"))
    worker.live(60, 1.5e6)
    assert {one.id for one in worker.told} == {begun.id}
    assert worker.kept.incident(begun.id).state is IncidentState.RESOLVED


def test_a_store_that_fails_gets_the_anomaly_later(worker, monkeypatch):
    """The incident never stands in the store without it."""
    save = worker.store.save_anomaly

    def refuse(_anomaly):
        raise StoreError("disk full")

    monkeypatch.setattr(worker.store, "save_anomaly", refuse)
    begun = worker.leaks()
    assert worker.judging.problem == "disk full"
    assert worker.kept.by_id == {}
    monkeypatch.setattr(worker.store, "save_anomaly", save)
    worker.live(1)
    assert worker.store.anomaly(begun.anomaly_ids[0]).pattern == "memory_leak"
    assert worker.kept.incident(begun.id).id == begun.id


def test_one_pattern_takes_the_place_of_another():
    """A surge that has become a saturation is one incident that goes on, without a moment between."""
    worker, incidents = "worker/worker-1:9000", Incidents(TICK_S)
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
        (BEGINS, BEGIN_TICKS, False, MEMORY.id, True),
        (BEGINS - 0.01, BEGIN_TICKS, False, MEMORY.id, False),
        (BEGINS, BEGIN_TICKS - 1, False, MEMORY.id, False),
        (BEGINS, BEGIN_TICKS, True, MEMORY.id, False),
        (BEGINS, BEGIN_TICKS, False, "gone", False),
    ],
    ids=["strong", "weak", "new", "in an incident", "its series is gone"],
)
def test_what_begins_one(confidence, ticks, covered, lead, begins):
    """A pattern that is sure, has lasted, and that no incident has to do with."""
    begun = PatternAnomalies(TICK_S)
    match = PatternMatch("memory_leak", "worker/worker-1:9000", confidence, START, (), (lead,), (), "p")
    told = begun.step(sensed(ticks, [2e8, 5e8, 100.0]), [match], lambda _: covered)
    assert [one.pattern for one in told] == ["memory_leak"] * begins
    assert [one.id for one in begun.step(sensed(ticks + 1, [2e8, 5e8, 1.0]), [], lambda _: covered)] == [
        one.id for one in told
    ]


async def test_what_helped_in_the_last_one_stands_beside_the_next(tmp_path, monkeypatch):
    """Through the real store and an engine that was stopped in between: the page of the second names it."""
    clock = FakeClock(START)
    with caches(monkeypatch, clock):
        room = await Built(settings_of(tmp_path), clock, FakeScoreLog()).start()
        worker = Worker(room.judging)
        first = worker.leaks()
        ledger = room.ledger
        ledger.save_recommendation(recommendation_of(ulid(1), incident_id=first.id), "recommended", "trimtab")
        action = ledger.propose(action_of(ulid(2), recommendation_id=ulid(1)), "proposed", "trimtab")
        for state in (ActionState.EXECUTING, ActionState.VERIFYING):
            action = ledger.transition(replace(action, state=state), action.state, str(state), "trimtab")
        done = replace(action, state=ActionState.KEPT, outcome=Outcome(ActionState.KEPT, "no harm seen"))
        ledger.transition(done, action.state, "kept", "trimtab")
        worker.bytes = 2e8
        worker.live(200)
        assert worker.told[-1].state is IncidentState.RESOLVED
        await room.stop()
        room = await Built(settings_of(tmp_path), clock, FakeScoreLog()).start()
        again = Worker(room.judging, worker.ticks)
        second = again.leaks()
        assert second.id != first.id
        story = incident_detail(room.acts.ports, room.store, room.incidents.incident(second.id))
        (past,) = story["alike"]
        assert (past["id"], past["patterns"][0]["name"]) == (first.id, "memory_leak")
        assert past["done"] == [
            {"title": "Give cache-1 more memory", "state": ActionState.KEPT, "words": "no harm seen"}
        ]
        assert [one["detectors"] for one in story["anomalies"]] == [("pattern:memory_leak",)]
        await room.stop()
