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
        """Start a new service over the same stores, as the engine does after a restart."""
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
        result = TickResult(
            keys, tick_scores(source, self.now, np.ones(len(keys))), anomalies, np.empty(0, np.int64),
            np.zeros(len(keys), np.int64), np.ones(len(keys), np.bool_), opened, complete=True,
        )  # fmt: skip
        published = self.service.step(result, 15.0, SeriesInfo)
        self.tick += 1
        return published

    def run_quiet_ticks(self, ticks, **more):
        """Run ticks without anomalies; return all incidents and notices."""
        results = [self.run_tick(**more) for _ in range(ticks)]
        return [i for incidents, _ in results for i in incidents], [
            n for _, notices in results for n in notices
        ]

    def strong_anomalies(self, *indices, **changed):
        """Return strong anomalies that begin now."""
        fields = {"start": self.now, "peak_time": self.now, **STRONG, **changed}
        return [anomaly_of(KEYS[index], ulid(self.tick * 100 + index), **fields) for index in indices]


class FailingIncidents(FakeIncidents):
    """An incident store whose saves raise StoreError while `error` is set; counts save attempts."""

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
    """Return a harness whose service has received every series."""
    harness = IncidentServiceHarness()
    harness.run_quiet_ticks(5)
    return harness


@pytest.fixture
def harness_with_incident(harness):
    """Return the harness and one incident of three series of one shop."""
    (incident,), _ = harness.run_tick(*harness.strong_anomalies(0, 1, 2))
    return harness, incident


def test_related_anomalies_are_one_stored_incident(harness):
    """Anomalies of three series of one entity are one incident, stored as published."""
    (incident,), _ = harness.run_tick(*harness.strong_anomalies(0, 1, 2))
    assert len(incident.anomaly_ids) == 3
    assert harness.incident_store.incident(incident.id) == incident
    published, _ = harness.run_quiet_ticks(30)
    assert {later.id for later in published} <= {incident.id}


def test_restart_keeps_the_incident(harness_with_incident):
    """With its state, a restarted service keeps ids and learned rates and publishes nothing again."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    rate = harness.service.correlator.rates.series_seconds
    harness.restart()
    assert harness.service.correlator.rates.series_seconds == rate
    assert list(harness.service.correlator.drafts) == [incident.id]
    published, notices = harness.run_tick(*[replace(a, score=6.5) for a in harness.store.anomalies()])
    assert [later.id for later in published] in ([], [incident.id])
    assert notices == []


def test_silence_holds_notices_back(harness):
    """A silence holds notices back, also across a restart; when it ends, open incidents are notified."""
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
    """Without a saved state, incidents and their anomalies are loaded from the store."""
    harness, incident = harness_with_incident
    harness.restart()
    draft = harness.service.correlator.drafts[incident.id]
    assert set(draft.members) == set(incident.anomaly_ids)
    assert draft.open == set(incident.anomaly_ids)


def test_resumed_source_lists_its_series(harness_with_incident):
    """A source lists its series before its first tick, because the state does not contain them."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    service = harness.restart()
    assert len(service.correlator.directory) < len(KEYS)
    service.resume_source("p", KEYS, SeriesInfo, incident.anomaly_ids, harness.now)
    assert len(service.correlator.directory) == len(KEYS)
    assert service.correlator.drafts[incident.id].end is None
    harness.run_quiet_ticks(2)
    assert len(service.correlator.directory) == len(KEYS)


def test_anomalies_no_longer_open_have_ended(harness_with_incident):
    """Anomalies that a restarted source does not list as open have ended."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    service = harness.restart()
    service.resume_source("other", (), SeriesInfo, (), harness.now)
    assert service.correlator.drafts[incident.id].end is None
    service.resume_source("p", KEYS, SeriesInfo, (), harness.now)
    assert service.correlator.drafts[incident.id].end == harness.now
    published, _ = harness.run_quiet_ticks(30)
    assert published[-1].state is IncidentState.RESOLVED


@pytest.mark.parametrize(
    ("act", "state"),
    [
        (lambda actions, i: actions.acknowledge(i, "ann", "mine"), IncidentState.ACKNOWLEDGED),
        (lambda actions, i: actions.resolve(i, "ann", "mine"), IncidentState.RESOLVED),
    ],
    ids=["acknowledged", "resolved"],
)
def test_operator_action_survives_a_kill(harness_with_incident, act, state):
    """An operator action after the last saved state takes precedence over that state."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    harness.service.apply_operator_changes(act(harness.service.operator_actions, incident.id))
    harness.restart()
    draft = harness.service.correlator.drafts[incident.id]
    assert (draft.state, draft.acknowledged_by, draft.note) == (state, "ann", "ann: mine")
    assert draft.by_hand is (state is IncidentState.RESOLVED)
    for later in harness.run_quiet_ticks(3)[0]:
        assert (later.state, later.acknowledged_by) == (state, "ann")


