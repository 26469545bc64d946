from dataclasses import replace

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import SECOND, START, anomaly_of
from trimtab.engine.api.shapes.examples import ACTION, CHANGE, INCIDENT, RECOMMENDATION
from trimtab.engine.types import IncidentState, SeriesKey

KEY = SeriesKey.of("host", "cpu")
PAST = replace(INCIDENT, id="01JFFJJZ" + "0" * 18, state=IncidentState.RESOLVED, end=START, similar=())
HELPED = replace(RECOMMENDATION, id="01JFFJJZ" + "0" * 17 + "1", incident_id=PAST.id)


@pytest.fixture
def api():
    """An incident with an anomaly, a change and a recommendation, and a past one like it."""
    api = ApiHarness(loop=True)
    loop = api.loop
    loop.incidents.save_incidents([replace(INCIDENT, similar=(PAST.id, "01JFFJJZ" + "0" * 17 + "9")), PAST])
    loop.incidents.save_change(CHANGE)
    loop.incidents.save_change(replace(CHANGE, id="01JGFJJZ" + "0" * 17 + "7", title="elsewhere"))
    loop.ledger.recommendations_by_id = {RECOMMENDATION.id: RECOMMENDATION, HELPED.id: HELPED}
    loop.ledger.actions_by_id = {ACTION.id: replace(ACTION, recommendation_id=HELPED.id)}
    api.store.save_anomaly(anomaly_of(KEY, INCIDENT.anomaly_ids[0]))
    return api


async def test_an_incident_has_its_details(api):
    """One answer holds anomalies, changes, recommendations, and what was done in similar ones."""
    found = (await api.key_client("read").get(f"/api/incidents/{INCIDENT.id}")).json()
    assert found["start"] == "2026-01-01T00:00:00.000Z"
    assert found["suspects"][0]["moved"] == "2026-01-01T00:00:00.000Z"
    assert [a["series"] for a in found["anomalies"]] == ["cpu"]
    assert [c["title"] for c in found["changes"]] == [CHANGE.title]
    assert [r["id"] for r in found["recommendations"]] == [RECOMMENDATION.id]
    assert [(past["id"], past["done"]) for past in found["alike"]] == [
        (PAST.id, [{"title": HELPED.title, "state": "kept", "words": "no harm seen"}])
    ]


async def test_incidents_are_filtered_and_paged(api):
    """State, open, pattern and words reach the store; `next` leads on, newest first."""
    program = api.key_client("read")
    page = (await program.get("/api/incidents?limit=1")).json()
    assert ([i["id"] for i in page["items"]], page["next"]) == ([INCIDENT.id], INCIDENT.id)
    page = (await program.get(f"/api/incidents?limit=1&after={page['next']}")).json()
    assert ([i["id"] for i in page["items"]], page["next"]) == ([PAST.id], None)
    for query, n in {
        "open=true": 1,
        "state=resolved": 1,
        "pattern=memory_leak": 0,
        "search=evicted": 2,
    }.items():
        assert len((await program.get(f"/api/incidents?{query}")).json()["items"]) == n, query


@pytest.mark.parametrize("verb", ["acknowledge", "resolve", "reopen"])
async def test_operators_change_the_state(api, verb):
    """A word of a person changes the state and keeps the note; without a body there is no note."""
    state = {"acknowledge": "acknowledged", "resolve": "resolved", "reopen": "open"}[verb]
    program = api.key_client("propose")
    answer = await program.post(f"/api/incidents/{INCIDENT.id}/{verb}", json={"note": "known"})
    assert (answer.json()["state"], answer.json()["note"]) == (state, "known")
    assert api.loop.incidents.incident(INCIDENT.id).state == state
    again = await program.post(f"/api/incidents/{PAST.id}/reopen")
    assert again.json()["note"] == ""


async def test_an_incident_that_cannot_be_changed_so_says_why(api):
    """What the desk refuses comes as a problem, and is not remembered as the answer."""
    program = api.key_client("propose")
    headers = {"Idempotency-Key": "k1"}
    path = f"/api/incidents/{PAST.id}/acknowledge"
    assert_problem(await program.post(path, headers=headers), 409, "reopen it first")
    api.loop.incidents.save_incidents([replace(PAST, state=IncidentState.OPEN)])
    assert (await program.post(path, headers=headers)).status_code == 200
    assert_problem(await program.post(f"/api/incidents/{KEY.id}/resolve"), 422, "incident_id")
    assert_problem(await program.post("/api/incidents/01JGFJJZ00AAAAAAAAAAAAAAAA/resolve"), 404)


