"""Redis tool: reading and setting, on a real server."""

import asyncio

import pytest

from tests.servers.redis import start_redis
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError
from trimtab.engine.ports import Tool
from trimtab.engine.tools.redis.redis_knobs import KNOB_SPECS
from trimtab.engine.types import Lasts, ToolState

MB = 2**20


def fill(server, keys, size=1000, ttl=0):
    """Write keys of this size."""
    for number in range(keys):
        server.cli("SET", f"item:{number}", "x" * size, *(("EX", ttl) if ttl else ()))


async def test_status_and_metrics(server, make_tool):
    """A running Redis is up with its version; its metrics have redis_exporter's names."""
    tool: Tool = make_tool(server)
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


async def test_knobs_have_their_current_bounds(server, make_tool):
    """Exactly the allow-list is there; maxmemory is bounded by this machine."""
    tool = make_tool(server)
    knobs = {knob.name: knob for knob in await tool.knobs("cache")}
    assert knobs.keys() == KNOB_SPECS.keys()
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
async def test_a_change_can_be_undone(server, make_tool, knob, before, after, line):
    """A change takes effect, has a line for redis.conf, and is undone exactly."""
    tool = make_tool(server)
    change = await tool.apply("cache", knob, before, after)
    assert (change.before, change.after) == (before, after)
    assert (change.lasts, change.permanent) == (Lasts.UNTIL_RESTART, line)
    assert server.cli("CONFIG", "GET", knob).split("\n")[1] == line.split()[1]
    assert (await tool.read("cache", knob)).value == after
    await tool.apply("cache", knob, after, before)
    assert (await tool.read("cache", knob)).value == before


async def test_reset_restores_the_default(server, make_tool):
    """None sets a knob to its default."""
    tool = make_tool(server)
    await tool.apply("cache", "hz", 10, 20)
    assert (await tool.apply("cache", "hz", 20, None)).after == 10
    assert not (await tool.read("cache", "hz")).set_here


async def test_a_concurrent_change_is_a_conflict(server, make_tool):
    """When the current value differs from the expected one nothing is changed."""
    server.cli("CONFIG", "SET", "maxmemory", 15 * MB)
    with pytest.raises(ConflictError, match="maxmemory is 15728640, not 10485760"):
        await make_tool(server).apply("cache", "maxmemory", 10 * MB, 20 * MB)
    assert server.cli("CONFIG", "GET", "maxmemory").endswith("15728640")


async def test_a_change_that_the_server_refuses(server, make_tool):
    """A change that Redis refuses is reported with its error message, and nothing has changed."""
    with pytest.raises(RefusedError, match="cache refused CONFIG SET activedefrag yes: "):
        await make_tool(server).apply("cache", "activedefrag", False, True)
    assert (await make_tool(server).read("cache", "activedefrag")).value is False


REFUSED = [
    ("maxmemory", 10 * MB, "20mb", "it must be a whole number"),
    ("maxmemory", 10 * MB, 1, "it must be at least 1.04858e"),
    ("maxmemory", 10 * MB, True, "it must be a whole number"),
    ("maxmemory", 10 * MB, 0, "means no limit"),
    ("maxmemory", 10 * MB, 2**60, "maxmemory 1048576.0 TiB is refused: maxmemory 1048576.0 TiB"),
    ("maxclients", 10_000, 10**9, "it must be at least 100 and at most 100000"),
    ("maxmemory-policy", "allkeys-lru", "noeviction", "writes would fail"),
    ("maxmemory-policy", "allkeys-lru", "lru", "it must be noeviction or allkeys-lru"),
    ("lazyfree-lazy-eviction", False, "yes", "it must be true or false"),
]


@pytest.mark.parametrize(("knob", "before", "after", "message"), REFUSED)
async def test_refused_values(server, make_tool, knob, before, after, message):
    """An invalid or unsafe value is refused with the reason, and nothing is changed."""
    with pytest.raises(RefusedError, match=message):
        await make_tool(server).apply("cache", knob, before, after)
    assert (await make_tool(server).read("cache", knob)).value == before


async def test_an_unrestorable_value_is_kept(server, make_tool):
    """A value outside our range is not changed, because it could not be restored."""
    server.cli("CONFIG", "SET", "hz", 400)
    with pytest.raises(RefusedError, match="hz is 400, which Trimtab could not restore"):
        await make_tool(server).apply("cache", "hz", 400, 50)
    assert server.cli("CONFIG", "GET", "hz").endswith("400")


