"""Anomalies become incidents: what belongs together, when it is told, how it ends."""

import json
from dataclasses import replace

import pytest

from tests.builders.series import SECOND, START
from tests.fakes.fake_cluster import METRICS, Town, fleet
from trimtab.engine.incidents.incident_correlator import Incidents
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
def town():
    return Town(fleet("cache", "web", *JOBS))


def of(town, job, instance=0, n=6):
    """The first n series of an instance."""
    return [key for key in town.keys if f'instance="{job}-{instance}:9000"' in str(key)][:n]


def test_series_of_one_entity_are_one_incident(town):
    """What moves together in one place is told once, as it grows, with a title that a person would say."""
    keys = of(town, "cache", n=4)
    town.tick(keys[0], score=2.5)
    town.tick(keys[1], score=2.5)
    town.tick(*keys[2:])
    (incident,) = town.going()
    assert incident.title == (
        "cache-0: evicted keys far above usual, cache hit ratio far up, heap above usual, 4 series, "
        "since 00:00 UTC"
    )
    assert incident.entities == ("cache/cache-0:9000",)
    assert len(incident.anomaly_ids) == 4
    assert (incident.state, incident.end, incident.user_facing) == (IncidentState.OPEN, None, True)
    assert incident.start == START + 5 * SECOND


def test_a_single_weak_anomaly_waits_and_is_low(town):
    """Over before three minutes it is no incident at all; longer it is one of low severity."""
    (key,) = of(town, "cache", n=1)
    town.tick(key)
    town.wait(170)
    town.end(key)
    town.wait(400)
    assert town.told == {}
    town.tick(key, seconds=3600)
    town.wait(185)
    (incident,) = town.going()
    assert incident.level is Severity.LOW


@pytest.mark.parametrize("n", [2, 3, 8, 20])
def test_more_series_are_more_severe(n):
    """Severity grows with breadth and size, and stays within 0 and 1."""
    severities = []
    for some, score in ((n - 1, 1.5), (n, 1.5), (n, 3.0)):
        town = Town(fleet(*JOBS, metrics=[f"m{i}" for i in range(30)]))
        town.tick(*of(town, "svc3", n=some), score=score)
        town.wait(200)
        severities.append(town.going()[0].severity)
    assert 0.0 < severities[0] < severities[1] < severities[2] <= 1.0


def test_unrelated_places_stay_apart(town):
    """Two strong groups of different services, hours apart, are two incidents."""
    town.tick(*of(town, "svc1", n=5))
    town.wait(100)
    town.end()
    town.tick(*of(town, "svc9", n=5), seconds=7200)
    assert len(town.going()) == 2


def test_two_strong_groups_at_once_are_one(town):
    """That two services break within seconds is no accident: one incident, the second is merged."""
    town.tick(*of(town, "svc1"), score=2.0)
    first = town.going()[0]
    town.tick(*of(town, "svc9")[:2], score=1.5)
    town.tick(*of(town, "svc9")[2:], score=2.0)
    (incident,) = town.going()
    assert incident.id == first.id
    assert set(incident.entities) == {"svc1/svc1-0:9000", "svc9/svc9-0:9000"}
    assert len(incident.anomaly_ids) == 12


def test_what_always_moves_together_counts_less(town):
    """Metrics that moved together in small events before are weaker evidence the next time."""
    keys = of(town, "svc1", n=3)
    severities = []
    for _ in range(12):
        town.tick(*keys, score=1.5, seconds=7200)
        town.wait(10)
        town.end()
        town.wait(2200)
        severities.append(town.going()[-1].severity)
    assert severities[-1] < severities[0] - 0.05


def test_learnt_partners_are_linked():
    """A lone series joins far away trouble only where the two entities moved together often before."""

    def world(lessons):
        town = Town(fleet(*JOBS, metrics=[f"m{i}" for i in range(60)]))
        for _ in range(lessons):
            town.tick(*of(town, "svc1", n=9), seconds=9000, score=2.0)
            town.tick(*of(town, "svc9", n=9), score=2.0)
            town.wait(10)
            town.end()
            town.wait(2200)
        town.tick(*of(town, "svc1", n=3), seconds=9000, score=2.0)
        town.tick(*of(town, "svc9", n=1), seconds=120, score=2.0)
        return len(town.incidents.cases)

    assert (world(0), world(6)) == (2, 1)


def test_an_incident_ends_and_is_resolved_after_quiet(town):
    """`end` is the end of its last anomaly; five quiet minutes later it is resolved by itself."""
    keys = of(town, "cache")
    town.tick(*keys)
    town.end(*keys[:3], seconds=60)
    assert town.going()[0].end is None
    town.end(seconds=60)
    ended = town.now
    assert (town.going()[0].end, town.going()[0].state) == (ended, IncidentState.OPEN)
    town.wait(295)
    assert town.going()[0].state is IncidentState.OPEN
    town.wait(10)
    assert (town.going()[0].end, town.going()[0].state) == (ended, IncidentState.RESOLVED)


