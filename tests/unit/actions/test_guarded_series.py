"""Guarded series: the metrics that an action must not make worse, next to its own metric."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.actions import make_action, make_recommendation
from tests.builders.series import START, tick_scores
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_control_loop import FakeIncidents, FakeLedger
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock
from trimtab.engine.actions.decision_contracts import GuardedMetric
from trimtab.engine.actions.guarded_series import MAX_METRICS, GuardedSeries
from trimtab.engine.detection.entities import entity_of
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.types import (
    Incident,
    IncidentState,
    SeriesInfo,
    SeriesKey,
    Severity,
    SourceState,
    SourceStatus,
)


def shop_series(metric, instance, **labels):
    """Return a series of the job `shop`."""
    return SeriesKey.of("p", metric, {"job": "shop", "instance": instance, **labels})


LATENCY = shop_series("http_request_duration_seconds_p99", "a:80")
ERRORS = shop_series("http_requests_total", "a:80", code="500")
CPU = shop_series("process_cpu_seconds_total", "a:80")
OTHERS = shop_series("http_request_duration_seconds_p99", "z:80")
HITS = SeriesKey.of("tools", "redis_hit_ratio", {"tool": "redis", "target": "cache-1"})
SLOW = SeriesKey.of("tools", "shop_request_duration_mean_seconds", {"tool": "redis", "target": "cache-1"})
OTHER_CACHE = SeriesKey.of("tools", "redis_hit_ratio", {"tool": "redis", "target": "cache-2"})
UNITS = {
    ERRORS: ("1/s", "rate"), LATENCY: ("s", "gauge"), OTHERS: ("s", "gauge"), SLOW: ("s", "gauge"),
    HITS: ("ratio", "gauge"), OTHER_CACHE: ("ratio", "gauge"),
}  # fmt: skip


def info(key):
    """Return unit and kind of a series."""
    return SeriesInfo(key, *UNITS.get(key, ("", "gauge")))


def watched_series(*keys, gone=()):
    """Return a live state with these series; those in `gone` are no longer watched."""
    live, n = LiveState(), len(keys)
    watched = np.array([key not in gone for key in keys], np.bool_)
    tick_result = TickResult(
        keys, tick_scores("p", START, np.ones(n)), (), np.empty(0, np.int64), np.zeros(n, np.int64), watched,
        {}, complete=True,
    )  # fmt: skip
    live.set_source_status(SourceStatus("p", SourceState.UP, 15.0))
    live.publish_tick(tick_result, 15.0, (), info)
    return live


@pytest.fixture
def incident_action():
    """Return ledger and incidents of an incident of one shop, and the action that it caused."""
    incidents, ledger = FakeIncidents(), FakeLedger(FakeClock())
    incident = Incident(
        ulid(1), START, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False,
        (entity_of(LATENCY),), (),
    )  # fmt: skip
    incidents.save_incidents([incident])
    ledger.save_recommendation(make_recommendation(ulid(2), incident_id=incident.id), "proposed", "trimtab")
    return ledger, incidents, make_action(ulid(3), recommendation_id=ulid(2))


def test_latencies_and_errors_of_the_incident_are_guarded(incident_action):
    """Latencies and errors of the incident's entities are guarded, errors first; other series are not."""
    ledger, incidents, action = incident_action
    guarded = GuardedSeries(
        ledger, incidents, watched_series(CPU, LATENCY, OTHERS, ERRORS), FakeKeyValueStore()
    )(action)
    assert guarded == (
        GuardedMetric(ERRORS.id, str(ERRORS), False),
        GuardedMetric(LATENCY.id, str(LATENCY), False),
    )


def test_an_unwatched_series_is_not_guarded(incident_action):
    """A series that is no longer watched is not guarded."""
    ledger, incidents, action = incident_action
    live = watched_series(LATENCY, ERRORS, gone=(ERRORS,))
    assert [one.series_id for one in GuardedSeries(ledger, incidents, live, FakeKeyValueStore())(action)] == [
        LATENCY.id
    ]


def test_guarded_series_of_an_action_are_fixed(incident_action):
    """The guarded series of an action stay the same when other series appear or leave."""
    ledger, incidents, action = incident_action
    guarding = GuardedSeries(ledger, incidents, watched_series(LATENCY), FakeKeyValueStore())
    first = guarding(action)
    guarding.live = watched_series(ERRORS)
    assert guarding(action) == first
    assert guarding(make_action(ulid(4), recommendation_id=ulid(2)))[0].series_id == ERRORS.id


