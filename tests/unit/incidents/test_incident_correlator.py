"""Grouping of anomalies into incidents: membership, publication and end of an incident."""

import json
from dataclasses import replace

import pytest

from tests.builders.series import SECOND, START
from tests.fakes.fake_cluster import METRICS, FakeCluster, service_keys
from trimtab.engine.incidents.incident_correlator import IncidentCorrelator
from trimtab.engine.types import (
    Change,
    ChangeKind,
    Direction,
    IncidentState,
    PatternMatch,
    SeriesInfo,
    SeriesKey,
    Severity,
)

JOBS = tuple(f"svc{i}" for i in range(20))


@pytest.fixture
def cluster():
    return FakeCluster(service_keys("cache", "web", *JOBS))


def instance_series(cluster, job, instance=0, n=6):
    """Return the first n series of an instance."""
    return [key for key in cluster.keys if f'instance="{job}-{instance}:9000"' in str(key)][:n]


def test_series_of_one_entity_are_one_incident(cluster):
    """Anomalies of one entity form one incident with a readable title."""
    keys = instance_series(cluster, "cache", n=4)
    cluster.tick(keys[0], score=2.5)
    cluster.tick(keys[1], score=2.5)
    cluster.tick(*keys[2:])
    (incident,) = cluster.current_incidents()
    assert incident.title == (
        "cache-0: evicted keys far above normal, cache hit ratio far up, heap above normal, 4 series, "
        "since 00:00 UTC"
    )
    assert incident.entities == ("cache/cache-0:9000",)
    assert len(incident.anomaly_ids) == 4
    assert (incident.state, incident.end, incident.user_facing) == (IncidentState.OPEN, None, True)
    assert incident.start == START + 5 * SECOND


def test_single_weak_anomaly_is_a_late_low_incident(cluster):
    """A single weak anomaly becomes an incident of low severity after three minutes."""
    (key,) = instance_series(cluster, "cache", n=1)
    cluster.tick(key)
    cluster.wait(170)
    cluster.close(key)
    cluster.wait(400)
    assert cluster.latest == {}
    cluster.tick(key, seconds=3600)
    cluster.wait(185)
    (incident,) = cluster.current_incidents()
    assert incident.level is Severity.LOW


@pytest.mark.parametrize("n", [2, 3, 8, 20])
def test_more_series_are_more_severe(n):
    """Severity increases with the number of series and their scores, and stays within 0 and 1."""
    severities = []
    for n_series, score in ((n - 1, 1.5), (n, 1.5), (n, 3.0)):
        cluster = FakeCluster(service_keys(*JOBS, metrics=[f"m{i}" for i in range(30)]))
        cluster.tick(*instance_series(cluster, "svc3", n=n_series), score=score)
        cluster.wait(200)
        severities.append(cluster.current_incidents()[0].severity)
    assert 0.0 < severities[0] < severities[1] < severities[2] <= 1.0


def test_unrelated_services_are_separate_incidents(cluster):
    """Strong groups of anomalies of two services, hours apart, are two incidents."""
    cluster.tick(*instance_series(cluster, "svc1", n=5))
    cluster.wait(100)
    cluster.close()
    cluster.tick(*instance_series(cluster, "svc9", n=5), seconds=7200)
    assert len(cluster.current_incidents()) == 2


def test_simultaneous_failures_are_one_incident(cluster):
    """Two services that fail within seconds are one incident."""
    cluster.tick(*instance_series(cluster, "svc1"), score=2.0)
    first = cluster.current_incidents()[0]
    cluster.tick(*instance_series(cluster, "svc9")[:2], score=1.5)
    cluster.tick(*instance_series(cluster, "svc9")[2:], score=2.0)
    (incident,) = cluster.current_incidents()
    assert incident.id == first.id
    assert set(incident.entities) == {"svc1/svc1-0:9000", "svc9/svc9-0:9000"}
    assert len(incident.anomaly_ids) == 12


