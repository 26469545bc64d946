"""PostgreSQL tool: reading and setting, on a real server."""

import pytest

from tests.servers.postgresql_admin import MB, wait_for_value, wait_until
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError
from trimtab.engine.ports import Tool
from trimtab.engine.tools.postgresql import postgresql_knobs as rules
from trimtab.engine.tools.postgresql import postgresql_tool
from trimtab.engine.tools.postgresql.postgresql_knobs import FORBIDDEN_SETTINGS, KNOBS
from trimtab.engine.types import Lasts, ToolState


async def test_status_and_metrics(make_tool, admin):
    """A running server is up with its version; its metrics have postgres_exporter's names."""
    tool: Tool = make_tool()
    status = await tool.status()
    assert status.state is ToolState.UP
    assert status.version
    assert status.detail.endswith("primary")
    with admin.open_client("shop") as client:
        client.execute("SELECT 1")
        figures = await tool.metrics("db")
        assert figures['pg_stat_activity_count{state="idle in transaction"}'] == 1
    assert figures["pg_settings_max_connections"] == 40
    assert figures["pg_settings_shared_buffers_bytes"] == 16 * MB
    assert figures["pg_stat_database_xact_commit"] > 0
    assert figures["pg_stat_bgwriter_checkpoints_timed_total"] >= 0
    assert figures["pg_database_size_bytes"] > MB


async def test_knobs_and_readings(make_tool):
    """The whole allow-list has its current bounds in bytes and seconds; nothing is set yet."""
    tool = make_tool(memory_limit=4096 * MB)
    knobs = {knob.name: knob for knob in await tool.knobs("db")}
    assert knobs.keys() == KNOBS.keys()
    assert 20 * MB < knobs["work_mem"].high < 90 * MB
    assert knobs["effective_cache_size"].high <= 0.85 * 4096 * MB
    assert knobs["max_wal_size"].high is None
    for name, value in {
        "work_mem": 4 * MB,
        "checkpoint_timeout": 300,
        "autovacuum_vacuum_cost_delay": 0.002,
        "autovacuum_vacuum_cost_limit": -1,
        "random_page_cost": 4.0,
        "jit": True,
        "max_wal_size": 1024 * MB,
    }.items():
        reading = await tool.read("db", name)
        assert (name, reading.value, reading.set_here) == (name, value, False)
        assert reading.lasts is Lasts.IN_A_FILE


CHANGES = [
    ("work_mem", 4 * MB, 8 * MB, "'8MB'"),
    ("work_mem", 4 * MB, 5 * MB + 1024, "'5121kB'"),
    ("effective_cache_size", 4096 * MB, 2048 * MB, "'2048MB'"),
    ("checkpoint_timeout", 300, 600, "'600s'"),
    ("autovacuum_vacuum_cost_delay", 0.002, 0.005, "'5ms'"),
    ("autovacuum_vacuum_cost_limit", -1, 1000, "'1000'"),
    ("autovacuum_vacuum_scale_factor", 0.2, 0.05, "'0.05'"),
    ("random_page_cost", 4.0, 1.1, "'1.1'"),
    ("max_wal_size", 1024 * MB, 2048 * MB, "'2048MB'"),
    ("jit", True, False, "'off'"),
]


@pytest.mark.parametrize(("knob", "before", "after", "sql_value"), CHANGES)
async def test_a_change_is_made_read_back_and_reset(make_tool, admin, knob, before, after, sql_value):
    """A change is written to postgresql.auto.conf, applies to all sessions, and reset removes it."""
    tool = make_tool()
    change = await tool.apply("db", knob, before, after)
    assert (change.before, change.after, change.lasts) == (before, after, Lasts.IN_A_FILE)
    assert change.permanent == f"ALTER SYSTEM SET {knob} = {sql_value}; SELECT pg_reload_conf();"
    assert (await tool.read("db", knob)).set_here
    source = "SELECT sourcefile FROM pg_settings WHERE name = %s"

    async def is_set():
        return (admin.value(source, knob) or "").endswith("postgresql.auto.conf")

    await wait_until(is_set)
    reset = await tool.apply("db", knob, after, None)
    assert reset.after == before
    assert not (await tool.read("db", knob)).set_here

    async def is_removed():
        return not (admin.value(source, knob) or "").endswith("postgresql.auto.conf")

    await wait_until(is_removed)


