"""External alerts are listed with incidents while they fire; own alerts are ignored."""

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
    """Return an alert that started long before the incident."""
    return Alert(fingerprint, start, end, labels)


def changes_near_incident(*alerts, known=None):
    """Report these alerts, open an incident of redis-0 and return its change ids."""
    cluster = FakeCluster(service_keys("redis", "web"))
    changes = cluster.correlator.memory.changes
    extend_changes(changes, alerts, cluster.now)
    for known_alert in known or alerts:
        cluster.correlator.add_change(alert_change(known_alert, "am"))
    cluster.tick(
        cluster.find_key("hit_ratio redis-0"),
        cluster.find_key("heap redis-0"),
        cluster.find_key("p99 redis-0"),
        score=3.0,
    )
    (incident,) = cluster.current_incidents()
    return incident.change_ids


@pytest.mark.parametrize(
    ("external_alert", "is_near"),
    [
        (alert(REDIS), True),  # started hours ago and still firing
        (
            alert({"alertname": "X", "service": "redis", "host": "redis-0:9000"}),
            True,
        ),  # matched by entity
        (alert(REDIS, end=START - 2 * HOUR), False),
        (alert(REDIS, end=START - 600 * SECOND), True),  # ended shortly before
        (alert({**REDIS, "job": "web", "instance": "web-0:9000"}), False),
        (alert({"alertname": "Watchdog", "severity": "none"}), False),  # matches no known entity
    ],
)
def test_firing_alert_is_near_an_incident(external_alert, is_near):
    """A firing alert is listed with incidents of its entity until half an hour after it ends."""
    assert changes_near_incident(external_alert) == ((external_alert.change_id,) if is_near else ())


def test_own_alerts_are_ignored():
    """An alert of this engine does not extend a change."""
    assert changes_near_incident(alert({**REDIS, "alertname": OWN_ALERT_NAME})) == ()


def test_unrepeated_alert_ends():
    """An alert that is not repeated ends after `STALE_AFTER_NS`."""
    changes, external_alert = ChangeLog(), alert(REDIS)
    changes.add(alert_change(external_alert, "am"))
    extend_changes(changes, [external_alert], START)
    assert changes._end_of(alert_change(external_alert, "am")) == START + STALE_AFTER_NS


def test_state_round_trip():
    """The state survives JSON, and a state without alerts is accepted."""
    changes, restored = ChangeLog(), ChangeLog()
    changes.add(alert_change(alert(REDIS), "am"))
    extend_changes(changes, [alert(REDIS)], START)
    state = json.loads(json.dumps(changes.state()))
    restored.restore(state)
    assert restored.state() == changes.state()
    del state["lasting"]
    restored.restore(state)
    assert restored._lasting == {}


def test_extended_changes_are_bounded():
    """At most 1000 extended changes are kept; the oldest are dropped."""
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
    """The entity of an alert has the same name as the entity of its series."""
    assert entities_of(alert({"alertname": "X", **labels})) == entities


async def test_own_alerts_sent_back_are_ignored():
    """Own alerts that an Alertmanager sends back are ignored; other alerts are recorded."""
    api = ApiHarness(loop=True)
    body = webhook()
    own = {
        **body["alerts"][0],
        "labels": {"alertname": OWN_ALERT_NAME, "severity": "high"},
        "fingerprint": "ours",
    }
    body["alerts"] = [own, *body["alerts"]]
    response = await api.key_client("ingest").post("/api/alerts", json=body)
    assert response.json() == {"taken": 1}
    assert [received.labels["alertname"] for received in api.loop.alerts] == ["HighLatency"]
    assert [change.kind for change in api.loop.incidents.changes_by_id.values()][-1] == "alert"


@pytest.mark.parametrize(
    ("changed_fields", "field"),
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
async def test_malformed_alert_is_refused(changed_fields, field):
    """A malformed alert gets 422 naming the field, and nothing is stored."""
    api = ApiHarness(loop=True)
    before = len(api.loop.incidents.changes_by_id)
    response = await api.key_client("ingest").post("/api/alerts", json=webhook(**changed_fields))
    assert response.status_code == 422
    assert field in response.text
    assert len(api.loop.incidents.changes_by_id) == before
