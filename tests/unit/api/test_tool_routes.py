"""Routes of tools, targets and knobs."""

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
    """Return an API with one tool and one target."""
    api = ApiHarness(loop=True)
    toolbox = api.loop.toolbox
    toolbox.tool_views["redis"] = TOOL
    toolbox.target_views["redis", "cache-1"] = TARGET
    return api


async def test_tools_and_their_targets_are_shown(api):
    """A tool has its state and grant; a target has its metrics, knobs and actions."""
    client = api.key_client("read")
    listed = (await client.get("/api/tools")).json()["items"]
    assert [(tool["name"], tool["status"]["state"], tool["modes"]["*"]) for tool in listed] == [
        ("redis", "up", "recommend")
    ]
    assert "grant redis" in (await client.get("/api/tools/redis")).json()["grant"]
    target = (await client.get("/api/tools/redis/targets/cache-1")).json()
    assert target["metrics"]["redis_hit_ratio"] == 0.61
    assert target["knobs"][0]["knob"]["name"] == "maxmemory"
    assert target["knobs"][0]["reading"]["value"] == 268_435_456
    assert target["actions"][0]["name"] == "warm_keys"
    assert_problem(await client.get("/api/tools/nginx"), 404)
    assert_problem(await client.get("/api/tools/redis/targets/other"), 404)


async def test_all_knobs_of_all_targets(api):
    """The list has the knobs of every readable target and the problem of every other target."""
    toolbox = api.loop.toolbox
    toolbox.tool_views["pm2"] = replace(TOOL, name="pm2", targets=("api", "gone"))
    toolbox.tool_views["off"] = replace(TOOL, name="off", status=ToolStatus(ToolState.DISABLED))
    toolbox.target_views["pm2", "api"] = replace(
        TARGET, tool="pm2", target="api", problem="metrics: timed out"
    )
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
    """Disabling a tool requires an audit row; a disabled tool has no grant."""
    client = api.key_client("admin")
    off = (await client.put("/api/tools/redis", json={"enabled": False})).json()
    assert (off["enabled"], off["status"]["state"]) == (False, "disabled")
    assert (await client.get("/api/tools/redis")).json()["grant"] is None
    assert [(row.what, row.subject) for row in api.loop.ledger.rows] == [("tool disabled", "redis")]
    api.loop.ledger.broken = "disk full"
    assert_problem(await client.put("/api/tools/redis", json={"enabled": True}), 503)
    assert api.loop.toolbox.tool_views["redis"].enabled is False
    assert_problem(await client.put("/api/tools/nginx", json={"enabled": True}), 404)


async def test_manual_runs_and_knob_changes_are_actions(api):
    """A manual run or knob change is an action, executed once per Idempotency-Key."""
    client = api.key_client("execute")
    ran = await client.post("/api/tools/redis/targets/cache-1/actions/warm_keys")
    assert (ran.status_code, ran.json()["is_action"], ran.json()["subject"]) == (201, True, "warm_keys")
    body = {"before": ACTION.before, "after": ACTION.after}
    headers = {"Idempotency-Key": "k"}
    first = await client.put(KNOB, json=body, headers=headers)
    assert (first.json()["before"], first.json()["after"]) == (ACTION.before, ACTION.after)
    assert (await client.put(KNOB, json=body, headers=headers)).json() == first.json()
    assert_problem(await client.put(KNOB, json={**body, "after": 1}, headers=headers), 422, "another body")


@pytest.mark.parametrize("value", [True, 7, 0.5, "allkeys-lru", None])
async def test_knob_value_keeps_its_type(api, value):
    """Booleans, integers, floats, strings and null keep their type."""
    await api.key_client("execute").put(KNOB, json={"before": value, "after": value})
    (action,) = api.loop.ledger.actions_by_id.values()
    assert action.after == value
    assert type(action.after) is type(value)


@pytest.mark.parametrize(
    "text", ['{"before": NaN, "after": 1}', '{"before": 1}', '{"before": [1], "after": 1}']
)
async def test_invalid_knob_value_is_refused(api, text):
    """An invalid knob value gets 422 and starts no action."""
    headers = {"Content-Type": "application/json"}
    assert_problem(await api.key_client("execute").put(KNOB, content=text, headers=headers), 422)
    assert api.loop.ledger.actions_by_id == {}


@pytest.mark.parametrize("kind", [ToolError, ToolUncertainError])
async def test_a_tool_error_is_a_502(api, monkeypatch, kind):
    """An error of a tool gets 502 with the tool's message."""

    async def fail(*_):
        raise kind("redis: cache-1 did not answer within 10 s")

    monkeypatch.setattr(api.loop.decisions, "run", fail)
    response = await api.key_client("execute").post("/api/tools/redis/targets/cache-1/actions/warm_keys")
    assert_problem(response, 502, "did not answer within 10 s")


@pytest.mark.parametrize("target", ["@shop/api", "a/knobs/b", "a%2Fb", "50% off", "a/actions/reload", "/"])
async def test_names_may_contain_a_slash(api, target):
    """An escaped slash is part of the name of a target, knob or action."""
    toolbox = api.loop.toolbox
    toolbox.tool_views["pm2"] = replace(TOOL, name="pm2", targets=(target,))
    toolbox.target_views["pm2", target] = replace(TARGET, tool="pm2", target=target)
    target_path, knob = f"/api/tools/pm2/targets/{quote(target, safe='')}", "shared/size"
    response = await api.key_client("read").get(target_path)
    assert (response.status_code, response.json()["target"]) == (200, target)
    client = api.key_client("execute")
    ran = (await client.post(f"{target_path}/actions/{quote('go/now', safe='')}")).json()
    assert (ran["target"], ran["subject"]) == (target, "go/now")
    body = {"before": ACTION.before, "after": ACTION.after}
    done = (await client.put(f"{target_path}/knobs/{quote(knob, safe='')}", json=body)).json()
    assert (done["target"], done["subject"]) == (target, knob)
    assert_problem(await api.key_client("read").post(f"{target_path}/actions/x"), 403)


async def test_a_plain_slash_separates_names(api):
    """A plain slash is not part of a name, so the path gets 404."""
    client = api.key_client("admin")
    assert_problem(await client.get("/api/tools/redis/targets/cache-1/x"), 404)


async def test_a_slash_over_a_real_server(api):
    """An escaped slash works with a real server, which passes the path unescaped."""
    target = "@shop/api"
    api.loop.toolbox.tool_views["pm2"] = replace(TOOL, name="pm2", targets=(target,))
    api.loop.toolbox.target_views["pm2", target] = replace(TARGET, tool="pm2", target=target)
    key = api.create_key("read")
    async with serve_app(api.app) as url, httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(
            f"{url}/api/tools/pm2/targets/%40shop%2Fapi", headers={"Authorization": f"Bearer {key}"}
        )
    assert (response.status_code, response.json()["target"]) == (200, target)
