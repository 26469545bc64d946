"""Routes of recommendations, actions, the pause and the audit."""

from dataclasses import replace

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import SECOND
from trimtab.engine.api.security.access_table import ACCESS
from trimtab.engine.api.shapes.examples import ACTION, EFFECT, RECOMMENDATION
from trimtab.engine.types import ActionState, RecommendationState, ShadowEnd

PATH = f"/api/recommendations/{RECOMMENDATION.id}"
LOOP_RESOURCES = (
    "incidents",
    "changes",
    "alerts",
    "recommendations",
    "capacity",
    "actions",
    "audit",
    "pause",
    "tools",
    "knobs",
)


@pytest.fixture
def api():
    """Return an API with a pending recommendation and a kept action."""
    api = ApiHarness(loop=True)
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = RECOMMENDATION
    api.loop.ledger.actions_by_id[ACTION.id] = ACTION
    return api


async def test_routes_without_the_control_loop_are_unavailable():
    """Without the control loop its routes get 503, and the status reports that the engine does not act."""
    api = ApiHarness()
    client = api.key_client("admin")
    for resource in LOOP_RESOURCES:
        if ("GET", f"/api/{resource}") in ACCESS:
            assert_problem(await client.get(f"/api/{resource}"), 503, "without the control loop")
    assert (await client.get("/api/status")).json()["acts"] is False
    assert (await ApiHarness(loop=True).key_client("read").get("/api/status")).json()["acts"] is True


async def test_recommendation_has_the_details_for_a_decision(api):
    """A recommendation has its change, expected effect, evidence, risk, disproof and actions."""
    found = (await api.key_client("read").get(PATH)).json()
    assert (found["before"], found["after"]) == (RECOMMENDATION.before, RECOMMENDATION.after)
    assert (found["effect"]["low"], found["effect"]["high"]) == (EFFECT.low, EFFECT.high)
    assert found["evidence"] == list(RECOMMENDATION.evidence)
    assert (found["risk"], found["disproof"]) == ("low", RECOMMENDATION.disproof)
    assert found["expires"] == "2026-01-01T00:17:00.000Z"
    assert [a["id"] for a in found["actions"]] == [ACTION.id]


async def test_unknown_effect_is_null(api):
    """NaN in an effect is null in JSON."""
    unknown = replace(RECOMMENDATION, effect=replace(EFFECT, low=float("nan")))
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = unknown
    assert (await api.key_client("read").get(PATH)).json()["effect"]["low"] is None


