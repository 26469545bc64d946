from dataclasses import replace

import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.builders.series import SECOND
from trimtab.engine.api.security.access_table import ACCESS
from trimtab.engine.api.shapes.examples import ACTION, EFFECT, RECOMMENDATION
from trimtab.engine.types import ActionState, RecommendationState, ShadowEnd

PATH = f"/api/recommendations/{RECOMMENDATION.id}"
LOOP_NOUNS = (
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
    """A pending recommendation and an action that was kept."""
    api = ApiHarness(loop=True)
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = RECOMMENDATION
    api.loop.ledger.actions_by_id[ACTION.id] = ACTION
    return api


async def test_without_the_loop_its_routes_say_so():
    """Without the loop its routes answer 503, and the status says that nothing acts here."""
    api = ApiHarness()
    program = api.key_client("admin")
    for noun in LOOP_NOUNS:
        if ("GET", f"/api/{noun}") in ACCESS:
            assert_problem(await program.get(f"/api/{noun}"), 503, "without the control loop")
    assert (await program.get("/api/status")).json()["acts"] is False
    assert (await ApiHarness(loop=True).key_client("read").get("/api/status")).json()["acts"] is True


async def test_a_recommendation_has_all_that_a_person_needs(api):
    """Change, expected effect with interval, evidence, risk and disproof go out, and its actions."""
    found = (await api.key_client("read").get(PATH)).json()
    assert (found["before"], found["after"]) == (RECOMMENDATION.before, RECOMMENDATION.after)
    assert (found["effect"]["low"], found["effect"]["high"]) == (EFFECT.low, EFFECT.high)
    assert found["evidence"] == list(RECOMMENDATION.evidence)
    assert (found["risk"], found["disproof"]) == ("low", RECOMMENDATION.disproof)
    assert found["expires"] == "2026-01-01T00:17:00.000Z"
    assert [a["id"] for a in found["actions"]] == [ACTION.id]


async def test_a_figure_that_is_unknown_is_null(api):
    """NaN in an effect goes out as null."""
    unknown = replace(RECOMMENDATION, effect=replace(EFFECT, low=float("nan")))
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = unknown
    assert (await api.key_client("read").get(PATH)).json()["effect"]["low"] is None


async def test_polling_with_an_etag_costs_nothing(api):
    """The same list is 304 until something changes; weak and several tags are understood."""
    program = api.key_client("read")
    first = await program.get("/api/recommendations?state=pending")
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        same = await program.get("/api/recommendations?state=pending", headers={"If-None-Match": known})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = replace(RECOMMENDATION, confidence=0.9)
    changed = await program.get("/api/recommendations?state=pending", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_approving_names_the_person(api):
    """An approval changes the state, keeps who gave it, and stands in the audit."""
    anna = api.anonymous_client(headers={"Authorization": f"Bearer {api.create_key('approve', name='anna')}"})
    answer = (await anna.post(f"{PATH}/approve")).json()
    assert (answer["state"], answer["approver"]) == ("approved", "anna")
    assert answer["approved"] == "2026-01-01T00:00:00.000Z"
    assert [(r.what, r.actor) for r in api.loop.ledger.rows] == [("recommendation approved", "anna")]


async def test_dismissing_asks_for_a_reason(api):
    """Without a reason nothing is dismissed; it can be dismissed once."""
    program = api.key_client("approve")
    assert_problem(await program.post(f"{PATH}/dismiss", json={"reason": ""}), 422, "reason")
    answer = (await program.post(f"{PATH}/dismiss", json={"reason": "moved next week"})).json()
    assert (answer["state"], answer["reason"]) == ("dismissed", "moved next week")
    assert_problem(await program.post(f"{PATH}/dismiss", json={"reason": "again"}), 409, "dismissed already")


async def test_scheduling_requires_a_future_time(api):
    """A later time is kept, a past one is refused."""
    program = api.key_client("approve")
    assert_problem(
        await program.post(f"{PATH}/schedule", json={"at": "2025-12-31T00:00:00Z"}), 422, "not in the future"
    )
    answer = (await program.post(f"{PATH}/schedule", json={"at": "2026-01-02T03:00:00+01:00"})).json()
    assert (answer["state"], answer["scheduled"]) == ("scheduled", "2026-01-02T02:00:00.000Z")


async def test_applying_twice_with_one_key_acts_once(api):
    """A repetition gets the first answer, also where that was lost before it was stored."""
    program = api.key_client("execute")
    headers = {"Idempotency-Key": "once"}
    first = await program.post(f"{PATH}/apply", headers=headers)
    assert first.status_code == 201
    again = await program.post(f"{PATH}/apply", headers=headers)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    api.store.responses.clear()
    api.loop.ledger.recommendations_by_id[RECOMMENDATION.id] = RECOMMENDATION
    lost = await program.post(f"{PATH}/apply", headers=headers)
    assert lost.json()["id"] == first.json()["id"]
    assert len(api.loop.ledger.actions_by_id) == 2


async def test_two_callers_with_the_same_key_are_two_calls(api):
    """A key belongs to its caller: another's is another action."""
    path = "/api/tools/redis/targets/cache-1/actions/warm_keys"
    ids = set()
    for name in ("anna", "ben"):
        program = api.anonymous_client(
            headers={"Authorization": f"Bearer {api.create_key('execute', name=name)}"}
        )
        ids.add((await program.post(path, headers={"Idempotency-Key": "same"})).json()["id"])
        api.clock.tick(1)
    assert len(ids) == 2


async def test_a_refusal_of_the_guardrails_gives_its_reason(api):
    """What a guardrail forbids is a problem of its own type with the reason, and nothing is done."""
    api.loop.decisions.refusal = "cooldown of cache-1: 12 min left"
    body = assert_problem(await api.key_client("execute").post(f"{PATH}/apply"), 409, "12 min left")
    assert (body["type"], body["title"]) == ("urn:trimtab:problem:refused", "Refused")
    assert api.loop.ledger.recommendation(RECOMMENDATION.id).state is RecommendationState.PENDING


async def test_a_decision_that_cannot_be_stored_has_no_effect(api):
    """Where the audit cannot be written the answer is 503, and the state stays."""
    api.loop.ledger.broken = "disk full"
    assert_problem(await api.key_client("approve").post(f"{PATH}/approve"), 503, "disk full")
    assert api.loop.ledger.recommendation(RECOMMENDATION.id).state is RecommendationState.PENDING


async def test_an_action_is_rolled_back(api):
    """The answer is the action that takes back; the first is rolled back; a second try is refused."""
    program = api.key_client("execute", "read")
    path = f"/api/actions/{ACTION.id}"
    back = await program.post(f"{path}/rollback")
    assert (back.status_code, back.json()["undoes"]) == (201, ACTION.id)
    assert (back.json()["before"], back.json()["after"]) == (ACTION.after, ACTION.before)
    found = (await program.get(path)).json()
    assert (found["state"], found["recommendation"]["id"]) == ("rolled_back", RECOMMENDATION.id)
    assert [row["what"] for row in found["audit"]] == ["action rolled back"]
    assert_problem(await program.post(f"{path}/rollback"), 409, "cannot be taken back")


async def test_shadow_records_are_shown_and_summed(api):
    """Each recommendation has its shadow with times; the sum says how they ended, and which got worse."""
    base, asked = RECOMMENDATION.shadow, api.loop.ledger.recommendations_by_id
    worse = replace(base, ended=None, end=ShadowEnd.OPEN, worst=0.8)
    for number, shadow in enumerate([None, base, worse, replace(base, end=ShadowEnd.DONE)]):
        made = replace(
            RECOMMENDATION, id=f"{RECOMMENDATION.id[:-1]}{number}", incident_id=None, shadow=shadow
        )
        asked[made.id] = made
    program = api.key_client("read")
    page = (await program.get("/api/recommendations")).json()["items"]
    assert [(r["incident_id"], r["shadow"] and r["shadow"]["end"]) for r in page] == [
        (None, "done"), (None, ""), (None, "over"), (None, None),
    ]  # fmt: skip
    assert (await program.get("/api/recommendations/shadow")).json() == {
        "actions": 3, "over": 1, "done": 1, "changed": 0, "went_on": 0, "open": 1, "worse": 1,
        "since": "2026-01-01T00:05:00.000Z",
    }  # fmt: skip
    one = (await program.get(f"/api/recommendations/{page[1]['id']}")).json()
    assert (one["shadow"]["time"], one["shadow"]["ended"]) == ("2026-01-01T00:05:00.000Z", None)


async def test_actions_are_filtered(api):
    """Those that go on, those of a tool and those since a time can be asked for."""
    running = replace(ACTION, id="01JGFJJZ" + "0" * 17 + "9", state=ActionState.VERIFYING, tool="pm2")
    api.loop.ledger.actions_by_id[running.id] = running
    program = api.key_client("read")
    for query, n in {
        "": 2, "unfinished=true": 1, "tool=redis": 1, "state=kept": 1, "since=2026-01-02T00:00:00Z": 0,
    }.items():  # fmt: skip
        assert len((await program.get(f"/api/actions?{query}")).json()["items"]) == n, query


async def test_an_operator_pauses_and_resumes(api):
    """A program stops everything; what it wants applied is refused; a person's browser resumes."""
    program = api.key_client("execute", "approve", "read")
    stopped = (await program.post("/api/pause", json={"reason": "moving"})).json()
    assert (stopped["on"], stopped["reason"], stopped["since"]) == (
        True,
        "moving",
        "2026-01-01T00:00:00.000Z",
    )
    assert_problem(await program.post(f"{PATH}/apply"), 409, "paused")
    assert_problem(await program.delete("/api/pause"), 403, "Only an operator")
    browser, csrf = await api.browser_client(["approve", "read"])
    assert (await browser.delete("/api/pause?reason=done", headers={"X-CSRF-Token": csrf})).json()[
        "on"
    ] is False
    assert (await program.get("/api/pause")).json()["on"] is False
    assert (await program.post("/api/pause")).json()["reason"] == ""


@pytest.mark.parametrize("n", [0, 1, 7, 2500])
async def test_the_audit_pages_back_from_the_newest(api, n):
    """Following `next` shows every row once, newest first."""
    for i in range(n):
        api.loop.ledger.append_audit("noted", f"s{i % 3}", "anna")
    seen, after = [], None
    while after is None or seen[-1] > 1:
        query = {"limit": 1000} | ({} if after is None else {"after": after})
        page = (await api.key_client("read").get("/api/audit", params=query)).json()
        seen += [row["seq"] for row in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == list(range(n, 0, -1))


async def test_the_audit_of_one_thing(api):
    """Only the rows of a subject, newest first, page by page."""
    for i in range(9):
        api.clock.tick(1)
        api.loop.ledger.append_audit("noted", f"s{i % 3}", "anna", {"round": i})
    program = api.key_client("read")
    page = (await program.get("/api/audit?subject=s1&limit=2")).json()
    assert ([row["seq"] for row in page["items"]], page["next"]) == ([8, 5], 5)
    assert page["items"][0]["details"] == {"round": 7}
    page = (await program.get("/api/audit?subject=s1&limit=2&after=5")).json()
    assert ([row["seq"] for row in page["items"]], page["next"]) == ([2], None)
    assert (await program.get("/api/audit?after=99999")).json()["items"][0]["seq"] == 9


async def test_the_audit_is_checked_on_demand(api):
    """The check says how many rows there are and what is wrong; without one it says what to run."""
    api.loop.ledger.append_audit("noted", "x", "anna")
    program = api.key_client("read")
    assert (await program.get("/api/audit/verify")).json() == {"ok": True, "rows": 1, "problem": None}
    api.loop.audit_problem = "row 1 was edited"
    assert (await program.get("/api/audit/verify")).json()["problem"] == "row 1 was edited"


async def test_a_time_in_details_of_the_audit_stays_as_it_was(api):
    """Details are shown as they were written: the chain covers them."""
    api.loop.ledger.append_audit("noted", "x", "anna", {"since": 5 * SECOND})
    found = (await api.key_client("read").get("/api/audit")).json()
    assert found["items"][0]["details"] == {"since": 5 * SECOND}
