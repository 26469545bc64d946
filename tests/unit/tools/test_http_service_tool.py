"""HTTP service tool against the service kit and against invalid answers."""

import asyncio
import gzip
import json
import os

import pytest
from pydantic import SecretStr, ValidationError

from tests.builders.dns_names import patch_dns
from tests.servers.http import http_response, serve_app, start_raw_server
from tests.servers.prometheus import free_port
from tests.services.leaky_service import TOKEN, LeakyService, LruCache, make_app
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.ports import Tool
from trimtab.engine.settings.service_tools import HttpServiceTool
from trimtab.engine.tools import http_client
from trimtab.engine.tools.http_service import http_service_tool
from trimtab.engine.tools.http_service.http_service_tool import HttpService
from trimtab.engine.types import KnobType, Lasts, Risk, ToolState

NAME = "shop"


def make_tool(url: str, **settings) -> HttpService:
    """A tool for the service at a URL."""
    login = {"bearer_token": SecretStr(TOKEN)} if "bearer_token_file" not in settings else {}
    return HttpService(NAME, HttpServiceTool(kind="http_service", url=url, **{**login, **settings}))


@pytest.fixture
async def shop():
    """A service with the kit under a real uvicorn, and its tool."""
    leaky = LeakyService(LruCache(100), 0, 0.0, None)
    async with serve_app(make_app(leaky)) as url:
        tool = make_tool(f"{url}/trimtab")
        tool.leaky, tool.base = leaky, url
        yield tool
        await tool.close()


async def test_implements_the_port_and_is_up(shop):
    """The tool implements the port and reports what the service declares."""
    port: Tool = shop
    assert {name for name in dir(Tool) if not name.startswith("_")} <= set(dir(port))
    status = await shop.status()
    assert (status.state, status.version) == (ToolState.UP, "1")
    assert status.detail == "leaky: 4 knobs, 3 actions"
    assert (shop.targets, shop.trial) == ((NAME,), False)


async def test_knobs_and_actions(shop):
    """Knobs have bounds, and actions have a risk."""
    knobs = {knob.name: knob for knob in await shop.knobs(NAME)}
    size = knobs["items_size"]
    assert (size.type, size.unit, size.low, size.high) == (KnobType.INT, "entries", 1, 100_000)
    assert (size.group, size.help) == ("items", "Maximum number of entries in items.")
    actions = {action.name: action for action in await shop.actions(NAME)}
    assert (actions["clear_items"].risk, actions["clear_items"].reduces) == (Risk.MEDIUM, True)


async def test_a_change_can_be_undone(shop):
    """A change is read back with its lifetime, and a reset restores the default."""
    assert not (await shop.read(NAME, "items_size")).set_here
    done = await shop.apply(NAME, "items_size", 100, 200)
    assert (done.before, done.after, done.lasts) == (100, 200, Lasts.UNTIL_RESTART)
    assert shop.leaky.cache.maxsize == 200
    assert (await shop.read(NAME, "items_size")).set_here
    assert (await shop.apply(NAME, "items_size", 200, None)).after == 100
    assert not (await shop.read(NAME, "items_size")).set_here


@pytest.mark.parametrize(
    ("knob", "before", "after", "error", "message"),
    [
        ("items_size", 99, 200, ConflictError, "is 100, not 99; nothing was changed"),
        ("items_size", True, 200, ConflictError, "is 100, not True"),
        ("items_size", 100, 0, RefusedError, "must be at least 1 entries, not 0"),
        ("items_size", 100, 10**6, RefusedError, "must be at most 100000 entries"),
        ("items_size", 100, "many", RefusedError, "must be of type int, not 'many'"),
        ("items_size", 100, 1.5, RefusedError, "must be of type int, not 1.5"),
        ("items_ttl_seconds", 3600.0, float("nan"), RefusedError, "finite"),
        ("nothing", 1, 2, NotFoundError, "no knob 'nothing'"),
        ("../metrics", 1, 2, NotFoundError, "no knob"),
    ],
)
async def test_invalid_changes_are_refused(shop, knob, before, after, error, message):
    """An unexpected current value, or a new value out of bounds or of another type, is refused unsent."""
    with pytest.raises(error, match=message):
        await shop.apply(NAME, knob, before, after)
    assert (shop.leaky.cache.maxsize, shop.leaky.cache.ttl) == (100, 3600.0)


async def test_another_target_is_refused(shop):
    """An unknown target is neither changed nor contacted."""
    with pytest.raises(RefusedError, match=r"not one of tools\.shop\.targets"):
        await shop.apply("other", "items_size", 100, 200)
    with pytest.raises(RefusedError, match=r"not one of tools\.shop\.targets"):
        await shop.run("other", "clear_items", "k")
    with pytest.raises(NotFoundError, match="no target 'other'"):
        await shop.read("other", "items_size")


