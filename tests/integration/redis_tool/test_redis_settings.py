"""The Redis tool: what it reads and sets, on a real server."""

import asyncio

import pytest

from tests.servers.redis import start_redis
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError
from trimtab.engine.ports import Tool
from trimtab.engine.tools.redis.redis_knobs import KNOB_SPECS
from trimtab.engine.types import Lasts, ToolState

MB = 2**20


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
    ("maxmemory", 10 * MB, 2**60, "maxmemory 1048576.0 TiB is refused: maxmemory 1048576.0 TiB"),
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
    with pytest.raises(RefusedError, match="hz is 400, Trimtab could not restore"):
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
    comment, line = done.permanent.splitlines()
    assert comment.endswith("of keys are evicted: the setting is reversible, the data is not")
    assert (comment[0], line) == ("#", "maxmemory 2097152")


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
        assert "over 85% of the 100.0 MiB of its memory_limit (85.0 MiB)" in text
        within = round(maxmemory.high) - MB  # what a young Redis wastes still moves a little
        assert (await tool.apply("cache", "maxmemory", 10 * MB, within)).after == within


async def test_a_replica_is_in_the_sum(tmp_path, tools):
    """Buffers of a replica, and the copy that its fork makes, count where one is connected."""
    with start_redis(tmp_path / "a", "--maxmemory", "10mb") as server:
        follows = ("--replicaof", f"127.0.0.1 {server.port}", "--repl-diskless-sync-delay", "0")
        with start_redis(tmp_path / "b", *follows):
            tool = tools(server, memory_limit=300 * MB)
            async with asyncio.timeout(10):
                while "replica" not in str(await tool.outlook("cache", "maxmemory", 20 * MB)):  # noqa: ASYNC110 - no event comes
                    await asyncio.sleep(0.05)
            with pytest.raises(RefusedError, match=r"buffers of 1 replica 256\.0 MiB .*, over 85% of"):
                await tool.apply("cache", "maxmemory", 10 * MB, 20 * MB)
