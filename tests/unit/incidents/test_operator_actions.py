"""What people do with incidents, and that their words stay."""

import pytest

from tests.fakes.fake_cluster import Town, fleet
from tests.unit.incidents.test_incident_correlator import of
from trimtab.engine.errors import ConflictError, NotFoundError
from trimtab.engine.incidents.operator_actions import Said
from trimtab.engine.types import IncidentState


@pytest.fixture
def town():
    return Town(fleet("cache", *(f"svc{i}" for i in range(20))))


@pytest.fixture
def said(town):
    return Said(town.incidents)


def broken(town, job="cache", n=6):
    """An incident of one service."""
    town.tick(*of(town, job, n=n), score=2.0)
    return town.going()[-1].id


def test_words_stay_through_end_and_return(town, said):
    """Acknowledged, it goes on so; resolved by itself and open again, the words are still there."""
    name = broken(town)
    (incident,) = said.acknowledge(name, "ann", "looking")
    assert (incident.state, incident.acknowledged_by, incident.note) == (
        IncidentState.ACKNOWLEDGED, "ann", "ann: looking",
    )  # fmt: skip
    town.tick(of(town, "cache", n=8)[-1])
    assert town.told[name].state is IncidentState.ACKNOWLEDGED
    town.end(seconds=30)
    town.wait(400)
    assert town.told[name].state is IncidentState.RESOLVED
    town.tick(*of(town, "cache"))
    again = town.told[name]
    assert (again.state, again.note) == (IncidentState.ACKNOWLEDGED, "ann: looking")


def test_a_resolved_one_stays_so_while_its_anomalies_go_on(town, said):
    """A weak one more changes nothing; where it gets worse by a level, it opens again."""
    name = broken(town, n=3)
    (incident,) = said.resolve(name, "bob", "known")
    assert (incident.state, incident.note) == (IncidentState.RESOLVED, "bob: known")
    town.tick(of(town, "cache", n=4)[-1], score=1.0)
    assert town.told[name].state is IncidentState.RESOLVED
    town.tick(*of(town, "cache", n=10)[4:], score=3.0)
    assert town.told[name].state is IncidentState.ACKNOWLEDGED


def test_new_trouble_after_a_persons_word_is_a_new_incident(town, said):
    """What was resolved and is over is not opened again by itself."""
    name = broken(town)
    said.resolve(name, "bob")
    town.end(seconds=30)
    town.tick(*of(town, "cache"), seconds=600)
    assert [i.state for i in town.going()] == [IncidentState.RESOLVED, IncidentState.OPEN]


def test_a_person_opens_it_again(town, said):
    """With a word, which is added to those before."""
    name = broken(town)
    said.resolve(name, "bob", "done")
    (incident,) = said.reopen(name, "ann", "no")
    assert (incident.state, incident.acknowledged_by, incident.note) == (
        IncidentState.ACKNOWLEDGED, "ann", "bob: done\nann: no",
    )  # fmt: skip


def test_people_merge(town, said):
    """The other one is told as taken over, with all its anomalies and words; later ones join the whole."""
    first = broken(town)
    town.wait(400)
    second = broken(town, "svc9")
    said.acknowledge(second, "ann", "mine")
    gone, whole = said.merge(first, [second], "bob")
    assert (gone.id, gone.merged_into, gone.state) == (second, first, IncidentState.RESOLVED)
    assert len(whole.anomaly_ids) == 12
    assert whole.note == f"bob: merged {second}\nann: mine"
    town.tick(of(town, "svc9", n=7)[-1])
    assert len(town.told[first].anomaly_ids) == 13


def test_people_split(town, said):
    """Each part has its anomalies, severity and title; what comes later joins its own part."""
    town.tick(*of(town, "cache", n=3), *of(town, "svc9", n=4), score=2.0)
    (whole,) = town.going()
    apart = [town.open[key].id for key in of(town, "svc9", n=4)]
    old, new = said.split(whole.id, apart, "bob")
    assert (old.id, len(old.anomaly_ids), old.entities) == (whole.id, 3, ("cache/cache-0:9000",))
    assert (set(new.anomaly_ids), new.entities) == (set(apart), ("svc9/svc9-0:9000",))
    assert old.severity < whole.severity
    assert f"split from {whole.id}" in new.note
    town.end(*of(town, "svc9", n=4))
    assert (town.told[new.id].end, town.told[whole.id].end) == (town.now, None)


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda s, _: s.acknowledge("nobody", "ann"), NotFoundError, "'nobody' is not followed"),
        (lambda s, name: s.reopen(name, "ann"), ConflictError, "is open"),
        (lambda s, name: [s.resolve(name, "a"), s.resolve(name, "b")], ConflictError, "resolved already"),
        (lambda s, name: [s.resolve(name, "a"), s.acknowledge(name, "b")], ConflictError, "open it again"),
        (lambda s, name: s.merge(name, [name], "a"), ConflictError, "at least one other"),
        (lambda s, name: s.split(name, ["x"], "a"), ConflictError, "1 of these are not among them"),
    ],
)
def test_what_cannot_be_is_refused(town, said, ask, error, says):
    """With the reason, and nothing changed."""
    with pytest.raises(error, match=says):
        ask(said, broken(town))