async def test_a_concurrent_change_is_a_conflict(shop, monkeypatch):
    """A value that changes between read and write raises a conflict and is kept."""
    put = shop._put_knob

    async def put_after_change(*args):
        shop.leaky.cache.maxsize = 150
        return await put(*args)

    monkeypatch.setattr(shop, "_put_knob", put_after_change)
    with pytest.raises(ConflictError, match="changed in the meantime: items_size is 150 now"):
        await shop.apply(NAME, "items_size", 100, 200)
    assert shop.leaky.cache.maxsize == 150


async def test_concurrent_changes_have_one_winner(shop):
    """Of twenty concurrent changes of the same value one succeeds, the others are conflicts."""
    changes = (shop.apply(NAME, "items_size", 100, 200 + n) for n in range(20))
    results = await asyncio.gather(*changes, return_exceptions=True)
    succeeded = [result.after for result in results if not isinstance(result, Exception)]
    assert len(succeeded) == 1
    conflicts = [r for r in results if isinstance(r, Exception)]
    assert {type(r) for r in conflicts} == {ConflictError}
    assert shop.leaky.cache.maxsize == succeeded[0]


async def test_an_action_runs_once_per_idempotency_key(shop):
    """A repeated idempotency key does nothing new."""
    results = [await shop.run(NAME, "warm_items", key) for key in ("a", "a")]
    assert results == ["100 items are in the cache"] * 2
    assert shop.leaky.database_reads == 100
    assert await shop.run(NAME, "clear_items", "b") == "done"
    assert len(shop.leaky.cache) == 0
    with pytest.raises(NotFoundError, match="no action 'explode'"):
        await shop.run(NAME, "explode", "c")


async def test_metrics(shop):
    """Prometheus text gives metrics by name and labels, without buckets and non-finite values."""
    await shop.run(NAME, "warm_items", "a")
    metrics = await shop.metrics(NAME)
    assert metrics["database_reads_total"] == 100
    assert metrics['cache_entries{cache="items"}'] == 100
    assert metrics["process_resident_memory_bytes"] > 10e6
    assert not [name for name in metrics if "_bucket" in name]


async def test_shell_commands(shop):
    """The command is a curl line without a token."""
    await shop.actions(NAME)
    change, action = (shop.command(NAME, "items_size", 5), shop.command(NAME, "clear_items", None))
    assert f"""-d '{{"value":5}}' {shop.base}/trimtab/knobs/items_size""" in change
    assert action.endswith(f"{shop.base}/trimtab/actions/clear_items")
    assert TOKEN not in change + action + shop.grant()


async def test_a_rotated_token_file_is_used(shop, tmp_path):
    """A wrong token is denied with the setting's name; a rotated file is used at once."""
    file = tmp_path / "token"
    file.write_text("wrong")
    other = make_tool(f"{shop.base}/trimtab", bearer_token_file=file)
    status = await other.status()
    assert status.state is ToolState.DENIED
    assert "tools.shop.bearer_token_file" in status.detail
    with pytest.raises(ToolError, match=r"denies access \(HTTP 401\)"):
        await other.apply(NAME, "items_size", 100, 200)
    file.write_text(TOKEN)
    os.utime(file, ns=(1, 1))
    assert (await other.status()).state is ToolState.UP
    file.unlink()
    assert "cannot read" in (await other.status()).detail
    await other.close()


GOOD = {"name": "size", "type": "int", "value": 5, "low": 1, "high": 10}
KNOB = json.dumps(GOOD).encode()
TAG = {"etag": '"a"'}
HUGE = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b" " * 2_000

