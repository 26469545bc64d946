"""The Redis tool on a real Redis."""

import asyncio
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.redis_server import start_redis
from tests.servers import certificates, free_port
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.ports import Tool
from trimtab.engine.settings.tools_data import RedisTool, Warm
from trimtab.engine.tools import hosts
from trimtab.engine.tools.redis import Redis
from trimtab.engine.tools.redis_knobs import SPECS
from trimtab.engine.types import Lasts, ToolState

MB = 2**20


@pytest.fixture
def server(tmp_path):
    """A Redis with 10 MB for keys."""
    with start_redis(
        tmp_path / "redis", "--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru"
    ) as server:
        yield server


@pytest.fixture
async def tools():
    """A function that makes the tool; closed at the end."""
    made = []

    def make(server, **given) -> Redis:
        made.append(Redis("cache", RedisTool(**{"kind": "redis", "url": server.url, "timeout": 2, **given})))
        return made[-1]

    yield make
    for tool in made:
        await tool.close()


def fill(server, keys, size=1000, ttl=0):
    """Put so many keys of that size in."""
    for number in range(keys):
        server.cli("SET", f"item:{number}", "x" * size, *(("EX", ttl) if ttl else ()))


async def test_status_and_figures(server, tools):
    """A Redis that answers is up, with its version, and its figures have the exporter's names."""
    tool: Tool = tools(server)
    status = await tool.status()
    assert (status.state, status.version[:7]) == (ToolState.UP, "redis 7")
    fill(server, 3)
    server.cli("GET", "item:0")
    server.cli("GET", "nothing")
    figures = await tool.metrics("cache")
    assert figures["redis_memory_max_bytes"] == 10 * MB
    assert figures["redis_keyspace_hits_total"] == figures["redis_keyspace_misses_total"] == 1
    assert (figures["redis_db_keys"], figures["redis_db_keys_expiring"]) == (3, 0)
    assert figures["redis_memory_used_bytes"] > 500_000


async def test_knobs_have_the_bounds_of_now(server, tools):
    """Every knob of the allow-list is there and no other; maxmemory has bounds by what this machine has."""
    tool = tools(server)
    knobs = {knob.name: knob for knob in await tool.knobs("cache")}
    assert knobs.keys() == SPECS.keys()
    assert not knobs.keys() & {"dir", "dbfilename", "requirepass", "save", "appendonly", "replicaof"}
    maxmemory = knobs["maxmemory"]
    assert MB <= maxmemory.low < maxmemory.high
    assert maxmemory.step == 10 * MB
    reading = await tool.read("cache", "maxmemory")
    assert (reading.value, reading.set_here, reading.lasts) == (10 * MB, True, Lasts.UNTIL_RESTART)
    assert "are in use" in reading.note
    hz = await tool.read("cache", "hz")
    assert (hz.value, hz.set_here) == (10, False)


CHANGES = [
    ("maxmemory", 10 * MB, 20 * MB, "maxmemory 20971520"),
    ("maxmemory-samples", 5, 10, "maxmemory-samples 10"),
    ("maxmemory-policy", "allkeys-lru", "allkeys-lfu", "maxmemory-policy allkeys-lfu"),
    ("lazyfree-lazy-eviction", False, True, "lazyfree-lazy-eviction yes"),
    ("hz", 10, 50, "hz 50"),
    ("timeout", 0, 600, "timeout 600"),
    ("tcp-keepalive", 300, 120, "tcp-keepalive 120"),
]


@pytest.mark.parametrize(("knob", "before", "after", "line"), CHANGES)
async def test_a_change_is_made_read_back_and_taken_back(server, tools, knob, before, after, line):
    """A change takes effect, says how long it lasts and its line for redis.conf, and goes back exactly."""
    tool = tools(server)
    done = await tool.apply("cache", knob, before, after)
    assert (done.before, done.after, done.lasts, done.permanent) == (before, after, Lasts.UNTIL_RESTART, line)
    assert server.cli("CONFIG", "GET", knob).split("\n")[1] == line.split()[1]
    assert (await tool.read("cache", knob)).value == after
    await tool.apply("cache", knob, after, before)
    assert (await tool.read("cache", knob)).value == before


