"""HTTP service tool, against the service kit and against wrong answers."""

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
        made = make_tool(f"{url}/trimtab")
        made.leaky, made.base = leaky, url
        yield made
        await made.close()


async def test_it_is_a_tool_and_is_up(shop):
    """The tool implements the port and reports what the service declares."""
    wanted: Tool = shop
    assert {name for name in dir(Tool) if not name.startswith("_")} <= set(dir(wanted))
    status = await shop.status()
    assert (status.state, status.version) == (ToolState.UP, "1")
    assert status.detail == "leaky: 4 knobs, 3 actions"
    assert (shop.targets, shop.trial) == ((NAME,), False)


async def test_knobs_and_actions(shop):
    """Knobs have their bounds, actions their risk."""
    knobs = {knob.name: knob for knob in await shop.knobs(NAME)}
    size = knobs["items_size"]
    assert (size.type, size.unit, size.low, size.high) == (KnobType.INT, "entries", 1, 100_000)
    assert (size.group, size.help) == ("items", "Maximum number of entries in items.")
    actions = {action.name: action for action in await shop.actions(NAME)}
    assert (actions["clear_items"].risk, actions["clear_items"].reduces) == (Risk.MEDIUM, True)


async def test_a_change_and_its_undoing(shop):
    """A change is read back with its lifetime, and a reset restores the default."""
    assert not (await shop.read(NAME, "items_size")).set_here
    done = await shop.apply(NAME, "items_size", 100, 200)
    assert (done.before, done.after, done.lasts) == (100, 200, Lasts.UNTIL_RESTART)
    assert shop.leaky.cache.maxsize == 200
    assert (await shop.read(NAME, "items_size")).set_here
    assert (await shop.apply(NAME, "items_size", 200, None)).after == 100
    assert not (await shop.read(NAME, "items_size")).set_here