def test_it_opens_again_when_the_same_entity_is_unusual_soon(town):
    """Within half an hour it is the same incident; later it is another one, with another id."""
    keys = of(town, "cache")
    town.tick(*keys)
    town.end(seconds=30)
    town.wait(600)
    assert town.going()[0].state is IncidentState.RESOLVED
    town.tick(*keys)
    assert [(i.state, i.end) for i in town.going()] == [(IncidentState.OPEN, None)]
    town.end(seconds=30)
    town.wait(2400)
    town.tick(*keys)
    assert [i.state for i in town.going()] == [IncidentState.RESOLVED, IncidentState.OPEN]


@pytest.mark.parametrize(
    ("jobs", "part", "mass"),
    [
        (30, 0.4, True),  # of everything
        (30, 0.2, False),
        (1, 0.4, False),  # one entity under load is no mass event
    ],
)
def test_a_mass_event_is_one_incident(jobs, part, mass):
    """From 30 % of the watched series of several entities on, it is one incident of a common cause."""
    town = Town(fleet(*(f"svc{i}" for i in range(jobs)), instances=1))
    town.tick(*of(town, "svc0", n=2), score=2.0)
    per_entity = round(part * len(METRICS))
    town.tick(*[key for i in range(jobs) for key in of(town, f"svc{i}", n=per_entity)])
    (incident,) = town.going()
    assert incident.mass is mass
    if mass:
        assert incident.title == "40% of all series at once: 120 series of 30 entities, since 00:00 UTC"
        assert incident.level in {Severity.HIGH, Severity.CRITICAL}


def test_a_jump_of_one_whole_source_is_a_mass_event():
    """All series of one source leap: a common cause, however small its part of all sources is."""
    town = Town([*fleet(*JOBS), *fleet("host", instances=1, source="host")])
    town.tick(*[key for key in town.keys if key.source == "host"])
    (incident,) = town.going()
    assert incident.mass
    town.tick(*of(town, "svc5", n=5), seconds=400)
    assert [i.mass for i in town.going()] == [True, False]


@pytest.mark.parametrize(
    ("n", "mass"), [(4, False), (8, True)], ids=["a few of many series", "most of its series"]
)
def test_a_restart_makes_no_mass_event_of_what_had_just_begun(n, mass):
    """Sources come one by one: until theirs is there, series count against what was watched before."""
    jobs = JOBS[:3] if mass else JOBS
    few = fleet("cache", "web", "db", instances=1, source="tools")
    before = Town([*fleet(*jobs, instances=1), *few])
    before.tick(*[key for job in JOBS[:3] for key in of(before, job, n=n)])
    incidents = Incidents(5.0)
    incidents.restore(json.loads(json.dumps(before.incidents.state())))
    Town(few, incidents).wait(10)
    assert any(case.mass for case in incidents.cases.values()) is mass


def test_a_state_of_before_sizes_were_known_is_read():
    """Then the shares are of what is watched now."""
    state = Incidents(5.0).state() | {"mass": []}
    incidents = Incidents(5.0)
    incidents.restore(state)
    town = Town(fleet(*JOBS, instances=1), incidents)
    town.tick(*town.keys[::2])
    assert town.going()[0].mass


def test_a_machine_under_load_is_no_mass_event():
    """Half of its series, of several processes, are one incident with suspects."""
    metrics = ("host_process_cpu_ratio", "host_process_resident_memory_bytes")
    keys = [SeriesKey.of("host", m, {"name": f"p{i}"}) for i in range(15) for m in metrics]
    town = Town(keys)
    town.tick(*keys[:15], score=2.0)
    (incident,) = town.going()
    assert not incident.mass
    assert incident.suspects


def test_quiet_growth_is_told_seldom(town):
    """An incident is told again where something of it changed, not at each tick."""
    town.tick(*of(town, "cache"), score=3.0)
    before = len(town.history)
    town.wait(600)
    assert len(town.history) - before <= 3


def test_one_that_is_missing_is_said_so(town):
    """The title says what is missing."""
    for key in of(town, "web", n=3):
        town.tick(key, direction=Direction.ABSENT, score=2.0)
    assert town.going()[0].title.startswith("web-0: evicted keys missing, cache hit ratio missing")