async def test_reset_brings_the_default_back(server, tools):
    """None puts a knob to what holds where nobody set it."""
    tool = tools(server)
    await tool.apply("cache", "hz", 10, 20)
    assert (await tool.apply("cache", "hz", 20, None)).after == 10
    assert not (await tool.read("cache", "hz")).set_here


async def test_somebody_else_was_there(server, tools):
    """Where the value is another than was thought nothing is changed."""
    server.cli("CONFIG", "SET", "maxmemory", 15 * MB)
    with pytest.raises(ConflictError, match="maxmemory is 15728640, not 10485760"):
        await tools(server).apply("cache", "maxmemory", 10 * MB, 20 * MB)
    assert server.cli("CONFIG", "GET", "maxmemory").endswith("15728640")


async def test_a_change_that_the_server_refuses(server, tools):
    """What Redis itself does not take is refused in its words, and nothing has changed."""
    with pytest.raises(RefusedError, match="cache refused CONFIG SET activedefrag yes: "):
        await tools(server).apply("cache", "activedefrag", False, True)
    assert (await tools(server).read("cache", "activedefrag")).value is False


REFUSED = [
    ("maxmemory", 10 * MB, "20mb", "it must be a whole number"),
    ("maxmemory", 10 * MB, 1, "it must be at least 1.04858e"),
    ("maxmemory", 10 * MB, True, "it must be a whole number"),
    ("maxmemory", 10 * MB, 0, "no limit at all"),
    ("maxmemory", 10 * MB, 2**60, "maxmemory 1048576.0 TB is refused: maxmemory 1048576.0 TB"),
    ("maxclients", 10_000, 10**9, "it must be at least 100 and at most 100000"),
    ("maxmemory-policy", "allkeys-lru", "noeviction", "writes would fail"),
    ("maxmemory-policy", "allkeys-lru", "lru", "it must be noeviction or allkeys-lru"),
    ("lazyfree-lazy-eviction", False, "yes", "it must be true or false"),
]


@pytest.mark.parametrize(("knob", "before", "after", "why"), REFUSED)
async def test_what_is_refused(server, tools, knob, before, after, why):
    """A value that is none, or not safe, is refused with the reason, and nothing is changed."""
    with pytest.raises(RefusedError, match=why):
        await tools(server).apply("cache", knob, before, after)
    assert (await tools(server).read("cache", knob)).value == before


async def test_a_value_that_somebody_chose_is_left(server, tools):
    """A value outside of what we would set is not touched, because it could not be given back."""
    server.cli("CONFIG", "SET", "hz", 400)
    with pytest.raises(RefusedError, match="hz is 400, somebody chose that"):
        await tools(server).apply("cache", "hz", 400, 50)
    assert server.cli("CONFIG", "GET", "hz").endswith("400")


@pytest.mark.parametrize("knob", ["dir", "dbfilename", "requirepass", "save", "replicaof", "*", ""])
async def test_other_parameters_are_not_there(server, tools, knob):
    """What is not in the allow-list can neither be read nor set."""
    tool = tools(server)
    for call in (tool.read("cache", knob), tool.apply("cache", knob, None, "x")):
        with pytest.raises(NotFoundError, match="has no knob"):
            await call


POLICIES = [
    # a queue: nothing leaves noeviction, whatever its keys look like
    ("noeviction", "allkeys-lru", 0, "stays noeviction"),
    ("noeviction", "volatile-ttl", 60, "stays noeviction"),
    # keys without a time to live would become fair game
    ("volatile-lru", "allkeys-lru", 0, "3 of 3 keys have no time to live"),
    ("volatile-lru", "allkeys-lru", 60, ""),
    # nothing could be evicted any more
    ("allkeys-lru", "volatile-lru", 0, "none of 3 keys has a time to live"),
    ("allkeys-lru", "volatile-lru", 60, ""),
    ("allkeys-lru", "allkeys-random", 0, ""),
]