READS = [
    (None, 0, "gave no complete answer within 0.2 s"),  # accepts and never answers
    (http_response(200, KNOB, **TAG), 0.05, "gave no complete answer within 0.2 s"),  # one byte at a time
    (b"", 0, "gave no complete answer"),  # closes at once
    (b"SSH-2.0-OpenSSH_9.2\r\n", 0, "gave no complete answer"),
    (http_response(200, KNOB, content_length="500"), 0, "gave no complete answer"),  # cut off
    (HUGE, 0, "the body is over"),
    (http_response(200, gzip.compress(KNOB), content_encoding="gzip"), 0, "compressed"),
    (http_response(200, b"<html>login</html>"), 0, "gives no valid JSON"),
    (http_response(200, KNOB[:-5]), 0, "gives no valid JSON"),
    (http_response(200, b"[]"), 0, "does not follow the protocol of trimtab.service"),
    (http_response(200, json.dumps({**GOOD, "type": "blob"}).encode()), 0, "type: Input should be"),
    (http_response(200, json.dumps({**GOOD, "value": "5"}).encode()), 0, "its value is '5'"),
    (http_response(200, json.dumps({**GOOD, "value": True}).encode()), 0, "its value is True"),
    (http_response(200, json.dumps({**GOOD, "name": "other"}).encode()), 0, "describes another knob"),
    (
        http_response(302, location="http://127.0.0.1:1/login?token=s3cret"),
        0,
        "redirects to 'http://127.0.0.1:1/login",
    ),
    (http_response(401), 0, "denies access .HTTP 401."),
    (http_response(403), 0, "denies access .HTTP 403."),
    (http_response(429, b"slow down"), 0, "HTTP 429: slow down"),
    (
        http_response(500, b'{"detail": "Bearer abcdefgh12345678 failed"}'),
        0,
        "HTTP 500: Bearer .hidden. failed",
    ),
    (http_response(204), 0, "gives no valid JSON"),
]


@pytest.mark.parametrize(("answer", "drip_s", "message"), READS)
async def test_an_incomplete_answer_is_an_error(monkeypatch, answer, drip_s, message):
    """Every incomplete answer to a read is a ToolError that names the tool."""
    monkeypatch.setattr(http_client, "MAX_BODY_BYTES", 1_000)
    async with start_raw_server(answer, drip_s) as server:
        tool = make_tool(server.url, timeout=0.2)
        with pytest.raises(ToolError, match=message) as caught:
            await tool.read(NAME, "size")
        assert not isinstance(caught.value, ToolUncertainError)
        assert TOKEN not in str(caught.value)
        assert "s3cret" not in str(caught.value)
        status = await tool.status()
        assert status.state is (ToolState.DENIED if "denies access" in message else ToolState.UNREACHABLE)
        await tool.close()


CHANGES = [
    (None, 0, ToolUncertainError, "within 0.2 s; .*may have taken effect"),
    (http_response(200, KNOB), 0.05, ToolUncertainError, "within 0.2 s"),
    (b"", 0, ToolUncertainError, "gave no complete answer"),
    (http_response(200, KNOB, content_length="500"), 0, ToolUncertainError, "may have taken effect"),
    (http_response(500, b"oops"), 0, ToolUncertainError, "HTTP 500: oops; it may have taken effect"),
    (http_response(502), 0, ToolUncertainError, "HTTP 502"),
    (http_response(200, b"ok"), 0, ToolUncertainError, "valid JSON"),
    (http_response(302, location="/elsewhere"), 0, ToolError, "redirects to '/elsewhere'"),
    (http_response(400, b"no"), 0, ToolError, "HTTP 400: no"),
    (http_response(401), 0, ToolError, "denies access"),
    (http_response(409, b"busy"), 0, ConflictError, "changed in the meantime: busy"),
    (http_response(412), 0, ConflictError, "changed in the meantime"),
    (http_response(422, b'{"detail": "too many"}'), 0, RefusedError, "refuses size = 6: too many"),
]


@pytest.mark.parametrize(("answer", "drip_s", "error", "message"), CHANGES)
async def test_a_change_without_an_answer_is_uncertain(monkeypatch, answer, drip_s, error, message):
    """A change whose answer is lost is uncertain; a refused one is certain."""
    monkeypatch.setattr(http_service_tool, "CHANGE_TIMEOUT_S", 0.2)
    async with start_raw_server(http_response(200, KNOB, **TAG)) as server:
        tool = make_tool(server.url)

        async def change(*args):
            server.answer, server.drip_s = answer, drip_s
            return await HttpService._put_knob(tool, *args)

        tool._put_knob = change
        with pytest.raises(error, match=message) as caught:
            await tool.apply(NAME, "size", 5, 6)
        assert isinstance(caught.value, ToolUncertainError) == (error is ToolUncertainError)
        assert len(server.requests) == 2, "it was sent once"
        assert b'if-match: "a"' in server.requests[-1].lower()
        await tool.close()


async def test_a_change_that_does_not_persist_is_uncertain():
    """A change that reads another value afterwards is uncertain."""
    async with start_raw_server(http_response(200, KNOB, **TAG)) as server:
        tool = make_tool(server.url)

        async def change(*args):
            server.answer = http_response(200, json.dumps({**GOOD, "value": 6}).encode(), **TAG)
            response = await HttpService._put_knob(tool, *args)
            server.answer = http_response(200, KNOB, **TAG)
            return response

        tool._put_knob = change
        with pytest.raises(ToolUncertainError, match="was set to 6 and reads 5"):
            await tool.apply(NAME, "size", 5, 6)
        await tool.close()