def test_co_moving_metrics_count_less(cluster):
    """Metrics that often moved together are weaker evidence."""
    keys = instance_series(cluster, "svc1", n=3)
    severities = []
    for _ in range(12):
        cluster.tick(*keys, score=1.5, seconds=7200)
        cluster.wait(10)
        cluster.close()
        cluster.wait(2200)
        severities.append(cluster.current_incidents()[-1].severity)
    assert severities[-1] < severities[0] - 0.05


def test_learned_co_movement_links_entities():
    """A single series joins a distant incident only if the entities often moved together."""

    def count_drafts(times):
        cluster = FakeCluster(service_keys(*JOBS, metrics=[f"m{i}" for i in range(60)]))
        for _ in range(times):
            cluster.tick(*instance_series(cluster, "svc1", n=9), seconds=9000, score=2.0)
            cluster.tick(*instance_series(cluster, "svc9", n=9), score=2.0)
            cluster.wait(10)
            cluster.close()
            cluster.wait(2200)
        cluster.tick(*instance_series(cluster, "svc1", n=3), seconds=9000, score=2.0)
        cluster.tick(*instance_series(cluster, "svc9", n=1), seconds=120, score=2.0)
        return len(cluster.correlator.drafts)

    assert (count_drafts(0), count_drafts(6)) == (2, 1)


def test_an_incident_ends_and_is_resolved_after_quiet(cluster):
    """An incident ends with its last anomaly and is resolved five minutes later."""
    keys = instance_series(cluster, "cache")
    cluster.tick(*keys)
    cluster.close(*keys[:3], seconds=60)
    assert cluster.current_incidents()[0].end is None
    cluster.close(seconds=60)
    ended = cluster.now
    assert (cluster.current_incidents()[0].end, cluster.current_incidents()[0].state) == (
        ended,
        IncidentState.OPEN,
    )
    cluster.wait(295)
    assert cluster.current_incidents()[0].state is IncidentState.OPEN
    cluster.wait(10)
    assert (cluster.current_incidents()[0].end, cluster.current_incidents()[0].state) == (
        ended,
        IncidentState.RESOLVED,
    )


def test_incident_reopens_within_half_an_hour(cluster):
    """An incident reopens within half an hour; after that a new incident starts."""
    keys = instance_series(cluster, "cache")
    cluster.tick(*keys)
    cluster.close(seconds=30)
    cluster.wait(600)
    assert cluster.current_incidents()[0].state is IncidentState.RESOLVED
    cluster.tick(*keys)
    assert [(i.state, i.end) for i in cluster.current_incidents()] == [(IncidentState.OPEN, None)]
    cluster.close(seconds=30)
    cluster.wait(2400)
    cluster.tick(*keys)
    assert [i.state for i in cluster.current_incidents()] == [IncidentState.RESOLVED, IncidentState.OPEN]


@pytest.mark.parametrize(
    ("jobs", "part", "mass"),
    [
        (30, 0.4, True),  # ratio of all series
        (30, 0.2, False),
        (1, 0.4, False),  # a single entity is no mass event
    ],
)
def test_a_mass_event_is_one_incident(jobs, part, mass):
    """Anomalies in 30 % of the series of several entities are one mass event."""
    cluster = FakeCluster(service_keys(*(f"svc{i}" for i in range(jobs)), instances=1))
    cluster.tick(*instance_series(cluster, "svc0", n=2), score=2.0)
    per_entity = round(part * len(METRICS))
    cluster.tick(*[key for i in range(jobs) for key in instance_series(cluster, f"svc{i}", n=per_entity)])
    (incident,) = cluster.current_incidents()
    assert incident.mass is mass
    if mass:
        assert incident.title == "40% of all series at once: 120 series of 30 entities, since 00:00 UTC"
        assert incident.level in {Severity.HIGH, Severity.CRITICAL}


