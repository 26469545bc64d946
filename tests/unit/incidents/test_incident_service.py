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
from trimtab.engine.detection.tick_result import TickResult
from trimtab.engine.errors import ConflictError, NotFoundError, StoreError
from trimtab.engine.incidents.incident_service import STATE_KEY, IncidentService
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


class IncidentServiceHarness:
    """An incident service over fakes, and the ticks fed to it."""

    def __init__(self):
        self.store, self.incident_store, self.state_store = (
            FakeStore(),
            FailingIncidents(),
            FakeKeyValueStore(),
        )
        self.tick = 0
        self.silences, self.silences_error = [], ""
        self.service = self.restart()

    def restart(self):
        """Start a new service over the same stores, as the engine does."""
        self.service = IncidentService(
            self.store, self.incident_store, self.state_store, read_silences=self._silences
        )
        self.service.resume()
        return self.service

    def _silences(self):
        if self.silences_error:
            raise StoreError(self.silences_error)
        return self.silences

    @property
    def now(self):
        return START + self.tick * 15 * SECOND

    def run_tick(self, *anomalies, keys=KEYS, source="p"):
        """Run a tick with these anomalies; return incidents and notices."""
        for anomaly in anomalies:
            self.store.save_anomaly(anomaly)
        slots = {key.id: slot for slot, key in enumerate(keys)}
        opened = {slots[a.series_id]: a.id for a in anomalies if a.end is None and a.series_id in slots}
        sensed = TickResult(
            keys, tick_scores(source, self.now, np.ones(len(keys))), anomalies, np.empty(0, np.int64),
            np.zeros(len(keys), np.int64), np.ones(len(keys), np.bool_), opened, complete=True,
        )  # fmt: skip
        told = self.service.step(sensed, 15.0, SeriesInfo)
        self.tick += 1
        return told

    def run_quiet_ticks(self, ticks, **more):
        """Run ticks without anomalies; return all incidents and notices."""
        told = [self.run_tick(**more) for _ in range(ticks)]
        return [i for incidents, _ in told for i in incidents], [n for _, notices in told for n in notices]

    def strong_anomalies(self, *places, **changed):
        """Return strong anomalies that begin now."""
        at = {"start": self.now, "peak_time": self.now, **STRONG, **changed}
        return [anomaly_of(KEYS[place], ulid(self.tick * 100 + place), **at) for place in places]


class FailingIncidents(FakeIncidents):
    """A store that fails while `error` is set; counts attempts to save."""

    def __init__(self):
        super().__init__()
        self.error = None
        self.saves = 0

    def save_incidents(self, incidents):
        self.saves += 1
        if self.error:
            raise StoreError(self.error)
        super().save_incidents(incidents)


@pytest.fixture
def harness():
    """A service that has received every series."""
    made = IncidentServiceHarness()
    made.run_quiet_ticks(5)
    return made


@pytest.fixture
def harness_with_incident(harness):
    """The harness, and one incident of three series of one shop."""
    (incident,), _ = harness.run_tick(*harness.strong_anomalies(0, 1, 2))
    return harness, incident


def test_related_anomalies_are_one_stored_incident(harness):
    """Three series of one entity are one incident, stored as it was published."""
    (incident,), _ = harness.run_tick(*harness.strong_anomalies(0, 1, 2))
    assert len(incident.anomaly_ids) == 3
    assert harness.incident_store.incident(incident.id) == incident
    told, _ = harness.run_quiet_ticks(30)
    assert {later.id for later in told} <= {incident.id}


def test_restart_keeps_the_incident(harness_with_incident):
    """With its state, a restarted service keeps ids and learned rates and publishes nothing again."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    rate = harness.service.correlator.rates.series_seconds
    harness.restart()
    assert harness.service.correlator.rates.series_seconds == rate
    assert list(harness.service.correlator.drafts) == [incident.id]
    told, notices = harness.run_tick(*[replace(a, score=6.5) for a in harness.store.anomalies()])
    assert [later.id for later in told] in ([], [incident.id])
    assert notices == []


def test_operator_silence_holds_notices_back(harness):
    """A silence holds notices back, also over a restart; when it ends, active incidents are notified."""
    harness.silences = [Silence(ulid(1), ("*",), START, START + 3600 * SECOND, "ann")]
    _, notices = harness.run_tick(*harness.strong_anomalies(*range(24), score=9.0))
    assert notices == []
    harness.silences_error = "disk I/O error"
    assert harness.run_quiet_ticks(2)[1] == []
    harness.service.save_state()
    harness.restart()
    assert harness.run_quiet_ticks(1)[1] == []
    harness.silences_error, harness.silences = "", []
    assert [notice.kind for notice in harness.run_quiet_ticks(1)[1]] == [NoticeKind.FIRING]


def test_without_state_incidents_come_from_the_store(harness_with_incident):
    """Without state, incidents are followed from the store, with their anomalies."""
    harness, incident = harness_with_incident
    harness.restart()
    case = harness.service.correlator.drafts[incident.id]
    assert set(case.members) == set(incident.anomaly_ids)
    assert case.open == set(incident.anomaly_ids)


def test_every_series_is_known_before_the_first_anomaly(harness_with_incident):
    """A source lists its series before its first tick, because the state has none."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    service = harness.restart()
    assert len(service.correlator.directory) < len(KEYS)
    service.resume_source("p", KEYS, SeriesInfo, incident.anomaly_ids, harness.now)
    assert len(service.correlator.directory) == len(KEYS)
    assert service.correlator.drafts[incident.id].end is None
    harness.run_quiet_ticks(2)
    assert len(service.correlator.directory) == len(KEYS)