async def test_unchanged_list_is_not_modified(api):
    """An unchanged list gets 304; weak tags and lists of tags are accepted."""
    client = api.key_client("read")
    first = await client.get("/api/recommendations?state=pending")
    tag = first.headers["etag"]
    for tags in (tag, f"W/{tag}", f'"other", {tag}'):
        unchanged = await client.get("/api/recommendations?state=pending", headers={"If-None-Match": tags})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tag)
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = replace(RECOMMENDATION, confidence=0.9)
    changed = await client.get("/api/recommendations?state=pending", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_approval_records_the_approver(api):
    """An approval changes the state, records the approver and is audited."""
    anna = api.anonymous_client(headers={"Authorization": f"Bearer {api.create_key('approve', name='anna')}"})
    response = (await anna.post(f"{PATH}/approve")).json()
    assert (response["state"], response["approver"]) == ("approved", "anna")
    assert response["approved"] == "2026-01-01T00:00:00.000Z"
    assert [(r.what, r.actor) for r in api.loop.ledger.rows] == [("recommendation approved", "anna")]


async def test_dismissal_requires_a_reason(api):
    """A dismissal requires a reason and succeeds once."""
    client = api.key_client("approve")
    assert_problem(await client.post(f"{PATH}/dismiss", json={"reason": ""}), 422, "reason")
    response = (await client.post(f"{PATH}/dismiss", json={"reason": "moved next week"})).json()
    assert (response["state"], response["reason"]) == ("dismissed", "moved next week")
    assert_problem(await client.post(f"{PATH}/dismiss", json={"reason": "again"}), 409, "dismissed already")


async def test_scheduling_requires_a_future_time(api):
    """A future time is stored; a past time is refused."""
    client = api.key_client("approve")
    assert_problem(
        await client.post(f"{PATH}/schedule", json={"at": "2025-12-31T00:00:00Z"}), 422, "not in the future"
    )
    response = (await client.post(f"{PATH}/schedule", json={"at": "2026-01-02T03:00:00+01:00"})).json()
    assert (response["state"], response["scheduled"]) == ("scheduled", "2026-01-02T02:00:00.000Z")


async def test_applying_twice_with_one_key_acts_once(api):
    """A repeated request gets the first response, also if that response was lost before it was stored."""
    client = api.key_client("execute")
    headers = {"Idempotency-Key": "once"}
    first = await client.post(f"{PATH}/apply", headers=headers)
    assert first.status_code == 201
    again = await client.post(f"{PATH}/apply", headers=headers)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    api.store.responses.clear()
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = RECOMMENDATION
    repeated = await client.post(f"{PATH}/apply", headers=headers)
    assert repeated.json()["id"] == first.json()["id"]
    assert len(api.loop.ledger.actions_by_id) == 2


async def test_idempotency_key_belongs_to_its_caller(api):
    """The same Idempotency-Key of two callers starts two actions."""
    path = "/api/tools/redis/targets/cache-1/actions/warm_keys"
    ids = set()
    for name in ("anna", "ben"):
        client = api.anonymous_client(
            headers={"Authorization": f"Bearer {api.create_key('execute', name=name)}"}
        )
        ids.add((await client.post(path, headers={"Idempotency-Key": "same"})).json()["id"])
        api.clock.tick(1)
    assert len(ids) == 2


async def test_guard_refusal_has_its_reason(api):
    """A refusal of a guard rule is a problem of its own type with the reason, and nothing changes."""
    api.loop.decisions.refusal = "cooldown of cache-1: 12 min left"
    body = assert_problem(await api.key_client("execute").post(f"{PATH}/apply"), 409, "12 min left")
    assert (body["type"], body["title"]) == ("urn:trimtab:problem:refused", "Refused")
    assert api.loop.ledger.recommendation(RECOMMENDATION.id).state is RecommendationState.PENDING


async def test_a_decision_that_cannot_be_stored_has_no_effect(api):
    """If the audit cannot be written, an approval gets 503 and the state stays."""
    api.loop.ledger.broken = "disk full"
    assert_problem(await api.key_client("approve").post(f"{PATH}/approve"), 503, "disk full")
    assert api.loop.ledger.recommendation(RECOMMENDATION.id).state is RecommendationState.PENDING


async def test_an_action_is_rolled_back(api):
    """A rollback returns the reverting action and marks the first as rolled back; a repeat is refused."""
    client = api.key_client("execute", "read")
    path = f"/api/actions/{ACTION.id}"
    reverting = await client.post(f"{path}/rollback")
    assert (reverting.status_code, reverting.json()["undoes"]) == (201, ACTION.id)
    assert (reverting.json()["before"], reverting.json()["after"]) == (ACTION.after, ACTION.before)
    found = (await client.get(path)).json()
    assert (found["state"], found["recommendation"]["id"]) == ("rolled_back", RECOMMENDATION.id)
    assert [row["what"] for row in found["audit"]] == ["action rolled back"]
    assert_problem(await client.post(f"{path}/rollback"), 409, "cannot be taken back")


async def test_shadow_records_are_listed_and_summarized(api):
    """Each recommendation has its shadow record; the summary counts outcomes and worsened targets."""
    base, recommendations = RECOMMENDATION.shadow, api.loop.ledger.recommendations_by_id
    worse = replace(base, ended=None, end=ShadowEnd.OPEN, worst=0.8)
    for number, shadow in enumerate([None, base, worse, replace(base, end=ShadowEnd.DONE)]):
        recommendation = replace(
            RECOMMENDATION, id=f"{RECOMMENDATION.id[:-1]}{number}", incident_id=None, shadow=shadow
        )
        recommendations[recommendation.id] = recommendation
    client = api.key_client("read")
    page = (await client.get("/api/recommendations")).json()["items"]
    assert [(r["incident_id"], r["shadow"] and r["shadow"]["end"]) for r in page] == [
        (None, "done"), (None, ""), (None, "over"), (None, None),
    ]  # fmt: skip
    assert (await client.get("/api/recommendations/shadow")).json() == {
        "actions": 3, "over": 1, "done": 1, "changed": 0, "went_on": 0, "open": 1, "worse": 1,
        "since": "2026-01-01T00:05:00.000Z",
    }  # fmt: skip
    one = (await client.get(f"/api/recommendations/{page[1]['id']}")).json()
    assert (one["shadow"]["time"], one["shadow"]["ended"]) == ("2026-01-01T00:05:00.000Z", None)


async def test_actions_are_filtered(api):
    """Actions can be filtered by tool, state, time and whether they are unfinished."""
    running = replace(ACTION, id="01JGFJJZ" + "0" * 17 + "9", state=ActionState.VERIFYING, tool="pm2")
    api.loop.ledger.actions_by_id[running.id] = running
    client = api.key_client("read")
    for query, n in {
        "": 2, "unfinished=true": 1, "tool=redis": 1, "state=kept": 1, "since=2026-01-02T00:00:00Z": 0,
    }.items():  # fmt: skip
        assert len((await client.get(f"/api/actions?{query}")).json()["items"]) == n, query


async def test_an_operator_pauses_and_resumes(api):
    """An API key can pause, which refuses changes; only a browser session can resume."""
    client = api.key_client("execute", "approve", "read")
    paused = (await client.post("/api/pause", json={"reason": "moving"})).json()
    assert (paused["on"], paused["reason"], paused["since"]) == (
        True,
        "moving",
        "2026-01-01T00:00:00.000Z",
    )
    assert_problem(await client.post(f"{PATH}/apply"), 409, "paused")
    assert_problem(await client.delete("/api/pause"), 403, "Only an operator")
    browser, csrf = await api.browser_client(["approve", "read"])
    assert (await browser.delete("/api/pause?reason=done", headers={"X-CSRF-Token": csrf})).json()[
        "on"
    ] is False
    assert (await client.get("/api/pause")).json()["on"] is False
    assert (await client.post("/api/pause")).json()["reason"] == ""


@pytest.mark.parametrize("n", [0, 1, 7, 2500])
async def test_the_audit_pages_back_from_the_newest(api, n):
    """Following `next` returns every row once, newest first."""
    for i in range(n):
        api.loop.ledger.append_audit("noted", f"s{i % 3}", "anna")
    seqs, after = [], None
    while after is None or seqs[-1] > 1:
        query = {"limit": 1000} | ({} if after is None else {"after": after})
        page = (await api.key_client("read").get("/api/audit", params=query)).json()
        seqs += [row["seq"] for row in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seqs == list(range(n, 0, -1))


async def test_audit_of_one_subject(api):
    """The audit of a subject has only its rows, newest first, page by page."""
    for i in range(9):
        api.clock.tick(1)
        api.loop.ledger.append_audit("noted", f"s{i % 3}", "anna", {"round": i})
    client = api.key_client("read")
    page = (await client.get("/api/audit?subject=s1&limit=2")).json()
    assert ([row["seq"] for row in page["items"]], page["next"]) == ([8, 5], 5)
    assert page["items"][0]["details"] == {"round": 7}
    page = (await client.get("/api/audit?subject=s1&limit=2&after=5")).json()
    assert ([row["seq"] for row in page["items"]], page["next"]) == ([2], None)
    assert (await client.get("/api/audit?after=99999")).json()["items"][0]["seq"] == 9


async def test_audit_is_verified_on_request(api):
    """The verification returns the number of rows and the problem found, if any."""
    api.loop.ledger.append_audit("noted", "x", "anna")
    client = api.key_client("read")
    assert (await client.get("/api/audit/verify")).json() == {"ok": True, "rows": 1, "problem": None}
    api.loop.audit_problem = "row 1 was edited"
    assert (await client.get("/api/audit/verify")).json()["problem"] == "row 1 was edited"


async def test_audit_details_are_unchanged(api):
    """Audit details are returned as written, because the hash chain covers them."""
    api.loop.ledger.append_audit("noted", "x", "anna", {"since": 5 * SECOND})
    found = (await api.key_client("read").get("/api/audit")).json()
    assert found["items"][0]["details"] == {"since": 5 * SECOND}