@pytest.mark.parametrize(("before", "after", "ttl", "why"), POLICIES)
async def test_a_policy_never_makes_safe_keys_unsafe(server, tools, before, after, ttl, why):
    """Noeviction is never left, and keys without a time to live are never made evictable."""
    server.cli("CONFIG", "SET", "maxmemory-policy", before)
    fill(server, 3, ttl=ttl)
    change = tools(server).apply("cache", "maxmemory-policy", before, after)
    if not why:
        assert (await change).after == after
        return
    with pytest.raises(RefusedError, match=why):
        await change
    assert server.cli("CONFIG", "GET", "maxmemory-policy").endswith(before)


async def test_lowering_says_what_it_takes(server, tools):
    """A lower maxmemory is set, and the answer says that the data does not come back."""
    fill(server, 3000)
    done = await tools(server).apply("cache", "maxmemory", 10 * MB, 2 * MB)
    assert "the setting is reversible, the data is not" in done.permanent


async def test_a_raise_past_the_limit_shows_its_sum(tmp_path, tools):
    """With snapshots on, a raise counts the fork's copy, and past the limit it is refused with the sum."""
    with start_redis(tmp_path / "r", "--maxmemory", "10mb", "--save", "3600 1") as server:
        tool = tools(server, memory_limit=100 * MB)
        (maxmemory,) = [knob for knob in await tool.knobs("cache") if knob.name == "maxmemory"]
        assert 30 * MB < maxmemory.high < 42.5 * MB
        with pytest.raises(RefusedError) as error:
            await tool.apply("cache", "maxmemory", 10 * MB, round(maxmemory.high) + MB)
        text = str(error.value)
        assert "fork copy-on-write (worst case)" in text
        assert "over 85% of the 100.0 MB of its memory_limit (85.0 MB)" in text
        assert (await tool.apply("cache", "maxmemory", 10 * MB, round(maxmemory.high))).after > 30 * MB


async def test_export_only_where_config_is_gone(tmp_path, tools):
    """A Redis without CONFIG is read as far as INFO goes, and a change is written down instead."""
    with start_redis(tmp_path / "r", "--rename-command", "CONFIG", "", "--maxmemory", "10mb") as server:
        tool = tools(server)
        status = await tool.status()
        assert (status.state, "unknown command" in status.detail) == (ToolState.EXPORT_ONLY, True)
        assert (await tool.read("cache", "maxmemory")).value == 10 * MB
        assert {knob.name for knob in await tool.knobs("cache")} == {
            "maxmemory", "maxmemory-policy", "hz", "maxclients",
        }  # fmt: skip
        with pytest.raises(RefusedError, match=r"nothing was changed.*maxmemory 20971520"):
            await tool.apply("cache", "maxmemory", 10 * MB, 20 * MB)
        with pytest.raises(ToolError):
            await tool.read("cache", "timeout")


async def test_passwords(tmp_path, tools):
    """A wrong password is denied and says what to check; its file is read anew after that."""
    secret = tmp_path / "password"
    with start_redis(tmp_path / "r", password="right") as server:
        for given in ({}, {"password": "wrong"}):
            status = await tools(server, **given).status()
            assert status.state is ToolState.DENIED
            assert "check username and password of tools.cache" in status.detail
            assert "wrong" not in status.detail.replace("WRONGPASS", "")
        secret.write_text("wrong\n")
        tool = tools(server, password_file=secret)
        assert (await tool.status()).state is ToolState.DENIED
        secret.write_text("right\n")
        assert (await tool.status()).state is ToolState.UP
        secret.unlink()
        missing = await tools(server, password_file=secret).status()
        assert "cannot be read: No such file" in missing.detail