def test_what_is_not_open_any_more_has_ended(harness_with_incident):
    """Anomalies that a restarted source does not list as open have ended."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    service = harness.restart()
    service.resume_source("other", (), SeriesInfo, (), harness.now)
    assert service.correlator.drafts[incident.id].end is None
    service.resume_source("p", KEYS, SeriesInfo, (), harness.now)
    assert service.correlator.drafts[incident.id].end == harness.now
    told, _ = harness.run_quiet_ticks(30)
    assert told[-1].state is IncidentState.RESOLVED


@pytest.mark.parametrize(
    ("say", "state"),
    [
        (lambda said, i: said.acknowledge(i, "ann", "mine"), IncidentState.ACKNOWLEDGED),
        (lambda said, i: said.resolve(i, "ann", "mine"), IncidentState.RESOLVED),
    ],
    ids=["acknowledged", "resolved"],
)
def test_operator_action_survives_a_kill(harness_with_incident, say, state):
    """An operator action after the last saved state overrides that state."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    harness.service.apply_operator_changes(say(harness.service.operator_actions, incident.id))
    harness.restart()
    case = harness.service.correlator.drafts[incident.id]
    assert (case.state, case.acknowledged_by, case.note) == (state, "ann", "ann: mine")
    assert case.by_hand is (state is IncidentState.RESOLVED)
    for later in harness.run_quiet_ticks(3)[0]:
        assert (later.state, later.acknowledged_by) == (state, "ann")


