"""PostgreSQL knobs, computed from pg_settings alone."""

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'trimtab[postgresql]'")

from trimtab.engine.errors import RefusedError  # noqa: E402 - the line above has to come first
from trimtab.engine.tools.memory_budget import MemoryBudget  # noqa: E402 - as above
from trimtab.engine.tools.postgresql import postgresql_knobs as rules  # noqa: E402 - as above

MB, GB = 2**20, 2**30
SIZES = {
    "shared_buffers": GB, "work_mem": 4 * MB, "hash_mem_multiplier": 2, "maintenance_work_mem": 64 * MB,
    "max_connections": 100, "autovacuum_max_workers": 3,
}  # fmt: skip


def test_memory_projection():
    """Every connection sorts, every worker vacuums, and other processes keep their memory."""
    projection = rules.project_memory(SIZES, MemoryBudget(8 * GB, GB, "this host"), work_mem=8 * MB)
    assert projection.projected_bytes == GB + 8 * MB * 2 * 100 + 64 * MB * 3 + GB
    assert "work_mem x 2 x 100 connections 1.6 GiB" in str(projection)


@pytest.mark.parametrize("name", ["work_mem", "maintenance_work_mem"])
def test_the_highest_value_just_fits(name):
    """The bound of a memory knob is the largest value whose projection fits."""
    budget = MemoryBudget(8 * GB, GB, "this host")
    high = rules.bound_knob(rules.KNOBS[name], SIZES, budget).high
    assert rules.project_memory(SIZES, budget, **{name: high}).fits
    assert not rules.project_memory(SIZES, budget, **{name: high + MB}).fits
    assert rules.bound_knob(rules.KNOBS[name], SIZES, MemoryBudget(None)).high is None


def make_setting(name, text, unit=None, kind="integer", source="default", boot=None):
    """A row of pg_settings."""
    return rules.PgSetting(name, text, boot or text, unit, kind, source, None, None)


WRITTEN = [
    (make_setting("work_mem", "4096", "kB"), 8 * MB, "8MB"),
    (make_setting("work_mem", "4096", "kB"), 8 * MB + 1024, "8193kB"),
    (make_setting("effective_cache_size", "524288", "8kB"), GB, "1024MB"),
    (make_setting("effective_cache_size", "524288", "8kB"), GB + 8192, "1048584kB"),
    (make_setting("max_wal_size", "1024", "MB"), 2 * GB, "2048MB"),
    (make_setting("checkpoint_timeout", "300", "s"), 600, "600s"),
    (make_setting("autovacuum_vacuum_cost_delay", "2", "ms", "real"), 0.005, "5ms"),
    # a fraction with a unit would be rounded
    (make_setting("autovacuum_vacuum_cost_delay", "2", "ms", "real"), 0.0025, "2.5"),
    (make_setting("random_page_cost", "4", None, "real"), 1.1, "1.1"),
    (make_setting("autovacuum_vacuum_cost_limit", "-1"), -1, "-1"),
    (make_setting("jit", "on", None, "bool"), False, "off"),
]


@pytest.mark.parametrize(("row", "value", "text"), WRITTEN)
def test_values_are_formatted_for_alter_system(row, value, text):
    """A value in base units is formatted in the setting's unit and passes validation."""
    assert rules.format_value(row, value) == text
    assert rules.validate_value(row, value) == value


@pytest.mark.parametrize("source", ["command line", "environment variable", "user", "database", "session"])
def test_overridden_settings_are_refused(source):
    """A setting whose source overrides ALTER SYSTEM is refused."""
    with pytest.raises(RefusedError, match="ALTER SYSTEM would not change it"):
        rules.refuse_unrestorable(make_setting("work_mem", "4096", "kB", source=source))


def test_an_unrestorable_value_is_kept():
    """A value outside our range is not changed; the default may be."""
    with pytest.raises(RefusedError, match="Trimtab could not restore"):
        rules.refuse_unrestorable(
            make_setting("random_page_cost", "0.5", None, "real", "configuration file", boot="4")
        )
    rules.refuse_unrestorable(make_setting("autovacuum_vacuum_cost_limit", "-1"))