@pytest.mark.parametrize("tag", ["", 'W/"a"'])
async def test_without_a_strong_tag_nothing_is_changed(tag):
    """A service without a strong ETag is read but not changed."""
    async with start_raw_server(http_response(200, KNOB, etag=tag)) as server:
        tool = make_tool(server.url)
        assert (await tool.read(NAME, "size")).value == 5
        with pytest.raises(RefusedError, match="no strong ETag"):
            await tool.apply(NAME, "size", 5, 6)
        assert all(request.startswith(b"GET") for request in server.requests)
        await tool.close()


ACTIONS = [
    (None, 0, ToolUncertainError, "may have taken effect"),
    (b"", 0, ToolUncertainError, "may have taken effect"),
    (http_response(500), 0, ToolUncertainError, "HTTP 500"),
    (http_response(409), 0, ToolUncertainError, "still running under this key"),
    (http_response(404), 0, NotFoundError, "no action"),
    (http_response(429), 0, ToolError, "HTTP 429"),
    (http_response(307, location="/x"), 0, ToolError, "redirects"),
]


@pytest.mark.parametrize(("answer", "drip_s", "error", "message"), ACTIONS)
async def test_an_action_without_an_answer_is_uncertain(monkeypatch, answer, drip_s, error, message):
    """An action whose answer is lost is uncertain and not sent again."""
    monkeypatch.setattr(http_service_tool, "ACTION_TIMEOUT_S", 0.2)
    async with start_raw_server(answer, drip_s) as server:
        tool = make_tool(server.url)
        with pytest.raises(error, match=message) as caught:
            await tool.run(NAME, "clear", "key-1")
        assert isinstance(caught.value, ToolUncertainError) == (error is ToolUncertainError)
        assert len(server.requests) == 1
        assert b"idempotency-key: key-1" in server.requests[0].lower()
        await tool.close()


async def test_a_refused_connection_is_a_certain_error():
    """A refused connection is a certain error: nothing was changed."""
    tool = make_tool(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ToolError, match="connect") as caught:
        await tool.run(NAME, "clear", "key-1")
    assert not isinstance(caught.value, ToolUncertainError)
    assert (await tool.status()).state is ToolState.UNREACHABLE
    await tool.close()


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "0.0.0.0"])
async def test_metadata_addresses_are_refused(monkeypatch, address):
    """A name that resolves to a link-local or metadata address is never connected to."""
    patch_dns(monkeypatch, address)
    tool = make_tool("http://shop.example/trimtab")
    status = await tool.status()
    assert status.state is ToolState.UNREACHABLE
    assert "refused" in status.detail
    await tool.close()


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"{", "application/json", "gives no metrics"),
        (b"[1]", "application/json", "not a JSON object"),
        (b"\xff\xfe", "text/plain", "gives no metrics"),
        (b"a b c d e", "text/plain", "gives no metrics"),
        (b"m 1" + b"0" * 400, "text/plain", "gives no metrics"),
        (b"".join(b"m_%d 1\n" % n for n in range(5_001)), "text/plain", "more than 5000"),
    ],
)
async def test_invalid_metrics_are_an_error(body, kind, message):
    """Invalid metrics are an error, not fewer metrics."""
    async with start_raw_server(http_response(200, body, content_type=kind)) as server:
        tool = make_tool(server.url)
        with pytest.raises(ToolError, match=message):
            await tool.metrics(NAME)
        await tool.close()


async def test_metrics_as_json():
    """A flat JSON object gives its numbers."""
    text = b'{"rss_bytes": 5, "ok": true, "name": "x", "ratio": 0.5}'
    async with start_raw_server(
        http_response(200, text, content_type="application/json; charset=utf-8")
    ) as server:
        tool = make_tool(server.url)
        assert await tool.metrics(NAME) == {"rss_bytes": 5.0, "ratio": 0.5}
        await tool.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://host"}, "url must be such as"),
        ({"url": "http://joe:pw@host"}, "contains a user or password"),
        ({"url": "http://host/?a=b"}, "contains a query"),
        ({"url": "http://host", "targets": ("a", "b")}, "one tool per service"),
        ({"url": "http://host", "trial": True}, "this machine only"),
    ],
)
def test_invalid_settings(settings, message):
    """A URL of another scheme, with a password, or of another machine as a trial is refused."""
    with pytest.raises(ValidationError, match=message):
        HttpServiceTool(kind="http_service", **settings)