async def test_the_grant_suffices_and_no_less(tmp_path, tools):
    """The user that `grant` makes can do all that the tool does, and nothing else; a reader can only read."""
    warm = Warm(url="http://127.0.0.1:1/{key}", key="item:{key}", keys=("1",))
    with start_redis(tmp_path / "r", "--maxmemory", "10mb") as server:
        words = tools(server, username="trimtab", warm=warm).grant()
        (line,) = [line for line in words.splitlines() if line.startswith("ACL SETUSER")]
        server.cli(*(word.strip("'") for word in line.split()))
        server.cli("ACL", "SETUSER", "reader", "on", ">pw", "-@all", "+info", "+config|get")
        server.cli("ACL", "SETUSER", "nobody", "on", ">pw", "-@all", "+ping")
        tool = tools(server, username="trimtab", password="CHANGE-THIS-PASSWORD", warm=warm)
        assert (await tool.status()).state is ToolState.UP
        assert await tool.knobs("cache")
        await tool.apply("cache", "maxmemory", 10 * MB, 20 * MB)
        assert "resident memory" in await tool.run("cache", "memory_purge", "k")
        assert not await tool._is_there("item:1")
        for forbidden in (("FLUSHALL",), ("GET", "item:1"), ("CONFIG", "REWRITE"), ("EXISTS", "other")):
            with pytest.raises(ToolError, match="may not do this"):
                await tool._link.ask(*forbidden)
        reader = tools(server, username="reader", password="pw")
        assert (await reader.status()).state is ToolState.EXPORT_ONLY
        with pytest.raises(RefusedError, match="nothing was changed"):
            await reader.apply("cache", "maxmemory", 20 * MB, 10 * MB)
        nobody = await tools(server, username="nobody", password="pw").status()
        assert (nobody.state, "trimtab grant cache" in nobody.detail) == (ToolState.DENIED, True)


async def test_tls(tmp_path, tools):
    """Over TLS the server must be who the CA says; a client certificate is shown where it is given."""
    made = certificates(tmp_path / "tls")
    files = {"cert": made.server_cert, "key": made.server_key, "ca-cert": made.ca}
    flags = [word for name, file in files.items() for word in (f"--tls-{name}-file", str(file))]
    tls_port = free_port()
    with start_redis(tmp_path / "r", "--tls-port", str(tls_port), *flags) as server:
        url = f"rediss://127.0.0.1:{tls_port}"
        known = {"ca_file": made.ca, "cert_file": made.client_cert, "key_file": made.client_key}
        assert (await tools(server, url=url, tls=known).status()).state is ToolState.UP
        for tls in ({}, {"ca_file": made.ca}, {"ca_file": made.client_cert}):
            assert (await tools(server, url=url, tls=tls).status()).state is ToolState.UNREACHABLE


async def test_unreachable(server, tools):
    """A Redis that is gone is unreachable, says where it was sought, and is found again when it is back."""
    tool = tools(server)
    assert (await tool.status()).state is ToolState.UP
    server.stop(signal.SIGKILL)
    status = await tool.status()
    assert status.state is ToolState.UNREACHABLE
    assert f"127.0.0.1:{server.port} cannot be reached" in status.detail
    server.start()
    assert (await tool.status()).state is ToolState.UP


async def test_an_address_that_nothing_is_sent_to(server, tools, monkeypatch):
    """A host that leads to a link-local or metadata address is not connected to."""
    monkeypatch.setattr(hosts, "is_refused", lambda address: address == "127.0.0.1")
    status = await tools(server).status()
    assert status.state is ToolState.UNREACHABLE
    assert "a link-local or metadata address, which is refused" in status.detail


