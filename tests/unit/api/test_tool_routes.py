from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest

from tests.builders.api_client import ApiHarness, assert_problem
from tests.servers.http import serve_app
from trimtab.engine.api.shapes.examples import ACTION, TARGET, TOOL
from trimtab.engine.errors import ToolError, ToolUncertainError
from trimtab.engine.types import ToolState, ToolStatus

KNOB = "/api/tools/redis/targets/cache-1/knobs/maxmemory"


@pytest.fixture
def api():
    """One tool with one target."""
    api = ApiHarness(loop=True)
    box = api.loop.toolbox
    box.tool_views["redis"] = TOOL
    box.target_views["redis", "cache-1"] = TARGET
    return api


async def test_tools_and_their_targets_are_shown(api):
    """The list has each tool's state, one tool how to let it in, a target its figures, knobs and actions."""
    program = api.key_client("read")
    listed = (await program.get("/api/tools")).json()["items"]
    assert [(tool["name"], tool["status"]["state"], tool["modes"]["*"]) for tool in listed] == [
        ("redis", "up", "recommend")
    ]
    assert "grant redis" in (await program.get("/api/tools/redis")).json()["grant"]
    target = (await program.get("/api/tools/redis/targets/cache-1")).json()
    assert target["metrics"]["redis_hit_ratio"] == 0.61
    assert target["knobs"][0]["knob"]["name"] == "maxmemory"
    assert target["knobs"][0]["reading"]["value"] == 268_435_456
    assert target["actions"][0]["name"] == "warm_keys"
    assert_problem(await program.get("/api/tools/nginx"), 404)
    assert_problem(await program.get("/api/tools/redis/targets/other"), 404)


async def test_all_knobs_of_all_targets(api):
    """Knobs of every tool that can be read, and the problem of every target that cannot."""
    box = api.loop.toolbox
    box.tool_views["pm2"] = replace(TOOL, name="pm2", targets=("api", "gone"))
    box.tool_views["off"] = replace(TOOL, name="off", status=ToolStatus(ToolState.DISABLED))
    box.target_views["pm2", "api"] = replace(TARGET, tool="pm2", target="api", problem="metrics: timed out")
    found = (await api.key_client("read").get("/api/knobs")).json()
    assert [(k["tool"], k["target"], k["knob"]["name"]) for k in found["items"]] == [
        ("pm2", "api", "maxmemory"),
        ("redis", "cache-1", "maxmemory"),
    ]
    assert {(p["target"], p["problem"]) for p in found["problems"]} == {
        ("api", "metrics: timed out"),
        ("gone", "pm2 has no target 'gone'"),
    }


async def test_switching_a_tool_is_audited(api):
    """A tool is switched only where that can be written down; a disabled one says no grant."""
    program = api.key_client("admin")
    off = (await program.put("/api/tools/redis", json={"enabled": False})).json()
    assert (off["enabled"], off["status"]["state"]) == (False, "disabled")
    assert (await program.get("/api/tools/redis")).json()["grant"] is None
    assert [(row.what, row.subject) for row in api.loop.ledger.rows] == [("tool disabled", "redis")]
    api.loop.ledger.broken = "disk full"
    assert_problem(await program.put("/api/tools/redis", json={"enabled": True}), 503)
    assert api.loop.toolbox.tool_views["redis"].enabled is False
    assert_problem(await program.put("/api/tools/nginx", json={"enabled": True}), 404)


async def test_one_click_and_knobs_become_actions(api):
    """What a person does by hand is an action like any other, and once is once."""
    program = api.key_client("execute")
    ran = await program.post("/api/tools/redis/targets/cache-1/actions/warm_keys")
    assert (ran.status_code, ran.json()["is_action"], ran.json()["subject"]) == (201, True, "warm_keys")
    body = {"before": ACTION.before, "after": ACTION.after}
    headers = {"Idempotency-Key": "k"}
    first = await program.put(KNOB, json=body, headers=headers)
    assert (first.json()["before"], first.json()["after"]) == (ACTION.before, ACTION.after)
    assert (await program.put(KNOB, json=body, headers=headers)).json() == first.json()
    assert_problem(await program.put(KNOB, json={**body, "after": 1}, headers=headers), 422, "another body")