async def test_incidents_are_merged_and_split(api):
    """A merge gives the other incident back, a split the new one."""
    program = api.key_client("propose")
    merged = (await program.post(f"/api/incidents/{PAST.id}/merge", json={"into": INCIDENT.id})).json()
    assert (merged["id"], len(merged["anomaly_ids"])) == (INCIDENT.id, 2)
    body = {"anomaly_ids": [INCIDENT.anomaly_ids[0]]}
    parted = (await program.post(f"/api/incidents/{INCIDENT.id}/split", json=body)).json()
    assert parted["id"] not in {INCIDENT.id, PAST.id}
    assert_problem(await program.post(f"/api/incidents/{INCIDENT.id}/split", json={"anomaly_ids": []}), 422)


async def test_a_change_is_reported_and_listed(api):
    """A deploy is kept with who told it; a repetition of the call keeps it once."""
    program = api.key_client("ingest", "read")
    body = {"kind": "deploy", "title": "checkout 3", "labels": {"service": "checkout"}}
    answers = [await program.post("/api/changes", json=body, headers={"Idempotency-Key": "b1"}) for _ in "ab"]
    assert [a.status_code for a in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["time"] == "2026-01-01T00:00:00.000Z"
    listed = (await program.get("/api/changes")).json()["items"]
    assert [c["title"] for c in listed].count("checkout 3") == 1
    early = (await program.post("/api/changes", json={**body, "time": "2025-12-31T23:00:00Z"})).json()
    assert early["time"] == "2025-12-31T23:00:00.000Z"


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": ""},
        {"title": "x", "kind": "party"},
        {"title": "x", "time": "yesterday"},
        {"title": "x", "url": "javascript:alert(1)"},  # it becomes a link
        {"title": "x", "labels": {"a b": "c"}},
        {"title": "x", "more": 1},
    ],
)
async def test_a_change_of_a_wrong_form_is_refused(api, wrong):
    """A body that is not as described is a 422, and nothing is kept."""
    before = len(api.loop.incidents.changes_by_id)
    assert_problem(await api.key_client("ingest").post("/api/changes", json=wrong), 422)
    assert len(api.loop.incidents.changes_by_id) == before


def webhook(status="firing", **changed):
    """What an Alertmanager sends."""
    alert = {
        "status": status, "labels": {"alertname": "HighLatency", "service": "checkout"},
        "annotations": {"summary": "p99 over 2 s"}, "startsAt": "2026-01-01T00:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://p:9090/g", "fingerprint": "c1f0",
    }  # fmt: skip
    return {"version": "4", "groupKey": "{}", "status": status, "receiver": "t", "alerts": [alert | changed]}


async def test_alerts_become_one_change_each(api):
    """An alert that is repeated stays one change; its end is told in the title."""
    program = api.key_client("ingest")
    for status, end in [("firing", "0001-01-01T00:00:00Z")] * 2 + [("resolved", "2026-01-01T00:05:00+00:00")]:
        answer = await program.post("/api/alerts", json=webhook(status, endsAt=end))
        assert answer.json() == {"taken": 1}
    alerts = [c for c in api.loop.incidents.changes_by_id.values() if c.title.startswith("alert")]
    assert [c.title for c in alerts] == ["alert (over): HighLatency, p99 over 2 s"]
    assert alerts[0].labels["service"] == "checkout"
    first, _, last = api.loop.alerts
    assert (first.end, first.start, last.end) == (None, START + 123_456_789, START + 300 * SECOND)


@pytest.mark.parametrize("wrong", [{"version": "3"}, {"alerts": [{"status": "firing"}]}, {}])
async def test_alerts_of_another_form_are_refused(api, wrong):
    """Another version of the webhook, or an alert without its fields, is a 422."""
    body = webhook() | wrong if wrong else {}
    assert_problem(await api.key_client("ingest").post("/api/alerts", json=body), 422)


async def test_links_of_alerts_are_web_addresses(api):
    """An address of another kind is dropped: it becomes a link in the dashboard."""
    await api.key_client("ingest").post("/api/alerts", json=webhook(generatorURL="javascript:alert(1)"))
    assert api.loop.alerts[0].url == ""