async def test_every_knob_of_the_table_can_be_set(make_tool):
    """Each knob accepts a value within its bounds and can be reset."""
    tool = make_tool()
    for knob in KNOBS.values():
        before = (await tool.read("db", knob.name)).value
        after = not before if knob.name == "jit" else knob.low
        change = await tool.apply("db", knob.name, before, after)
        assert (knob.name, change.after) == (knob.name, after)
        assert (await tool.apply("db", knob.name, after, None)).after == before


ROUNDED = [
    ("work_mem", 4 * MB, 5_000_000, 4883 * 1024),
    ("effective_cache_size", 4096 * MB, 2**30 + 4096, 2**30),
    ("random_page_cost", 4.0, 1.23456789, 1.23457),
    ("autovacuum_vacuum_cost_delay", 0.002, 0.0012345678, 0.00123457),
]


@pytest.mark.parametrize(("knob", "before", "after", "stored"), ROUNDED)
async def test_an_inexact_value_is_refused(make_tool, knob, before, after, stored):
    """A value that PostgreSQL would round is refused with the stored value."""
    with pytest.raises(RefusedError, match=f"PostgreSQL would store {stored}"):
        await make_tool().apply("db", knob, before, after)
    assert (await make_tool().apply("db", knob, before, stored)).after == stored


async def test_floats_with_noise_in_their_last_digits(make_tool):
    """A float with rounding noise is accepted as the nearby value."""
    tool = make_tool()
    assert (await tool.apply("db", "autovacuum_vacuum_scale_factor", 0.2, 0.1 + 0.2)).after == 0.3
    assert (await tool.apply("db", "autovacuum_vacuum_scale_factor", 0.1 + 0.2, None)).after == 0.2


async def test_multiples_of_the_grain_are_exact(make_tool):
    """Multiples of a knob's grain within its bounds are accepted unchanged."""
    tool = make_tool(memory_limit=4096 * MB)
    for knob in await tool.knobs("db"):
        if knob.grain:
            setting = await tool._read_setting(knob.name)
            for times in (1, 3, 7):
                value = (knob.low or 0) + times * knob.grain
                assert rules.values_equal(rules.validate_value(setting, value), value)


async def test_a_line_of_the_configuration_file_is_restored(make_tool, admin):
    """A change overrides a line of postgresql.conf, and a reset restores the line's value."""
    with admin.with_config_line("config_file", last="work_mem = '6MB'"):
        tool = make_tool()
        await wait_for_value(tool, "work_mem", 6 * MB)
        reading = await tool.read("db", "work_mem")
        assert (reading.value, reading.set_here) == (6 * MB, False)
        assert "undoing a change resets to it" in reading.note
        await tool.apply("db", "work_mem", 6 * MB, 8 * MB)
        assert (await tool.apply("db", "work_mem", 8 * MB, None)).after == 6 * MB


async def test_a_concurrent_change_is_a_conflict(make_tool, admin):
    """When the current value differs from the expected one nothing is changed."""
    admin.run("ALTER SYSTEM SET work_mem = '16MB'")
    admin.run("SELECT pg_reload_conf()")
    await wait_for_value(make_tool(), "work_mem", 16 * MB)
    with pytest.raises(ConflictError, match="work_mem is 16777216, not 4194304"):
        await make_tool().apply("db", "work_mem", 4 * MB, 8 * MB)