def test_anomalies_in_a_whole_source_are_a_mass_event():
    """Anomalies in all series of one source are a mass event."""
    cluster = FakeCluster([*service_keys(*JOBS), *service_keys("host", instances=1, source="host")])
    cluster.tick(*[key for key in cluster.keys if key.source == "host"])
    (incident,) = cluster.current_incidents()
    assert incident.mass
    cluster.tick(*instance_series(cluster, "svc5", n=5), seconds=400)
    assert [i.mass for i in cluster.current_incidents()] == [True, False]


@pytest.mark.parametrize(
    ("n", "mass"), [(4, False), (8, True)], ids=["a few of many series", "most of its series"]
)
def test_restart_makes_no_false_mass_event(n, mass):
    """After a restart, mass ratios use the previous source sizes until all sources are back."""
    jobs = JOBS[:3] if mass else JOBS
    few = service_keys("cache", "web", "db", instances=1, source="tools")
    before = FakeCluster([*service_keys(*jobs, instances=1), *few])
    before.tick(*[key for job in JOBS[:3] for key in instance_series(before, job, n=n)])
    restored = IncidentCorrelator(5.0)
    restored.restore(json.loads(json.dumps(before.correlator.state())))
    FakeCluster(few, restored).wait(10)
    assert any(draft.mass for draft in restored.drafts.values()) is mass


def test_state_without_sizes():
    """A state without source sizes is restored; ratios then use the current series."""
    state = IncidentCorrelator(5.0).state() | {"mass": []}
    correlator = IncidentCorrelator(5.0)
    correlator.restore(state)
    cluster = FakeCluster(service_keys(*JOBS, instances=1), correlator)
    cluster.tick(*cluster.keys[::2])
    assert cluster.current_incidents()[0].mass


def test_processes_of_one_machine_are_no_mass_event():
    """Anomalies of several processes of one machine are not a mass event."""
    metrics = ("host_process_cpu_ratio", "host_process_resident_memory_bytes")
    keys = [SeriesKey.of("host", m, {"name": f"p{i}"}) for i in range(15) for m in metrics]
    cluster = FakeCluster(keys)
    cluster.tick(*keys[:15], score=2.0)
    (incident,) = cluster.current_incidents()
    assert not incident.mass
    assert incident.suspects


def test_unchanged_incident_is_not_republished(cluster):
    """An unchanged incident is not published at each tick."""
    cluster.tick(*instance_series(cluster, "cache"), score=3.0)
    before = len(cluster.history)
    cluster.wait(600)
    assert len(cluster.history) - before <= 3


def test_title_names_missing_series(cluster):
    """The title names missing series."""
    for key in instance_series(cluster, "web", n=3):
        cluster.tick(key, direction=Direction.ABSENT, score=2.0)
    assert cluster.current_incidents()[0].title.startswith(
        "web-0: evicted keys missing, cache hit ratio missing"
    )


def test_changes_near_an_incident(cluster):
    """Changes of affected entities within the half hour before an incident are listed, newest first."""

    def deploy(number, before_s, **labels):
        time = START - before_s * SECOND
        return Change(f"c{number}", time, ChangeKind.DEPLOY, "v2", "ci", labels)

    for change in (
        deploy(1, 60, job="cache", version="2"),
        deploy(2, 60, job="web"),  # another service
        deploy(3, 7200, job="cache"),  # too old
        deploy(4, 30),  # no labels
    ):
        cluster.correlator.add_change(change)
    labels = {"job": "cache", "instance": "cache-0:9000", "core": "1"}
    restart = cluster.correlator.add_restart(START, labels, "cache/cache-0")
    assert (restart.kind, restart.by, restart.labels) == (
        ChangeKind.RESTART, "seen", {"job": "cache", "instance": "cache-0:9000"},
    )  # fmt: skip
    assert cluster.correlator.add_restart(START + SECOND, labels, "cache/cache-0") is None
    cluster.tick(*instance_series(cluster, "cache"))
    assert cluster.current_incidents()[0].change_ids == (restart.id, "c4", "c1")