def make_guarded_scaling(ledger, incidents, live, memory, *loads):
    """Return the guarded series of a capacity change that follows these loads."""
    guarding = GuardedSeries(ledger, incidents, live, memory)
    guarding.load_series = {"redis/cache-1/maxmemory": tuple(key.id for key in loads)}
    return guarding


def test_guarded_series_of_a_capacity_change_are_stored(incident_action):
    """The guarded series of a capacity change are stored and used after a restart."""
    ledger, incidents, action = incident_action
    action, memory = replace(action, recommendation_id=None), FakeKeyValueStore()
    first = make_guarded_scaling(ledger, incidents, watched_series(LATENCY, ERRORS, OTHERS), memory, CPU)(
        action
    )
    assert first == ()  # the load is not watched
    first = make_guarded_scaling(
        ledger, incidents, watched_series(LATENCY, ERRORS, CPU, OTHERS), memory, CPU
    )(action)
    assert [one.series_id for one in first] == [ERRORS.id, LATENCY.id]
    assert GuardedSeries(ledger, incidents, LiveState(), memory)(action) == first


def test_guarded_series_are_not_fixed_during_start_up(incident_action):
    """Guarded series are chosen again while sources start and while the load is unknown."""
    ledger, incidents, action = incident_action
    action = replace(action, recommendation_id=None)
    guarding = make_guarded_scaling(ledger, incidents, LiveState(), FakeKeyValueStore())
    assert guarding(action) == ()
    guarding.live = watched_series(LATENCY, HITS, CPU)
    guarding.live.set_source_status(SourceStatus("q", SourceState.STARTING, 15.0))
    assert [one.series_id for one in guarding(action)] == [HITS.id]
    guarding.live.update_source_status("q", state=SourceState.UNKNOWN)
    assert [one.series_id for one in guarding(action)] == [
        HITS.id
    ]  # the load that it follows is not known yet
    guarding.load_series = {"redis/cache-1/maxmemory": (CPU.id,)}
    assert [one.series_id for one in guarding(action)] == [HITS.id, LATENCY.id]


def test_number_of_guarded_series_is_limited(incident_action):
    """At most MAX_METRICS series are guarded; those of the entities hit first come first."""
    ledger, incidents, action = incident_action
    keys = [shop_series("http_request_duration_seconds_p99", f"h{i:02}:80") for i in range(30)]
    entities = tuple(entity_of(key) for key in reversed(keys))
    incidents.save_incidents([
        Incident(
            ulid(1), START, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False, entities, ()
        )
    ])  # fmt: skip
    guarded = GuardedSeries(ledger, incidents, watched_series(*keys), FakeKeyValueStore())(action)
    assert [one.series_id for one in guarded] == [key.id for key in reversed(keys)][:MAX_METRICS]


@pytest.mark.parametrize(
    "changed",
    [{"recommendation_id": None}, {"recommendation_id": ulid(9)}, {"recommendation_id": ulid(5)}],
    ids=["by hand", "gone", "of no incident"],
)
def test_without_an_incident_the_target_is_guarded(incident_action, changed):
    """Without an incident the tool's own metrics of the target are guarded."""
    ledger, incidents, action = incident_action
    ledger.save_recommendation(make_recommendation(ulid(5)), "proposed", "trimtab")
    guarding = GuardedSeries(
        ledger, incidents, watched_series(LATENCY, HITS, SLOW, CPU, OTHER_CACHE), FakeKeyValueStore()
    )
    assert guarding(make_action(action.id, **changed)) == (
        GuardedMetric(SLOW.id, str(SLOW), False), GuardedMetric(HITS.id, str(HITS), True)
    )  # fmt: skip


def test_target_metrics_come_first(incident_action):
    """Metrics of the target come before those of the incident's other entities."""
    ledger, incidents, action = incident_action
    guarded = GuardedSeries(ledger, incidents, watched_series(ERRORS, HITS), FakeKeyValueStore())(action)
    assert [one.series_id for one in guarded] == [HITS.id, ERRORS.id]


def test_choices_of_old_actions_are_dropped(incident_action):
    """The choices of the newest 100 actions are kept."""
    ledger, incidents, _ = incident_action
    guarding = GuardedSeries(ledger, incidents, watched_series(LATENCY), FakeKeyValueStore())
    for number in range(150):
        guarding(make_action(ulid(100 + number), recommendation_id=ulid(2)))
    assert len(guarding._chosen) == 100
    assert ulid(249) in guarding._chosen