REFUSED = [
    ("work_mem", 4 * MB, "8MB", "must be a number"),
    ("work_mem", 4 * MB, True, "must be a number"),
    ("work_mem", 4 * MB, float("nan"), "must be a number"),
    ("work_mem", 4 * MB, 1024, "must be at least"),
    ("random_page_cost", 4.0, 0.5, "at least 1 and at most 4"),
    ("jit", True, 0, "must be true or false"),
    (
        "work_mem",
        4 * MB,
        4096 * MB,
        "work_mem is refused: shared_buffers 16.0 MiB .* 40 connections .* over 85%",
    ),
]


@pytest.mark.parametrize(("knob", "before", "after", "message"), REFUSED)
async def test_refused_values(make_tool, admin, knob, before, after, message):
    """An invalid or too large value is refused with the reason or the projection."""
    with pytest.raises(RefusedError, match=message):
        await make_tool().apply("db", knob, before, after)
    assert admin.value("SELECT count(*) FROM pg_settings WHERE sourcefile LIKE '%auto.conf'") == 0


async def test_without_a_known_limit_memory_is_not_raised(make_tool, monkeypatch):
    """With an unknown memory limit a raise is refused with the setting's name."""
    monkeypatch.setattr(postgresql_tool, "process_family_bytes", lambda _pid: 0)
    monkeypatch.setattr("trimtab.engine.tools.memory_budget._is_local_process", lambda *_: False)
    with pytest.raises(RefusedError, match=r"is unknown; set tools\.db\.memory_limit"):
        await make_tool().apply("db", "work_mem", 4 * MB, 8 * MB)
    assert (await make_tool(memory_limit=4096 * MB).apply("db", "work_mem", 4 * MB, 8 * MB)).after == 8 * MB


@pytest.mark.parametrize("knob", FORBIDDEN_SETTINGS)
async def test_unsafe_settings_are_refused(make_tool, knob):
    """A setting whose change risks data is refused by name."""
    with pytest.raises(RefusedError, match=f"{knob} is never changed"):
        await make_tool().apply("db", knob, True, False)


@pytest.mark.parametrize(
    "knob", ["shared_buffers", "statement_timeout", "archive_command", "x'; DROP TABLE y"]
)
async def test_other_settings_are_unknown(make_tool, knob):
    """A setting outside the allow-list can be neither read nor set."""
    for call in (make_tool().read("db", knob), make_tool().apply("db", knob, None, 1)):
        with pytest.raises(NotFoundError, match="has no knob"):
            await call


OVERRIDES = [
    ("ALTER ROLE tester SET work_mem = '5MB'", "ALTER ROLE tester RESET work_mem", "ALTER ROLE"),
    (
        "ALTER DATABASE postgres SET work_mem = '5MB'",
        "ALTER DATABASE postgres RESET work_mem",
        "ALTER DATABASE",
    ),
]


@pytest.mark.parametrize(("override", "reset", "message"), OVERRIDES)
async def test_overridden_settings_are_refused(make_tool, admin, override, reset, message):
    """A value set for our role or database hides the server's: the change is refused."""
    admin.run(override)
    try:
        with pytest.raises(RefusedError, match=f"{message}: ALTER SYSTEM would not change it"):
            await make_tool().apply("db", "work_mem", 5 * MB, 8 * MB)
    finally:
        admin.run(reset)


async def test_a_failed_reload_is_undone(make_tool, admin, monkeypatch):
    """When the configuration has an invalid line the change is undone and the reason reported."""
    monkeypatch.setattr(postgresql_tool, "_RELOAD_TIMEOUT_S", 0.5)
    with (
        admin.with_config_line("config_file", last="this is no line"),
        pytest.raises(ToolError, match="a reload did not apply random_page_cost, so the change was undone"),
    ):
        await make_tool().apply("db", "random_page_cost", 4.0, 2.0)
    auto = admin.value("SELECT pg_read_file('postgresql.auto.conf')")
    assert "random_page_cost" not in auto