@pytest.mark.parametrize("knob", ["dir", "dbfilename", "requirepass", "save", "replicaof", "*", ""])
async def test_other_parameters_are_unknown(server, make_tool, knob):
    """A parameter outside the allow-list can be neither read nor set."""
    tool = make_tool(server)
    for call in (tool.read("cache", knob), tool.apply("cache", knob, None, "x")):
        with pytest.raises(NotFoundError, match="has no knob"):
            await call


POLICIES = [
    # a queue: noeviction is never left, with or without a time to live
    ("noeviction", "allkeys-lru", 0, "stays noeviction"),
    ("noeviction", "volatile-ttl", 60, "stays noeviction"),
    # keys without a time to live would become evictable
    ("volatile-lru", "allkeys-lru", 0, "3 of 3 keys have no time to live"),
    ("volatile-lru", "allkeys-lru", 60, ""),
    # nothing could be evicted any more
    ("allkeys-lru", "volatile-lru", 0, "none of 3 keys has a time to live"),
    ("allkeys-lru", "volatile-lru", 60, ""),
    ("allkeys-lru", "allkeys-random", 0, ""),
]


@pytest.mark.parametrize(("before", "after", "ttl", "message"), POLICIES)
async def test_a_policy_never_makes_durable_keys_evictable(server, make_tool, before, after, ttl, message):
    """Noeviction is never left, and keys without a time to live never become evictable."""
    server.cli("CONFIG", "SET", "maxmemory-policy", before)
    fill(server, 3, ttl=ttl)
    change = make_tool(server).apply("cache", "maxmemory-policy", before, after)
    if not message:
        assert (await change).after == after
        return
    with pytest.raises(RefusedError, match=message):
        await change
    assert server.cli("CONFIG", "GET", "maxmemory-policy").endswith(before)


async def test_lowering_warns_of_evictions(server, make_tool):
    """Lowering maxmemory works, and the result warns that evicted data is lost."""
    fill(server, 3000)
    change = await make_tool(server).apply("cache", "maxmemory", 10 * MB, 2 * MB)
    comment, line = change.permanent.splitlines()
    assert comment.endswith("of keys are evicted: the setting is reversible, the data is not")
    assert (comment[0], line) == ("#", "maxmemory 2097152")


async def test_a_raise_over_the_limit_shows_the_projection(tmp_path, make_tool):
    """With snapshots a raise counts the fork copy and is refused over the limit."""
    with start_redis(tmp_path / "r", "--maxmemory", "10mb", "--save", "3600 1") as server:
        tool = make_tool(server, memory_limit=100 * MB)
        (maxmemory,) = [knob for knob in await tool.knobs("cache") if knob.name == "maxmemory"]
        assert 30 * MB < maxmemory.high < 42.5 * MB
        with pytest.raises(RefusedError) as error:
            await tool.apply("cache", "maxmemory", 10 * MB, round(maxmemory.high) + MB)
        text = str(error.value)
        assert "fork copy-on-write (worst case)" in text
        assert "over 85% of the 100.0 MiB of its memory_limit (85.0 MiB)" in text
        within = round(maxmemory.high) - MB  # fragmentation of a new Redis still varies a little
        assert (await tool.apply("cache", "maxmemory", 10 * MB, within)).after == within


async def test_a_replica_is_in_the_projection(tmp_path, make_tool):
    """Buffers of a replica and its fork copy count while one is connected."""
    with start_redis(tmp_path / "a", "--maxmemory", "10mb") as server:
        follows = ("--replicaof", f"127.0.0.1 {server.port}", "--repl-diskless-sync-delay", "0")
        with start_redis(tmp_path / "b", *follows):
            tool = make_tool(server, memory_limit=300 * MB)
            async with asyncio.timeout(10):
                while "replica" not in str(await tool.outlook("cache", "maxmemory", 20 * MB)):  # noqa: ASYNC110 - no event comes
                    await asyncio.sleep(0.05)
            with pytest.raises(RefusedError, match=r"buffers of 1 replica 256\.0 MiB .*, over 85% of"):
                await tool.apply("cache", "maxmemory", 10 * MB, 20 * MB)
