"""Alerts of other systems are near incidents while they fire; own alerts are ignored."""

import json

import pytest

from tests.builders.api_client import ApiHarness
from tests.builders.series import SECOND, START
from tests.fakes.fake_cluster import FakeCluster, service_keys
from tests.unit.api.test_incident_routes import webhook
from trimtab.engine.api.routers.monitoring.alert_routes import alert_change
from trimtab.engine.changes.change_log import ChangeLog
from trimtab.engine.changes.external_alerts import STALE_AFTER_NS, entities_of, extend_changes
from trimtab.engine.types import OWN_ALERT_NAME, Alert

HOUR = 3600 * SECOND
REDIS = {"alertname": "RedisDown", "severity": "page", "job": "redis", "instance": "redis-0:9000"}


def alert(labels, start=START - 5 * HOUR, end=None, fingerprint="c1f0"):
    """An alert that began long before the incident."""
    return Alert(fingerprint, start, end, labels)


def changes_near_incident(*alerts, known=None):
    """Return the ids of changes near an incident of redis-0 after these alerts."""
    cluster = FakeCluster(service_keys("redis", "web"))
    changes = cluster.correlator.memory.changes
    extend_changes(changes, alerts, cluster.now)
    for one in known or alerts:
        cluster.correlator.add_change(alert_change(one, "am"))
    cluster.tick(
        cluster.find_key("hit_ratio redis-0"),
        cluster.find_key("heap redis-0"),
        cluster.find_key("p99 redis-0"),
        score=3.0,
    )
    (incident,) = cluster.current_incidents()
    return incident.change_ids


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (alert(REDIS), True),  # it began hours ago and goes on
        (alert({"alertname": "X", "service": "redis", "host": "redis-0:9000"}), True),  # by its entity
        (alert(REDIS, end=START - 2 * HOUR), False),
        (alert(REDIS, end=START - 600 * SECOND), True),  # over just before
        (alert({**REDIS, "job": "web", "instance": "web-0:9000"}), False),
        (alert({"alertname": "Watchdog", "severity": "none"}), False),  # of nothing that we know
    ],
)
def test_firing_alert_is_near_an_incident(given, shown):
    """A firing alert of the same entity is near an incident, until half an hour after its end."""
    assert changes_near_incident(given) == ((given.change_id,) if shown else ())


def test_own_alerts_are_ignored():
    """An own alert does not extend a change."""
    assert changes_near_incident(alert({**REDIS, "alertname": OWN_ALERT_NAME})) == ()


def test_unrepeated_alert_ends():
    """An alert that is not repeated ends after `STALE_AFTER_NS`."""
    changes, given = ChangeLog(), alert(REDIS)
    changes.add(alert_change(given, "am"))
    extend_changes(changes, [given], START)
    assert changes._end_of(alert_change(given, "am")) == START + STALE_AFTER_NS


def test_state_round_trip():
    """The state survives JSON, and a state without alerts is accepted."""
    changes, again = ChangeLog(), ChangeLog()
    changes.add(alert_change(alert(REDIS), "am"))
    extend_changes(changes, [alert(REDIS)], START)
    state = json.loads(json.dumps(changes.state()))
    again.restore(state)
    assert again.state() == changes.state()
    del state["lasting"]
    again.restore(state)
    assert again._lasting == {}


def test_a_flood_of_alerts_is_bounded():
    """The oldest extended changes are dropped."""
    changes = ChangeLog()
    extend_changes(changes, [alert(REDIS, fingerprint=str(k)) for k in range(3000)], START)
    assert len(changes._lasting) == 1000
    assert alert(REDIS, fingerprint="2999").change_id in changes._lasting


@pytest.mark.parametrize(
    ("labels", "entities"),
    [
        ({"namespace": "shop", "pod": "web-7", "job": "kubelet"}, ("shop/web-7",)),
        ({"instance": "db-1:9187"}, ("db-1:9187",)),
        ({"severity": "page"}, ()),
        ({"job": "", "instance": ""}, ()),
        ({}, ()),
    ],
)
def test_entities_of_alert(labels, entities):
    """An alert's entity has the same name as that of its series."""
    assert entities_of(alert({"alertname": "X", **labels})) == entities


async def test_own_alerts_sent_back_are_ignored():
    """Own alerts sent back by an Alertmanager are ignored; others are recorded."""
    room = ApiHarness(loop=True)
    body = webhook()
    own = {
        **body["alerts"][0],
        "labels": {"alertname": OWN_ALERT_NAME, "severity": "high"},
        "fingerprint": "ours",
    }
    body["alerts"] = [own, *body["alerts"]]
    answer = await room.key_client("ingest").post("/api/alerts", json=body)
    assert answer.json() == {"taken": 1}
    assert [one.labels["alertname"] for one in room.loop.alerts] == ["HighLatency"]
    assert [change.kind for change in room.loop.incidents.changes_by_id.values()][-1] == "alert"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"startsAt": "yesterday"}, "startsAt"),
        ({"startsAt": None}, "startsAt"),
        ({"status": "pending"}, "status"),
        ({"labels": ["a"]}, "labels"),
        ({"labels": {"a": 1}}, "labels"),
        ({"fingerprint": ""}, "fingerprint"),
        ({"status": "resolved", "endsAt": "never"}, "endsAt"),
    ],
)
async def test_a_malformed_alert_is_named(changed, named):
    """A malformed alert gives 422 naming the field, and nothing is stored."""
    room = ApiHarness(loop=True)
    before = len(room.loop.incidents.changes_by_id)
    answer = await room.key_client("ingest").post("/api/alerts", json=webhook(**changed))
    assert answer.status_code == 422
    assert named in answer.text
    assert len(room.loop.incidents.changes_by_id) == before
