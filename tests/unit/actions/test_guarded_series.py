"""What must not get worse beside an action's own figure."""

from dataclasses import replace

import numpy as np
import pytest

from tests.builders.actions import make_action, make_recommendation
from tests.builders.series import START, tick_scores
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_control_loop import FakeIncidents, FakeLedger
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock
from trimtab.engine.actions.decision_contracts import GuardrailMetric
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


def series(metric, instance, **labels):
    """A series of a shop."""
    return SeriesKey.of("p", metric, {"job": "shop", "instance": instance, **labels})


LATENCY = series("http_request_duration_seconds_p99", "a:80")
ERRORS = series("http_requests_total", "a:80", code="500")
CPU = series("process_cpu_seconds_total", "a:80")
OTHERS = series("http_request_duration_seconds_p99", "z:80")
HITS = SeriesKey.of("tools", "redis_hit_ratio", {"tool": "redis", "target": "cache-1"})
SLOW = SeriesKey.of("tools", "shop_request_duration_mean_seconds", {"tool": "redis", "target": "cache-1"})
OTHER_CACHE = SeriesKey.of("tools", "redis_hit_ratio", {"tool": "redis", "target": "cache-2"})
UNITS = {
    ERRORS: ("1/s", "rate"), LATENCY: ("s", "gauge"), OTHERS: ("s", "gauge"), SLOW: ("s", "gauge"),
    HITS: ("ratio", "gauge"), OTHER_CACHE: ("ratio", "gauge"),
}  # fmt: skip


def info(key):
    """Unit and kind as a source tells them."""
    return SeriesInfo(key, *UNITS.get(key, ("", "gauge")))


def watching(*keys, gone=()):
    """A live view of these series; `gone` have left."""
    live, n = LiveState(), len(keys)
    shown = np.array([key not in gone for key in keys], np.bool_)
    sensed = TickResult(
        keys, tick_scores("p", START, np.ones(n)), (), np.empty(0, np.int64), np.zeros(n, np.int64), shown,
        {}, complete=True,
    )  # fmt: skip
    live.set_source_status(SourceStatus("p", SourceState.UP, 15.0))
    live.publish_tick(sensed, 15.0, (), info)
    return live


@pytest.fixture
def made():
    """An incident of one shop, its recommendation, and the action that came of it."""
    incidents, ledger = FakeIncidents(), FakeLedger(FakeClock())
    incident = Incident(
        ulid(1), START, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False,
        (entity_of(LATENCY),), (),
    )  # fmt: skip
    incidents.save_incidents([incident])
    ledger.save_recommendation(make_recommendation(ulid(2), incident_id=incident.id), "proposed", "trimtab")
    return ledger, incidents, make_action(ulid(3), recommendation_id=ulid(2))


def test_latencies_and_errors_of_the_incident_are_guarded(made):
    """Not its CPU, and not what another shop does; less is better; errors stand first."""
    ledger, incidents, action = made
    guarded = GuardedSeries(ledger, incidents, watching(CPU, LATENCY, OTHERS, ERRORS), FakeKeyValueStore())(
        action
    )
    assert guarded == (
        GuardrailMetric(ERRORS.id, str(ERRORS), False),
        GuardrailMetric(LATENCY.id, str(LATENCY), False),
    )


def test_what_is_not_watched_now_guards_nothing(made):
    """A series that left would have no samples."""
    ledger, incidents, action = made
    live = watching(LATENCY, ERRORS, gone=(ERRORS,))
    assert [one.series_id for one in GuardedSeries(ledger, incidents, live, FakeKeyValueStore())(action)] == [
        LATENCY.id
    ]


def test_an_action_is_judged_by_the_same_series_to_its_end(made):
    """What comes and goes meanwhile changes nothing."""
    ledger, incidents, action = made
    guarding = GuardedSeries(ledger, incidents, watching(LATENCY), FakeKeyValueStore())
    first = guarding(action)
    guarding.live = watching(ERRORS)
    assert guarding(action) == first
    assert guarding(make_action(ulid(4), recommendation_id=ulid(2)))[0].series_id == ERRORS.id