@pytest.mark.parametrize("value", [True, 7, 0.5, "allkeys-lru", None])
async def test_a_value_keeps_its_kind(api, value):
    """Truth values, whole numbers, fractions, words and nothing reach the desk as they are."""
    await api.key_client("execute").put(KNOB, json={"before": value, "after": value})
    (action,) = api.loop.ledger.actions_by_id.values()
    assert action.after == value
    assert type(action.after) is type(value)


@pytest.mark.parametrize(
    "text", ['{"before": NaN, "after": 1}', '{"before": 1}', '{"before": [1], "after": 1}']
)
async def test_a_value_of_no_kind_is_refused(api, text):
    """What is no value of a knob is a 422 and does nothing."""
    headers = {"Content-Type": "application/json"}
    assert_problem(await api.key_client("execute").put(KNOB, content=text, headers=headers), 422)
    assert api.loop.ledger.actions_by_id == {}


@pytest.mark.parametrize("kind", [ToolError, ToolUncertainError])
async def test_a_tool_error_is_a_502(api, monkeypatch, kind):
    """A tool's failure is a 502 with what the tool said."""

    async def fail(*_):
        raise kind("redis: cache-1 did not answer within 10 s")

    monkeypatch.setattr(api.loop.decisions, "run", fail)
    answer = await api.key_client("execute").post("/api/tools/redis/targets/cache-1/actions/warm_keys")
    assert_problem(answer, 502, "did not answer within 10 s")


@pytest.mark.parametrize("target", ["@shop/api", "a/knobs/b", "a%2Fb", "50% off", "a/actions/reload", "/"])
async def test_names_may_contain_a_slash(api, target):
    """An escaped slash belongs to the name: targets, knobs and actions are reached, each by its route."""
    box = api.loop.toolbox
    box.tool_views["pm2"] = replace(TOOL, name="pm2", targets=(target,))
    box.target_views["pm2", target] = replace(TARGET, tool="pm2", target=target)
    place, knob = f"/api/tools/pm2/targets/{quote(target, safe='')}", "shared/size"
    seen = await api.key_client("read").get(place)
    assert (seen.status_code, seen.json()["target"]) == (200, target)
    program = api.key_client("execute")
    ran = (await program.post(f"{place}/actions/{quote('go/now', safe='')}")).json()
    assert (ran["target"], ran["subject"]) == (target, "go/now")
    body = {"before": ACTION.before, "after": ACTION.after}
    done = (await program.put(f"{place}/knobs/{quote(knob, safe='')}", json=body)).json()
    assert (done["target"], done["subject"]) == (target, knob)
    assert_problem(await api.key_client("read").post(f"{place}/actions/x"), 403)


async def test_a_plain_slash_separates_names(api):
    """It leads nowhere, as before: no name is taken for a longer one."""
    program = api.key_client("admin")
    assert_problem(await program.get("/api/tools/redis/targets/cache-1/x"), 404)


async def test_a_slash_over_a_real_server(api):
    """Over a real server, whose path comes unescaped, it is found as well."""
    target = "@shop/api"
    api.loop.toolbox.tool_views["pm2"] = replace(TOOL, name="pm2", targets=(target,))
    api.loop.toolbox.target_views["pm2", target] = replace(TARGET, tool="pm2", target=target)
    key = api.create_key("read")
    async with serve_app(api.app) as url, httpx.AsyncClient(trust_env=False) as client:
        seen = await client.get(
            f"{url}/api/tools/pm2/targets/%40shop%2Fapi", headers={"Authorization": f"Bearer {key}"}
        )
    assert (seen.status_code, seen.json()["target"]) == (200, target)