async def test_a_frozen_server(server, tools):
    """A Redis that stands still is unreachable in time, and a change that it may read later is uncertain."""
    tool = tools(server, timeout=0.3)
    await tool.read("cache", "maxmemory")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(ToolUncertainError, match="whether it took effect is not known"):
            await tool._set("maxmemory", "20971520")
        status = await tool.status()
        assert status.state is ToolState.UNREACHABLE
        assert "gave no answer within 0.3 s" in status.detail
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert (await tool.status()).state is ToolState.UP


async def test_a_server_killed_in_the_change(server, tools):
    """A Redis that dies while it is changed leaves the change uncertain."""
    tool = tools(server)
    await tool.read("cache", "maxmemory")
    os.kill(server.pid, signal.SIGSTOP)
    change = asyncio.create_task(tool._set("maxmemory", "20971520"))
    await asyncio.sleep(0.1)
    server.process.kill()
    with pytest.raises(ToolUncertainError, match="was lost"):
        await change


async def test_a_change_that_cannot_be_read_back(server, tools):
    """A change that was acknowledged and reads otherwise, or not at all, is uncertain."""
    tool = tools(server)
    with pytest.raises(ToolUncertainError, match="maxmemory reads 10485760 after it was set to 1"):
        await tool._check("maxmemory", 1)
    server.stop(signal.SIGKILL)
    with pytest.raises(ToolUncertainError, match="could not be read back"):
        await tool._check("maxmemory", 10 * MB)


async def test_many_at_once_and_cancelled(server, tools):
    """Fifty callers share three connections, and cancelled ones leave none behind."""
    tool = tools(server)
    await asyncio.gather(*(tool.metrics("cache") for _ in range(50)))
    for _ in range(20):
        task = asyncio.create_task(tool.metrics("cache"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await tool.metrics("cache"))["redis_connected_clients"] <= 4


@pytest.fixture
def origin():
    """A service that fills the cache; the paths that it was asked for, and what it answers."""
    seen, answers = [], {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(answers.get(self.path, 200))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", seen, answers
        http.shutdown()
        thread.join(5)


async def test_warming(server, tools, origin):
    """Keys that are missing are fetched through the service, not too fast; it stops at errors."""
    url, seen, answers = origin
    server.cli("SET", "item:b", "x")
    warm = Warm(url=url + "/items/{key}?x=1", key="item:{key}", keys=("a", "b", "c d"), origin_rate=1000)
    tool = tools(server, warm=warm)
    assert [action.name for action in await tool.actions("cache")] == ["memory_purge", "warm_keys"]
    began = asyncio.get_running_loop().time()
    assert await tool.run("cache", "warm_keys", "k") == "2 fetched, 1 were there"
    assert asyncio.get_running_loop().time() - began > 0.09
    assert seen == ["/items/a?x=1", "/items/c%20d?x=1"]
    answers["/items/a?x=1"] = 500
    told = await tool.run("cache", "warm_keys", "k")
    assert told == "0 fetched, 0 were there, stopped after 1 failed: HTTP 500, 2 left for the next time"


async def test_warming_an_idle_origin_is_refused(server, tools, origin):
    """Where nobody asks the origin for anything, 5 % of that is nothing, and it says what to set."""
    tool = tools(server, warm=Warm(url=origin[0] + "/{key}", keys=("a",)))
    with pytest.raises(RefusedError, match=r"set tools\.cache\.warm\.origin_rate"):
        await tool.run("cache", "warm_keys", "k")
    assert origin[1] == []


async def test_commands_for_people(server, tools):
    """What a person would type does the same."""
    tool = tools(server)
    line = tool.command("cache", "maxmemory", 20 * MB)
    assert line == f"redis-cli -u redis://127.0.0.1:{server.port} CONFIG SET maxmemory 20971520"
    assert tool.command("cache", "activedefrag", True).endswith("CONFIG SET activedefrag yes")
    assert tool.command("cache", "memory_purge", None).endswith("MEMORY PURGE")
    with pytest.raises(NotFoundError):
        await tool.run("cache", "flushall", "k")
