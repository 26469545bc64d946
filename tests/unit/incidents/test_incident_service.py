"""Incidents, patterns and notices over ticks, failing stores and restarts."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.builders.series import SECOND, START, anomaly_of, tick_scores
from tests.contracts.event_store_contract import ulid
from tests.fakes.fake_control_loop import FakeIncidents
from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeStore
from trimtab.engine.detection.tick_result import Sensed
from trimtab.engine.errors import ConflictError, NotFoundError, StoreError
from trimtab.engine.incidents.incident_service import STATE, Judging
from trimtab.engine.types import (
    Change,
    ChangeKind,
    Incident,
    IncidentState,
    NoticeKind,
    SeriesInfo,
    SeriesKey,
    Severity,
    Silence,
)

KEYS = tuple(
    SeriesKey.of("p", metric, {"job": "shop", "instance": f"shop-{i}"})
    for i in range(8)
    for metric in ("http_request_duration_seconds_p99", "http_errors", "cpu")
)
STRONG = {"score": 6.0}


class Room:
    """A judging over memory, and the ticks that it is told."""

    def __init__(self):
        self.store, self.kept, self.memory = FakeStore(), StubbornIncidents(), FakeKeyValueStore()
        self.tick = 0
        self.silences, self.deaf = [], ""
        self.judging = self.started()

    def started(self):
        """As the engine starts it."""
        self.judging = Judging(self.store, self.kept, self.memory, silences=self._silences)
        self.judging.resume()
        return self.judging

    def _silences(self):
        if self.deaf:
            raise StoreError(self.deaf)
        return self.silences

    @property
    def now(self):
        return START + self.tick * 15 * SECOND

    def sense(self, *anomalies, keys=KEYS, source="p"):
        """A tick with these anomalies: told incidents and notices."""
        for anomaly in anomalies:
            self.store.save_anomaly(anomaly)
        slots = {key.id: slot for slot, key in enumerate(keys)}
        opened = {slots[a.series_id]: a.id for a in anomalies if a.end is None and a.series_id in slots}
        sensed = Sensed(
            keys, tick_scores(source, self.now, np.ones(len(keys))), anomalies, np.empty(0, np.int64),
            np.zeros(len(keys), np.int64), np.ones(len(keys), np.bool_), opened, certain=True,
        )  # fmt: skip
        told = self.judging.step(sensed, 15.0, SeriesInfo)
        self.tick += 1
        return told

    def quiet(self, ticks, **more):
        """So many ticks without news: all that was told."""
        told = [self.sense(**more) for _ in range(ticks)]
        return [i for incidents, _ in told for i in incidents], [n for _, notices in told for n in notices]

    def breaks(self, *places, **changed):
        """Anomalies that begin now, strong ones."""
        at = {"start": self.now, "peak_time": self.now, **STRONG, **changed}
        return [anomaly_of(KEYS[place], ulid(self.tick * 100 + place), **at) for place in places]


class StubbornIncidents(FakeIncidents):
    """A store that refuses while `broken` is set; counts how often it was asked to save."""

    def __init__(self):
        super().__init__()
        self.broken = None
        self.saves = 0

    def save_incidents(self, incidents):
        self.saves += 1
        if self.broken:
            raise StoreError(self.broken)
        super().save_incidents(incidents)


@pytest.fixture
def room():
    """Warm: every series was seen."""
    made = Room()
    made.quiet(5)
    return made


@pytest.fixture
def broken(room):
    """The room with one incident of three series of one shop; and the incident."""
    (incident,), _ = room.sense(*room.breaks(0, 1, 2))
    return room, incident


def test_what_belongs_together_is_kept_and_told(room):
    """Three series of one entity are one incident, in the store as it was told."""
    (incident,), _ = room.sense(*room.breaks(0, 1, 2))
    assert len(incident.anomaly_ids) == 3
    assert room.kept.incident(incident.id) == incident
    told, _ = room.quiet(30)
    assert {later.id for later in told} <= {incident.id}


def test_after_a_restart_it_is_the_same_incident(broken):
    """With its state: the same id, learnt figures go on, and nothing is told a second time."""
    room, incident = broken
    room.judging.remember()
    rate = room.judging.incidents.pace.series_seconds
    room.started()
    assert room.judging.incidents.pace.series_seconds == rate
    assert list(room.judging.incidents.cases) == [incident.id]
    told, notices = room.sense(*[replace(a, score=6.5) for a in room.store.anomalies()])
    assert [later.id for later in told] in ([], [incident.id])
    assert notices == []


def test_a_silence_of_people_holds_back_from_the_next_tick_on(room):
    """Nobody is told while it holds, over a restart, too; once it is ended, what still goes on is told."""
    room.silences = [Silence(ulid(1), ("*",), START, START + 3600 * SECOND, "ann")]
    _, notices = room.sense(*room.breaks(*range(24), score=9.0))
    assert notices == []
    room.deaf = "disk I/O error"
    assert room.quiet(2)[1] == []
    room.judging.remember()
    room.started()
    assert room.quiet(1)[1] == []
    room.deaf, room.silences = "", []
    assert [notice.kind for notice in room.quiet(1)[1]] == [NoticeKind.FIRING]


def test_without_a_state_it_is_taken_up_from_the_store(broken):
    """As after a first crash: its anomalies are the incident's, a further one joins it."""
    room, incident = broken
    room.started()
    case = room.judging.incidents.cases[incident.id]
    assert set(case.members) == set(incident.anomaly_ids)
    assert case.open == set(incident.anomaly_ids)


