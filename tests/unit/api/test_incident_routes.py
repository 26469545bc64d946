"""Routes of incidents, change events and external alerts."""

from dataclasses import replace

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import SECOND, START, anomaly_of
from trimtab.engine.api.shapes.examples import ACTION, CHANGE, INCIDENT, RECOMMENDATION
from trimtab.engine.types import IncidentState, SeriesKey

KEY = SeriesKey.of("host", "cpu")
PAST_INCIDENT = replace(
    INCIDENT, id="01JFFJJZ" + "0" * 18, state=IncidentState.RESOLVED, end=START, similar=()
)
PAST_RECOMMENDATION = replace(RECOMMENDATION, id="01JFFJJZ" + "0" * 17 + "1", incident_id=PAST_INCIDENT.id)


@pytest.fixture
def api():
    """Return an API with an incident, its anomaly, change and recommendation, and a similar past incident."""
    api = ApiHarness(loop=True)
    loop = api.loop
    loop.incidents.save_incidents(
        [replace(INCIDENT, similar=(PAST_INCIDENT.id, "01JFFJJZ" + "0" * 17 + "9")), PAST_INCIDENT]
    )
    loop.incidents.save_change(CHANGE)
    loop.incidents.save_change(replace(CHANGE, id="01JGFJJZ" + "0" * 17 + "7", title="elsewhere"))
    loop.ledger.recommendations_by_id = {
        RECOMMENDATION.id: RECOMMENDATION,
        PAST_RECOMMENDATION.id: PAST_RECOMMENDATION,
    }
    loop.ledger.actions_by_id = {ACTION.id: replace(ACTION, recommendation_id=PAST_RECOMMENDATION.id)}
    api.store.save_anomaly(anomaly_of(KEY, INCIDENT.anomaly_ids[0]))
    return api


async def test_an_incident_has_its_details(api):
    """An incident has its anomalies, changes, recommendations and the actions of similar incidents."""
    found = (await api.key_client("read").get(f"/api/incidents/{INCIDENT.id}")).json()
    assert found["start"] == "2026-01-01T00:00:00.000Z"
    assert found["suspects"][0]["moved"] == "2026-01-01T00:00:00.000Z"
    assert [a["series"] for a in found["anomalies"]] == ["cpu"]
    assert [c["title"] for c in found["changes"]] == [CHANGE.title]
    assert [r["id"] for r in found["recommendations"]] == [RECOMMENDATION.id]
    assert [(past["id"], past["done"]) for past in found["alike"]] == [
        (PAST_INCIDENT.id, [{"title": PAST_RECOMMENDATION.title, "state": "kept", "words": "no harm seen"}])
    ]


async def test_incidents_are_filtered_and_paged(api):
    """Incidents are filtered by state, pattern and words; `next` continues with older ones."""
    client = api.key_client("read")
    page = (await client.get("/api/incidents?limit=1")).json()
    assert ([i["id"] for i in page["items"]], page["next"]) == ([INCIDENT.id], INCIDENT.id)
    page = (await client.get(f"/api/incidents?limit=1&after={page['next']}")).json()
    assert ([i["id"] for i in page["items"]], page["next"]) == ([PAST_INCIDENT.id], None)
    for query, n in {
        "open=true": 1,
        "state=resolved": 1,
        "pattern=memory_leak": 0,
        "search=evicted": 2,
    }.items():
        assert len((await client.get(f"/api/incidents?{query}")).json()["items"]) == n, query


@pytest.mark.parametrize("verb", ["acknowledge", "resolve", "reopen"])
async def test_operators_change_the_state(api, verb):
    """An operator action changes the state and stores the note; the note is optional."""
    state = {"acknowledge": "acknowledged", "resolve": "resolved", "reopen": "open"}[verb]
    client = api.key_client("propose")
    response = await client.post(f"/api/incidents/{INCIDENT.id}/{verb}", json={"note": "known"})
    assert (response.json()["state"], response.json()["note"]) == (state, "known")
    assert api.loop.incidents.incident(INCIDENT.id).state == state
    again = await client.post(f"/api/incidents/{PAST_INCIDENT.id}/reopen")
    assert again.json()["note"] == ""


async def test_refused_operator_action_has_its_reason(api):
    """A refused operator action is a problem with the reason and can be retried with the same key."""
    client = api.key_client("propose")
    headers = {"Idempotency-Key": "k1"}
    path = f"/api/incidents/{PAST_INCIDENT.id}/acknowledge"
    assert_problem(await client.post(path, headers=headers), 409, "reopen it first")
    api.loop.incidents.save_incidents([replace(PAST_INCIDENT, state=IncidentState.OPEN)])
    assert (await client.post(path, headers=headers)).status_code == 200
    assert_problem(await client.post(f"/api/incidents/{KEY.id}/resolve"), 422, "incident_id")
    assert_problem(await client.post("/api/incidents/01JGFJJZ00AAAAAAAAAAAAAAAA/resolve"), 404)