def scaling(ledger, incidents, live, memory, *loads):
    """The series of a step for a load, which these series are, and what guards it."""
    guarding = GuardedSeries(ledger, incidents, live, memory)
    guarding.load_series = {"redis/cache-1/maxmemory": tuple(key.id for key in loads)}
    return guarding


def test_a_step_for_a_load_is_judged_by_its_neighbours_over_a_restart(made):
    """Before anything is watched again, and before it is known anew which load it follows."""
    ledger, incidents, action = made
    action, memory = replace(action, recommendation_id=None), FakeKeyValueStore()
    first = scaling(ledger, incidents, watching(LATENCY, ERRORS, OTHERS), memory, CPU)(action)
    assert first == ()  # the load is not watched
    first = scaling(ledger, incidents, watching(LATENCY, ERRORS, CPU, OTHERS), memory, CPU)(action)
    assert [one.series_id for one in first] == [ERRORS.id, LATENCY.id]
    assert GuardedSeries(ledger, incidents, LiveState(), memory)(action) == first


def test_a_choice_is_not_settled_while_the_engine_starts(made):
    """What is known then may be a part only: of an engine that ended before the first check."""
    ledger, incidents, action = made
    action = replace(action, recommendation_id=None)
    guarding = scaling(ledger, incidents, LiveState(), FakeKeyValueStore())
    assert guarding(action) == ()
    guarding.live = watching(LATENCY, HITS, CPU)
    guarding.live.set_source_status(SourceStatus("q", SourceState.STARTING, 15.0))
    assert [one.series_id for one in guarding(action)] == [HITS.id]
    guarding.live.update_source_status("q", state=SourceState.UNKNOWN)
    assert [one.series_id for one in guarding(action)] == [HITS.id]  # which load it follows is not known yet
    guarding.load_series = {"redis/cache-1/maxmemory": (CPU.id,)}
    assert [one.series_id for one in guarding(action)] == [HITS.id, LATENCY.id]


def test_there_are_few_of_them(made):
    """However many the incident touches: the first things hit count first."""
    ledger, incidents, action = made
    keys = [series("http_request_duration_seconds_p99", f"h{i:02}:80") for i in range(30)]
    hit = tuple(entity_of(key) for key in reversed(keys))
    incidents.save_incidents([
        Incident(ulid(1), START, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False, hit, ())
    ])  # fmt: skip
    guarded = GuardedSeries(ledger, incidents, watching(*keys), FakeKeyValueStore())(action)
    assert [one.series_id for one in guarded] == [key.id for key in reversed(keys)][:MAX_METRICS]


@pytest.mark.parametrize(
    "changed",
    [{"recommendation_id": None}, {"recommendation_id": ulid(9)}, {"recommendation_id": ulid(5)}],
    ids=["by hand", "gone", "of no incident"],
)
def test_without_an_incident_the_target_is_guarded(made, changed):
    """What the tool itself tells of it, where more hits and less of all else is better, and nobody else."""
    ledger, incidents, action = made
    ledger.save_recommendation(make_recommendation(ulid(5)), "proposed", "trimtab")
    guarding = GuardedSeries(
        ledger, incidents, watching(LATENCY, HITS, SLOW, CPU, OTHER_CACHE), FakeKeyValueStore()
    )
    assert guarding(make_action(action.id, **changed)) == (
        GuardrailMetric(SLOW.id, str(SLOW), False), GuardrailMetric(HITS.id, str(HITS), True)
    )  # fmt: skip


def test_the_target_stands_before_what_its_incident_touches(made):
    """A change is judged by what it acts on first."""
    ledger, incidents, action = made
    guarded = GuardedSeries(ledger, incidents, watching(ERRORS, HITS), FakeKeyValueStore())(action)
    assert [one.series_id for one in guarded] == [HITS.id, ERRORS.id]


def test_few_actions_are_kept_in_mind(made):
    """The newest."""
    ledger, incidents, _ = made
    guarding = GuardedSeries(ledger, incidents, watching(LATENCY), FakeKeyValueStore())
    for number in range(150):
        guarding(make_action(ulid(100 + number), recommendation_id=ulid(2)))
    assert len(guarding._chosen) == 100
    assert ulid(249) in guarding._chosen