def test_every_series_is_known_before_the_first_anomaly(broken):
    """The state holds no series: a source tells all of its own before its first tick."""
    room, incident = broken
    room.judging.remember()
    judging = room.started()
    assert len(judging.incidents.watched) < len(KEYS)
    judging.went_on("p", KEYS, SeriesInfo, incident.anomaly_ids, room.now)
    assert len(judging.incidents.watched) == len(KEYS)
    assert judging.incidents.cases[incident.id].end is None
    room.quiet(2)
    assert len(judging.incidents.watched) == len(KEYS)


def test_what_is_not_open_any_more_has_ended(broken):
    """What a source does not know to be open ended while nobody looked, also where it begins anew."""
    room, incident = broken
    room.judging.remember()
    judging = room.started()
    judging.went_on("other", (), SeriesInfo, (), room.now)
    assert judging.incidents.cases[incident.id].end is None
    judging.went_on("p", KEYS, SeriesInfo, (), room.now)
    assert judging.incidents.cases[incident.id].end == room.now
    told, _ = room.quiet(30)
    assert told[-1].state is IncidentState.RESOLVED


@pytest.mark.parametrize(
    ("say", "state"),
    [
        (lambda said, i: said.acknowledge(i, "ann", "mine"), IncidentState.ACKNOWLEDGED),
        (lambda said, i: said.resolve(i, "ann", "mine"), IncidentState.RESOLVED),
    ],
    ids=["acknowledged", "resolved"],
)
def test_a_word_of_people_survives_a_kill(broken, say, state):
    """What was acknowledged after the state was taken counts more than the state."""
    room, incident = broken
    room.judging.remember()
    room.judging.say(say(room.judging.said, incident.id))
    room.started()
    case = room.judging.incidents.cases[incident.id]
    assert (case.state, case.acknowledged_by, case.note) == (state, "ann", "ann: mine")
    assert case.by_hand is (state is IncidentState.RESOLVED)
    for later in room.quiet(3)[0]:
        assert (later.state, later.acknowledged_by) == (state, "ann")


def test_what_came_since_the_state_survives_a_kill(broken):
    """Anomalies that joined and incidents that began later are those of the store."""
    room, incident = broken
    room.judging.remember()
    more, _ = room.sense(*room.breaks(3, 4, 5))
    known = {one.id: set(one.anomaly_ids) for one in [incident, *more]}
    room.started()
    followed = {one.id: set(one.members) for one in room.judging.incidents.cases.values()}
    assert followed == known


def test_one_that_was_merged_since_is_not_followed_again(room):
    """The state knows two, the store one of them as merged into the other."""
    first = Incident(
        ulid(1), room.now, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False, ("shop-0",),
        (ulid(500),),
    )  # fmt: skip
    second = replace(first, id=ulid(2), anomaly_ids=(ulid(503),))
    for place, name in ((0, 500), (3, 503)):
        room.store.save_anomaly(anomaly_of(KEYS[place], ulid(name), start=room.now))
    room.kept.save_incidents([first, second])
    room.started()
    room.judging.remember()
    room.judging.say(room.judging.said.merge(first.id, [second.id], "ann"))
    room.started()
    assert set(room.judging.incidents.cases) == {first.id}
    assert set(room.judging.incidents.cases[first.id].members) == {ulid(500), ulid(503)}


def test_changes_that_were_told_before_a_kill_are_known(broken):
    """They still explain what comes."""
    room, _ = broken
    change = Change(ulid(9), room.now, ChangeKind.DEPLOY, "shop 1.2", "ci")
    room.kept.save_change(change)
    assert change.id in room.started().incidents.memory.changes.recent


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_the_state_is_json_whatever_was_measured(room, number):
    """No NaN and no infinity stands in it, and it is read back."""
    room.sense(*room.breaks(0, 1, 2, value=number, lower=-number, upper=number))
    room.judging.remember()
    text = json.dumps(room.memory.values[STATE], allow_nan=False)
    room.memory.values[STATE] = json.loads(text)
    case = next(iter(room.started().incidents.cases.values()))
    assert all(math.isnan(member.value) for member in case.members.values())


