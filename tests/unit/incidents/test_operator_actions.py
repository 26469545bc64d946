"""Operator actions on incidents."""

import pytest

from tests.fakes.fake_cluster import FakeCluster, service_keys
from tests.unit.incidents.test_incident_correlator import instance_series
from trimtab.engine.errors import ConflictError, NotFoundError
from trimtab.engine.incidents.operator_actions import OperatorActions
from trimtab.engine.types import IncidentState


@pytest.fixture
def cluster():
    return FakeCluster(service_keys("cache", *(f"svc{i}" for i in range(20))))


@pytest.fixture
def operator_actions(cluster):
    return OperatorActions(cluster.correlator)


def open_incident(cluster, job="cache", n=6):
    """Open an incident of one service and return its id."""
    cluster.tick(*instance_series(cluster, job, n=n), score=2.0)
    return cluster.current_incidents()[-1].id


def test_notes_survive_resolution_and_reopening(cluster, operator_actions):
    """Acknowledgement and note stay when an incident is resolved and reopens."""
    incident_id = open_incident(cluster)
    (incident,) = operator_actions.acknowledge(incident_id, "ann", "looking")
    assert (incident.state, incident.acknowledged_by, incident.note) == (
        IncidentState.ACKNOWLEDGED, "ann", "ann: looking",
    )  # fmt: skip
    cluster.tick(instance_series(cluster, "cache", n=8)[-1])
    assert cluster.latest[incident_id].state is IncidentState.ACKNOWLEDGED
    cluster.close(seconds=30)
    cluster.wait(400)
    assert cluster.latest[incident_id].state is IncidentState.RESOLVED
    cluster.tick(*instance_series(cluster, "cache"))
    reopened = cluster.latest[incident_id]
    assert (reopened.state, reopened.note) == (IncidentState.ACKNOWLEDGED, "ann: looking")


def test_resolved_incident_reopens_only_when_worse(cluster, operator_actions):
    """A resolved incident stays resolved until its severity level rises."""
    incident_id = open_incident(cluster, n=3)
    (incident,) = operator_actions.resolve(incident_id, "bob", "known")
    assert (incident.state, incident.note) == (IncidentState.RESOLVED, "bob: known")
    cluster.tick(instance_series(cluster, "cache", n=4)[-1], score=1.0)
    assert cluster.latest[incident_id].state is IncidentState.RESOLVED
    cluster.tick(*instance_series(cluster, "cache", n=10)[4:], score=3.0)
    assert cluster.latest[incident_id].state is IncidentState.ACKNOWLEDGED


def test_ended_resolved_incident_does_not_reopen(cluster, operator_actions):
    """An incident resolved by an operator does not reopen after it ended."""
    incident_id = open_incident(cluster)
    operator_actions.resolve(incident_id, "bob")
    cluster.close(seconds=30)
    cluster.tick(*instance_series(cluster, "cache"), seconds=600)
    assert [i.state for i in cluster.current_incidents()] == [IncidentState.RESOLVED, IncidentState.OPEN]


def test_reopening_keeps_earlier_notes(cluster, operator_actions):
    """Reopening an incident adds the note to earlier notes."""
    incident_id = open_incident(cluster)
    operator_actions.resolve(incident_id, "bob", "done")
    (incident,) = operator_actions.reopen(incident_id, "ann", "no")
    assert (incident.state, incident.acknowledged_by, incident.note) == (
        IncidentState.ACKNOWLEDGED, "ann", "bob: done\nann: no",
    )  # fmt: skip


def test_merge(cluster, operator_actions):
    """A merge moves anomalies and notes; later anomalies join the merged incident."""
    first = open_incident(cluster)
    cluster.wait(400)
    second = open_incident(cluster, "svc9")
    operator_actions.acknowledge(second, "ann", "mine")
    source, merged = operator_actions.merge(first, [second], "bob")
    assert (source.id, source.merged_into, source.state) == (second, first, IncidentState.RESOLVED)
    assert len(merged.anomaly_ids) == 12
    assert merged.note == f"bob: merged {second}\nann: mine"
    cluster.tick(instance_series(cluster, "svc9", n=7)[-1])
    assert len(cluster.latest[first].anomaly_ids) == 13


def test_split(cluster, operator_actions):
    """Each part of a split has its own anomalies, severity and title."""
    cluster.tick(*instance_series(cluster, "cache", n=3), *instance_series(cluster, "svc9", n=4), score=2.0)
    (merged,) = cluster.current_incidents()
    split_ids = [cluster.open_anomalies[key].id for key in instance_series(cluster, "svc9", n=4)]
    old, new = operator_actions.split(merged.id, split_ids, "bob")
    assert (old.id, len(old.anomaly_ids), old.entities) == (merged.id, 3, ("cache/cache-0:9000",))
    assert (set(new.anomaly_ids), new.entities) == (set(split_ids), ("svc9/svc9-0:9000",))
    assert old.severity < merged.severity
    assert f"split from {merged.id}" in new.note
    cluster.close(*instance_series(cluster, "svc9", n=4))
    assert (cluster.latest[new.id].end, cluster.latest[merged.id].end) == (cluster.now, None)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda s, _: s.acknowledge("nobody", "ann"), NotFoundError, "'nobody' does not exist"),
        (lambda s, i: s.reopen(i, "ann"), ConflictError, "is open"),
        (
            lambda s, i: [s.resolve(i, "a"), s.resolve(i, "b")],
            ConflictError,
            "already resolved",
        ),
        (
            lambda s, i: [s.resolve(i, "a"), s.acknowledge(i, "b")],
            ConflictError,
            "reopen it",
        ),
        (
            lambda s, i: s.merge(i, [i], "a"),
            ConflictError,
            "at least one other",
        ),
        (
            lambda s, i: s.split(i, ["x"], "a"),
            ConflictError,
            "1 of these do not belong to it",
        ),
    ],
)
def test_impossible_action_is_refused(cluster, operator_actions, act, error, message):
    """An impossible action raises an error with its reason."""
    with pytest.raises(error, match=message):
        act(operator_actions, open_incident(cluster))