def test_patterns_of_affected_entities_are_listed(cluster):
    """A pattern of an affected entity is listed once, in its latest version."""
    match = PatternMatch("cache_thrash", "cache/cache-0:9000", 0.7, START, ("Hit ratio fell.",))
    cluster.tick(*instance_series(cluster, "cache"), patterns=[match, replace(match, entity="db/other")])
    cluster.tick(patterns=[replace(match, confidence=0.9)])
    cluster.tick(instance_series(cluster, "cache", n=7)[-1])
    assert [(p.name, p.confidence) for p in cluster.current_incidents()[0].patterns] == [
        ("cache_thrash", 0.9)
    ]


def test_late_change_republishes_the_incident(cluster):
    """A late change event republishes the incident it concerns, and no other."""
    cluster.tick(*instance_series(cluster, "cache", n=3), score=3.0)
    cluster.wait(60)
    start = cluster.current_incidents()[0].start
    deploy = Change("c1", start - SECOND, ChangeKind.DEPLOY, "cache 2", "ci", {"job": "cache"})
    cluster.correlator.add_change(replace(deploy, id="c2", labels={"job": "svc1"}))
    assert cluster.wait(10) == []
    cluster.correlator.add_change(deploy)
    (republished,) = cluster.wait(10)
    assert republished.change_ids == ("c1",)


def test_similar_past_incidents_are_listed(cluster):
    """Similar past incidents are listed."""
    for job in ("cache", "web", "cache"):
        cluster.tick(*instance_series(cluster, job, n=8), score=3.0, seconds=9000)
        cluster.close(seconds=60)
        cluster.wait(2400)
    first, second, third = cluster.current_incidents()
    assert (first.similar, second.similar, third.similar) == ((), (), (first.id,))


def test_state_round_trip():
    """A restored correlator publishes the same incidents as one that kept running."""
    results = []
    for restart in (False, True):
        cluster = FakeCluster(service_keys("cache", "web", *JOBS))
        cluster.tick(*instance_series(cluster, "cache", n=4), score=2.0, value=float("nan"))
        cluster.close(instance_series(cluster, "cache", n=1)[0])
        if restart:
            stored = json.loads(json.dumps(cluster.correlator.state()))
            cluster.correlator = IncidentCorrelator(5.0)
            cluster.correlator.restore(stored)
            cluster.correlator.step(cluster.now, [], [SeriesInfo(key) for key in cluster.keys])
        cluster.tick(*instance_series(cluster, "cache", n=7)[4:], score=2.5)
        cluster.tick(*instance_series(cluster, "web", n=7), score=2.5)
        cluster.close(seconds=60)
        cluster.wait(700)
        results.append(cluster.latest)
    assert results[0] == results[1]


def test_stored_incident_continues(cluster):
    """Without a saved state, an open incident continues from the store."""
    keys = instance_series(cluster, "cache", n=4)
    cluster.tick(*keys, score=2.0)
    (stored,) = cluster.current_incidents()
    restarted = FakeCluster(cluster.keys)
    restarted.now = cluster.now
    restarted.correlator.follow_stored(stored, cluster.open_anomalies.values())
    restarted.correlator.close_missing("prometheus", [cluster.open_anomalies[keys[0]].id], cluster.now)
    restarted.open_anomalies = {keys[0]: cluster.open_anomalies[keys[0]]}
    restarted.tick(instance_series(cluster, "cache", n=5)[-1], score=2.0)
    (incident,) = restarted.current_incidents()
    assert (incident.id, len(incident.anomaly_ids), incident.end) == (stored.id, 5, None)
    restarted.close(seconds=30)
    assert restarted.current_incidents()[0].end == restarted.now


def test_unknown_series_is_added():
    """An unknown series is added from the labels of its anomaly."""
    cluster = FakeCluster([])
    cluster.tick(SeriesKey.of("x", "m", {"job": "a"}), SeriesKey.of("x", "n", {"job": "a"}), score=4.0)
    assert cluster.current_incidents()[0].entities == ("a",)
    cluster.correlator.forget_series([SeriesKey.of("x", "m", {"job": "a"}).id])
    assert len(cluster.correlator.directory) == 1