@pytest.mark.parametrize(
    ("knob", "before", "after", "error", "told"),
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
async def test_what_is_not_changed(shop, knob, before, after, error, told):
    """Another current value, a value out of bounds or of another type is refused before it is sent."""
    with pytest.raises(error, match=told):
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
    """A value that changes between read and write is a conflict and stays."""
    put = shop._put_knob

    async def late(*args):
        shop.leaky.cache.maxsize = 150
        return await put(*args)

    monkeypatch.setattr(shop, "_put_knob", late)
    with pytest.raises(ConflictError, match="changed in the meantime: items_size is 150 now"):
        await shop.apply(NAME, "items_size", 100, 200)
    assert shop.leaky.cache.maxsize == 150


async def test_many_changes_at_once(shop):
    """Of twenty concurrent changes of the same value one succeeds, the others are conflicts."""
    changes = (shop.apply(NAME, "items_size", 100, 200 + n) for n in range(20))
    results = await asyncio.gather(*changes, return_exceptions=True)
    won = [result.after for result in results if not isinstance(result, Exception)]
    assert len(won) == 1
    lost = [r for r in results if isinstance(r, Exception)]
    assert {type(r) for r in lost} == {ConflictError}
    assert shop.leaky.cache.maxsize == won[0]


async def test_an_action_is_done_once_a_key(shop):
    """A repeated idempotency key does nothing new."""
    said = [await shop.run(NAME, "warm_items", key) for key in ("a", "a")]
    assert said == ["100 items are in the cache"] * 2
    assert shop.leaky.database_reads == 100
    assert await shop.run(NAME, "clear_items", "b") == "done"
    assert len(shop.leaky.cache) == 0
    with pytest.raises(NotFoundError, match="no action 'explode'"):
        await shop.run(NAME, "explode", "c")


async def test_metrics(shop):
    """Prometheus text gives metrics by name and labels, without buckets and non-finite values."""
    await shop.run(NAME, "warm_items", "a")
    seen = await shop.metrics(NAME)
    assert seen["database_reads_total"] == 100
    assert seen['cache_entries{cache="items"}'] == 100
    assert seen["process_resident_memory_bytes"] > 10e6
    assert not [name for name in seen if "_bucket" in name]


async def test_commands_for_people(shop):
    """The command is a curl line without a token."""
    await shop.actions(NAME)
    change, action = (shop.command(NAME, "items_size", 5), shop.command(NAME, "clear_items", None))
    assert f"""-d '{{"value":5}}' {shop.base}/trimtab/knobs/items_size""" in change
    assert action.endswith(f"{shop.base}/trimtab/actions/clear_items")
    assert TOKEN not in change + action + shop.grant()


async def test_a_token_file_is_read_again(shop, tmp_path):
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
    (None, 0, "gave no complete answer within 0.2 s"),  # accepts and says nothing
    (http_response(200, KNOB, **TAG), 0.05, "gave no complete answer within 0.2 s"),  # a slow drip
    (b"", 0, "gave no complete answer"),  # ends at once
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


@pytest.mark.parametrize(("answer", "drip_s", "told"), READS)
async def test_an_incomplete_answer_is_an_error(monkeypatch, answer, drip_s, told):
    """Every incomplete answer to a read is a ToolError that names the tool."""
    monkeypatch.setattr(http_client, "MAX_BODY_BYTES", 1_000)
    async with start_raw_server(answer, drip_s) as server:
        made = make_tool(server.url, timeout=0.2)
        with pytest.raises(ToolError, match=told) as caught:
            await made.read(NAME, "size")
        assert not isinstance(caught.value, ToolUncertainError)
        assert TOKEN not in str(caught.value)
        assert "s3cret" not in str(caught.value)
        status = await made.status()
        assert status.state is (ToolState.DENIED if "denies access" in told else ToolState.UNREACHABLE)
        await made.close()


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


@pytest.mark.parametrize(("answer", "drip_s", "error", "told"), CHANGES)
async def test_a_change_without_an_answer_is_uncertain(monkeypatch, answer, drip_s, error, told):
    """A change whose answer is lost is uncertain; a refused one is certain."""
    monkeypatch.setattr(http_service_tool, "CHANGE_TIMEOUT_S", 0.2)
    async with start_raw_server(http_response(200, KNOB, **TAG)) as server:
        made = make_tool(server.url)

        async def change(*args):
            server.answer, server.drip_s = answer, drip_s
            return await HttpService._put_knob(made, *args)

        made._put_knob = change
        with pytest.raises(error, match=told) as caught:
            await made.apply(NAME, "size", 5, 6)
        assert isinstance(caught.value, ToolUncertainError) == (error is ToolUncertainError)
        assert len(server.requests) == 2, "it was sent once"
        assert b'if-match: "a"' in server.requests[-1].lower()
        await made.close()


async def test_a_change_that_does_not_stay():
    """A change that reads another value afterwards is uncertain."""
    async with start_raw_server(http_response(200, KNOB, **TAG)) as server:
        made = make_tool(server.url)

        async def change(*args):
            server.answer = http_response(200, json.dumps({**GOOD, "value": 6}).encode(), **TAG)
            told = await HttpService._put_knob(made, *args)
            server.answer = http_response(200, KNOB, **TAG)
            return told

        made._put_knob = change
        with pytest.raises(ToolUncertainError, match="was set to 6 and reads 5"):
            await made.apply(NAME, "size", 5, 6)
        await made.close()


@pytest.mark.parametrize("tag", ["", 'W/"a"'])
async def test_without_a_strong_tag_nothing_is_changed(tag):
    """A service without a strong ETag is read but not changed."""
    async with start_raw_server(http_response(200, KNOB, etag=tag)) as server:
        made = make_tool(server.url)
        assert (await made.read(NAME, "size")).value == 5
        with pytest.raises(RefusedError, match="no strong ETag"):
            await made.apply(NAME, "size", 5, 6)
        assert all(request.startswith(b"GET") for request in server.requests)
        await made.close()


ACTIONS = [
    (None, 0, ToolUncertainError, "may have taken effect"),
    (b"", 0, ToolUncertainError, "may have taken effect"),
    (http_response(500), 0, ToolUncertainError, "HTTP 500"),
    (http_response(409), 0, ToolUncertainError, "still running under this key"),
    (http_response(404), 0, NotFoundError, "no action"),
    (http_response(429), 0, ToolError, "HTTP 429"),
    (http_response(307, location="/x"), 0, ToolError, "redirects"),
]


@pytest.mark.parametrize(("answer", "drip_s", "error", "told"), ACTIONS)
async def test_an_action_without_an_answer_is_uncertain(monkeypatch, answer, drip_s, error, told):
    """An action whose answer is lost is uncertain and not sent again."""
    monkeypatch.setattr(http_service_tool, "ACTION_TIMEOUT_S", 0.2)
    async with start_raw_server(answer, drip_s) as server:
        made = make_tool(server.url)
        with pytest.raises(error, match=told) as caught:
            await made.run(NAME, "clear", "key-1")
        assert isinstance(caught.value, ToolUncertainError) == (error is ToolUncertainError)
        assert len(server.requests) == 1
        assert b"idempotency-key: key-1" in server.requests[0].lower()
        await made.close()


async def test_what_was_never_sent_is_certain():
    """A refused connection is a certain error: nothing was changed."""
    made = make_tool(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ToolError, match="connect") as caught:
        await made.run(NAME, "clear", "key-1")
    assert not isinstance(caught.value, ToolUncertainError)
    assert (await made.status()).state is ToolState.UNREACHABLE
    await made.close()


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "0.0.0.0"])
async def test_metadata_addresses_are_refused(monkeypatch, address):
    """A name that resolves to a link-local or metadata address is never connected to."""
    patch_dns(monkeypatch, address)
    made = make_tool("http://shop.example/trimtab")
    status = await made.status()
    assert status.state is ToolState.UNREACHABLE
    assert "refused" in status.detail
    await made.close()


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        (b"{", "application/json", "gives no metrics"),
        (b"[1]", "application/json", "not a JSON object"),
        (b"\xff\xfe", "text/plain", "gives no metrics"),
        (b"a b c d e", "text/plain", "gives no metrics"),
        (b"m 1" + b"0" * 400, "text/plain", "gives no metrics"),
        (b"".join(b"m_%d 1\n" % n for n in range(5_001)), "text/plain", "more than 5000"),
    ],
)
async def test_invalid_metrics_are_an_error(body, kind, told):
    """Invalid metrics are an error, not fewer metrics."""
    async with start_raw_server(http_response(200, body, content_type=kind)) as server:
        made = make_tool(server.url)
        with pytest.raises(ToolError, match=told):
            await made.metrics(NAME)
        await made.close()


async def test_metrics_as_json():
    """A flat JSON object gives its numbers."""
    text = b'{"rss_bytes": 5, "ok": true, "name": "x", "ratio": 0.5}'
    async with start_raw_server(
        http_response(200, text, content_type="application/json; charset=utf-8")
    ) as server:
        made = make_tool(server.url)
        assert await made.metrics(NAME) == {"rss_bytes": 5.0, "ratio": 0.5}
        await made.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "ftp://host"}, "url must be such as"),
        ({"url": "http://joe:pw@host"}, "contains a user or password"),
        ({"url": "http://host/?a=b"}, "contains a query"),
        ({"url": "http://host", "targets": ("a", "b")}, "one tool per service"),
        ({"url": "http://host", "trial": True}, "this machine only"),
    ],
)
def test_invalid_settings(settings, told):
    """A URL of another scheme, with a password, or of another machine as a trial is refused."""
    with pytest.raises(ValidationError, match=told):
        HttpServiceTool(kind="http_service", **settings)