def test_changes_near_it_stand_beside_it(town):
    """Those that concern it within the half hour before, newest first; a restart is told once."""

    def deploy(number, before_s, **labels):
        time = START - before_s * SECOND
        return Change(f"c{number}", time, ChangeKind.DEPLOY, "v2", "ci", labels)

    for change in (
        deploy(1, 60, job="cache", version="2"),
        deploy(2, 60, job="web"),  # of something else
        deploy(3, 7200, job="cache"),  # long ago
        deploy(4, 30),  # unknown of what
    ):
        town.incidents.change(change)
    labels = {"job": "cache", "instance": "cache-0:9000", "core": "1"}
    restart = town.incidents.restarted(START, labels, "cache/cache-0")
    assert (restart.kind, restart.by, restart.labels) == (
        ChangeKind.RESTART, "seen", {"job": "cache", "instance": "cache-0:9000"},
    )  # fmt: skip
    assert town.incidents.restarted(START + SECOND, labels, "cache/cache-0") is None
    town.tick(*of(town, "cache"))
    assert town.going()[0].change_ids == (restart.id, "c4", "c1")


def test_patterns_are_of_the_incident_that_shows_them(town):
    """A pattern of a touched entity is added, once, as it stands last."""
    match = PatternMatch("cache_thrash", "cache/cache-0:9000", 0.7, START, ("Hit ratio fell.",))
    town.tick(*of(town, "cache"), patterns=[match, replace(match, entity="db/other")])
    town.tick(patterns=[replace(match, confidence=0.9)])
    town.tick(of(town, "cache", n=7)[-1])
    assert [(p.name, p.confidence) for p in town.going()[0].patterns] == [("cache_thrash", 0.9)]


def test_a_change_that_is_told_late_stands_beside_what_goes_on(town):
    """As soon as it is known, though nothing else changed; one that is of others tells nothing."""
    town.tick(*of(town, "cache", n=3), score=3.0)
    town.wait(60)
    began = town.going()[0].start
    deploy = Change("c1", began - SECOND, ChangeKind.DEPLOY, "cache 2", "ci", {"job": "cache"})
    town.incidents.change(replace(deploy, id="c2", labels={"job": "svc1"}))
    assert town.wait(10) == []
    town.incidents.change(deploy)
    (told,) = town.wait(10)
    assert told.change_ids == ("c1",)


def test_past_incidents_that_looked_alike_are_named(town):
    """The same trouble again names the one before; other trouble does not."""
    for job in ("cache", "web", "cache"):
        town.tick(*of(town, job, n=8), score=3.0, seconds=9000)
        town.end(seconds=60)
        town.wait(2400)
    first, second, third = town.going()
    assert (first.similar, second.similar, third.similar) == ((), (), (first.id,))


def test_state_goes_through_json_and_goes_on_the_same():
    """A restored one tells the same as one that was never stopped, open incidents included."""
    both = []
    for restart in (False, True):
        town = Town(fleet("cache", "web", *JOBS))
        town.tick(*of(town, "cache", n=4), score=2.0, value=float("nan"))
        town.end(of(town, "cache", n=1)[0])
        if restart:
            stored = json.loads(json.dumps(town.incidents.state()))
            town.incidents = Incidents(5.0)
            town.incidents.restore(stored)
            town.incidents.step(town.now, [], [SeriesInfo(key) for key in town.keys])
        town.tick(*of(town, "cache", n=7)[4:], score=2.5)
        town.tick(*of(town, "web", n=7), score=2.5)
        town.end(seconds=60)
        town.wait(700)
        both.append(town.told)
    assert both[0] == both[1]


def test_a_stored_incident_is_taken_up_again(town):
    """Without a state an open incident goes on from the store; what ended meanwhile ends."""
    keys = of(town, "cache", n=4)
    town.tick(*keys, score=2.0)
    (stored,) = town.going()
    again = Town(town.keys)
    again.now = town.now
    again.incidents.take_up(stored, town.open.values())
    again.incidents.still_open("prometheus", [town.open[keys[0]].id], town.now)
    again.open = {keys[0]: town.open[keys[0]]}
    again.tick(of(town, "cache", n=5)[-1], score=2.0)
    (incident,) = again.going()
    assert (incident.id, len(incident.anomaly_ids), incident.end) == (stored.id, 5, None)
    again.end(seconds=30)
    assert again.going()[0].end == again.now


def test_a_series_that_nobody_told_of_is_watched_from_its_anomaly_on():
    """An unknown series is placed by its labels."""
    town = Town([])
    town.tick(SeriesKey.of("x", "m", {"job": "a"}), SeriesKey.of("x", "n", {"job": "a"}), score=4.0)
    assert town.going()[0].entities == ("a",)
    town.incidents.forget([SeriesKey.of("x", "m", {"job": "a"}).id])
    assert len(town.incidents.watched) == 1
