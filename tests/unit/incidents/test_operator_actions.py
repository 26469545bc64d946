"""What people do with incidents, and that their words stay."""

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
    """An incident of one service."""
    cluster.tick(*instance_series(cluster, job, n=n), score=2.0)
    return cluster.current_incidents()[-1].id


def test_words_stay_through_end_and_return(cluster, operator_actions):
    """Acknowledged, it goes on so; resolved by itself and open again, the words are still there."""
    name = open_incident(cluster)
    (incident,) = operator_actions.acknowledge(name, "ann", "looking")
    assert (incident.state, incident.acknowledged_by, incident.note) == (
        IncidentState.ACKNOWLEDGED, "ann", "ann: looking",
    )  # fmt: skip
    cluster.tick(instance_series(cluster, "cache", n=8)[-1])
    assert cluster.latest[name].state is IncidentState.ACKNOWLEDGED
    cluster.close(seconds=30)
    cluster.wait(400)
    assert cluster.latest[name].state is IncidentState.RESOLVED
    cluster.tick(*instance_series(cluster, "cache"))
    again = cluster.latest[name]
    assert (again.state, again.note) == (IncidentState.ACKNOWLEDGED, "ann: looking")


def test_a_resolved_one_stays_so_while_its_anomalies_go_on(cluster, operator_actions):
    """A weak one more changes nothing; where it gets worse by a level, it opens again."""
    name = open_incident(cluster, n=3)
    (incident,) = operator_actions.resolve(name, "bob", "known")
    assert (incident.state, incident.note) == (IncidentState.RESOLVED, "bob: known")
    cluster.tick(instance_series(cluster, "cache", n=4)[-1], score=1.0)
    assert cluster.latest[name].state is IncidentState.RESOLVED
    cluster.tick(*instance_series(cluster, "cache", n=10)[4:], score=3.0)
    assert cluster.latest[name].state is IncidentState.ACKNOWLEDGED


def test_new_trouble_after_a_persons_word_is_a_new_incident(cluster, operator_actions):
    """What was resolved and is over is not opened again by itself."""
    name = open_incident(cluster)
    operator_actions.resolve(name, "bob")
    cluster.close(seconds=30)
    cluster.tick(*instance_series(cluster, "cache"), seconds=600)
    assert [i.state for i in cluster.current_incidents()] == [IncidentState.RESOLVED, IncidentState.OPEN]


def test_a_person_opens_it_again(cluster, operator_actions):
    """With a word, which is added to those before."""
    name = open_incident(cluster)
    operator_actions.resolve(name, "bob", "done")
    (incident,) = operator_actions.reopen(name, "ann", "no")
    assert (incident.state, incident.acknowledged_by, incident.note) == (
        IncidentState.ACKNOWLEDGED, "ann", "bob: done\nann: no",
    )  # fmt: skip


def test_people_merge(cluster, operator_actions):
    """The other one is told as taken over, with all its anomalies and words; later ones join the whole."""
    first = open_incident(cluster)
    cluster.wait(400)
    second = open_incident(cluster, "svc9")
    operator_actions.acknowledge(second, "ann", "mine")
    gone, whole = operator_actions.merge(first, [second], "bob")
    assert (gone.id, gone.merged_into, gone.state) == (second, first, IncidentState.RESOLVED)
    assert len(whole.anomaly_ids) == 12
    assert whole.note == f"bob: merged {second}\nann: mine"
    cluster.tick(instance_series(cluster, "svc9", n=7)[-1])
    assert len(cluster.latest[first].anomaly_ids) == 13


def test_people_split(cluster, operator_actions):
    """Each part has its anomalies, severity and title; what comes later joins its own part."""
    cluster.tick(*instance_series(cluster, "cache", n=3), *instance_series(cluster, "svc9", n=4), score=2.0)
    (whole,) = cluster.current_incidents()
    apart = [cluster.open_anomalies[key].id for key in instance_series(cluster, "svc9", n=4)]
    old, new = operator_actions.split(whole.id, apart, "bob")
    assert (old.id, len(old.anomaly_ids), old.entities) == (whole.id, 3, ("cache/cache-0:9000",))
    assert (set(new.anomaly_ids), new.entities) == (set(apart), ("svc9/svc9-0:9000",))
    assert old.severity < whole.severity
    assert f"split from {whole.id}" in new.note
    cluster.close(*instance_series(cluster, "svc9", n=4))
    assert (cluster.latest[new.id].end, cluster.latest[whole.id].end) == (cluster.now, None)


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda s, _: s.acknowledge("nobody", "ann"), NotFoundError, "'nobody' does not exist"),
        (lambda s, name: s.reopen(name, "ann"), ConflictError, "is open"),
        (lambda s, name: [s.resolve(name, "a"), s.resolve(name, "b")], ConflictError, "already resolved"),
        (lambda s, name: [s.resolve(name, "a"), s.acknowledge(name, "b")], ConflictError, "reopen it"),
        (lambda s, name: s.merge(name, [name], "a"), ConflictError, "at least one other"),
        (lambda s, name: s.split(name, ["x"], "a"), ConflictError, "1 of these do not belong to it"),
    ],
)
def test_what_cannot_be_is_refused(cluster, operator_actions, ask, error, says):
    """With the reason, and nothing changed."""
    with pytest.raises(error, match=says):
        ask(operator_actions, open_incident(cluster))