def test_what_came_since_the_state_survives_a_kill(harness_with_incident):
    """Anomalies and incidents newer than the saved state come from the store."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    more, _ = harness.run_tick(*harness.strong_anomalies(3, 4, 5))
    known = {one.id: set(one.anomaly_ids) for one in [incident, *more]}
    harness.restart()
    followed = {one.id: set(one.members) for one in harness.service.correlator.drafts.values()}
    assert followed == known


def test_one_that_was_merged_since_is_not_followed_again(harness):
    """An incident merged after the saved state is not followed again."""
    first = Incident(
        ulid(1), harness.now, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False, ("shop-0",),
        (ulid(500),),
    )  # fmt: skip
    second = replace(first, id=ulid(2), anomaly_ids=(ulid(503),))
    for place, name in ((0, 500), (3, 503)):
        harness.store.save_anomaly(anomaly_of(KEYS[place], ulid(name), start=harness.now))
    harness.incident_store.save_incidents([first, second])
    harness.restart()
    harness.service.save_state()
    harness.service.apply_operator_changes(
        harness.service.operator_actions.merge(first.id, [second.id], "ann")
    )
    harness.restart()
    assert set(harness.service.correlator.drafts) == {first.id}
    assert set(harness.service.correlator.drafts[first.id].members) == {ulid(500), ulid(503)}


def test_stored_changes_are_loaded(harness_with_incident):
    """Stored change events are loaded at the start."""
    harness, _ = harness_with_incident
    change = Change(ulid(9), harness.now, ChangeKind.DEPLOY, "shop 1.2", "ci")
    harness.incident_store.save_change(change)
    assert change.id in harness.restart().correlator.memory.changes.recent


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_the_state_is_json_whatever_was_measured(harness, number):
    """The state has neither NaN nor infinity and can be restored."""
    harness.run_tick(*harness.strong_anomalies(0, 1, 2, value=number, lower=-number, upper=number))
    harness.service.save_state()
    text = json.dumps(harness.state_store.values[STATE_KEY], allow_nan=False)
    harness.state_store.values[STATE_KEY] = json.loads(text)
    case = next(iter(harness.restart().correlator.drafts.values()))
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
def test_a_state_that_cannot_be_read_stops_nothing(harness_with_incident, state):
    """An unreadable state is ignored; incidents come from the store."""
    harness, incident = harness_with_incident
    harness.state_store.values[STATE_KEY] = state
    service = harness.restart()
    assert set(service.correlator.drafts) == {incident.id}
    assert service.operator_actions.correlator is service.correlator
    harness.run_quiet_ticks(1)


def test_a_store_that_fails_is_caught_up_with(harness):
    """When the store fails, incidents are still published, and saved later."""
    harness.incident_store.error = "disk full"
    (incident,), _ = harness.run_tick(*harness.strong_anomalies(0, 1, 2))
    assert harness.service.store_error == "disk full"
    harness.run_quiet_ticks(2)
    assert harness.incident_store.by_id == {}
    harness.incident_store.error = None
    harness.run_quiet_ticks(1)
    assert harness.incident_store.incident(incident.id).anomaly_ids == incident.anomaly_ids
    assert harness.service.store_error is None
    saves = harness.incident_store.saves
    harness.run_quiet_ticks(1)
    assert harness.incident_store.saves == saves


def test_unstored_operator_action_raises(harness_with_incident):
    """An operator action that cannot be stored raises, and is stored later."""
    harness, incident = harness_with_incident
    harness.incident_store.error = "disk full"
    with pytest.raises(StoreError, match="disk full"):
        harness.service.apply_operator_changes(
            harness.service.operator_actions.acknowledge(incident.id, "ann")
        )
    harness.incident_store.error = None
    harness.run_quiet_ticks(1)
    assert harness.incident_store.incident(incident.id).acknowledged_by == "ann"


def test_resolving_sends_a_resolved_notice(harness_with_incident):
    """Resolving a notified incident sends one resolved notice at once."""
    harness, incident = harness_with_incident
    fired = harness.service.notification_policy._notified[incident.id] = {
        "fingerprint": "f", "time": harness.now, "severity": 0.9, "level": "high", "over": None,
    }  # fmt: skip
    (notice,) = harness.service.apply_operator_changes(
        harness.service.operator_actions.resolve(incident.id, "ann")
    )
    assert (notice.kind, notice.incident.id, notice.fingerprint) == (NoticeKind.RESOLVED, incident.id, "f")
    assert fired["over"] is not None
    assert harness.run_quiet_ticks(3)[1] == []


def test_a_source_that_goes_ends_its_anomalies(harness_with_incident):
    """Removing a source ends its anomalies."""
    harness, incident = harness_with_incident
    harness.service.forget_source("p")
    assert harness.service.correlator.drafts[incident.id].end is not None
    assert len(harness.service.correlator.directory) == 0
    other = (SeriesKey.of("q", "x", {"instance": "z"}),)
    told, _ = harness.run_quiet_ticks(30, keys=other, source="q")
    assert told[-1].state is IncidentState.RESOLVED


def test_split_after_source_was_removed(harness_with_incident):
    """An incident can be split after its source was removed."""
    harness, incident = harness_with_incident
    harness.service.forget_source("p")
    old, new = harness.service.operator_actions.split(incident.id, incident.anomaly_ids[:1], "ann")
    assert (len(old.anomaly_ids), len(new.anomaly_ids)) == (2, 1)


def test_ended_incident_can_be_loaded(harness_with_incident):
    """An ended incident can be loaded for an operator action; a merged or unknown one cannot."""
    harness, incident = harness_with_incident
    del harness.service.correlator.drafts[incident.id]
    harness.service.follow(incident.id)
    assert set(harness.service.correlator.drafts[incident.id].members) == set(incident.anomaly_ids)
    harness.incident_store.by_id[ulid(7)] = replace(incident, id=ulid(7), merged_into=incident.id)
    with pytest.raises(ConflictError, match="was merged into"):
        harness.service.follow(ulid(7))
    with pytest.raises(NotFoundError):
        harness.service.follow(ulid(8))


def test_changes_are_added_at_the_next_tick(harness):
    """Change events from other threads are added at the next tick."""
    change = Change(ulid(9), harness.now, ChangeKind.DEPLOY, "shop 1.2", "ci")
    harness.service.pending_changes.append(change)
    (incident,), _ = harness.run_tick(*harness.strong_anomalies(0, 1, 2))
    assert incident.change_ids == (change.id,)
    assert not harness.service.pending_changes


def test_sources_that_were_taken_out_have_nothing_open(harness_with_incident):
    """Incidents of sources that are no longer configured end at the start."""
    harness, incident = harness_with_incident
    harness.service.close_other_sources({"p", "host"}, harness.now)
    assert harness.service.correlator.drafts[incident.id].end is None
    harness.service.close_other_sources({"host"}, harness.now)
    assert harness.service.correlator.drafts[incident.id].end == harness.now