def test_incidents_after_the_saved_state_survive_a_kill(harness_with_incident):
    """Anomalies and incidents newer than the saved state are loaded from the store."""
    harness, incident = harness_with_incident
    harness.service.save_state()
    more, _ = harness.run_tick(*harness.strong_anomalies(3, 4, 5))
    before = {stored.id: set(stored.anomaly_ids) for stored in [incident, *more]}
    harness.restart()
    after = {draft.id: set(draft.members) for draft in harness.service.correlator.drafts.values()}
    assert after == before


def test_incident_merged_after_the_saved_state_stays_merged(harness):
    """An incident merged after the saved state is not loaded again."""
    first = Incident(
        ulid(1), harness.now, None, IncidentState.OPEN, "shop", 0.6, Severity.HIGH, False, False, ("shop-0",),
        (ulid(500),),
    )  # fmt: skip
    second = replace(first, id=ulid(2), anomaly_ids=(ulid(503),))
    for index, number in ((0, 500), (3, 503)):
        harness.store.save_anomaly(anomaly_of(KEYS[index], ulid(number), start=harness.now))
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
def test_state_has_no_nan_or_infinity(harness, number):
    """The state contains neither NaN nor infinity and can be restored."""
    harness.run_tick(*harness.strong_anomalies(0, 1, 2, value=number, lower=-number, upper=number))
    harness.service.save_state()
    text = json.dumps(harness.state_store.values[STATE_KEY], allow_nan=False)
    harness.state_store.values[STATE_KEY] = json.loads(text)
    draft = next(iter(harness.restart().correlator.drafts.values()))
    assert all(math.isnan(member.value) for member in draft.members.values())


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
def test_unreadable_state_is_ignored(harness_with_incident, state):
    """An unreadable state is ignored; incidents are loaded from the store."""
    harness, incident = harness_with_incident
    harness.state_store.values[STATE_KEY] = state
    service = harness.restart()
    assert set(service.correlator.drafts) == {incident.id}
    assert service.operator_actions.correlator is service.correlator
    harness.run_quiet_ticks(1)


def test_incidents_are_saved_after_a_store_failure(harness):
    """While the store fails, incidents are still published; they are saved when it works again."""
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
    notified = harness.service.notification_policy._notified[incident.id] = {
        "fingerprint": "f", "time": harness.now, "severity": 0.9, "level": "high", "over": None,
    }  # fmt: skip
    (notice,) = harness.service.apply_operator_changes(
        harness.service.operator_actions.resolve(incident.id, "ann")
    )
    assert (notice.kind, notice.incident.id, notice.fingerprint) == (NoticeKind.RESOLVED, incident.id, "f")
    assert notified["over"] is not None
    assert harness.run_quiet_ticks(3)[1] == []


def test_removed_source_ends_its_anomalies(harness_with_incident):
    """Removing a source ends its anomalies."""
    harness, incident = harness_with_incident
    harness.service.forget_source("p")
    assert harness.service.correlator.drafts[incident.id].end is not None
    assert len(harness.service.correlator.directory) == 0
    other = (SeriesKey.of("q", "x", {"instance": "z"}),)
    published, _ = harness.run_quiet_ticks(30, keys=other, source="q")
    assert published[-1].state is IncidentState.RESOLVED


def test_split_after_source_was_removed(harness_with_incident):
    """An incident can be split after its source was removed."""
    harness, incident = harness_with_incident
    harness.service.forget_source("p")
    old, new = harness.service.operator_actions.split(incident.id, incident.anomaly_ids[:1], "ann")
    assert (len(old.anomaly_ids), len(new.anomaly_ids)) == (2, 1)


def test_ended_incident_can_be_loaded(harness_with_incident):
    """An ended incident can be loaded for an operator action; a merged or unknown incident cannot."""
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
    """Change events that arrive from other threads are added at the next tick."""
    change = Change(ulid(9), harness.now, ChangeKind.DEPLOY, "shop 1.2", "ci")
    harness.service.pending_changes.append(change)
    (incident,), _ = harness.run_tick(*harness.strong_anomalies(0, 1, 2))
    assert incident.change_ids == (change.id,)
    assert not harness.service.pending_changes


def test_incidents_of_unconfigured_sources_end(harness_with_incident):
    """Incidents of sources that are no longer configured end at the start."""
    harness, incident = harness_with_incident
    harness.service.close_other_sources({"p", "host"}, harness.now)
    assert harness.service.correlator.drafts[incident.id].end is None
    harness.service.close_other_sources({"host"}, harness.now)
    assert harness.service.correlator.drafts[incident.id].end == harness.now