@pytest.mark.parametrize(
    "state",
    [
        [],
        {"incidents": {"version": 1}},
        {"incidents": {"version": 1, "pace": 3}},
        {"notifying": {"version": 1}},
    ],
    ids=["a list", "parts are missing", "another form", "no notices"],
)
def test_a_state_that_cannot_be_read_stops_nothing(broken, state):
    """It is said, and the store is what is gone on from."""
    room, incident = broken
    room.memory.values[STATE] = state
    judging = room.started()
    assert set(judging.incidents.cases) == {incident.id}
    assert judging.said.incidents is judging.incidents
    room.quiet(1)


def test_a_store_that_fails_is_caught_up_with(room):
    """Incidents are told all the same, wait, and are saved as they are then."""
    room.kept.broken = "disk full"
    (incident,), _ = room.sense(*room.breaks(0, 1, 2))
    assert room.judging.problem == "disk full"
    room.quiet(2)
    assert room.kept.by_id == {}
    room.kept.broken = None
    room.quiet(1)
    assert room.kept.incident(incident.id).anomaly_ids == incident.anomaly_ids
    assert room.judging.problem is None
    saves = room.kept.saves
    room.quiet(1)
    assert room.kept.saves == saves


def test_a_word_that_is_not_durable_is_an_error(broken):
    """Nobody is told that it was done before it is on disk; it waits all the same."""
    room, incident = broken
    room.kept.broken = "disk full"
    with pytest.raises(StoreError, match="disk full"):
        room.judging.say(room.judging.said.acknowledge(incident.id, "ann"))
    room.kept.broken = None
    room.quiet(1)
    assert room.kept.incident(incident.id).acknowledged_by == "ann"


def test_what_people_resolve_is_told_to_who_heard_of_it(broken):
    """At once, without waiting for a tick: a notice that was fired is called off, and once only."""
    room, incident = broken
    fired = room.judging.notifying._told[incident.id] = {
        "fingerprint": "f", "time": room.now, "severity": 0.9, "level": "high", "over": None,
    }  # fmt: skip
    (notice,) = room.judging.say(room.judging.said.resolve(incident.id, "ann"))
    assert (notice.kind, notice.incident.id, notice.fingerprint) == (NoticeKind.RESOLVED, incident.id, "f")
    assert fired["over"] is not None
    assert room.quiet(3)[1] == []


def test_a_source_that_goes_ends_its_anomalies(broken):
    """They would stay open for ever: nobody closes them any more."""
    room, incident = broken
    room.judging.forget("p")
    assert room.judging.incidents.cases[incident.id].end is not None
    assert len(room.judging.incidents.watched) == 0
    other = (SeriesKey.of("q", "x", {"instance": "z"}),)
    told, _ = room.quiet(30, keys=other, source="q")
    assert told[-1].state is IncidentState.RESOLVED


def test_people_may_split_what_is_watched_no_more(broken):
    """Its series are gone, its anomalies are still two things."""
    room, incident = broken
    room.judging.forget("p")
    old, new = room.judging.said.split(incident.id, incident.anomaly_ids[:1], "ann")
    assert (len(old.anomaly_ids), len(new.anomaly_ids)) == (2, 1)


def test_what_is_over_can_be_spoken_of(broken):
    """It is taken up again from the store; what was merged or never was cannot."""
    room, incident = broken
    del room.judging.incidents.cases[incident.id]
    room.judging.follow(incident.id)
    assert set(room.judging.incidents.cases[incident.id].members) == set(incident.anomaly_ids)
    room.kept.by_id[ulid(7)] = replace(incident, id=ulid(7), merged_into=incident.id)
    with pytest.raises(ConflictError, match="was merged into"):
        room.judging.follow(ulid(7))
    with pytest.raises(NotFoundError):
        room.judging.follow(ulid(8))


def test_changes_are_heard_at_the_next_tick(room):
    """They come from other threads and are taken in within the work thread."""
    change = Change(ulid(9), room.now, ChangeKind.DEPLOY, "shop 1.2", "ci")
    room.judging.heard.append(change)
    (incident,), _ = room.sense(*room.breaks(0, 1, 2))
    assert incident.change_ids == (change.id,)
    assert not room.judging.heard


def test_sources_that_were_taken_out_have_nothing_open(broken):
    """An incident of theirs alone ends at the start; one of a source that is watched goes on."""
    room, incident = broken
    room.judging.only({"p", "host"}, room.now)
    assert room.judging.incidents.cases[incident.id].end is None
    room.judging.only({"host"}, room.now)
    assert room.judging.incidents.cases[incident.id].end == room.now