async def test_incidents_are_merged_and_split(api):
    """A merge returns the target incident; a split returns the new incident."""
    client = api.key_client("propose")
    merged = (
        await client.post(f"/api/incidents/{PAST_INCIDENT.id}/merge", json={"into": INCIDENT.id})
    ).json()
    assert (merged["id"], len(merged["anomaly_ids"])) == (INCIDENT.id, 2)
    body = {"anomaly_ids": [INCIDENT.anomaly_ids[0]]}
    split_off = (await client.post(f"/api/incidents/{INCIDENT.id}/split", json=body)).json()
    assert split_off["id"] not in {INCIDENT.id, PAST_INCIDENT.id}
    assert_problem(await client.post(f"/api/incidents/{INCIDENT.id}/split", json={"anomaly_ids": []}), 422)


async def test_a_change_is_reported_and_listed(api):
    """A change event is stored with its reporter; a repeated request stores it once."""
    client = api.key_client("ingest", "read")
    body = {"kind": "deploy", "title": "checkout 3", "labels": {"service": "checkout"}}
    responses = [
        await client.post("/api/changes", json=body, headers={"Idempotency-Key": "b1"}) for _ in "ab"
    ]
    assert [a.status_code for a in responses] == [201, 201]
    assert responses[0].json() == responses[1].json()
    assert responses[0].json()["time"] == "2026-01-01T00:00:00.000Z"
    listed = (await client.get("/api/changes")).json()["items"]
    assert [c["title"] for c in listed].count("checkout 3") == 1
    early = (await client.post("/api/changes", json={**body, "time": "2025-12-31T23:00:00Z"})).json()
    assert early["time"] == "2025-12-31T23:00:00.000Z"


@pytest.mark.parametrize(
    "invalid",
    [
        {"title": ""},
        {"title": "x", "kind": "party"},
        {"title": "x", "time": "yesterday"},
        {"title": "x", "url": "javascript:alert(1)"},  # the dashboard shows it as a link
        {"title": "x", "labels": {"a b": "c"}},
        {"title": "x", "more": 1},
    ],
)
async def test_malformed_change_is_refused(api, invalid):
    """A malformed change event gets 422, and nothing is stored."""
    before = len(api.loop.incidents.changes_by_id)
    assert_problem(await api.key_client("ingest").post("/api/changes", json=invalid), 422)
    assert len(api.loop.incidents.changes_by_id) == before


def webhook(status="firing", **changed):
    """Return the body of an Alertmanager webhook."""
    alert = {
        "status": status, "labels": {"alertname": "HighLatency", "service": "checkout"},
        "annotations": {"summary": "p99 over 2 s"}, "startsAt": "2026-01-01T00:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://p:9090/g", "fingerprint": "c1f0",
    }  # fmt: skip
    return {"version": "4", "groupKey": "{}", "status": status, "receiver": "t", "alerts": [alert | changed]}


async def test_alert_is_one_change_event(api):
    """A repeated alert is one change event, whose title marks the end of the alert."""
    client = api.key_client("ingest")
    for status, end in [("firing", "0001-01-01T00:00:00Z")] * 2 + [("resolved", "2026-01-01T00:05:00+00:00")]:
        response = await client.post("/api/alerts", json=webhook(status, endsAt=end))
        assert response.json() == {"taken": 1}
    alerts = [c for c in api.loop.incidents.changes_by_id.values() if c.title.startswith("alert")]
    assert [c.title for c in alerts] == ["alert (over): HighLatency, p99 over 2 s"]
    assert alerts[0].labels["service"] == "checkout"
    first, _, last = api.loop.alerts
    assert (first.end, first.start, last.end) == (None, START + 123_456_789, START + 300 * SECOND)


@pytest.mark.parametrize("invalid", [{"version": "3"}, {"alerts": [{"status": "firing"}]}, {}])
async def test_malformed_alerts_are_refused(api, invalid):
    """Another webhook version or an alert without its fields gets 422."""
    body = webhook() | invalid if invalid else {}
    assert_problem(await api.key_client("ingest").post("/api/alerts", json=body), 422)


async def test_links_of_alerts_are_web_addresses(api):
    """A link that is not a web address is dropped, because the dashboard shows it as a link."""
    await api.key_client("ingest").post("/api/alerts", json=webhook(generatorURL="javascript:alert(1)"))
    assert api.loop.alerts[0].url == ""
